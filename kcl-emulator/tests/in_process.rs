//! The AWS SDK against the emulator in the same process, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use kcl_emulator::{Emulator, Service, Timestamp};

async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) {
    client
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
