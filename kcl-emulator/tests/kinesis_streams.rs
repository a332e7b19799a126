//! Streams and their shards through the real SDK in virtual time: areas K01 to K05, K13 to K17, K21, K23 to K25 of the
//! emulator's yardstick.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::types::{
    ConsumerStatus, EncryptionType, MetricsName, ScalingType, Shard, ShardFilter, ShardFilterType,
    StreamMode, StreamModeDetails, StreamStatus,
};
use kcl_emulator::Emulator;
use tokio::time::sleep;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const HALF: u128 = 1 << 127;

/// A client of an emulator whose streams take a second to change.
fn client() -> Client {
    let emulator = Emulator::builder()
        .transition(Duration::from_secs(1))
        .build();
    Client::new(&emulator.sdk_config("test"))
}

/// The same with a stream `s`.
fn with_stream(shards: u32) -> (Emulator, Client) {
    let emulator = Emulator::builder()
        .transition(Duration::from_secs(1))
        .build();
    emulator.create_stream("s", shards).unwrap();
    let client = Client::new(&emulator.sdk_config("test"));
    (emulator, client)
}

async fn status(client: &Client) -> StreamStatus {
    let summary = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    summary.stream_description_summary.unwrap().stream_status
}

/// Sees the stream in `UPDATING`, waits, and sees it `ACTIVE`.
async fn updated(client: &Client) {
    assert_eq!(status(client).await, StreamStatus::Updating);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(status(client).await, StreamStatus::Active);
}

async fn shards(client: &Client) -> Vec<Shard> {
    client
        .list_shards()
        .stream_name("s")
        .send()
        .await
        .unwrap()
        .shards
        .unwrap()
}

/// The numbers of the shards that a filter lets through.
async fn filtered(client: &Client, filter: ShardFilterType) -> Vec<String> {
    let filter = ShardFilter::builder().r#type(filter).build().unwrap();
    let listed = client
        .list_shards()
        .stream_name("s")
        .shard_filter(filter)
        .send()
        .await
        .unwrap();
    let ids = listed
        .shards
        .unwrap()
        .into_iter()
        .map(|shard| shard.shard_id);
    ids.map(|id| {
        id.trim_start_matches("shardId-")
            .trim_start_matches('0')
            .to_owned()
    })
    .collect()
}

fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

#[tokio::test(start_paused = true)]
async fn k01_k02_streams_are_created_in_both_modes() {
    let client = client();
    client
        .create_stream()
        .stream_name("s")
        .shard_count(2)
        .send()
        .await
        .unwrap();
    assert_eq!(status(&client).await, StreamStatus::Creating);
    let early = client
        .list_shards()
        .stream_name("s")
        .send()
        .await
        .unwrap_err();
    assert!(early.into_service_error().is_resource_in_use_exception());
    let again = client
        .create_stream()
        .stream_name("s")
        .shard_count(2)
        .send()
        .await
        .unwrap_err();
    assert!(again.into_service_error().is_resource_in_use_exception());
    let on_demand = StreamModeDetails::builder()
        .stream_mode(StreamMode::OnDemand)
        .build()
        .unwrap();
    client
        .create_stream()
        .stream_name("d")
        .stream_mode_details(on_demand)
        .send()
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&client).await, StreamStatus::Active);
    let summary = client
        .describe_stream_summary()
        .stream_name("d")
        .send()
        .await
        .unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!(summary.open_shard_count, 4);
    assert_eq!(
        summary.stream_mode_details.unwrap().stream_mode,
        StreamMode::OnDemand
    );
    client
        .delete_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    assert_eq!(status(&client).await, StreamStatus::Deleting);
    sleep(Duration::from_secs(1)).await;
    let gone = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await
        .unwrap_err();
    let gone = gone.into_service_error();
    assert!(gone.is_resource_not_found_exception());
    assert_eq!(
        gone.message(),
        Some("Stream s under account 000000000000 not found.")
    );
}

