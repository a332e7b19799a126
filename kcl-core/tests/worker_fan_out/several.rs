//! Several streams over the AWS SDK, on emulated accounts: a client, and a consumer, for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Retrieval, Runtime, StreamConfig,
    Worker, WorkerHandle, async_trait,
};
use kcl_emulator::{Emulator, Service};

use crate::fixture::{eventually, texts};

/// Each emulator is an account in a region. Their clocks begin at the same moment, so streams are created at the same time.
const HOME: (&str, &str) = ("111111111111", "us-east-1");
const ABROAD: (&str, &str) = ("222222222222", "eu-west-1");
const NEIGHBOUR: (&str, &str) = ("333333333333", "us-east-1");
const TEXTS: [&str; 3] = ["1", "2", "3"];

/// The stream's ARN, and what a record of it says.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct Writer {
    arn: String,
    seen: Seen,
}

#[async_trait]
impl RecordProcessor for Writer {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let lines = texts(&input).into_iter();
        let lines = lines.map(|text| (self.arn.clone(), text));
        self.seen.lock().unwrap().extend(lines);
        Ok(())
    }
}

fn account((account, region): (&str, &str)) -> Emulator {
    Emulator::builder().account(account).region(region).build()
}

fn arn((account, region): (&str, &str), stream: &str) -> String {
    format!("arn:aws:kinesis:{region}:{account}:stream/{stream}")
}

/// Puts records that say whose they are.
async fn put_into(emulator: &Emulator, arn: &str) {
    let client = Client::new(&emulator.sdk_config("producer"));
    for text in TEXTS {
        let data = Blob::new(format!("{text} of {arn}"));
        let put = client.put_record().stream_arn(arn).partition_key(text);
        put.data(data).send().await.unwrap();
    }
}

async fn read_accounts(retrieval: Retrieval, read: &str, consumers: u64) {
    let accounts = [HOME, ABROAD, NEIGHBOUR].map(account);
    let [home, abroad, neighbour] = &accounts;
    let streams = [
        (home, arn(HOME, "orders")),
        (abroad, arn(ABROAD, "orders")),
        (abroad, arn(ABROAD, "payments")),
        (neighbour, arn(NEIGHBOUR, "orders")),
    ];
    for (emulator, arn) in &streams {
        let (_, name) = arn.split_once('/').unwrap();
        emulator.create_stream(name, 2).unwrap();
    }
    let list = [
        StreamConfig::new("orders"),
        StreamConfig::new("orders").aws(abroad.sdk_config("worker")),
        StreamConfig::new("payments").aws(abroad.sdk_config("worker")),
        // In the region of the first one a name would not do.
        StreamConfig::new(arn(NEIGHBOUR, "orders")).aws(neighbour.sdk_config("worker")),
    ];
    let runtime = Runtime::virtual_time(5);
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let worker = Worker::builder("several", list, move |shard| Writer {
        arn: shard.stream_arn().to_owned(),
        seen: Arc::clone(&shared),
    })
    .retrieval(retrieval)
    .runtime(runtime.clone())
    .build(&home.sdk_config("worker"))
    .unwrap();
    let handle = worker.handle();
    let running = runtime.spawn(worker.run());
    handle.caught_up().await;
    assert_eq!(lease_streams(&handle), {
        let (home, abroad, neighbour) = (HOME.0, ABROAD.0, NEIGHBOUR.0);
        [
            format!("{home}:orders"),
            format!("{abroad}:orders"),
            format!("{abroad}:payments"),
            format!("{neighbour}:orders"),
        ]
        .map(|stream| (stream, 2))
        .into()
    });
    for (emulator, arn) in &streams {
        put_into(emulator, arn).await;
    }
    let all = streams.len() * TEXTS.len();
    eventually("all records", || seen.lock().unwrap().len() == all).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut expected: Vec<(String, String)> = Vec::new();
    for (_, arn) in &streams {
        expected.extend(TEXTS.map(|text| (arn.clone(), format!("{text} of {arn}"))));
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    for (emulator, streams) in [(home, 1), (abroad, 2), (neighbour, 1)] {
        let calls = |name| emulator.calls().by("worker", Service::Kinesis, name);
        assert!(calls(read) > 0, "{read}");
        assert_eq!(calls("RegisterStreamConsumer"), streams * consumers);
    }
    handle.shutdown();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.drained, report.abandoned), (8, 0));
}

/// How many leases are held of each account and stream, by their keys.
fn lease_streams(handle: &WorkerHandle) -> BTreeMap<String, usize> {
    let mut streams = BTreeMap::new();
    for key in handle.shards() {
        let parts: Vec<&str> = key.as_str().split(':').collect();
        assert_eq!(parts.len(), 4, "{key}");
        let stream = format!("{}:{}", parts[0], parts[1]);
        *streams.entry(stream).or_default() += 1;
    }
    streams
}

#[tokio::test(start_paused = true)]
async fn streams_of_several_accounts_are_polled_each_by_its_own_client() {
    read_accounts(Retrieval::polling(), "GetRecords", 0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_several_accounts_are_subscribed_to_each_by_its_own_consumer() {
    read_accounts(Retrieval::fan_out().into(), "SubscribeToShard", 1).await;
}
