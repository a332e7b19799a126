//! The source on Kinesis: the real SDK over the emulator in the process, on virtual time.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_types::SdkConfig;
use kcl_emulator::Emulator;
use kcl_emulator::Service::Kinesis;
use kcl_emulator::faults::{Fault, Rule};
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ShardId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::numbered_aggregate;
use super::polling::Notes;
use crate::retrieval::{
    Budget, Delivery, Gap, KinesisSource, Poller, Polling, RecordRef, RetrievalObserver,
    ShardFilter, ShardRead, ShardSource, SourceError, SourceErrorKind as Kind, StartPosition,
    StreamStatus, Unobserved,
};

const STREAM: &str = "orders";

struct Stream {
    emulator: Emulator,
    client: Client,
    source: KinesisSource,
}

async fn stream(shards: i32) -> Stream {
    let emulator = Emulator::new();
    let client = Client::new(&emulator.sdk_config("producer"));
    let create = client.create_stream().stream_name(STREAM);
    create.shard_count(shards).send().await.unwrap();
    let source = KinesisSource::new(&emulator.sdk_config("worker"), STREAM, None);
    Stream {
        emulator,
        client,
        source,
    }
}

impl Stream {
    async fn put(&self, key: &str, data: impl Into<Vec<u8>>) {
        let put = self.client.put_record().stream_name(STREAM);
        put.partition_key(key)
            .data(Blob::new(data))
            .send()
            .await
            .unwrap();
    }

    async fn first_shard(&self) -> ShardId {
        let shards = self.source.list_shards(ShardFilter::All).await.unwrap();
        shards[0].shard_id.clone()
    }

    fn read(&self, shard: ShardId) -> mpsc::Receiver<Delivery> {
        self.read_from(shard, StartPosition::TrimHorizon, Arc::new(Unobserved))
    }

    fn read_from(
        &self,
        shard: ShardId,
        start: StartPosition,
        observer: Arc<dyn RetrievalObserver>,
    ) -> mpsc::Receiver<Delivery> {
        let runtime = Runtime::virtual_time(1);
        let source = Arc::new(self.source.clone());
        let polling = Polling::new(source, Budget::new(64 << 20), runtime.clone());
        let read = ShardRead {
            shard,
            hash_range: HashKeyRange::FULL,
            start,
            skip_through: None,
            observer,
        };
        let (sender, receiver) = mpsc::channel(1);
        let poller = Poller::new(polling, read);
        #[expect(clippy::disallowed_methods, reason = "ends with the receiver")]
        tokio::spawn(async move { poller.run(sender).await });
        receiver
    }

    /// The error of a read while `fault` befalls it.
    async fn error_of_read(&self, fault: Fault) -> SourceError {
        let shard = self.first_shard().await;
        let iterator = self
            .source
            .iterator(&shard, &StartPosition::TrimHorizon)
            .await
            .unwrap();
        let rule = Rule::new(fault).named("fault").operation("GetRecords");
        self.emulator.faults().add(rule);
        let read = self.source.get_records(&iterator, 10);
        let answer = timeout(Duration::from_secs(3600), read).await;
        let error = answer.expect("an answer within an hour").unwrap_err();
        self.emulator.faults().remove("fault");
        assert_one_line(&error);
        error
    }
}

fn assert_one_line(error: &SourceError) {
    let text = error.to_string();
    assert!(
        text.starts_with("kinesis:") && !text.contains('\n'),
        "{text}"
    );
    assert!(text.contains(STREAM), "{text}");
    assert!(error.source().is_some(), "{text}");
}

