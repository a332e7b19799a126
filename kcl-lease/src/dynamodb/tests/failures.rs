//! What failures mean for a lease.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::ProvideCredentials;
use kcl_emulator::Emulator;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::Instant;

use super::{OPTIONS, client, table};
use crate::dynamodb::DynamoDbLeaseTable;
use crate::item::attribute;
use crate::table::{
    Consistency, LeaseTable, Refusal, TableError, TableErrorKind, Transacted, Written,
};
use crate::write::{Change, Edit, RowWrite, Term};

fn count() -> RowWrite {
    RowWrite {
        key: "row".to_owned(),
        condition: vec![],
        change: Change::Update(vec![Edit::AddNumber(attribute::COUNTER, 1)]),
    }
}

async fn prepared() -> (Emulator, DynamoDbLeaseTable) {
    let emulator = Emulator::new();
    let table = table(&emulator);
    table.prepare().await.unwrap();
    (emulator, table)
}

/// The next write under a fault.
async fn write_under(fault: Fault) -> TableError {
    let (emulator, table) = prepared().await;
    emulator.faults().add(Rule::new(fault));
    let error = ends(table.write(count())).await.unwrap_err();
    assert_eq!(error.operation(), "UpdateItem");
    error
}

/// A call that would hang for ever fails the test instead.
async fn ends<T>(call: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(3_600);
    tokio::time::timeout(limit, call).await.unwrap()
}

fn service_error(status: u16, code: &str) -> Fault {
    Fault::Error {
        status,
        code: code.to_owned(),
        message: "because".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_service_wrote_nothing() {
    let cases = [
        (Fault::Throttle, TableErrorKind::Throttled),
        (Fault::ThroughputExceeded, TableErrorKind::Throttled),
        (
            service_error(400, "RequestLimitExceeded"),
            TableErrorKind::Throttled,
        ),
        (
            service_error(400, "TransactionConflictException"),
            TableErrorKind::Conflict,
        ),
    ];
    for (fault, kind) in cases {
        let error = write_under(fault).await;
        assert_eq!(error.kind(), &kind);
        assert!(error.is_retryable() && error.has_no_side_effects());
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_clear_answer_may_have_happened() {
    for fault in [
        Fault::InternalError,
        Fault::Unavailable,
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::Hang,
    ] {
        let error = write_under(fault).await;
        assert_eq!(error.kind(), &TableErrorKind::Unknown);
        assert!(error.is_retryable() && !error.has_no_side_effects());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_one_request_and_ends_in_time() {
    let (emulator, table) = prepared().await;
    emulator.faults().add(Rule::new(Fault::LoseAnswer).first(1));
    table.write(count()).await.unwrap_err();
    let row = table
        .get("row", Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        row[attribute::COUNTER],
        crate::item::Value::number(1),
        "sent once, applied once"
    );

    emulator.faults().add(Rule::new(Fault::Hang));
    let start = Instant::now();
    ends(table.write(count())).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), OPTIONS.call_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_read_without_answer_is_just_repeated() {
    for fault in [Fault::InternalError, Fault::LoseAnswer, Fault::Hang] {
        let (emulator, table) = prepared().await;
        emulator.faults().add(Rule::new(fault));
        let read = table.get("row", Consistency::Strong);
        let error = ends(read).await.unwrap_err();
        assert_eq!(error.kind(), &TableErrorKind::Unavailable);
        assert!(error.is_retryable() && error.has_no_side_effects());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_human_must_change_is_not_tried_again() {
    let (emulator, table) = prepared().await;
    emulator.faults().deny("worker", "dynamodb:UpdateItem");
    let error = table.write(count()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "UpdateItem on lease table \"leases\": access denied; allow dynamodb:UpdateItem on the table to this worker's role"
    );
    assert!(!error.is_retryable());

    let missing = DynamoDbLeaseTable::new(&client(&emulator), "nowhere", OPTIONS);
    let error = missing.scan(Consistency::Eventual, None).await.unwrap_err();
    assert_eq!(error.kind(), &TableErrorKind::TableMissing);
    assert!(!error.is_retryable());

    let error = write_under(service_error(400, "UnrecognizedClientException")).await;
    assert_eq!(error.kind(), &TableErrorKind::NoCredentials);
    let error = write_under(service_error(400, "SerializationException")).await;
    let reason = "SerializationException: because".to_owned();
    assert_eq!(error.kind(), &TableErrorKind::Invalid { reason });
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::ready(Err(CredentialsError::not_loaded("none configured")))
    }
}

#[tokio::test(start_paused = true)]
async fn missing_credentials_are_told_apart_from_a_dead_network() {
    let emulator = Emulator::new();
    let config = client(&emulator)
        .config()
        .to_builder()
        .credentials_provider(NoCredentials)
        .build();
    let table = DynamoDbLeaseTable::new(&Client::from_conf(config), "leases", OPTIONS);
    let start = Instant::now();
    let error = table.prepare().await.unwrap_err();
    assert_eq!(error.kind(), &TableErrorKind::NoCredentials);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "it does not wait for them"
    );
}

#[tokio::test(start_paused = true)]
async fn transient_reasons_of_a_cancelled_transaction_are_told_apart() {
    let (emulator, table) = prepared().await;
    let check = RowWrite {
        key: "other".to_owned(),
        condition: vec![Term::Present(attribute::KEY)],
        change: Change::Check,
    };
    let refused = table.transact(vec![count(), check]).await.unwrap();
    let reasons = vec![Refusal::None, Refusal::Condition(None)];
    assert_eq!(refused, Transacted::Refused(reasons));
    emulator.faults().add(Rule::new(Fault::LoseAnswer).first(1));
    let error = table.transact(vec![count()]).await.unwrap_err();
    assert_eq!(error.kind(), &TableErrorKind::Unknown);
    let applied = table.write(count()).await.unwrap();
    assert!(
        matches!(applied, Written::Applied(row) if row[attribute::COUNTER] == crate::item::Value::number(2))
    );
}
