//! A stretch of time is read again, beside the live application: first by a replay under a name of its own, then by
//! moving the live application itself.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use bytes::Bytes;
use examples::emulated;
use examples::outcome::exit_code;
use examples::put::{Entry, Sender};
use examples::stream_name::StreamName;
use kcl_core::{
    BoxError, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, SeekTo, Shards,
    Worker, async_trait,
};
use kcl_emulator::Emulator;

const STREAM: &str = "readings";
const PATIENCE: Duration = Duration::from_secs(30);
/// Between the batches, so that their times are apart.
const APART: Duration = Duration::from_secs(2);

/// Which batches of records were seen, in order, each named once.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, batch: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.last().is_none_or(|last| last != batch) {
            seen.push(batch.to_owned());
        }
    }

    fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Watcher(Seen);

#[async_trait]
impl RecordProcessor for Watcher {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in &input {
            self.0.add(&String::from_utf8_lossy(record.data()));
        }
        Ok(())
    }
}

/// A hundred records that say which batch they are of.
fn records(batch: &str) -> impl Iterator<Item = (String, String)> {
    (0..100).map(move |number| (format!("sensor-{number}"), batch.to_owned()))
}

async fn put(emulator: &Emulator, batch: &str) -> Result<(), BoxError> {
    let client = Client::new(&emulator.sdk_config("producer"));
    let mut sender = Sender::new(client, StreamName::from(STREAM), PATIENCE);
    for (key, payload) in records(batch) {
        sender.put(Entry::plain(key, Bytes::from(payload))).await?;
    }
    sender.flush().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("replay", run().await)
}

/// True if the replay saw the second batch only, and the live application all, and then again from the second on.
async fn run() -> Result<bool, BoxError> {
    let clock = Runtime::production();
    let emulator = emulated::one_shard(STREAM, records("first")).await?;
    tokio::time::sleep(APART).await;
    let from = clock.wall_time();
    put(&emulator, "second").await?;
    tokio::time::sleep(APART).await;
    let until = clock.wall_time();
    put(&emulator, "third").await?;

    let (live, again) = (Seen::default(), Seen::default());
    let shared = live.clone();
    let worker = Worker::builder("live", STREAM, move |_shard| Watcher(shared.clone()))
        .build(&emulator.sdk_config("live"))?;
    let handle = worker.handle();
    let running = clock.spawn(worker.run());
    handle.caught_up().await;

    let shared = again.clone();
    let replay = Worker::builder("again", STREAM, move |_shard| Watcher(shared.clone()))
        .replay(from, until)
        .build(&emulator.sdk_config("again"))?;
    // Stops by itself.
    replay.run().await?;

    let operator = handle.operator();
    let moved = operator.seek(&Shards::All, SeekTo::Time(from)).await?;
    operator.obeyed(&moved.commands, PATIENCE).await?;
    tokio::time::sleep(APART).await;
    handle.caught_up().await;
    handle.shutdown();
    running.await??;

    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "the replay saw {:?}", again.all())?;
    writeln!(stdout, "the live application saw {:?}", live.all())?;
    let all = ["first", "second", "third", "second", "third"];
    Ok(again.all() == ["second"] && live.all() == all)
}
