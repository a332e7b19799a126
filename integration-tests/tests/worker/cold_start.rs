//! Start is fast because nothing sleeps: each step triggers the next.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use integration_tests::{APPLICATION, Stage};
use kcl_emulator::Emulator;
use tokio::time::Instant;

/// Runs a worker until its first record and says how long that took.
async fn time_to_first_record(stage: &Stage, worker: &str) -> Duration {
    let before = stage.log.records();
    let began = Instant::now();
    stage
        .run_until(worker, stage.wait_for_records(before + 1))
        .await;
    let entries = stage.log.entries();
    let first = entries
        .iter()
        .find(|entry| entry.at >= began && entry.worker == worker);
    first.unwrap();
    let record = entries
        .iter()
        .filter(|entry| entry.worker == worker)
        .find(|entry| matches!(entry.what, integration_tests::What::Record { .. }));
    record.unwrap().at.duration_since(began)
}

async fn create_lease_table(stage: &Stage) {
    let key = KeySchemaElement::builder()
        .attribute_name("leaseKey")
        .key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder()
        .attribute_name("leaseKey")
        .attribute_type(ScalarAttributeType::S);
    let create = stage.dynamodb.create_table().table_name(APPLICATION);
    let create = create.billing_mode(BillingMode::PayPerRequest);
    let create = create.key_schema(key.build().unwrap());
    create
        .attribute_definitions(attribute.build().unwrap())
        .send()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_record_comes_within_a_second_without_a_table() {
    let stage = Stage::new(4);
    stage.put_numbered(0, 20).await;
    let took = time_to_first_record(&stage, "a").await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_record_comes_within_half_a_second_on_an_existing_table() {
    let stage = Stage::new(4);
    create_lease_table(&stage).await;
    stage.put_numbered(0, 20).await;
    let took = time_to_first_record(&stage, "a").await;
    assert!(took <= Duration::from_millis(500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn another_worker_starts_within_a_second_after_a_clean_stop() {
    let stage = Stage::new(4);
    stage.put_numbered(0, 20).await;
    stage.catch_up("a").await;
    stage.put_numbered(20, 20).await;
    let took = time_to_first_record(&stage, "b").await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_takes_five_seconds_is_waited_for_and_little_more() {
    let transition = Duration::from_secs(5);
    let stage = Stage::on(Emulator::builder().transition(transition).build(), 1);
    stage.put("key", "data").await;
    let took = time_to_first_record(&stage, "a").await;
    assert!(
        took >= transition && took <= transition + Duration::from_secs(2),
        "{took:?}"
    );
}
