//! Records through the real SDK in virtual time: areas K06 to K12 and K26 of the emulator's yardstick.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use kcl_emulator::Emulator;
use tokio::time::sleep;

const HALF: u128 = 1 << 127;
const MIB: usize = 1024 * 1024;

/// An emulator with a stream `s`, and a client that does not retry.
fn with_stream(shards: u32) -> (Emulator, Client) {
    let emulator = Emulator::new();
    emulator.create_stream("s", shards).unwrap();
    let shared = emulator.sdk_config("test");
    let config =
        aws_sdk_kinesis::config::Builder::from(&shared).retry_config(RetryConfig::disabled());
    (emulator, Client::from_conf(config.build()))
}

fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// Puts a record and returns its sequence number.
async fn put(client: &Client, key: &str, hash_key: u128) -> String {
    let put = client
        .put_record()
        .stream_name("s")
        .partition_key(key)
        .data(Blob::new(key));
    let put = put.explicit_hash_key(hash_key.to_string());
    put.send().await.unwrap().sequence_number
}

async fn iterator(client: &Client, shard: u32, kind: ShardIteratorType) -> String {
    let iterator = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(id(shard));
    let iterator = iterator.shard_iterator_type(kind).send().await.unwrap();
    iterator.shard_iterator.unwrap()
}

async fn get(client: &Client, iterator: &str) -> GetRecordsOutput {
    client
        .get_records()
        .shard_iterator(iterator)
        .send()
        .await
        .unwrap()
}

fn keys(answer: &GetRecordsOutput) -> Vec<&str> {
    answer
        .records
        .iter()
        .filter_map(|record| record.partition_key())
        .collect()
}

