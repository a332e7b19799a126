//! The whole worker on the emulator, over the AWS SDK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kcl_core::retrieval::KinesisSource;
use kcl_core::{Events, Retrieval, Worker, WorkerEvent};
use kcl_emulator::{Emulator, Service};
use tokio::time::sleep;

use crate::fixture::{Fixture, Recorder, Running, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const STREAM: &str = "orders";
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";

struct Emulated {
    fixture: Fixture,
    emulator: Emulator,
    others: Client,
}

fn emulated(shards: u32) -> Emulated {
    let emulator = Emulator::new();
    emulator.create_stream(STREAM, shards).unwrap();
    Emulated {
        fixture: Fixture::new(1),
        others: Client::new(&emulator.sdk_config("others")),
        emulator,
    }
}

impl Emulated {
    fn start(&self, retrieval: impl Into<Retrieval>) -> (Running, Events) {
        let source = KinesisSource::new(&self.emulator.sdk_config("worker"), STREAM, None);
        let log = self.fixture.log.clone();
        let builder = Worker::builder("app", STREAM, move |shard| Recorder {
            shard: shard.shard_id().clone(),
            log: log.clone(),
            behaviour: Arc::new(|_| Ok(())),
        });
        let builder = builder.retrieval(retrieval);
        let worker = self.fixture.start_on(Arc::new(source), builder);
        let events = worker.handle.events();
        (worker, events)
    }

    async fn put(&self, key: usize, text: &str) {
        let put = self.others.put_record().stream_name(STREAM);
        let put = put.partition_key(key.to_string()).data(Blob::new(text));
        put.send().await.unwrap();
    }

    async fn is_delivered(&self, text: &str) {
        let log = &self.fixture.log;
        eventually(text, || log.delivered().contains(&text.to_owned())).await;
    }

    fn calls(&self, operation: &str) -> u64 {
        let calls = self.emulator.calls();
        calls.by("worker", Service::Kinesis, operation)
    }
}

/// What is told of reading, among the events that came so far.
async fn told(events: &mut Events) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        match event {
            WorkerEvent::ReadFailed { error, .. } => told.push(error),
            WorkerEvent::FanOutUnavailable { error } => told.push(format!("polls: {error}")),
            WorkerEvent::FanOutAvailable => told.push("back".to_owned()),
            _ => {}
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_reshard_and_a_change_of_workers_lose_and_repeat_nothing_and_are_no_error() {
    const KEYS: usize = 10;
    let stream = emulated(2);
    let (first, mut of_first) = stream.start(Retrieval::fan_out());
    let mut second = None;
    let (mut put, mut delivered) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for number in 0..200 {
        let key = number % KEYS;
        let text = format!("{key} {number}");
        stream.put(key, &text).await;
        put.entry(key).or_default().push(text);
        sleep(Duration::from_millis(500)).await;
        if number == 60 {
            let split = stream.others.split_shard().stream_name(STREAM);
            let split = split.shard_to_split("shardId-000000000000");
            split.new_starting_hash_key("1000000").send().await.unwrap();
        }
        if number == 120 {
            second = Some(stream.start(Retrieval::fan_out()));
        }
        if number == 160 {
            first.handle.shutdown();
        }
    }
    let (second, mut of_second) = second.unwrap();
    second.handle.caught_up().await;
    first.stop().await;
    second.stop().await;
    for text in stream.fixture.log.delivered() {
        let key = text.split(' ').next().unwrap().parse::<usize>().unwrap();
        delivered.entry(key).or_default().push(text);
    }
    assert_eq!(delivered, put);
    assert_eq!(stream.calls("GetRecords"), 0);
    assert_eq!(stream.calls("RegisterStreamConsumer"), 1);
    for events in [&mut of_first, &mut of_second] {
        assert_eq!(told(events).await, Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_missing_are_named_and_auto_polls_meanwhile() {
    for action in [
        "kinesis:DescribeStreamConsumer",
        "kinesis:RegisterStreamConsumer",
        "kinesis:SubscribeToShard",
    ] {
        let stream = emulated(2);
        stream.emulator.faults().deny("worker", action);
        let (worker, mut events) = stream.start(Retrieval::fan_out());
        stream.put(0, "a").await;
        sleep(2 * MINUTE).await;
        let operation = action.trim_start_matches("kinesis:");
        let before = stream.calls(operation);
        sleep(MINUTE).await;
        let calls = stream.calls(operation) - before;
        assert!((1..=20).contains(&calls), "{action}: {calls} a minute");
        let failures = told(&mut events).await;
        let last = failures.last().unwrap();
        assert!(
            last.starts_with(action) && last.contains("policy"),
            "{last}"
        );
        worker.stop().await;

        let (worker, mut events) = stream.start(Retrieval::auto());
        stream.is_delivered("a").await;
        sleep(MINUTE).await;
        let why = told(&mut events).await;
        assert!(
            why.len() == 1 && why[0].starts_with(&format!("polls: {action}")),
            "{why:?}"
        );
        stream.emulator.faults().allow("worker", action);
        sleep(11 * MINUTE).await;
        assert_eq!(told(&mut events).await, ["back"]);
        stream.put(0, "b").await;
        stream.is_delivered("b").await;
        worker.stop().await;
        assert_eq!(stream.fixture.log.delivered(), ["a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_consumer_too_many_is_a_reason_to_poll_until_there_is_room() {
    let stream = emulated(2);
    let register = async |name: &str| {
        let call = stream.others.register_stream_consumer().stream_arn(ARN);
        call.consumer_name(name).send().await.unwrap();
        // Five may be CREATING at a time.
        sleep(Duration::from_secs(10)).await;
    };
    for number in 0..20 {
        register(&format!("other-{number}")).await;
    }
    let (worker, mut events) = stream.start(Retrieval::auto());
    stream.put(0, "a").await;
    stream.is_delivered("a").await;
    sleep(MINUTE).await;
    let why = told(&mut events).await;
    assert!(
        why.len() == 1 && why[0].contains("as many consumers"),
        "{why:?}"
    );
    let calls = stream.calls("RegisterStreamConsumer");
    assert!(calls <= 9, "{calls}");
    let remove = stream.others.deregister_stream_consumer().stream_arn(ARN);
    remove.consumer_name("other-7").send().await.unwrap();
    sleep(11 * MINUTE).await;
    assert_eq!(told(&mut events).await, ["back"]);
    stream.put(0, "b").await;
    stream.is_delivered("b").await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deleted_under_a_worker_is_waited_for_and_made_again() {
    let stream = emulated(4);
    let (worker, mut events) = stream.start(Retrieval::fan_out());
    stream.put(0, "a").await;
    stream.is_delivered("a").await;
    let remove = stream.others.deregister_stream_consumer().stream_arn(ARN);
    remove.consumer_name("app").send().await.unwrap();
    stream.put(0, "b").await;
    stream.is_delivered("b").await;
    sleep(MINUTE).await;
    let calls = ["Register", "Describe"].map(|verb| stream.calls(&format!("{verb}StreamConsumer")));
    assert!(calls[0] <= 4 && calls[1] <= 30, "{calls:?}");
    assert!(
        told(&mut events).await.len() <= 2 * 4,
        "each shard once or twice"
    );
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
    assert_eq!(stream.fixture.log.delivered(), ["a", "b"]);
}
