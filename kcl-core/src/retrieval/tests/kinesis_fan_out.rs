//! Enhanced fan-out on Kinesis: the real SDK over the emulator in the process, on virtual time.

mod cbor;
mod foreign_answers;
mod pipes;
mod room;
mod shared_connections;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_types::SdkConfig;
use kcl_emulator::Emulator;
use kcl_emulator::Service::Kinesis;
use kcl_emulator::faults::{Fault, Rule};
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ShardId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::fan_out::Notes;
use crate::retrieval::fan_out::ConsumerChoice;
use crate::retrieval::{
    Budget, Consumer, ConsumerOptions, ConsumerStatus, Delivery, FanOut, KinesisSource, PollEnd,
    Polling, ReadLimit, Reader, RecordRef, RetrievalObserver, ShardFilter, ShardRead, ShardSource,
    SourceErrorKind as Kind, StartPosition, Subscription,
};

const STREAM: &str = "orders";
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";
const HOUR: Duration = Duration::from_secs(3600);

struct Stream {
    emulator: Emulator,
    producer: Client,
    source: KinesisSource,
    runtime: Runtime,
}

struct Reading {
    notes: Arc<Notes>,
    deliveries: mpsc::Receiver<Delivery>,
    end: AbortOnDropHandle<PollEnd>,
}

fn stream(shards: u32) -> Stream {
    let emulator = Emulator::new();
    emulator.create_stream(STREAM, shards).unwrap();
    Stream {
        producer: Client::new(&emulator.sdk_config("producer")),
        source: KinesisSource::new(&emulator.sdk_config("worker"), STREAM, None),
        runtime: Runtime::virtual_time(1),
        emulator,
    }
}

impl Stream {
    async fn put(&self, text: &str) {
        let put = self.producer.put_record().stream_name(STREAM);
        let put = put.partition_key("k").data(Blob::new(text));
        put.send().await.unwrap();
    }

    async fn put_to(&self, index: usize, text: &str) {
        let shards = self.source.list_shards(ShardFilter::All).await.unwrap();
        let hash_key = shards[index].hash_range.start.to_string();
        let put = self.producer.put_record().stream_name(STREAM);
        let put = put.partition_key("k").explicit_hash_key(hash_key);
        put.data(Blob::new(text)).send().await.unwrap();
    }

    async fn shard(&self, index: usize) -> ShardId {
        let shards = self.source.list_shards(ShardFilter::All).await.unwrap();
        shards[index].shard_id.clone()
    }

