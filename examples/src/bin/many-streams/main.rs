//! One worker reads several streams, and another one that is added while it runs.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use bytes::Bytes;
use examples::outcome::exit_code;
use examples::put::{Entry, Sender};
use examples::stream_name::StreamName;
use kcl_core::{
    BoxError, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, StreamConfig,
    StreamTracker, Streams, Worker, async_trait,
};
use kcl_emulator::Emulator;

const RECORDS: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);
/// The list is looked at each minute.
const UNTIL_READ: Duration = Duration::from_secs(90);

/// How many records of which stream were processed.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    fn add(&self, stream: &str, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(stream.to_owned()).or_default() += count;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn reach(&self, records: u64) -> Result<(), BoxError> {
        let reached = async {
            while self.all().values().sum::<u64>() < records {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        Ok(tokio::time::timeout(UNTIL_READ, reached).await?)
    }
}

/// Each shard has a processor of its own, which knows its stream.
struct Counter {
    stream: String,
    counts: Counts,
}

#[async_trait]
impl RecordProcessor for Counter {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.counts.add(&self.stream, input.len() as u64);
        Ok(())
    }
}

/// A list that others may add to: a file, a table, or what `ListStreams` says would do as well.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<&'static str>>>);

#[async_trait]
impl StreamTracker for Shared {
    async fn streams(&self) -> Result<Vec<StreamConfig>, BoxError> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(names.iter().map(|name| StreamConfig::new(*name)).collect())
    }
}

async fn create_filled(emulator: &Emulator, stream: &str) -> Result<(), BoxError> {
    emulator
        .create_stream(stream, 2)
        .map_err(|error| error.message)?;
    let client = Client::new(&emulator.sdk_config("producer"));
    let mut sender = Sender::new(client, StreamName::from(stream), PATIENCE);
    for number in 0..RECORDS {
        let (key, payload) = (format!("key-{}", number % 50), Bytes::from("some payload"));
        sender.put(Entry::plain(key, payload)).await?;
    }
    sender.flush().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("many-streams", run().await)
}

/// True if every record of the three streams was processed once.
async fn run() -> Result<bool, BoxError> {
    let emulator = Emulator::builder().wall_clock().build();
    create_filled(&emulator, "orders").await?;
    create_filled(&emulator, "payments").await?;
    let list = Shared(Arc::new(Mutex::new(vec!["orders", "payments"])));
    let counts = Counts::default();
    let shared = counts.clone();
    let worker = Worker::builder(
        "many-streams",
        Streams::tracked(list.clone()),
        move |shard| Counter {
            stream: shard.stream_name().to_owned(),
            counts: shared.clone(),
        },
    )
    .build(&emulator.sdk_config("worker"))?;
    let handle = worker.handle();
    let running = Runtime::production().spawn(worker.run());
    counts.reach(2 * RECORDS).await?;

    create_filled(&emulator, "refunds").await?;
    list.0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push("refunds");
    counts.reach(3 * RECORDS).await?;
    handle.shutdown();
    running.await??;

    let counts = counts.all();
    let mut stdout = std::io::stdout().lock();
    for (stream, count) in &counts {
        writeln!(stdout, "{stream}: {count} records")?;
    }
    let names = ["orders", "payments", "refunds"];
    Ok(names.iter().all(|name| counts.get(*name) == Some(&RECORDS)))
}
