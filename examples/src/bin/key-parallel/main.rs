//! One hot shard and a handler that needs processor time: several lanes, in order within each partition key.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use examples::emulated;
use examples::outcome::exit_code;
use kcl_core::{
    BoxError, ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait,
};
use kcl_emulator::Emulator;
use tokio::time::Instant;

const STREAM: &str = "clicks";
const RECORDS: usize = 4_000;
const KEYS: usize = 97;

/// Processes one shard with one lane, then with several.
#[derive(Debug, Parser)]
struct Options {
    /// So many processors work on the shard.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(2, usize::from))]
    lanes: usize,
    /// How much work each record is.
    #[arg(long, default_value_t = 200_000)]
    rounds: u64,
}

/// What was processed: the numbers of each key's records in the order in which they came.
#[derive(Debug, Default)]
struct Seen {
    numbers: BTreeMap<String, Vec<usize>>,
    span: Option<(Instant, Instant)>,
}

/// Works on the keys of one lane. The factory makes one for each lane.
struct Worked {
    seen: Arc<Mutex<Seen>>,
    rounds: u64,
}

#[async_trait]
impl RecordProcessor for Worked {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let begun = Instant::now();
        let mut numbers = Vec::new();
        for record in &input {
            (0..self.rounds).for_each(|round| {
                black_box(round);
            });
            let number: usize = std::str::from_utf8(record.data())?.parse()?;
            numbers.push((record.partition_key().to_owned(), number));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, number) in numbers {
            seen.numbers.entry(key).or_default().push(number);
        }
        let first = seen.span.map_or(begun, |(first, _)| first.min(begun));
        seen.span = Some((first, Instant::now()));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::logging::start("error");
    exit_code("key-parallel", run(&Options::parse()).await)
}

/// True if in both ways every record was processed once, in the order of its key.
async fn run(options: &Options) -> Result<bool, BoxError> {
    let records = (0..RECORDS).map(|n| (format!("user-{}", n * 31 % KEYS), n.to_string()));
    let emulator = emulated::one_shard(STREAM, records).await?;
    let mut is_right = true;
    for lanes in BTreeSet::from([1, options.lanes]) {
        let seen = work(&emulator, lanes, options.rounds).await?;
        let count: usize = seen.numbers.values().map(Vec::len).sum();
        let in_order = seen.numbers.values().all(|numbers| numbers.is_sorted());
        let took = seen
            .span
            .map_or(Duration::ZERO, |(begun, ended)| ended - begun);
        writeln!(
            std::io::stdout(),
            "lanes {lanes}: {count} records in {} ms, in order within each key: {in_order}",
            took.as_millis()
        )?;
        is_right &= count == RECORDS && in_order;
    }
    Ok(is_right)
}

/// Processes the whole stream as an application of its own.
async fn work(emulator: &Emulator, lanes: usize, rounds: u64) -> Result<Seen, BoxError> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let application = format!("clicks-in-{lanes}-lanes");
    let worker = Worker::builder(application, STREAM, move |_shard| Worked {
        seen: Arc::clone(&shared),
        rounds,
    })
    .lanes(lanes)
    .blocking_processor(true)
    .build(&emulator.sdk_config("worker"))?;
    let handle = worker.handle();
    let caught_up = async move { handle.caught_up().await };
    worker.with_graceful_shutdown(caught_up).run().await?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *seen))
}
