//! Several streams over the AWS SDK, on emulated accounts: a client, and a consumer, for each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Retrieval, Runtime, StreamConfig,
    Worker, async_trait,
};
use kcl_emulator::{Emulator, Service};

use crate::fixture::{eventually, texts};

type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct Writer {
    stream: String,
    seen: Seen,
}

#[async_trait]
impl RecordProcessor for Writer {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let lines = texts(&input).into_iter();
        let lines = lines.map(|text| (self.stream.clone(), text));
        self.seen.lock().unwrap().extend(lines);
        Ok(())
    }
}

async fn put(emulator: &Emulator, stream: &str, text: &str) {
    let put = Client::new(&emulator.sdk_config("producer")).put_record();
    let put = put.stream_name(stream).partition_key(text);
    put.data(Blob::new(text)).send().await.unwrap();
}

async fn read_two_accounts(retrieval: Retrieval, read: &str, consumers: u64) {
    let (home, other) = (Emulator::new(), Emulator::new());
    home.create_stream("orders", 2).unwrap();
    other.create_stream("payments", 2).unwrap();
    let list = [
        StreamConfig::new("orders"),
        StreamConfig::new("payments").aws(other.sdk_config("worker")),
    ];
    let runtime = Runtime::virtual_time(5);
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let worker = Worker::builder("several", list, move |shard| Writer {
        stream: shard.stream_name().to_owned(),
        seen: Arc::clone(&shared),
    })
    .retrieval(retrieval)
    .runtime(runtime.clone())
    .build(&home.sdk_config("worker"))
    .unwrap();
    let handle = worker.handle();
    let running = runtime.spawn(worker.run());
    handle.caught_up().await;
    assert_eq!(handle.shards().len(), 4);
    for text in ["1", "2", "3"] {
        put(&home, "orders", text).await;
        put(&other, "payments", text).await;
    }
    eventually("all records", || seen.lock().unwrap().len() == 6).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let of = |stream| {
        let seen = seen.lock().unwrap();
        let mut texts: Vec<_> = seen
            .iter()
            .filter(|(of, _)| of == stream)
            .cloned()
            .collect();
        texts.sort();
        texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(of("orders"), ["1", "2", "3"]);
    assert_eq!(of("payments"), ["1", "2", "3"]);
    for account in [&home, &other] {
        let calls = |name| account.calls().by("worker", Service::Kinesis, name);
        assert!(calls(read) > 0, "{read}");
        assert_eq!(calls("RegisterStreamConsumer"), consumers);
    }
    handle.shutdown();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.drained, report.abandoned), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn streams_of_two_accounts_are_polled_each_by_its_own_client() {
    read_two_accounts(Retrieval::polling(), "GetRecords", 0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_two_accounts_are_subscribed_to_each_by_its_own_consumer() {
    read_two_accounts(Retrieval::fan_out().into(), "SubscribeToShard", 1).await;
}
