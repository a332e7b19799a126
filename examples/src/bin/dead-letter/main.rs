//! Records that cannot be processed go to a file, and the shard goes on.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use examples::emulated;
use examples::outcome::exit_code;
use kcl_core::{
    BatchFailure, BoxError, FailurePolicy, FileSink, OnFailure, ProcessRecordsInput,
    ProcessorResult, RecordProcessor, Worker, WorkerEvent, async_trait,
};

const STREAM: &str = "payments";
const RECORDS: u64 = 1_000;
/// Every so manieth record is no number.
const BAD: u64 = 250;

/// Adds up amounts. What is no number cannot be processed, however often it is tried.
struct Adder(Arc<AtomicU64>);

#[async_trait]
impl RecordProcessor for Adder {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in &input {
            let amount = std::str::from_utf8(record.data()).map(str::parse::<u64>);
            match amount {
                Ok(Ok(amount)) => self.0.fetch_add(amount, Ordering::Relaxed),
                // The records before this one are complete; nobody has to search for the bad one.
                _ => Err(BatchFailure::at(record.position(), "this is no amount"))?,
            };
        }
        Ok(())
    }
}

fn records() -> impl Iterator<Item = (String, String)> {
    (1..=RECORDS).map(|number| {
        let payload = match number % BAD {
            0 => format!("not {number}"),
            _ => "1".to_owned(),
        };
        (format!("customer-{}", number % 50), payload)
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("dead-letter", run().await)
}

/// True if every good record was added once and every bad one is in the file.
async fn run() -> Result<bool, BoxError> {
    let emulator = emulated::one_shard(STREAM, records()).await?;
    let path = std::env::temp_dir().join(format!("dead-letters-{}.jsonl", std::process::id()));
    let sum = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&sum);
    let worker = Worker::builder("adder", STREAM, move |_shard| Adder(Arc::clone(&shared)))
        .failure_policy(
            FailurePolicy::retry()
                .attempts(3)
                .then(OnFailure::DeadLetter),
        )
        .dead_letters(FileSink::open(&path)?)
        .processor_backoff_max(Duration::from_millis(200))
        .build(&emulator.sdk_config("worker"))?;
    let (handle, mut events) = (worker.handle(), worker.handle().events());
    let caught_up = async move { handle.caught_up().await };
    worker.with_graceful_shutdown(caught_up).run().await?;

    let mut stdout = std::io::stdout().lock();
    while let Some(event) = events.next().await {
        if let WorkerEvent::DeadLettered {
            position,
            attempts,
            error,
            ..
        } = event
        {
            writeln!(
                stdout,
                "given up after {attempts} attempts: {error} ({position})"
            )?;
        }
    }
    let letters = std::fs::read_to_string(&path)?.lines().count() as u64;
    let sum = sum.load(Ordering::Relaxed);
    writeln!(
        stdout,
        "added {sum}, dead letters {letters}, in {}",
        path.display()
    )?;
    Ok((sum, letters) == (RECORDS - RECORDS / BAD, RECORDS / BAD))
}
