//! DynamoDB through the AWS SDK: what a lease table needs of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck,
    CreateGlobalSecondaryIndexAction, Delete, GlobalSecondaryIndexUpdate, IndexStatus,
    KeySchemaElement, KeyType, PointInTimeRecoverySpecification, PointInTimeRecoveryStatus,
    Projection, ProjectionType, ProvisionedThroughput, Put, ReturnConsumedCapacity, ReturnValue,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableStatus, TimeToLiveSpecification,
    TimeToLiveStatus, TransactWriteItem,
};
use futures_util::future::join_all;
use kcl_emulator::dynamodb::ReadView;
use kcl_emulator::{Caller, Emulator};

type Row = BTreeMap<String, AttributeValue>;

const TRANSITION: Duration = Duration::from_secs(2);

fn client(emulator: &Emulator) -> Client {
    Client::new(&emulator.sdk_config("worker"))
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn row(key: &str, counter: u64) -> Row {
    BTreeMap::from([
        ("leaseKey".to_owned(), s(key)),
        ("leaseCounter".to_owned(), n(counter)),
    ])
}

/// A row as the SDK gives it, with its attributes in order.
fn sorted(row: Option<impl IntoIterator<Item = (String, AttributeValue)>>) -> Row {
    row.into_iter().flatten().collect()
}

fn hash_key(name: &str) -> KeySchemaElement {
    let key = KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(KeyType::Hash);
    key.build().unwrap()
}

fn text_attribute(name: &str) -> AttributeDefinition {
    let attribute = AttributeDefinition::builder().attribute_name(name);
    attribute
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap()
}

/// A client and an active table `leases`.
async fn with_table(emulator: &Emulator, throughput: Option<ProvisionedThroughput>) -> Client {
    let client = client(emulator);
    let mode = match throughput {
        Some(_) => BillingMode::Provisioned,
        None => BillingMode::PayPerRequest,
    };
    client
        .create_table()
        .table_name("leases")
        .billing_mode(mode)
        .set_provisioned_throughput(throughput)
        .key_schema(hash_key("leaseKey"))
        .attribute_definitions(text_attribute("leaseKey"))
        .send()
        .await
        .unwrap();
    client
}

async fn put(client: &Client, row: Row) {
    let put = client
        .put_item()
        .table_name("leases")
        .set_item(Some(row.into_iter().collect()));
    put.send().await.unwrap();
}

async fn renew(client: &Client, key: &str, seen: u64) -> Result<Row, SdkError<UpdateItemError>> {
    let answer = client
        .update_item()
        .table_name("leases")
        .key("leaseKey", s(key))
        .update_expression("SET leaseCounter = :next")
        .condition_expression("leaseCounter = :seen")
        .expression_attribute_values(":seen", n(seen))
        .expression_attribute_values(":next", n(seen + 1))
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await?;
    Ok(sorted(answer.attributes))
}

#[tokio::test(start_paused = true)]
async fn a_table_becomes_active_and_disappears_in_its_time() {
    let emulator = Emulator::builder().transition(TRANSITION).build();
    let client = with_table(&emulator, None).await;
    let describe = || async {
        let answer = client.describe_table().table_name("leases").send().await;
        answer.map(|answer| answer.table.and_then(|table| table.table_status).unwrap())
    };
    assert_eq!(describe().await.unwrap(), TableStatus::Creating);
    let early = client.scan().table_name("leases").send().await.unwrap_err();
    assert!(
        early
            .as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );
    tokio::time::sleep(TRANSITION).await;
    assert_eq!(describe().await.unwrap(), TableStatus::Active);

    client
        .delete_table()
        .table_name("leases")
        .send()
        .await
        .unwrap();
    assert_eq!(describe().await.unwrap(), TableStatus::Deleting);
    tokio::time::sleep(TRANSITION).await;
    let gone = describe().await.unwrap_err();
    assert!(
        gone.as_service_error()
            .unwrap()
            .is_resource_not_found_exception()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_condition_shows_the_row() {
    let client = with_table(&Emulator::new(), None).await;
    put(&client, row("shard-1", 4)).await;
    let renewed = renew(&client, "shard-1", 4).await.unwrap();
    assert_eq!(renewed, row("shard-1", 5));
    let error = renew(&client, "shard-1", 4).await.unwrap_err();
    let UpdateItemError::ConditionalCheckFailedException(failed) = error.into_service_error()
    else {
        panic!("another error than a failed condition");
    };
    assert_eq!(sorted(failed.item.clone()), row("shard-1", 5));
    assert_eq!(failed.message(), Some("The conditional request failed"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_transaction_gives_a_reason_for_each_part() {
    let client = with_table(&Emulator::new(), None).await;
    put(&client, row("shard-1", 4)).await;
    let put = Put::builder()
        .table_name("leases")
        .set_item(Some(row("shard-2", 0).into_iter().collect()));
    let delete = Delete::builder()
        .table_name("leases")
        .key("leaseKey", s("shard-1"))
        .condition_expression("leaseCounter = :seen")
        .expression_attribute_values(":seen", n(3))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let check = ConditionCheck::builder()
        .table_name("leases")
        .key("leaseKey", s("shard-3"))
        .condition_expression("attribute_not_exists(leaseKey)");
    let error = client
        .transact_write_items()
        .transact_items(
            TransactWriteItem::builder()
                .put(put.build().unwrap())
                .build(),
        )
        .transact_items(
            TransactWriteItem::builder()
                .delete(delete.build().unwrap())
                .build(),
        )
        .transact_items(
            TransactWriteItem::builder()
                .condition_check(check.build().unwrap())
                .build(),
        )
        .send()
        .await
        .unwrap_err();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) =
        error.into_service_error()
    else {
        panic!("another error than a cancelled transaction");
    };
    let reasons = cancelled.cancellation_reasons();
    let codes: Vec<_> = reasons.iter().filter_map(|reason| reason.code()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed", "None"]);
    assert_eq!(sorted(reasons[1].item.clone()), row("shard-1", 4));
    let scan = client.scan().table_name("leases").send().await.unwrap();
    let rows: Vec<Row> = scan
        .items
        .into_iter()
        .flatten()
        .map(|row| sorted(Some(row)))
        .collect();
    assert_eq!(rows, [row("shard-1", 4)], "nothing of it was done");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_answer_was_lost_is_not_repeated_by_its_token() {
    let client = with_table(&Emulator::new(), None).await;
    let send = || {
        let put = Put::builder()
            .table_name("leases")
            .set_item(Some(row("shard-1", 0).into_iter().collect()))
            .condition_expression("attribute_not_exists(leaseKey)");
        client
            .transact_write_items()
            .client_request_token("create shard-1")
            .transact_items(
                TransactWriteItem::builder()
                    .put(put.build().unwrap())
                    .build(),
            )
            .send()
    };
    send().await.unwrap();
    send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert!(
        send().await.is_err(),
        "the token is forgotten, the condition fails"
    );
}

#[tokio::test(start_paused = true)]
async fn an_index_is_added_online_and_queried_in_pages() {
    let emulator = Emulator::builder().transition(TRANSITION).build();
    let client = with_table(&emulator, None).await;
    tokio::time::sleep(TRANSITION).await;
    for shard in 0..7 {
        let mut row = row(&format!("shard-{shard}"), 0);
        row.insert(
            "leaseOwner".to_owned(),
            s(if shard < 5 { "a" } else { "b" }),
        );
        put(&client, row).await;
    }
    let create = CreateGlobalSecondaryIndexAction::builder()
        .index_name("by-owner")
        .key_schema(hash_key("leaseOwner"))
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::KeysOnly)
                .build(),
        );
    let update = GlobalSecondaryIndexUpdate::builder().create(create.build().unwrap());
    client
        .update_table()
        .table_name("leases")
        .attribute_definitions(text_attribute("leaseKey"))
        .attribute_definitions(text_attribute("leaseOwner"))
        .global_secondary_index_updates(update.build())
        .send()
        .await
        .unwrap();
    let index = || async {
        let answer = client
            .describe_table()
            .table_name("leases")
            .send()
            .await
            .unwrap();
        let table = answer.table.unwrap();
        let index = table.global_secondary_indexes()[0].clone();
        (
            table.table_status.unwrap(),
            index.index_status.unwrap(),
            index.backfilling,
        )
    };
    assert_eq!(
        index().await,
        (TableStatus::Updating, IndexStatus::Creating, Some(false))
    );
    tokio::time::sleep(TRANSITION / 2).await;
    assert_eq!(
        index().await,
        (TableStatus::Active, IndexStatus::Creating, Some(true))
    );
    let pages = || {
        client
            .query()
            .table_name("leases")
            .index_name("by-owner")
            .key_condition_expression("leaseOwner = :owner")
            .expression_attribute_values(":owner", s("a"))
            .limit(2)
            .into_paginator()
            .send()
    };
    let early = pages().next().await.unwrap().unwrap_err();
    assert_eq!(early.code(), Some("ValidationException"));
    tokio::time::sleep(TRANSITION / 2).await;
    assert_eq!(
        index().await,
        (TableStatus::Active, IndexStatus::Active, None)
    );
    let mut pages = pages();
    let mut counts = Vec::new();
    while let Some(page) = pages.next().await {
        counts.push(page.unwrap().count);
    }
    assert_eq!(counts, [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_large_table_is_scanned_in_pages() {
    let client = with_table(&Emulator::new(), None).await;
    for shard in 0..30 {
        let mut row = row(&format!("shard-{shard}"), 0);
        row.insert("data".to_owned(), s(&"x".repeat(100_000)));
        put(&client, row).await;
    }
    let mut pages = client
        .scan()
        .table_name("leases")
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .into_paginator()
        .send();
    let (mut rows, mut count, mut units) = (0, 0, 0.0);
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        count += 1;
        rows += page.count;
        units += page.consumed_capacity.unwrap().capacity_units.unwrap();
    }
    assert_eq!((rows, count), (30, 3));
    assert!(units > 700.0, "3 MB read consistently cost {units}");
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_table_throttles_and_retries_get_through() {
    let emulator = Emulator::new();
    let throughput = ProvisionedThroughput::builder()
        .read_capacity_units(2)
        .write_capacity_units(2)
        .build()
        .unwrap();
    let patient = with_table(&emulator, Some(throughput)).await;
    let config = aws_sdk_dynamodb::config::Builder::from(&emulator.sdk_config("hasty"))
        .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
        .build();
    let hasty = Client::from_conf(config);
    let put = |client: &Client, shard: u64| {
        let put = client.put_item().table_name("leases");
        put.set_item(Some(
            row(&format!("shard-{shard}"), 0).into_iter().collect(),
        ))
        .send()
    };
    put(&hasty, 1).await.unwrap();
    put(&hasty, 2).await.unwrap();
    let error = put(&hasty, 3).await.unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_provisioned_throughput_exceeded_exception());
    let message = error.message().unwrap_or_default().to_owned();
    assert!(
        message.starts_with("The level of configured provisioned throughput"),
        "{message}"
    );
    put(&patient, 3).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_to_live_and_recovery_are_switched_on() {
    let client = with_table(&Emulator::new(), None).await;
    let ttl = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name("expires");
    let update = client.update_time_to_live().table_name("leases");
    update
        .time_to_live_specification(ttl.build().unwrap())
        .send()
        .await
        .unwrap();
    let answer = client
        .describe_time_to_live()
        .table_name("leases")
        .send()
        .await
        .unwrap();
    let description = answer.time_to_live_description.unwrap();
    assert_eq!(
        description.time_to_live_status,
        Some(TimeToLiveStatus::Enabled)
    );

    let recovery = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
    let update = client.update_continuous_backups().table_name("leases");
    let update = update.point_in_time_recovery_specification(recovery.build().unwrap());
    update.send().await.unwrap();
    let answer = client
        .describe_continuous_backups()
        .table_name("leases")
        .send()
        .await
        .unwrap();
    let description = answer.continuous_backups_description.unwrap();
    let recovery = description.point_in_time_recovery_description.unwrap();
    let status = recovery.point_in_time_recovery_status;
    assert_eq!(status, Some(PointInTimeRecoveryStatus::Enabled));
    assert!(recovery.earliest_restorable_date_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn of_sixteen_writers_exactly_one_wins_each_round() {
    let emulator = Emulator::builder()
        .latency(Duration::from_millis(5))
        .build();
    let first = with_table(&emulator, None).await;
    put(&first, row("shard-1", 0)).await;
    let writers: Vec<Client> = (0..16)
        .map(|writer| Client::new(&emulator.sdk_config(&format!("writer-{writer}"))))
        .collect();
    for round in 0..10 {
        let outcomes = join_all(writers.iter().map(|writer| renew(writer, "shard-1", round))).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        for lost in outcomes.into_iter().filter_map(Result::err) {
            assert!(
                lost.into_service_error()
                    .is_conditional_check_failed_exception()
            );
        }
    }
}

/// The same with threads, past the SDK: the writes really meet.
#[test]
fn of_sixteen_threads_exactly_one_wins_each_round() {
    const WRITERS: usize = 16;
    let emulator = Emulator::new();
    let now = emulator.clock().now();
    let call = |operation: &str, body: &str| {
        let caller = Caller::new("writer");
        emulator.dynamodb(now, &caller, operation, body.as_bytes(), ReadView::Current)
    };
    let table = r#"{"TableName":"leases","BillingMode":"PAY_PER_REQUEST",
        "KeySchema":[{"AttributeName":"leaseKey","KeyType":"HASH"}],
        "AttributeDefinitions":[{"AttributeName":"leaseKey","AttributeType":"S"}]}"#;
    call("CreateTable", table).unwrap();
    let row = r#"{"TableName":"leases","Item":{"leaseKey":{"S":"a"},"counter":{"N":"0"}}}"#;
    call("PutItem", row).unwrap();
    let start = Barrier::new(WRITERS);
    let wins = AtomicUsize::new(0);
    let write = || {
        for round in 0..20 {
            start.wait();
            let next = round + 1;
            let update = format!(
                r##"{{"TableName":"leases","Key":{{"leaseKey":{{"S":"a"}}}},
                "UpdateExpression":"SET #c = :next","ConditionExpression":"#c = :seen",
                "ExpressionAttributeNames":{{"#c":"counter"}},"ExpressionAttributeValues":
                {{":seen":{{"N":"{round}"}},":next":{{"N":"{next}"}}}}}}"##
            );
            if call("UpdateItem", &update).is_ok() {
                wins.fetch_add(1, Ordering::SeqCst);
            }
            start.wait();
            assert_eq!(wins.load(Ordering::SeqCst), next, "round {round}");
            start.wait();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(write);
        }
    });
}
