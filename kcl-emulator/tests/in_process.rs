//! The AWS SDK against the emulator in the same process, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TableStatus,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use kcl_emulator::faults::{Fault, Rule};
use kcl_emulator::{Emulator, Service, Timestamp};

/// Creates a table of leases; returns the state that the answer names.
async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) -> Option<TableStatus> {
    let created = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name("leaseKey")
                .key_type(KeyType::Hash)
                .build()
                .unwrap(),
        )
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("leaseKey")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
    created.table_description?.table_status
}

#[tokio::test(start_paused = true)]
async fn dynamodb_answers_the_sdk() {
    let emulator = Emulator::new();
    let client = aws_sdk_dynamodb::Client::new(&emulator.sdk_config("worker-1"));
    create_table(&client, "leases").await;
    let put = client
        .put_item()
        .table_name("leases")
        .item("leaseKey", AttributeValue::S("shard-0".to_owned()))
        .condition_expression("attribute_not_exists(leaseKey)");
    put.clone().send().await.unwrap();
    let refused = put.send().await.unwrap_err().into_service_error();
    assert!(
        refused.is_conditional_check_failed_exception(),
        "{refused:?}"
    );
    assert_eq!(
        emulator
            .calls()
            .by("worker-1", Service::DynamoDb, "PutItem"),
        2
    );
    assert_eq!(
        emulator
            .calls()
            .by("worker-2", Service::DynamoDb, "PutItem"),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_virtual_time() {
    let emulator = Emulator::builder().starting_at(Timestamp(5_000)).build();
    assert_eq!(emulator.clock().now(), Timestamp(5_000));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(emulator.clock().now(), Timestamp(3_605_000));
}

#[tokio::test(start_paused = true)]
async fn kinesis_answers_the_sdk_with_what_was_put() {
    let emulator = Emulator::new();
    emulator.create_stream("orders", 1).unwrap();
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("worker-1"));
    for number in 0..10 {
        client
            .put_record()
            .stream_name("orders")
            .partition_key(format!("key {number}"))
            .data(Blob::new(vec![number; 3]))
            .send()
            .await
            .unwrap();
    }
    let iterator = client
        .get_shard_iterator()
        .stream_name("orders")
        .shard_id("shardId-000000000000")
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let read = client
        .get_records()
        .shard_iterator(iterator.shard_iterator.unwrap())
        .send()
        .await
        .unwrap();
    let read: Vec<_> = read
        .records
        .iter()
        .map(|record| {
            (
                record.sequence_number.clone(),
                record.data.as_ref().to_vec(),
            )
        })
        .collect();
    let stored: Vec<_> = emulator
        .records("orders")
        .iter()
        .map(|record| (record.sequence_number.to_string(), record.data.to_vec()))
        .collect();
    assert_eq!(read, stored);
    assert_eq!(read.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_sdk_retries_in_virtual_time() {
    let emulator = Emulator::new();
    emulator.create_stream("orders", 1).unwrap();
    let broken = Rule::new(Fault::InternalError).operation("ListStreams");
    emulator.faults().add(broken.first(2));
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("worker-1"));
    let streams = client.list_streams().send().await.unwrap();
    assert_eq!(streams.stream_names, ["orders"]);
    assert_eq!(emulator.calls().of(Service::Kinesis, "ListStreams"), 3);
}

#[tokio::test(start_paused = true)]
async fn request_and_answer_take_the_latency_and_no_more() {
    for latency in [Duration::ZERO, Duration::from_millis(30)] {
        let emulator = Emulator::builder().latency(latency).build();
        let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("worker-1"));
        let start = tokio::time::Instant::now();
        client.list_streams().send().await.unwrap();
        assert_eq!(start.elapsed(), latency);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_created_when_its_creation_is_answered() {
    let emulator = Emulator::new();
    let client = aws_sdk_dynamodb::Client::new(&emulator.sdk_config("worker-1"));
    let answered = create_table(&client, "leases").await;
    assert_eq!(answered, Some(TableStatus::Creating));
    let described = client.describe_table().table_name("leases").send().await;
    let described = described.unwrap().table.unwrap();
    assert_eq!(described.table_status, Some(TableStatus::Active));
}

#[tokio::test(start_paused = true)]
async fn the_arn_of_a_stream_is_the_one_that_it_tells_itself() {
    let builder = Emulator::builder().region("eu-west-1");
    let emulator = builder.account("123456789012").build();
    emulator.create_stream("orders", 1).unwrap();
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("worker-1"));
    let describe = client.describe_stream_summary().stream_name("orders");
    let described = describe.send().await.unwrap();
    let summary = described.stream_description_summary.unwrap();
    assert_eq!(summary.stream_arn, emulator.stream_arn("orders"));
}