#[tokio::test(start_paused = true)]
async fn k03_k04_listings_are_paged() {
    let (emulator, client) = with_stream(5);
    emulator.create_stream("t", 1).unwrap();
    let mut names = client.list_streams().limit(1).into_paginator().send();
    let mut seen = Vec::new();
    while let Some(page) = names.next().await {
        seen.extend(page.unwrap().stream_names);
    }
    assert_eq!(seen, ["s", "t"]);
    let described = client
        .describe_stream()
        .stream_name("s")
        .limit(3)
        .send()
        .await
        .unwrap();
    let described = described.stream_description.unwrap();
    assert!(described.has_more_shards && described.shards.len() == 3);
    let first = client
        .list_shards()
        .stream_name("s")
        .max_results(3)
        .send()
        .await
        .unwrap();
    let token = first.next_token.unwrap();
    let both = client
        .list_shards()
        .stream_name("s")
        .next_token(&token)
        .send()
        .await
        .unwrap_err();
    assert!(both.into_service_error().is_invalid_argument_exception());
    let rest = client
        .list_shards()
        .next_token(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (rest.shards.unwrap()[0].shard_id.clone(), rest.next_token),
        (id(3), None)
    );
    sleep(Duration::from_secs(301)).await;
    let late = client
        .list_shards()
        .next_token(&token)
        .send()
        .await
        .unwrap_err();
    assert!(late.into_service_error().is_expired_next_token_exception());
    let limits = client.describe_limits().send().await.unwrap();
    assert_eq!(limits.open_shard_count, 6);
}

