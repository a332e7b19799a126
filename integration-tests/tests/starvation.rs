//! Processors that block threads of the runtime, in real time and with the default lease duration.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one is about blocked threads and real time"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, WorkerHandle, async_trait,
};
use kcl_emulator::Emulator;

const SHARDS: u32 = 4;
/// Threads of the runtime that the processors run on.
const THREADS: usize = 2;

/// When each record was put and handed over: shard to (number, put, delivered).
type Deliveries = Arc<Mutex<BTreeMap<String, Vec<(u64, Instant, Instant)>>>>;

/// Blocks its thread at the first record of some shards.
struct Blocker {
    blocks: Option<Duration>,
    begun: Instant,
    deliveries: Deliveries,
}

#[async_trait]
impl RecordProcessor for Blocker {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let now = Instant::now();
        for record in &input {
            let text = String::from_utf8(record.data().to_vec())?;
            let (number, put) = text.split_once(' ').ok_or("no number")?;
            let put = self.begun + Duration::from_micros(put.parse()?);
            let shard = input.shard().shard_id().as_str().to_owned();
            let mut deliveries = self.deliveries.lock().unwrap();
            let of_shard = deliveries.entry(shard).or_default();
            of_shard.push((number.parse()?, put, now));
        }
        if let Some(time) = self.blocks.take() {
            std::thread::sleep(time);
        }
        Ok(())
    }
}

/// Puts a record into each shard every 50 ms for so long, from a runtime of its own.
fn produce(emulator: &Emulator, begun: Instant, time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("producer"));
    runtime.block_on(async {
        let mut number = 0;
        while begun.elapsed() < time {
            for shard in 0..SHARDS {
                let width = u128::MAX / u128::from(SHARDS);
                let key = width * u128::from(shard) + width / 2;
                let put = client
                    .put_record()
                    .stream_name("orders")
                    .partition_key("k")
                    .explicit_hash_key(key.to_string())
                    .data(Blob::new(format!(
                        "{number} {}",
                        begun.elapsed().as_micros()
                    )));
                put.send().await.unwrap();
            }
            number += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

struct Run {
    deliveries: Deliveries,
    /// The longest time for which the worker's heartbeat stood still.
    silence: Duration,
    lost: u64,
}

/// Runs a worker whose processors of the first `blocked` shards block for `time`, until all of them have.
fn run(blocked: usize, time: Duration, own_threads: bool) -> Run {
    let emulator = Emulator::builder().build();
    emulator.create_stream("orders", SHARDS).unwrap();
    let users = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .unwrap();
    let (begun, deliveries) = (Instant::now(), Deliveries::default());
    let made = Arc::clone(&deliveries);
    let worker = Worker::builder("app", "orders", move |shard| {
        let number: usize = shard.shard_id().as_str()[8..].parse().unwrap();
        Blocker {
            blocks: (number < blocked).then_some(time),
            begun,
            deliveries: Arc::clone(&made),
        }
    })
    .blocking_processor(own_threads)
    .build(&emulator.sdk_config("w"))
    .unwrap();
    let handle = worker.handle();
    let running = users.spawn(worker.run());
    let turns = if own_threads {
        1
    } else {
        blocked.div_ceil(THREADS)
    };
    let whole = time * u32::try_from(turns).unwrap() + Duration::from_secs(3);
    let silence = std::thread::scope(|scope| {
        scope.spawn(|| produce(&emulator, begun, whole));
        let silence = watch_heartbeat(&emulator, whole);
        handle.shutdown();
        silence
    });
    users.block_on(running).unwrap().unwrap();
    Run {
        lost: lost_leases(&handle),
        deliveries,
        silence,
    }
}

fn lost_leases(handle: &WorkerHandle) -> u64 {
    handle.counters().leases_lost
}

/// Reads the worker's item every 100 ms, from a runtime of its own.
fn watch_heartbeat(emulator: &Emulator, time: Duration) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = aws_sdk_dynamodb::Client::new(&emulator.sdk_config("observer"));
    let begun = Instant::now();
    let (mut last, mut since, mut longest) = (String::new(), Instant::now(), Duration::ZERO);
    runtime.block_on(async {
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Ok(scan) = client.scan().table_name("app").send().await else {
                continue;
            };
            let heartbeat = scan.items().iter().find_map(|item| item.get("heartbeat"));
            if let Some(AttributeValue::N(heartbeat)) = heartbeat
                && *heartbeat != last
            {
                (last, since) = (heartbeat.clone(), Instant::now());
            }
            longest = longest.max(since.elapsed());
        }
    });
    assert!(!last.is_empty(), "the worker registered");
    longest
}

fn is_complete(run: &Run) -> bool {
    let deliveries = run.deliveries.lock().unwrap();
    deliveries.len() == SHARDS as usize
        && deliveries.values().all(|of_shard| {
            let numbers = of_shard.iter().map(|(number, ..)| *number);
            numbers.eq(0..of_shard.len() as u64)
        })
}

/// The longest time between put and delivery in the shards that do not block.
fn delay(run: &Run, blocked: usize) -> Duration {
    let deliveries = run.deliveries.lock().unwrap();
    let free = deliveries.iter().skip(blocked).flat_map(|(_, all)| all);
    let delays = free.map(|(_, put, delivered)| delivered.duration_since(*put));
    delays.max().unwrap()
}

#[test]
fn processors_that_block_every_thread_for_30_seconds_lose_no_lease() {
    let run = run(SHARDS as usize, Duration::from_secs(30), false);
    assert_eq!(run.lost, 0);
    assert!(run.silence < Duration::from_secs(5), "{:?}", run.silence);
    assert!(is_complete(&run), "each record once and in order");
}

#[test]
fn one_that_blocks_delays_other_shards_by_less_than_a_second() {
    let run = run(1, Duration::from_secs(6), false);
    assert!(
        delay(&run, 1) < Duration::from_secs(1),
        "{:?}",
        delay(&run, 1)
    );
    assert!(is_complete(&run));
}

#[test]
fn on_threads_of_their_own_all_but_one_may_block() {
    let run = run(3, Duration::from_secs(6), true);
    assert!(
        delay(&run, 3) < Duration::from_secs(1),
        "{:?}",
        delay(&run, 3)
    );
    assert!(is_complete(&run));
}
