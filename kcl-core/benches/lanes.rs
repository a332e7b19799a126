//! How many records a worker takes from one hot shard whose processor needs processor time, by the number of lanes.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say where"
)]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kcl_core::retrieval::MemoryStream;
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker, async_trait,
};
use kcl_lease::MemoryLeaseTable;
use tokio::time::Instant;

const RECORDS: u64 = 4_000;
const KEYS: u64 = 256;
/// Rounds of arithmetic for each record, about 20 µs in an optimized build.
const ROUNDS: u64 = 20_000;

/// When the first call began and the last one ended.
type Span = Arc<Mutex<Option<(Instant, Instant)>>>;

struct Busy(Span);

#[async_trait]
impl RecordProcessor for Busy {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let begun = Instant::now();
        for record in &input {
            let mut sum = record.data().first().copied().map_or(0, u64::from);
            for round in 0..ROUNDS {
                sum = black_box(sum.wrapping_mul(6_364_136_223_846_793_005) ^ round);
            }
        }
        let mut span = self.0.lock().unwrap();
        let first = span.map_or(begun, |(first, _)| first.min(begun));
        *span = Some((first, Instant::now()));
        Ok(())
    }
}

/// Runs a worker over a full shard. Returns how long the records took, without the worker's start.
async fn run(lanes: usize) -> Duration {
    let runtime = Runtime::production();
    let stream = MemoryStream::new(1, runtime.clone());
    for number in 0..RECORDS {
        let key = format!("key {}", number % KEYS);
        stream.put(&key, number.to_be_bytes().to_vec()).unwrap();
    }
    let span = Span::default();
    let shared = Arc::clone(&span);
    let worker = Worker::builder("bench", "memory", move |_| Busy(Arc::clone(&shared)))
        .lanes(lanes)
        .blocking_processor(true)
        .runtime(runtime)
        .build_with(Arc::new(stream), Arc::new(MemoryLeaseTable::new()))
        .unwrap();
    let handle = worker.handle();
    let caught_up = async move { handle.caught_up().await };
    worker
        .with_graceful_shutdown(caught_up)
        .run()
        .await
        .unwrap();
    let (begun, ended) = span.lock().unwrap().unwrap();
    ended - begun
}

fn lanes(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut group = c.benchmark_group("one hot shard");
    group.throughput(Throughput::Elements(RECORDS));
    for lanes in [1, 2, 4, 8] {
        group.bench_with_input(BenchmarkId::new("lanes", lanes), &lanes, |b, lanes| {
            b.iter_custom(|times| {
                let runs = async {
                    let mut time = Duration::ZERO;
                    for _ in 0..times {
                        time += run(*lanes).await;
                    }
                    time
                };
                runtime.block_on(runs)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = lanes
}
criterion_main!(benches);
