//! Making the table usable.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use kcl_emulator::Emulator;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::Instant;

use super::{client, table};
use crate::table::{LeaseTable, TableError, TableErrorKind};

async fn create_table(emulator: &Emulator, keys: &[(&str, KeyType, ScalarAttributeType)]) {
    let mut request = client(emulator)
        .create_table()
        .table_name("leases")
        .billing_mode(BillingMode::PayPerRequest);
    for (name, role, kind) in keys {
        let definition = AttributeDefinition::builder()
            .attribute_name(*name)
            .attribute_type(kind.clone());
        let key = KeySchemaElement::builder()
            .attribute_name(*name)
            .key_type(role.clone());
        request = request
            .attribute_definitions(definition.build().unwrap())
            .key_schema(key.build().unwrap());
    }
    request.send().await.unwrap();
}

async fn create_lease_table(emulator: &Emulator) {
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    create_table(emulator, &[key]).await;
}

/// Whether this call created the table. One that would hang for ever fails the test instead.
async fn prepare(emulator: &Emulator) -> Result<bool, TableError> {
    let table = table(emulator);
    let limit = Duration::from_secs(3_600);
    let answer = tokio::time::timeout(limit, table.prepare()).await;
    answer.unwrap().map(|done| done.created)
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_is_created_on_demand_and_at_once() {
    let emulator = Emulator::new();
    let start = Instant::now();
    assert!(prepare(&emulator).await.unwrap());
    assert!(
        start.elapsed() < Duration::from_millis(100),
        "no fixed wait"
    );
    assert!(!prepare(&emulator).await.unwrap());
    let described = client(&emulator)
        .describe_table()
        .table_name("leases")
        .send()
        .await;
    let billing = described
        .unwrap()
        .table
        .unwrap()
        .billing_mode_summary
        .unwrap();
    assert_eq!(billing.billing_mode(), Some(&BillingMode::PayPerRequest));
}

#[tokio::test(start_paused = true)]
async fn workers_that_start_together_create_one_table() {
    let emulator = Emulator::new();
    let (a, b) = tokio::join!(prepare(&emulator), prepare(&emulator));
    let created = [a.unwrap(), b.unwrap()];
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_becomes_active_is_waited_for() {
    let emulator = Emulator::builder()
        .transition(Duration::from_secs(5))
        .build();
    let start = Instant::now();
    assert!(prepare(&emulator).await.unwrap());
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took <= Duration::from_secs(6),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_that_does_not_become_active_is_named_with_its_state() {
    let emulator = Emulator::builder()
        .transition(Duration::from_secs(3_600))
        .build();
    let error = prepare(&emulator).await.unwrap_err();
    let expected = TableErrorKind::NotActive {
        status: "CREATING".to_owned(),
    };
    assert_eq!(error.kind(), &expected);
}

#[tokio::test(start_paused = true)]
async fn an_existing_table_needs_no_permission_to_describe_or_create() {
    let emulator = Emulator::new();
    create_lease_table(&emulator).await;
    emulator.faults().deny("worker", "dynamodb:CreateTable");
    assert!(!prepare(&emulator).await.unwrap());
    emulator.faults().deny("worker", "dynamodb:DescribeTable");
    assert!(!prepare(&emulator).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_table_can_be_created_without_permission_to_describe_it() {
    let emulator = Emulator::new();
    emulator.faults().deny("worker", "dynamodb:DescribeTable");
    assert!(prepare(&emulator).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_missing_permission_is_named() {
    let emulator = Emulator::new();
    emulator.faults().deny("worker", "dynamodb:CreateTable");
    let error = prepare(&emulator).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "CreateTable on lease table \"leases\": access denied; allow dynamodb:CreateTable on the table to this worker's role"
    );
    emulator.faults().deny("worker", "dynamodb:DescribeTable");
    emulator.faults().deny("worker", "dynamodb:GetItem");
    let error = prepare(&emulator).await.unwrap_err();
    let expected = TableErrorKind::AccessDenied {
        action: "dynamodb:GetItem",
    };
    assert_eq!(error.kind(), &expected);
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_table_of_another_kind_is_refused() {
    let hash = |name| (name, KeyType::Hash, ScalarAttributeType::S);
    let cases = [
        (vec![hash("id")], "id (S, HASH)"),
        (
            vec![
                hash("leaseKey"),
                ("at", KeyType::Range, ScalarAttributeType::S),
            ],
            "leaseKey (S, HASH), at (S, RANGE)",
        ),
        (
            vec![("leaseKey", KeyType::Hash, ScalarAttributeType::N)],
            "leaseKey (N, HASH)",
        ),
    ];
    for (keys, found) in cases {
        let emulator = Emulator::new();
        create_table(&emulator, &keys).await;
        let error = prepare(&emulator).await.unwrap_err();
        let expected = TableErrorKind::WrongSchema {
            found: found.to_owned(),
        };
        assert_eq!(error.kind(), &expected);
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_that_passes_is_waited_out() {
    let emulator = Emulator::new();
    for fault in [Fault::Throttle, Fault::InternalError, Fault::LoseAnswer] {
        emulator.faults().add(Rule::new(fault).first(1));
    }
    // The lost answer may be that of the creation, so `created` says little here.
    prepare(&emulator).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_away_is_an_error_in_time() {
    let emulator = Emulator::new();
    emulator.faults().partition("worker");
    let start = Instant::now();
    let error = prepare(&emulator).await.unwrap_err();
    assert_eq!(error.kind(), &TableErrorKind::Unavailable);
    assert!(
        start.elapsed() <= Duration::from_secs(33),
        "{:?}",
        start.elapsed()
    );
}