fn entry(data: usize) -> PutRecordsRequestEntry {
    let entry = PutRecordsRequestEntry::builder()
        .partition_key("k")
        .data(Blob::new(vec![0; data]));
    entry.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn k06_the_five_kinds_of_iterators() {
    let (emulator, client) = with_stream(1);
    let first = put(&client, "a", 0).await;
    let latest = iterator(&client, 0, ShardIteratorType::Latest).await;
    sleep(Duration::from_millis(10)).await;
    let middle = emulator.clock().now();
    put(&client, "b", 0).await;
    assert_eq!(keys(&get(&client, &latest).await), ["b"]);
    let from_start = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    assert_eq!(keys(&get(&client, &from_start).await), ["a", "b"]);
    let start = client.get_shard_iterator().stream_name("s").shard_id(id(0));
    let at = start
        .clone()
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber);
    let after = start
        .clone()
        .shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
    let at_time = start.shard_iterator_type(ShardIteratorType::AtTimestamp);
    for (start, expected) in [
        (at.starting_sequence_number(&first), &["a", "b"][..]),
        (after.starting_sequence_number(&first), &["b"]),
        (at_time.timestamp(DateTime::from_millis(middle.0)), &["b"]),
    ] {
        let iterator = start.send().await.unwrap().shard_iterator.unwrap();
        assert_eq!(keys(&get(&client, &iterator).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn k07_k26_a_closed_shard_ends_with_its_children_and_they_go_on() {
    let (_emulator, client) = with_stream(1);
    let mut written = vec![put(&client, "a", 0).await];
    let split = client.split_shard().stream_name("s").shard_to_split(id(0));
    split
        .new_starting_hash_key(HALF.to_string())
        .send()
        .await
        .unwrap();
    written.push(put(&client, "b", 0).await);
    let from_start = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    let parent = get(&client, &from_start).await;
    assert_eq!(parent.next_shard_iterator, None);
    let children: Vec<_> = parent
        .child_shards()
        .iter()
        .map(|child| child.shard_id.clone())
        .collect();
    assert_eq!(children, [id(1), id(2)]);
    let from_start = iterator(&client, 1, ShardIteratorType::TrimHorizon).await;
    let child = get(&client, &from_start).await;
    assert!(child.next_shard_iterator.is_some() && child.child_shards.is_none());
    let read = parent.records.iter().chain(&child.records);
    assert_eq!(
        read.map(|record| record.sequence_number.clone())
            .collect::<Vec<_>>(),
        written
    );
    assert!(written.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn k08_millis_behind_latest_and_arrival_follow_the_clock() {
    let (emulator, client) = with_stream(1);
    put(&client, "a", 0).await;
    let arrived = emulator.clock().now();
    put(&client, "b", 0).await;
    sleep(Duration::from_secs(30)).await;
    let from_start = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    let first = client
        .get_records()
        .shard_iterator(from_start)
        .limit(1)
        .send()
        .await
        .unwrap();
    assert_eq!(first.millis_behind_latest, Some(30_000));
    let moment = first.records[0].approximate_arrival_timestamp.unwrap();
    assert_eq!(moment.to_millis().unwrap(), arrived.0);
    let tip = get(&client, &first.next_shard_iterator.unwrap()).await;
    assert_eq!((keys(&tip), tip.millis_behind_latest), (vec!["b"], Some(0)));
}

#[tokio::test(start_paused = true)]
async fn k09_k10_reads_are_limited_per_call_and_per_second() {
    let (_emulator, client) = with_stream(1);
    for _ in 0..11 {
        let put = client
            .put_records()
            .stream_name("s")
            .records(entry(MIB - 1));
        assert_eq!(put.send().await.unwrap().failed_record_count, Some(0));
        sleep(Duration::from_secs(1)).await;
    }
    let from_start = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    let big = get(&client, &from_start).await;
    assert_eq!(big.records.len(), 10);
    let next = client
        .get_records()
        .shard_iterator(big.next_shard_iterator.unwrap());
    let throttled = next.clone().send().await.unwrap_err().into_service_error();
    assert!(throttled.is_provisioned_throughput_exceeded_exception());
    assert_eq!(
        throttled.message(),
        Some(
            "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."
        )
    );
    sleep(Duration::from_secs(5) + Duration::from_millis(1)).await;
    assert_eq!(next.send().await.unwrap().records.len(), 1);

    sleep(Duration::from_secs(1)).await;
    let tip = iterator(&client, 0, ShardIteratorType::Latest).await;
    let read = client.get_records().shard_iterator(tip);
    let mut answered = 0;
    while read.clone().send().await.is_ok() {
        answered += 1;
    }
    assert_eq!(answered, 5);
    let invalid = read.limit(10_001).send().await.unwrap_err();
    assert_eq!(
        invalid.into_service_error().code(),
        Some("ValidationException")
    );
}

#[tokio::test(start_paused = true)]
async fn k11_k12_writes_are_routed_ordered_and_limited() {
    let (_emulator, client) = with_stream(2);
    let put = client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(Blob::new("x"));
    let upper = put
        .clone()
        .explicit_hash_key(HALF.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(upper.shard_id, id(1));
    let number = upper.sequence_number;
    assert!(number.len() == 56 && number.starts_with("49"), "{number}");
    let after = put
        .clone()
        .sequence_number_for_ordering(&number)
        .send()
        .await
        .unwrap();
    assert!(after.sequence_number > number);
    let beyond = put
        .explicit_hash_key("340282366920938463463374607431768211456")
        .send()
        .await
        .unwrap_err();
    assert!(beyond.into_service_error().is_invalid_argument_exception());

    sleep(Duration::from_secs(1)).await;
    let batch = client
        .put_records()
        .stream_name("s")
        .set_records(Some(vec![entry(1); 500]));
    let mut failed = 0;
    for _ in 0..3 {
        let answer = batch.clone().send().await.unwrap();
        failed += answer.failed_record_count.unwrap();
        let refused = answer
            .records
            .iter()
            .filter(|record| record.error_code.is_some());
        assert_eq!(
            refused.count(),
            usize::try_from(answer.failed_record_count.unwrap()).unwrap()
        );
    }
    assert_eq!(failed, 500);
    let too_many = client
        .put_records()
        .stream_name("s")
        .set_records(Some(vec![entry(1); 501]));
    let too_many = too_many.send().await.unwrap_err().into_service_error();
    assert_eq!(too_many.code(), Some("ValidationException"));
    let too_big = client
        .put_records()
        .stream_name("s")
        .records(entry(MIB + 1));
    assert_eq!(
        too_big
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .code(),
        Some("ValidationException")
    );
}

#[tokio::test(start_paused = true)]
async fn iterators_expire_after_five_minutes() {
    let (_emulator, client) = with_stream(1);
    let old = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    sleep(Duration::from_secs(300)).await;
    get(&client, &old).await;
    sleep(Duration::from_millis(1)).await;
    let expired = client
        .get_records()
        .shard_iterator(old)
        .send()
        .await
        .unwrap_err();
    assert!(expired.into_service_error().is_expired_iterator_exception());
    let bogus = client
        .get_records()
        .shard_iterator("bogus")
        .send()
        .await
        .unwrap_err();
    assert!(bogus.into_service_error().is_invalid_argument_exception());
}

#[tokio::test(start_paused = true)]
async fn records_go_with_the_retention_period() {
    let (emulator, client) = with_stream(1);
    put(&client, "a", 0).await;
    let created = Duration::from_millis(u64::try_from(emulator.clock().now().0).unwrap());
    let future = DateTime::from(UNIX_EPOCH + created + Duration::from_secs(60));
    let future = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(id(0))
        .timestamp(future);
    let future = future
        .shard_iterator_type(ShardIteratorType::AtTimestamp)
        .send()
        .await
        .unwrap_err();
    assert!(future.into_service_error().is_invalid_argument_exception());
    sleep(Duration::from_secs(86_401)).await;
    let from_start = iterator(&client, 0, ShardIteratorType::TrimHorizon).await;
    assert!(get(&client, &from_start).await.records.is_empty());
}
