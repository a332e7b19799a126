//! How many threads a worker takes. A program of its own, because it counts all of its threads.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kcl_core::{ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait};
use kcl_emulator::Emulator;

struct Idle;

#[async_trait]
impl RecordProcessor for Idle {
    async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
        Ok(())
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The threads of this program while a worker holds so many shards.
fn with_shards(shards: u32) -> usize {
    let emulator = Emulator::builder().build();
    emulator.create_stream("orders", shards).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let worker = Worker::builder("app", "orders", |_| Idle)
        .build(&emulator.sdk_config("w"))
        .unwrap();
    let handle = worker.handle();
    runtime.block_on(async {
        let script = async {
            handle.caught_up().await;
            assert_eq!(handle.counters().leases_granted, u64::from(shards));
            let threads = threads();
            handle.shutdown();
            threads
        };
        let (stopped, threads) = tokio::join!(worker.run(), script);
        stopped.unwrap();
        threads
    })
}

#[test]
fn a24_the_number_of_threads_does_not_depend_on_the_number_of_shards() {
    let few = with_shards(8);
    let many = with_shards(500);
    // Threads for blocking work (names of hosts, files) come and go.
    assert!(many <= few + 2, "{few} with 8 shards, {many} with 500");
}