    /// A consumer that is ACTIVE: its ARN.
    async fn consumer(&self, name: &str) -> String {
        self.source.register_consumer(name).await.unwrap();
        loop {
            let found = self.source.describe_consumer(name).await.unwrap().unwrap();
            if found.status == ConsumerStatus::Active {
                return found.arn;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn subscribe(&self, consumer: &str) -> Box<dyn Subscription> {
        let shard = self.shard(0).await;
        let from = StartPosition::TrimHorizon;
        self.source
            .subscribe(consumer, &shard, &from)
            .await
            .unwrap()
    }

    async fn read(&self, falls_back: bool) -> Reading {
        self.read_with(self.reader(falls_back), 0).await
    }

    /// What all shards of a worker are read with.
    fn reader(&self, falls_back: bool) -> Reader {
        let source: Arc<dyn ShardSource> = Arc::new(self.source.clone());
        let options = ConsumerOptions {
            choice: ConsumerChoice::Name {
                name: "app".to_owned(),
                register: true,
            },
            active_within: Duration::from_secs(60),
            falls_back,
        };
        let consumer = Consumer::new(options, Arc::clone(&source), self.runtime.clone());
        Reader {
            fan_out: Some(FanOut {
                source: Arc::clone(&source),
                consumer: Arc::new(consumer),
                limit: ReadLimit::default(),
                runtime: self.runtime.clone(),
            }),
            polling: Polling::new(source, Budget::new(64 << 20), self.runtime.clone()),
        }
    }

    async fn read_with(&self, reader: Reader, index: usize) -> Reading {
        let notes = Arc::new(Notes::default());
        let read = ShardRead {
            shard: self.shard(index).await,
            hash_range: HashKeyRange::FULL,
            start: StartPosition::TrimHorizon,
            skip_through: None,
            observer: Arc::clone(&notes) as Arc<dyn RetrievalObserver>,
        };
        let (sender, deliveries) = mpsc::channel(1);
        Reading {
            notes,
            deliveries,
            end: self.runtime.spawn(reader.read(read, sender)),
        }
    }

    fn fault(&self, operation: &str, fault: Fault) {
        let rule = Rule::new(fault).named(operation).operation(operation);
        self.emulator.faults().add(rule);
    }

    fn calls(&self, operation: &str) -> u64 {
        self.emulator.calls().by("worker", Kinesis, operation)
    }
}

/// A configuration whose calls go through this, before they reach the emulator.
fn through<C: HttpConnector + Clone + 'static>(
    stream: &Stream,
    connector: impl FnOnce(SharedHttpConnector) -> C,
) -> SdkConfig {
    let components = RuntimeComponentsBuilder::for_tests().build().unwrap();
    let settings = HttpConnectorSettings::builder().build();
    let client = stream.emulator.http_client("worker");
    let connector = connector(client.http_connector(&settings, &components));
    let client = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
    let aws = stream.emulator.sdk_config("worker").into_builder();
    aws.http_client(client).build()
}

impl Reading {
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let next = timeout(HOUR, self.deliveries.recv()).await;
            let delivery = next.expect("a delivery within an hour").expect("more");
            let records = delivery.batch.range(delivery.rows.clone());
            texts.extend(records.map(|r| String::from_utf8_lossy(r.data()).into_owned()));
        }
        texts
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_registered_found_and_removed_only_on_request() {
    let stream = stream(1);
    assert_eq!(stream.source.describe_consumer("app").await.unwrap(), None);
    let made = stream.source.register_consumer("app").await.unwrap();
    assert_eq!(made.status, ConsumerStatus::Creating);
    assert!(
        made.arn.starts_with(&format!("{ARN}/consumer/app:")),
        "{}",
        made.arn
    );
    let again = stream.source.register_consumer("app").await.unwrap_err();
    assert_eq!(again.kind(), Kind::StreamInUse);
    assert_eq!(stream.consumer("other").await, {
        let found = stream.source.describe_consumer("other").await.unwrap();
        found.unwrap().arn
    });
    stream.source.deregister_consumer("app").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stream.source.describe_consumer("app").await.unwrap(), None);
    stream.source.deregister_consumer("app").await.unwrap();
    // The ARN of the stream was asked for once.
    assert_eq!(stream.calls("DescribeStreamSummary"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_twenty_first_consumer_is_one_too_many() {
    let stream = stream(1);
    for number in 0..20 {
        stream.consumer(&format!("c{number}")).await;
    }
    let mut reading = stream.read(true).await;
    stream.put("a").await;
    assert_eq!(reading.texts(1).await, ["a"]);
    assert_eq!(reading.notes.of("fell back").len(), 1);
    assert!(stream.calls("RegisterStreamConsumer") <= 20 + 9);
}

#[tokio::test(start_paused = true)]
async fn events_carry_records_where_to_go_on_and_how_far_behind() {
    let stream = stream(1);
    let consumer = stream.consumer("app").await;
    stream.put("a").await;
    stream.put("b").await;
    let mut subscription = stream.subscribe(&consumer).await;
    let bytes = subscription.announced().await.unwrap().unwrap();
    assert_eq!(subscription.announced().await.unwrap(), Some(bytes));
    let pushed = subscription.receive().await.unwrap();
    assert_eq!(bytes, pushed.batch.resident_bytes());
    let texts: Vec<&[u8]> = pushed.batch.range(0..2).map(RecordRef::data).collect();
    assert_eq!(texts, [b"a", b"b"]);
    assert_eq!(
        pushed.continuation,
        pushed.batch.end_position().map(|end| end.sequence_number)
    );
    assert_eq!(pushed.behind, Some(Duration::ZERO));
    assert!(pushed.children.is_empty());
    // Nothing happens: an event all the same.
    let pushed = subscription.receive().await.unwrap();
    assert_eq!(pushed.batch.len(), 0);
    assert!(pushed.continuation.is_some());
}

#[tokio::test(start_paused = true)]
async fn every_position_is_asked_for_as_it_is_meant() {
    let stream = stream(1);
    let consumer = stream.consumer("app").await;
    let mut numbers = Vec::new();
    let start = stream.runtime.wall_time();
    for text in ["a", "b", "c"] {
        stream.put(text).await;
        sleep(Duration::from_secs(10)).await;
    }
    let shard = stream.shard(0).await;
    for (from, expected) in [
        (StartPosition::TrimHorizon, vec!["a", "b", "c"]),
        (StartPosition::AtTimestamp(start), vec!["a", "b", "c"]),
    ] {
        let mut subscription = stream
            .source
            .subscribe(&consumer, &shard, &from)
            .await
            .unwrap();
        let batch = subscription.receive().await.unwrap().batch;
        let texts: Vec<_> = batch
            .range(0..batch.len())
            .map(|r| String::from_utf8(r.data().to_vec()).unwrap())
            .collect();
        assert_eq!(texts, expected);
        numbers = batch
            .range(0..3)
            .map(|r| kcl_checkpoint::SequenceNumber::parse(r.sequence_number()).unwrap())
            .collect();
        sleep(Duration::from_secs(6)).await;
    }
    for (from, expected) in [
        (StartPosition::AtSequenceNumber(numbers[1].clone()), 2),
        (StartPosition::AfterSequenceNumber(numbers[1].clone()), 1),
    ] {
        let mut subscription = stream
            .source
            .subscribe(&consumer, &shard, &from)
            .await
            .unwrap();
        assert_eq!(subscription.receive().await.unwrap().batch.len(), expected);
        sleep(Duration::from_secs(6)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_read_to_its_end_over_many_renewals() {
    let stream = stream(1);
    let mut reading = stream.read(false).await;
    for number in 0..300 {
        let text = number.to_string();
        stream.put(&text).await;
        let put = Instant::now();
        assert_eq!(reading.texts(1).await, [text]);
        // The first one waits for the consumer to become ACTIVE.
        assert!(
            number == 0 || put.elapsed() < Duration::from_secs(1),
            "{:?}",
            put.elapsed()
        );
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(stream.calls("GetRecords"), 0);
    let calls = stream.calls("SubscribeToShard");
    assert!((5..=8).contains(&calls), "{calls}");
    assert!(
        reading.notes.of("failed").is_empty(),
        "{:?}",
        reading.notes.of("failed")
    );
    let split = stream.producer.split_shard().stream_name(STREAM);
    let split = split.shard_to_split(stream.shard(0).await.as_str());
    split.new_starting_hash_key("1000").send().await.unwrap();
    let end = timeout(HOUR, reading.deliveries.recv())
        .await
        .unwrap()
        .unwrap()
        .end;
    let children: Vec<String> = end
        .unwrap()
        .children
        .iter()
        .map(|c| c.shard_id.to_string())
        .collect();
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
    assert!(matches!(reading.end.await.unwrap(), PollEnd::ShardEnd));
}

#[tokio::test(start_paused = true)]
async fn a16_silence_cuts_and_calls_that_are_never_answered_cost_fifteen_seconds_at_most() {
    let after = Duration::from_secs(20);
    for fault in [
        Fault::SilenceSubscription { after },
        Fault::CutSubscription { after },
    ] {
        let stream = stream(1);
        let rule = Rule::new(fault.clone()).named("once").first(1);
        stream
            .emulator
            .faults()
            .add(rule.operation("SubscribeToShard"));
        let mut reading = stream.read(false).await;
        stream.put("a").await;
        assert_eq!(reading.texts(1).await, ["a"]);
        sleep(after).await;
        let before = Instant::now();
        stream.put("b").await;
        assert_eq!(reading.texts(1).await, ["b"]);
        assert!(
            before.elapsed() <= Duration::from_secs(15),
            "{fault:?}: {:?}",
            before.elapsed()
        );
    }
    let stream = stream(1);
    let mut reading = stream.read(false).await;
    stream.put("a").await;
    assert_eq!(reading.texts(1).await, ["a"]);
    sleep(Duration::from_secs(60)).await;
    let hang = Rule::new(Fault::Hang)
        .first(1)
        .operation("SubscribeToShard");
    stream.emulator.faults().add(hang);
    // The renewal hangs.
    sleep(Duration::from_secs(190)).await;
    for number in 0..60 {
        let (before, text) = (Instant::now(), number.to_string());
        stream.put(&text).await;
        assert_eq!(reading.texts(1).await, [text]);
        assert!(
            before.elapsed() <= Duration::from_secs(15),
            "{:?}",
            before.elapsed()
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(reading.notes.of("failed").len(), 1);
}

/// What the service may answer to a subscription, and what it means.
fn modelled() -> Vec<(u16, &'static str, Kind)> {
    vec![
        (400, "AccessDeniedException", Kind::AccessDenied),
        (400, "InvalidArgumentException", Kind::InvalidArgument),
        (400, "LimitExceededException", Kind::Throttled),
        (400, "ResourceInUseException", Kind::StreamInUse),
        (400, "ResourceNotFoundException", Kind::StreamNotFound),
        (400, "KMSDisabledException", Kind::KmsDisabled),
        (400, "KMSInvalidStateException", Kind::KmsInvalidState),
        (400, "KMSAccessDeniedException", Kind::KmsAccessDenied),
        (400, "KMSNotFoundException", Kind::KmsNotFound),
        (400, "KMSOptInRequired", Kind::KmsOptInRequired),
        (400, "KMSThrottlingException", Kind::KmsThrottling),
        (400, "UnknownOperationException", Kind::Unsupported),
        (400, "SomethingNew", Kind::Other),
        (500, "InternalFailure", Kind::Unavailable),
        (501, "SomethingElse", Kind::Unsupported),
        (501, "InternalFailure", Kind::Unsupported),
        (503, "SomethingElse", Kind::Unavailable),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_error_of_the_service_is_known() {
    let stream = stream(1);
    let consumer = stream.consumer("app").await;
    let shard = stream.shard(0).await;
    for (status, code, kind) in modelled() {
        let error = Fault::Error {
            status,
            code: code.to_owned(),
            message: "why".to_owned(),
        };
        stream.fault("SubscribeToShard", error.clone());
        let from = StartPosition::TrimHorizon;
        let answer = stream.source.subscribe(&consumer, &shard, &from).await;
        let error_of_call = answer.unwrap_err();
        assert_eq!(error_of_call.kind(), kind, "{code}");
        assert!(
            error_of_call.to_string().contains(STREAM),
            "{error_of_call}"
        );
        stream.emulator.faults().remove("SubscribeToShard");

        stream.fault("DescribeStreamConsumer", error);
        let answer = stream.source.describe_consumer("app").await;
        match kind {
            Kind::StreamNotFound => assert_eq!(answer.unwrap(), None),
            _ => assert_eq!(answer.unwrap_err().kind(), kind, "{code}"),
        }
        stream.emulator.faults().remove("DescribeStreamConsumer");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_events_is_as_one_of_the_call() {
    let stream = stream(1);
    let consumer = stream.consumer("app").await;
    let mut subscription = stream.subscribe(&consumer).await;
    subscription.receive().await.unwrap();
    stream.source.deregister_consumer("app").await.unwrap();
    let error = subscription.announced().await.unwrap_err();
    assert_eq!(error.kind(), Kind::StreamNotFound);
    assert!(error.to_string().contains(STREAM), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_for_good_costs_few_calls_and_is_over_when_it_is_mended() {
    for (operation, code) in [
        ("RegisterStreamConsumer", "AccessDeniedException"),
        ("DescribeStreamConsumer", "AccessDeniedException"),
        ("SubscribeToShard", "AccessDeniedException"),
        ("SubscribeToShard", "ResourceNotFoundException"),
        ("SubscribeToShard", "InvalidArgumentException"),
        ("SubscribeToShard", "LimitExceededException"),
        ("SubscribeToShard", "KMSDisabledException"),
        ("SubscribeToShard", "InternalFailure"),
    ] {
        let stream = stream(1);
        stream.fault(
            operation,
            Fault::Error {
                status: 400,
                code: code.to_owned(),
                message: String::new(),
            },
        );
        let mut reading = stream.read(false).await;
        stream.put("a").await;
        sleep(Duration::from_secs(120)).await;
        let before = stream.calls(operation);
        sleep(Duration::from_secs(60)).await;
        let calls = stream.calls(operation) - before;
        assert!(
            (1..=40).contains(&calls),
            "{operation} {code}: {calls} calls a minute"
        );
        stream.emulator.faults().remove(operation);
        assert_eq!(reading.texts(1).await, ["a"], "{operation} {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_being_deleted_is_waited_for_and_made_again() {
    let stream = stream(1);
    let first = stream.consumer("app").await;
    sleep(Duration::from_secs(2)).await;
    stream.source.deregister_consumer("app").await.unwrap();
    let mut reading = stream.read(false).await;
    stream.put("a").await;
    assert_eq!(reading.texts(1).await, ["a"]);
    let second = stream
        .source
        .describe_consumer("app")
        .await
        .unwrap()
        .unwrap();
    assert_ne!(second.arn, first);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_deleted_ends_the_reading() {
    let stream = stream(1);
    let mut reading = stream.read(false).await;
    stream.put("a").await;
    assert_eq!(reading.texts(1).await, ["a"]);
    let delete = stream.producer.delete_stream().stream_name(STREAM);
    delete.enforce_consumer_deletion(true).send().await.unwrap();
    let end = timeout(HOUR, reading.end).await.unwrap().unwrap();
    assert!(matches!(end, PollEnd::StreamGone(_)), "{end:?}");
}
