//! What the records of five hundred shards take on the heap while every processor is blocked. A program of its own, because
//! it counts every allocation.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kcl_aggregation::{HashKeyRange, PackLimits, Packer};
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker, async_trait,
};
use kcl_emulator::Emulator;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const SHARDS: u32 = 500;
const MIB: usize = 1 << 20;
/// The smallest budget that a worker takes.
const BUDGET: usize = 16 * MIB;
/// Answers to Kinesis calls are not larger.
const ANSWER: usize = 10 * MIB;

/// Never returns from its first call.
struct Blocked;

#[async_trait]
impl RecordProcessor for Blocked {
    async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
        std::future::pending().await
    }
}

/// An aggregated record of so many user records of this size.
fn aggregate(records: usize, size: usize) -> Vec<u8> {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    for _ in 0..records {
        assert_eq!(packer.add("k", None, &vec![1; size]).unwrap(), None);
    }
    packer.flush().remove(0).data.to_vec()
}

/// Puts 40 KB into each shard: ten to one aggregated into odd ones, and user records without data into even ones, whose
/// tables are far larger than they are.
async fn put_into_all(client: &aws_sdk_kinesis::Client, stream: &str) {
    let (usual, hostile) = (aggregate(10, 1_000), aggregate(1_700, 0));
    for _ in 0..4 {
        for first in (0..SHARDS).step_by(100) {
            let entry = |shard: u32| {
                let width = u128::MAX / u128::from(SHARDS);
                let data = match shard % 2 {
                    0 => &hostile,
                    _ => &usual,
                };
                PutRecordsRequestEntry::builder()
                    .partition_key("k")
                    .explicit_hash_key((width * u128::from(shard) + width / 2).to_string())
                    .data(Blob::new(data.as_slice()))
                    .build()
                    .unwrap()
            };
            let entries = (first..first + 100).map(entry).collect();
            let put = client.put_records().stream_name(stream);
            let answer = put.set_records(Some(entries)).send().await.unwrap();
            assert_eq!(answer.failed_record_count, Some(0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a24_five_hundred_shards_with_blocked_processors_stay_within_the_budget_on_the_heap() {
    let emulator = Emulator::builder()
        .latency(Duration::from_millis(2))
        .build();
    emulator.create_stream("other", SHARDS).unwrap();
    emulator.create_stream("orders", SHARDS).unwrap();
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("producer"));
    let worker = Worker::builder("app", "orders", |_| Blocked)
        .memory_budget(BUDGET)
        .drain_budget(Duration::from_secs(1))
        .runtime(Runtime::virtual_time(1))
        .build(&emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let script = async {
        handle.caught_up().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = HEAP.current_usage();
        put_into_all(&client, "other").await;
        let of_the_stream = HEAP.current_usage() - before;
        let idle = HEAP.current_usage();
        HEAP.reset_peak_usage();
        put_into_all(&client, "orders").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let held = HEAP.current_usage() - idle - of_the_stream;
        let peak = HEAP.peak_usage() - idle - of_the_stream;
        let seen = format!("held {held}, at most {peak}, without {of_the_stream} of the stream");
        assert!(held >= BUDGET / 2, "the budget is used: {seen}");
        assert!(held <= BUDGET + ANSWER, "{seen}");
        // An answer is on its way as text, and then as payloads.
        assert!(peak <= BUDGET + 2 * ANSWER, "{seen}");
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    assert!(stopped.unwrap().abandoned > 0, "processors were blocked");
}
