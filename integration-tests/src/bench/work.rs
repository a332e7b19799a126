//! A process with one worker, as an application has it, that tells how it is when it is asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, ShardId, Worker, WorkerHandle,
    async_trait,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use super::consumer::say;
use super::error::BenchError;
use super::loops::aws;
use crate::clocks::{boot_time, cpu_time};
use crate::memory::Memory;
use crate::reading::Reading;

/// The first argument of a worker process.
pub const WORK: &str = "work";

/// What a worker process is started with.
#[derive(Debug, Clone, Parser)]
pub struct WorkOptions {
    /// Of Kinesis and DynamoDB.
    #[arg(long)]
    pub(super) endpoint: String,
    #[arg(long)]
    pub(super) application: String,
    #[arg(long)]
    pub(super) stream: String,
    /// Records hold the moment they were put at.
    #[arg(long)]
    pub(super) latency: bool,
    #[arg(long, value_enum, default_value_t)]
    pub(super) retrieval: Reading,
}

/// How a worker process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Held now.
    pub(super) leases: usize,
    /// Whether every shard was at its tip at one time.
    pub(super) caught_up: bool,
    /// From the start of the worker to the first record in a processor.
    pub(super) first_record: Option<Duration>,
    /// From the start of the worker to the first record of the last shard that had one so far.
    pub(super) last_shard: Option<Duration>,
    /// Shards of which records came.
    pub(super) shards: usize,
    pub(super) threads: usize,
    /// Resident now, and at most so far, in bytes.
    pub(super) memory: u64,
    pub(super) peak_memory: u64,
    pub(super) cpu: Duration,
    /// From put to processor, in microseconds, for every record since this was asked last.
    pub(super) latencies: Vec<u64>,
}

#[derive(Debug, Default)]
struct Seen {
    shards: BTreeSet<ShardId>,
    first_record: Option<Duration>,
    last_shard: Option<Duration>,
    latencies: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Watcher {
    began: Instant,
    latency: bool,
    caught_up: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Watcher {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, worker: &WorkerHandle) -> State {
        let memory = Memory::own();
        let mut seen = self.seen();
        State {
            leases: worker.shards().len(),
            caught_up: self.caught_up.load(Ordering::Relaxed),
            first_record: seen.first_record,
            last_shard: seen.last_shard,
            shards: seen.shards.len(),
            threads: std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
            memory: memory.resident,
            peak_memory: memory.peak,
            cpu: cpu_time(),
            latencies: std::mem::take(&mut seen.latencies),
        }
    }
}

#[async_trait]
impl RecordProcessor for Watcher {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let (since_start, now) = (self.began.elapsed(), boot_time());
        let mut seen = self.seen();
        seen.first_record.get_or_insert(since_start);
        if seen.shards.insert(input.shard().shard_id().clone()) {
            seen.last_shard = Some(since_start);
        }
        if self.latency {
            let put_at = input.iter().filter_map(|record| put_at(record.data()));
            let latencies = put_at.map(|at| micros(now.saturating_sub(at)));
            seen.latencies.extend(latencies);
        }
        Ok(())
    }
}

/// What a record says of when it was put.
fn put_at(data: &[u8]) -> Option<Duration> {
    let nanos = data.first_chunk()?;
    Some(Duration::from_nanos(u64::from_le_bytes(*nanos)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs a worker until standard input ends. Each line of it is answered by a line of JSON: a `State`.
///
/// # Errors
/// If the worker cannot go on, or standard input or output cannot be used.
pub async fn work(options: WorkOptions) -> Result<(), BenchError> {
    let failed = |reason: String| BenchError::Consumer {
        consumer: options.application.clone(),
        reason,
    };
    let watcher = Watcher {
        began: Instant::now(),
        latency: options.latency,
        caught_up: Arc::default(),
        seen: Arc::default(),
    };
    let processor = watcher.clone();
    let worker = Worker::builder(
        options.application.as_str(),
        options.stream.as_str(),
        move |_| processor.clone(),
    )
    .retrieval(options.retrieval.retrieval())
    .build(&aws(&options.endpoint))
    .map_err(|error| failed(error.to_string()))?;
    let handle = worker.handle();
    let answer = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(_)) = lines.next_line().await {
            let state = serde_json::to_string(&watcher.state(&handle));
            say(&state.map_err(|error| BenchError::system("cannot tell", error.into()))?)?;
        }
        handle.shutdown();
        Ok::<(), BenchError>(())
    };
    let catch_up = async {
        handle.caught_up().await;
        watcher.caught_up.store(true, Ordering::Relaxed);
    };
    let (stopped, answered, ()) = tokio::join!(worker.run(), answer, catch_up);
    stopped.map_err(|error| failed(error.to_string()))?;
    answered
}