#[tokio::test(start_paused = true)]
async fn k05_k13_k14_filters_and_lineage_around_a_split_and_a_merge() {
    let (_emulator, client) = with_stream(2);
    let split = client.split_shard().stream_name("s").shard_to_split(id(0));
    split
        .new_starting_hash_key((HALF / 2).to_string())
        .send()
        .await
        .unwrap();
    let busy = client
        .split_shard()
        .stream_name("s")
        .shard_to_split(id(1))
        .new_starting_hash_key("9");
    assert!(
        busy.send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_resource_in_use_exception()
    );
    updated(&client).await;
    let merge = client.merge_shards().stream_name("s").shard_to_merge(id(3));
    merge.adjacent_shard_to_merge(id(1)).send().await.unwrap();
    updated(&client).await;
    let shards = shards(&client).await;
    assert_eq!(shards[2].parent_shard_id, Some(id(0)));
    assert_eq!(
        (
            &shards[4].parent_shard_id,
            &shards[4].adjacent_parent_shard_id
        ),
        (&Some(id(3)), &Some(id(1)))
    );
    let range = shards[4].hash_key_range.as_ref().unwrap();
    assert_eq!(
        (&range.starting_hash_key, &range.ending_hash_key),
        (&(HALF / 2).to_string(), &u128::MAX.to_string())
    );
    let ended = |shard: &Shard| {
        shard
            .sequence_number_range
            .as_ref()
            .unwrap()
            .ending_sequence_number
            .is_some()
    };
    assert_eq!(
        shards.iter().map(ended).collect::<Vec<_>>(),
        [true, true, false, true, false]
    );
    assert_eq!(
        filtered(&client, ShardFilterType::AtTrimHorizon).await,
        ["", "1"]
    );
    assert_eq!(
        filtered(&client, ShardFilterType::AtLatest).await,
        ["2", "4"]
    );
    assert_eq!(
        filtered(&client, ShardFilterType::FromTrimHorizon)
            .await
            .len(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn k15_the_shard_count_is_updated() {
    let (_emulator, client) = with_stream(2);
    let scale = client
        .update_shard_count()
        .stream_name("s")
        .scaling_type(ScalingType::UniformScaling);
    let answer = scale.clone().target_shard_count(4).send().await.unwrap();
    assert_eq!(
        (answer.current_shard_count, answer.target_shard_count),
        (Some(2), Some(4))
    );
    updated(&client).await;
    let too_many = scale.target_shard_count(9).send().await.unwrap_err();
    assert!(
        too_many
            .into_service_error()
            .is_invalid_argument_exception()
    );
    let shards = shards(&client).await;
    assert_eq!(shards.len(), 6);
    assert!(
        shards[2..]
            .iter()
            .all(|shard| shard.parent_shard_id.is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn k16_k24_settings_are_changed_one_after_the_other() {
    let (_emulator, client) = with_stream(1);
    let increase = client.increase_stream_retention_period().stream_name("s");
    increase.retention_period_hours(48).send().await.unwrap();
    updated(&client).await;
    let encrypt = client
        .start_stream_encryption()
        .stream_name("s")
        .encryption_type(EncryptionType::Kms);
    encrypt.key_id("alias/aws/kinesis").send().await.unwrap();
    updated(&client).await;
    let monitor = client.enable_enhanced_monitoring().stream_name("s");
    monitor
        .shard_level_metrics(MetricsName::IncomingBytes)
        .send()
        .await
        .unwrap();
    updated(&client).await;
    client
        .update_max_record_size()
        .stream_arn(ARN)
        .max_record_size_in_kib(2048)
        .send()
        .await
        .unwrap();
    updated(&client).await;
    let summary = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!(
        (
            summary.retention_period_hours,
            summary.max_record_size_in_kib,
            summary.key_id.as_deref()
        ),
        (48, Some(2048), Some("alias/aws/kinesis"))
    );
    assert_eq!(
        summary.enhanced_monitoring[0].shard_level_metrics(),
        [MetricsName::IncomingBytes]
    );
    let policy = r#"{"Version":"2012-10-17"}"#;
    client
        .put_resource_policy()
        .resource_arn(ARN)
        .policy(policy)
        .send()
        .await
        .unwrap();
    let kept = client
        .get_resource_policy()
        .resource_arn(ARN)
        .send()
        .await
        .unwrap();
    assert_eq!(kept.policy, policy);
    client
        .delete_resource_policy()
        .resource_arn(ARN)
        .send()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn k17_consumers_are_registered_and_deregistered() {
    let (_emulator, client) = with_stream(1);
    let register = client
        .register_stream_consumer()
        .stream_arn(ARN)
        .consumer_name("app");
    let consumer = register.clone().send().await.unwrap().consumer.unwrap();
    assert_eq!(consumer.consumer_status, ConsumerStatus::Creating);
    assert!(
        register
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_resource_in_use_exception()
    );
    sleep(Duration::from_secs(1)).await;
    let describe = client
        .describe_stream_consumer()
        .stream_arn(ARN)
        .consumer_name("app");
    let described = describe
        .clone()
        .send()
        .await
        .unwrap()
        .consumer_description
        .unwrap();
    assert_eq!(described.consumer_status, ConsumerStatus::Active);
    let listed = client
        .list_stream_consumers()
        .stream_arn(ARN)
        .send()
        .await
        .unwrap();
    assert_eq!(
        listed.consumers.unwrap()[0].consumer_arn,
        consumer.consumer_arn
    );
    client
        .deregister_stream_consumer()
        .consumer_arn(&consumer.consumer_arn)
        .send()
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(
        describe
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_resource_not_found_exception()
    );
}

#[tokio::test(start_paused = true)]
async fn k21_k23_k25_arns_tags_and_errors() {
    let (_emulator, client) = with_stream(1);
    let summary = client
        .describe_stream_summary()
        .stream_arn(ARN)
        .send()
        .await
        .unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().stream_name, "s");
    let foreign = ARN.replace("000000000000", "111111111111");
    let foreign = client
        .describe_stream_summary()
        .stream_arn(foreign)
        .send()
        .await
        .unwrap_err();
    assert!(foreign.into_service_error().is_access_denied_exception());
    client
        .add_tags_to_stream()
        .stream_name("s")
        .tags("team", "a")
        .send()
        .await
        .unwrap();
    client
        .tag_resource()
        .resource_arn(ARN)
        .tags("env", "b")
        .send()
        .await
        .unwrap();
    let tags = client
        .list_tags_for_resource()
        .resource_arn(ARN)
        .send()
        .await
        .unwrap()
        .tags
        .unwrap();
    let tags: Vec<_> = tags.iter().map(|tag| (tag.key(), tag.value())).collect();
    assert_eq!(tags, [("env", Some("b")), ("team", Some("a"))]);
    client
        .remove_tags_from_stream()
        .stream_name("s")
        .tag_keys("team")
        .send()
        .await
        .unwrap();
    let tags = client
        .list_tags_for_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    assert_eq!((tags.tags.len(), tags.has_more_tags), (1, false));
    let invalid = client
        .create_stream()
        .stream_name("a b")
        .shard_count(1)
        .send()
        .await
        .unwrap_err();
    let invalid = invalid.into_service_error();
    assert_eq!(invalid.code(), Some("ValidationException"));
    assert_eq!(
        invalid.message(),
        Some(
            "1 validation error detected: Value 'a b' at 'streamName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
        )
    );
}