async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    timeout(Duration::from_secs(60), deliveries.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_describes_itself_with_the_services_clock() {
    let stream = stream(2).await;
    sleep(Duration::from_secs(100)).await;
    let description = stream.source.describe().await.unwrap();
    assert_eq!(
        description.arn,
        "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
    );
    assert_eq!(description.status, StreamStatus::Readable);
    let now = SystemTime::UNIX_EPOCH
        + Duration::from_millis(u64::try_from(stream.emulator.clock().now().0).unwrap());
    let service_time = description.service_time.unwrap();
    let apart = now.duration_since(service_time).unwrap();
    assert!(apart < Duration::from_secs(2), "{apart:?}");
    assert!(service_time > description.created_at + Duration::from_secs(98));
}

#[tokio::test(start_paused = true)]
async fn every_page_of_shards_is_listed() {
    let stream = stream(2500).await;
    let shards = stream.source.list_shards(ShardFilter::All).await.unwrap();
    assert_eq!(shards.len(), 2500);
    assert_eq!(shards[0].hash_range.start, 0);
    assert_eq!(shards[2499].hash_range.end, u128::MAX);
    assert!(
        shards
            .iter()
            .all(|shard| shard.open && shard.parent.is_none())
    );
    assert_eq!(
        stream.emulator.calls().by("worker", Kinesis, "ListShards"),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn records_come_with_all_their_parts() {
    let stream = stream(1).await;
    stream.put("plain", "hello").await;
    stream.put("outer", numbered_aggregate("user", 3)).await;
    let mut deliveries = stream.read(stream.first_shard().await);
    let mut records = Vec::new();
    while records.len() < 4 {
        let delivery = next(&mut deliveries).await;
        records.extend(delivery.batch.iter().map(RecordRef::to_owned));
    }
    assert_eq!(records[0].data, "hello");
    assert_eq!(records[0].partition_key, "plain");
    assert_eq!(records[0].sequence_number.as_str().len(), 56);
    let arrival = records[0].approximate_arrival.unwrap();
    assert!(arrival > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    assert_eq!(records[3].partition_key, "user-2");
    assert_eq!(records[3].sub_sequence_number, 2);
    assert_eq!(records[3].sequence_number, records[1].sequence_number);
}

#[tokio::test(start_paused = true)]
async fn a_split_while_reading_ends_the_shard_with_its_children() {
    let stream = stream(1).await;
    stream.put("key", "before").await;
    let shard = stream.first_shard().await;
    let mut deliveries = stream.read(shard.clone());
    assert_eq!(next(&mut deliveries).await.rows.len(), 1);
    let split = stream.client.split_shard().stream_name(STREAM);
    let split = split.shard_to_split(shard.as_str());
    split
        .new_starting_hash_key((1_u128 << 127).to_string())
        .send()
        .await
        .unwrap();
    let last = next(&mut deliveries).await;
    let children = last.end.unwrap().children;
    assert_eq!(children.len(), 2);
    assert_eq!(children[1].hash_range.start, 1 << 127);
    assert!(
        children
            .iter()
            .all(|child| child.parent.as_ref() == Some(&shard))
    );
    let listed = stream.source.list_shards(ShardFilter::All).await.unwrap();
    assert!(!listed[0].open);
    assert_eq!(
        children,
        listed[1..],
        "both ways to learn of children agree"
    );
    let open = stream
        .source
        .list_shards(ShardFilter::AtLatest)
        .await
        .unwrap();
    assert_eq!(open.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_outlives_five_minutes_of_waiting_is_replaced() {
    let stream = stream(1).await;
    for index in 0..4 {
        stream.put("key", format!("record-{index}")).await;
    }
    let mut deliveries = stream.read(stream.first_shard().await);
    let mut texts = Vec::new();
    while texts.len() < 4 {
        texts.extend(super::texts(&next(&mut deliveries).await.batch));
        sleep(Duration::from_secs(360)).await;
    }
    assert_eq!(texts, ["record-0", "record-1", "record-2", "record-3"]);
}

#[tokio::test(start_paused = true)]
async fn a07_a_checkpoint_past_retention_resumes_at_the_oldest_record_and_tells_the_gap() {
    let stream = stream(1).await;
    stream.put("key", "trimmed").await;
    let shard = stream.first_shard().await;
    let mut deliveries = stream.read(shard.clone());
    let trimmed = next(&mut deliveries).await.end_position().unwrap();
    drop(deliveries);
    sleep(Duration::from_secs(25 * 3600)).await;
    stream.put("key", "kept").await;
    let mut deliveries = stream.read_from(
        shard,
        StartPosition::AtSequenceNumber(trimmed.sequence_number.clone()),
        Arc::new(Unobserved),
    );
    let kept = next(&mut deliveries).await;
    assert_eq!(super::texts(&kept.batch), ["kept"]);
    let gap = Gap {
        from: Some(trimmed.sequence_number),
        to: kept.end_position().map(|end| end.sequence_number),
    };
    assert_eq!(kept.gap, Some(gap));
}

#[tokio::test(start_paused = true)]
async fn reading_as_fast_as_the_service_allows_is_never_throttled() {
    let stream = stream(1).await;
    for _ in 0..6 {
        stream.put("key", vec![b'x'; 900 << 10]).await;
        sleep(Duration::from_secs(1)).await;
    }
    let started = Instant::now();
    let notes = Arc::new(Notes::default());
    let observer = Arc::clone(&notes) as Arc<dyn RetrievalObserver>;
    let mut deliveries = stream.read_from(
        stream.first_shard().await,
        StartPosition::TrimHorizon,
        observer,
    );
    let mut records = 0;
    while records < 6 {
        records += next(&mut deliveries).await.rows.len();
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(notes.of("throttled"), Vec::<String>::new());
    assert!(
        started.elapsed() < Duration::from_secs(9),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_found_by_arn_too() {
    let stream = stream(1).await;
    stream.put("key", "hello").await;
    let arn = stream.source.describe().await.unwrap().arn;
    let aws = stream.emulator.sdk_config("by-arn");
    let by_arn = Stream {
        source: KinesisSource::new(&aws, STREAM, Some(arn)),
        ..stream
    };
    let mut deliveries = by_arn.read(by_arn.first_shard().await);
    assert_eq!(
        next(&mut deliveries).await.batch.get(0).unwrap().data(),
        b"hello"
    );
}

#[tokio::test(start_paused = true)]
async fn service_errors_are_told_apart() {
    let stream = stream(1).await;
    let error = |status, code: &str| Fault::Error {
        status,
        code: code.to_owned(),
        message: "the service's words".to_owned(),
    };
    for (fault, kind) in [
        (error(400, "KMSDisabledException"), Kind::KmsDisabled),
        (
            error(400, "KMSInvalidStateException"),
            Kind::KmsInvalidState,
        ),
        (
            error(400, "KMSAccessDeniedException"),
            Kind::KmsAccessDenied,
        ),
        (error(400, "KMSNotFoundException"), Kind::KmsNotFound),
        (error(400, "KMSOptInRequired"), Kind::KmsOptInRequired),
        (error(400, "KMSThrottlingException"), Kind::KmsThrottling),
        (
            error(400, "InvalidArgumentException"),
            Kind::InvalidArgument,
        ),
        (error(400, "UnrecognizedClientException"), Kind::Credentials),
        (error(400, "ExpiredTokenException"), Kind::Credentials),
        (error(400, "ResourceInUseException"), Kind::StreamInUse),
        (error(400, "SomethingNew"), Kind::Other),
        (error(500, "SomethingNew"), Kind::Unavailable),
        // Only of fan-out does this say that a server does not have it.
        (error(501, "InternalFailure"), Kind::Unavailable),
        (error(501, "SomethingNew"), Kind::Unavailable),
        (error(400, "UnknownOperationException"), Kind::Other),
        (Fault::ExpiredIterator, Kind::ExpiredIterator),
        (Fault::ThroughputExceeded, Kind::Throttled),
        (Fault::Throttle, Kind::Throttled),
        (Fault::InternalError, Kind::Unavailable),
        (Fault::Unavailable, Kind::Unavailable),
        (Fault::LoseAnswer, Kind::Unavailable),
        (Fault::Deny, Kind::AccessDenied),
    ] {
        let before = stream.emulator.calls().by("worker", Kinesis, "GetRecords");
        let error = stream.error_of_read(fault.clone()).await;
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        if let Fault::Error { .. } = fault {
            assert_eq!(error.detail(), Some("the service's words"));
        }
        let calls = stream.emulator.calls().by("worker", Kinesis, "GetRecords") - before;
        assert_eq!(
            calls, 1,
            "reads are paced by the poller, not repeated by the SDK"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_names_action_and_resource() {
    let stream = stream(1).await;
    let error = stream.error_of_read(Fault::Deny).await.to_string();
    assert!(
        error.contains("kinesis:GetRecords") && error.contains("arn:aws:"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_ever() {
    let stream = stream(1).await;
    let started = Instant::now();
    let error = stream.error_of_read(Fault::Hang).await;
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(
        started.elapsed() <= Duration::from_secs(31),
        "{:?}",
        started.elapsed()
    );

    stream.emulator.faults().add(Rule::new(Fault::Hang));
    for _ in 0..2 {
        let started = Instant::now();
        let error = stream.source.describe().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(
            started.elapsed() <= Duration::from_secs(31),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn control_calls_survive_two_failures() {
    let stream = stream(1).await;
    let rule = Rule::new(Fault::ThroughputExceeded)
        .operation("ListShards")
        .first(2);
    stream.emulator.faults().add(rule);
    assert_eq!(
        stream
            .source
            .list_shards(ShardFilter::All)
            .await
            .unwrap()
            .len(),
        1
    );
    let rule = Rule::new(Fault::Unavailable)
        .operation("ListShards")
        .named("down");
    stream.emulator.faults().add(rule);
    let started = Instant::now();
    let error = stream
        .source
        .list_shards(ShardFilter::All)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_exist_is_called_so() {
    let stream = stream(1).await;
    let unknown = KinesisSource::new(&stream.emulator.sdk_config("worker"), "order", None);
    let error = unknown.describe().await.unwrap_err();
    assert_eq!(error.kind(), Kind::StreamNotFound);
    assert!(
        error
            .to_string()
            .contains("check the stream's name, account and region"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn missing_credentials_are_called_so() {
    let emulator = Emulator::new();
    let without = emulator
        .sdk_config("worker")
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(NoCredentials));
    let source = KinesisSource::new(&without.build(), STREAM, None);
    let error = source.describe().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error} {error:?}");
    assert_one_line(&error);

    let bare = SdkConfig::builder()
        .region(aws_types::region::Region::new("us-east-1"))
        .http_client(emulator.http_client("worker"))
        .build();
    let error = KinesisSource::new(&bare, STREAM, None)
        .describe()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error} {error:?}");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_called_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let aws = SdkConfig::builder()
        .region(aws_types::region::Region::new("us-east-1"))
        .credentials_provider(
            Emulator::new()
                .sdk_config("worker")
                .credentials_provider()
                .unwrap(),
        )
        .endpoint_url(format!("http://{free}"))
        .build();
    let error = KinesisSource::new(&aws, STREAM, None)
        .describe()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Endpoint, "{error} {error:?}");
    assert_one_line(&error);
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = CredentialsError::not_loaded_no_source();
        future::ProvideCredentials::ready(Err(error))
    }
}
