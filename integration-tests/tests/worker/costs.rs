//! What a worker costs at rest, and what it holds when it is blocked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use integration_tests::{APPLICATION, STREAM, Stage};
use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker, async_trait,
};
use kcl_emulator::Service;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Long enough for every interval of a worker at rest to come round many times.
const A_WHILE: Duration = Duration::from_secs(900);

/// Counts log lines at INFO and above.
#[derive(Clone, Default)]
struct LineCounter(Arc<AtomicU64>);

impl Subscriber for LineCounter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("kcl_")
    }
    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn event(&self, _event: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_costs_little_and_says_little() {
    let stage = Stage::new(1);
    stage.put("key", "data").await;
    let lines = LineCounter::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let script = async {
        stage.wait_for_records(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let sum = |operations: &[&str]| -> u64 {
            operations
                .iter()
                .map(|name| stage.calls("a", Service::DynamoDb, name))
                .sum()
        };
        let reads = ["GetItem", "BatchGetItem", "Query", "Scan"];
        let writes = ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"];
        let (reads_before, writes_before) = (sum(&reads), sum(&writes));
        let gets_before = stage.calls("a", Service::Kinesis, "GetRecords");
        let lines_before = lines.0.load(Ordering::Relaxed);
        tokio::time::sleep(A_WHILE).await;
        // Items are small: a write is one unit, a read, eventually consistent, a half.
        let (reads, writes) = (sum(&reads) - reads_before, sum(&writes) - writes_before);
        assert!(reads <= A_WHILE.as_secs(), "{reads} reads in a while");
        assert!(
            writes <= A_WHILE.as_secs() / 2,
            "{writes} writes in a while"
        );
        let gets = stage.calls("a", Service::Kinesis, "GetRecords") - gets_before;
        assert!(
            gets <= A_WHILE.as_secs() + 60,
            "{gets} reads of an empty shard in a while"
        );
        let lines = lines.0.load(Ordering::Relaxed) - lines_before;
        assert!(lines <= A_WHILE.as_secs() / 60, "{lines} lines in a while");
    };
    stage.run_until("a", script).await;
}

/// Never returns from its first call.
struct Blocked;

#[async_trait]
impl RecordProcessor for Blocked {
    async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_processor_does_not_fill_the_memory() {
    let budget = 16 << 20;
    let stage = Stage::new(8);
    // 40 MiB over eight shards.
    let large = "x".repeat(100_000);
    for n in 0..400 {
        stage.put(&format!("key-{n}"), &large).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let worker = Worker::builder(APPLICATION, STREAM, |_| Blocked)
        .memory_budget(budget)
        .drain_budget(Duration::from_secs(1))
        .runtime(Runtime::virtual_time(1))
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let script = async {
        tokio::time::sleep(Duration::from_secs(120)).await;
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    assert_eq!(stopped.unwrap().abandoned, 8);
    // One answer may overshoot; the service gives at most 10 MiB.
    let held = handle.counters().bytes;
    assert!(
        held >= 1 << 20 && held <= budget as u64 + (10 << 20),
        "{held} bytes"
    );
}
