//! Subscriptions through the real SDK in virtual time: events, end of a shard, take-over, faults.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use kcl_emulator::Emulator;
use kcl_emulator::faults::{Fault, Rule};
use kcl_emulator::kinesis::SubscriptionPoll;
use kcl_emulator::kinesis::api::SubscriptionId;
use tokio::time::{Instant, sleep, timeout};

const SHARD: &str = "shardId-000000000000";

/// A stream of one shard with one consumer: the client and the consumer's ARN.
async fn fan_out(emulator: &Emulator) -> (Client, String) {
    emulator.create_stream("s", 1).unwrap();
    let client = Client::new(&emulator.sdk_config("worker"));
    let consumer = client
        .register_stream_consumer()
        .stream_arn("arn:aws:kinesis:us-east-1:000000000000:stream/s")
        .consumer_name("c")
        .send()
        .await
        .unwrap();
    let arn = consumer.consumer.unwrap().consumer_arn;
    (client, arn)
}

async fn subscribe(client: &Client, consumer: &str) -> SubscribeToShardOutput {
    let position = StartingPosition::builder()
        .r#type(ShardIteratorType::TrimHorizon)
        .build();
    client
        .subscribe_to_shard()
        .consumer_arn(consumer)
        .shard_id(SHARD)
        .starting_position(position.unwrap())
        .send()
        .await
        .unwrap()
}

async fn put(client: &Client, data: &str) {
    client
        .put_record()
        .stream_name("s")
        .partition_key("k")
        .data(Blob::new(data))
        .send()
        .await
        .unwrap();
}

/// The next event; nothing when the stream has ended.
async fn next(output: &mut SubscribeToShardOutput) -> Option<SubscribeToShardEvent> {
    match output.event_stream.recv().await.unwrap()? {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => Some(event),
        other => panic!("unexpected event {other:?}"),
    }
}

/// The payloads of the next event that has records.
async fn next_records(output: &mut SubscribeToShardOutput) -> Vec<String> {
    loop {
        let event = next(output).await.expect("the stream goes on");
        if !event.records.is_empty() {
            let text = |data: &Blob| String::from_utf8(data.as_ref().to_vec()).unwrap();
            return event
                .records
                .iter()
                .map(|record| text(&record.data))
                .collect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_arrive_as_they_are_put() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    put(&client, "before").await;
    let mut output = subscribe(&client, &consumer).await;
    assert_eq!(next_records(&mut output).await, ["before"]);
    let producer = async {
        sleep(Duration::from_secs(42)).await;
        put(&client, "after").await;
        Instant::now()
    };
    let consumer = async {
        let records = next_records(&mut output).await;
        (records, Instant::now())
    };
    let (put_at, (records, received_at)) = tokio::join!(producer, consumer);
    assert_eq!(records, ["after"]);
    assert!(
        received_at - put_at < Duration::from_secs(1),
        "{:?}",
        received_at - put_at
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_subscription_is_told_so_and_ends_after_five_minutes() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let start = Instant::now();
    let mut output = subscribe(&client, &consumer).await;
    let mut events = 0;
    while let Some(event) = next(&mut output).await {
        assert!(event.records.is_empty());
        events += 1;
    }
    assert_eq!(start.elapsed().as_secs(), 300);
    assert!((10..=301).contains(&events), "{events} events");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_names_its_children_and_ends_the_stream() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    put(&client, "last").await;
    let mut output = subscribe(&client, &consumer).await;
    client
        .split_shard()
        .stream_name("s")
        .shard_to_split(SHARD)
        .new_starting_hash_key("170141183460469231731687303715884105728")
        .send()
        .await
        .unwrap();
    let mut records = 0;
    let mut children = Vec::new();
    while let Some(event) = next(&mut output).await {
        assert!(children.is_empty(), "an event after the end");
        records += event.records.len();
        let shards = event.child_shards.unwrap_or_default();
        assert_eq!(
            event.continuation_sequence_number.is_empty(),
            !shards.is_empty()
        );
        children.extend(shards.into_iter().map(|child| child.shard_id));
    }
    assert_eq!(records, 1);
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_comes_with_the_end_of_the_transition() {
    let transition = Duration::from_millis(500);
    let emulator = Emulator::builder().transition(transition).build();
    let (client, consumer) = fan_out(&emulator).await;
    sleep(transition).await;
    let mut output = subscribe(&client, &consumer).await;
    next(&mut output).await.unwrap();
    client
        .split_shard()
        .stream_name("s")
        .shard_to_split(SHARD)
        .new_starting_hash_key("1000")
        .send()
        .await
        .unwrap();
    let start = Instant::now();
    let end = next(&mut output).await.unwrap();
    assert_eq!(end.child_shards.unwrap_or_default().len(), 2);
    assert!(
        start.elapsed() <= transition + Duration::from_millis(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_stream_as_the_service_names_it() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let mut output = subscribe(&client, &consumer).await;
    next(&mut output).await.unwrap();
    client
        .deregister_stream_consumer()
        .consumer_arn(&consumer)
        .send()
        .await
        .unwrap();
    let error = output.event_stream.recv().await.unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_resource_not_found_exception(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_is_closed() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let mut output = subscribe(&client, &consumer).await;
    next(&mut output).await.unwrap();
    let poll = || emulator.poll_subscription(emulator.clock().now(), SubscriptionId(1));
    assert!(matches!(poll(), SubscriptionPoll::Idle { .. }));
    drop(output);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(poll(), SubscriptionPoll::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_later_subscription_takes_over() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let mut first = subscribe(&client, &consumer).await;
    sleep(Duration::from_secs(6)).await;
    let mut second = subscribe(&client, &consumer).await;
    let ended = async { while next(&mut first).await.is_some() {} };
    timeout(Duration::from_secs(1), ended).await.unwrap();
    put(&client, "x").await;
    assert_eq!(next_records(&mut second).await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_can_be_cut() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let after = Duration::from_secs(12);
    emulator
        .faults()
        .add(Rule::new(Fault::CutSubscription { after }).first(1));
    let start = Instant::now();
    let mut output = subscribe(&client, &consumer).await;
    let failure = loop {
        match output.event_stream.recv().await {
            Ok(event) => assert!(event.is_some(), "the stream ends as if all were well"),
            Err(error) => break error,
        }
    };
    assert_eq!(start.elapsed(), after, "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_can_fall_silent() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let after = Duration::from_secs(12);
    emulator
        .faults()
        .add(Rule::new(Fault::SilenceSubscription { after }));
    let start = Instant::now();
    let mut output = subscribe(&client, &consumer).await;
    let mut last = start;
    // The SDK gives a stream up that stalls for long; before that there is silence.
    while let Ok(Ok(Some(_))) = timeout(Duration::from_secs(15), output.event_stream.recv()).await {
        last = Instant::now();
        sleep(Duration::from_secs(1)).await;
        put(&client, "x").await;
    }
    assert!(last - start <= after, "{:?}", last - start);
    assert!(start.elapsed() > after);
}

#[tokio::test(start_paused = true)]
async fn a_partition_silences_a_subscription_until_it_heals() {
    let emulator = Emulator::new();
    let (client, consumer) = fan_out(&emulator).await;
    let mut output = subscribe(&client, &consumer).await;
    emulator.faults().partition("worker");
    let other = Client::new(&emulator.sdk_config("other"));
    put(&other, "x").await;
    let received = timeout(Duration::from_secs(10), next_records(&mut output)).await;
    assert!(received.is_err(), "{received:?}");
    emulator.faults().heal("worker");
    assert_eq!(next_records(&mut output).await, ["x"]);
}
