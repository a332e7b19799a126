//! What the start of a fleet asks of Kinesis: whoever leads describes and lists the stream, all others read what is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use integration_tests::Stage;
use kcl_core::WorkerBuilder;
use kcl_emulator::{Calls, Service};
use tokio::time::Instant;

/// Everything that a start calls is called within this time.
const START: Duration = Duration::from_secs(6);

/// A quarter of the limits (Kinesis developer guide, quotas): calls per second and account.
const DESCRIBE_STREAM_SUMMARY: u64 = 20 / 4;
/// Calls per second and stream.
const LIST_SHARDS: u64 = 1_000 / 4;

/// The most calls of each operation of Kinesis in any second, by all workers.
#[derive(Default)]
struct Peaks(BTreeMap<String, u64>);

impl Peaks {
    async fn watch(&mut self, stage: &Stage, time: Duration) {
        let end = Instant::now() + time;
        let mut before = by_operation(&stage.emulator.calls());
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = by_operation(&stage.emulator.calls());
            for (operation, count) in &now {
                let calls = count - before.get(operation).copied().unwrap_or(0);
                let peak = self.0.entry(operation.clone()).or_default();
                *peak = (*peak).max(calls);
            }
            before = now;
        }
    }

    fn of(&self, operation: &str) -> u64 {
        self.0.get(operation).copied().unwrap_or(0)
    }
}

fn by_operation(calls: &Calls) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (key, count) in calls
        .iter()
        .filter(|(key, _)| key.service == Service::Kinesis)
    {
        *counts.entry(key.operation.clone()).or_default() += count;
    }
    counts
}

fn idle_worker(stage: &Stage, name: &str) -> WorkerBuilder {
    // Reading idle shards is not what is measured, and takes most of the test's time.
    stage
        .worker(name)
        .idle_between_reads(Duration::from_secs(60))
}

/// Starts so many workers at once and ends them all in the middle of whatever they do.
async fn start_and_kill(stage: &Stage, generation: usize, workers: usize, peaks: &mut Peaks) {
    let names: Vec<String> = (0..workers).map(|n| format!("g{generation}-{n}")).collect();
    let workers = names.iter().map(|name| {
        let worker = idle_worker(stage, name);
        worker
            .build(&stage.emulator.sdk_config(name))
            .unwrap()
            .run()
    });
    tokio::select! {
        () = peaks.watch(stage, START) => {}
        stopped = join_all(workers) => panic!("{stopped:?}"),
    }
    for name in &names {
        stage.emulator.faults().partition(name);
    }
}

/// Starts `workers` at once on a new stream of `shards`, and then as many on the leases of the first ones.
async fn asks_kinesis_for_little(shards: u32, workers: usize, pages: u64) {
    let stage = Stage::new(shards);
    let mut peaks = Peaks::default();
    start_and_kill(&stage, 0, workers, &mut peaks).await;
    start_and_kill(&stage, 1, workers, &mut peaks).await;

    let calls = stage.emulator.calls();
    let all = |operation: &str| calls.of(Service::Kinesis, operation);
    assert_eq!(all("DescribeStream"), 0);
    assert!(all("DescribeStreamSummary") <= 3, "{:?}", peaks.0);
    assert!(all("ListShards") >= pages, "{:?}", peaks.0);
    assert!(all("ListShards") <= 3 * pages, "{:?}", peaks.0);
    assert!(peaks.of("DescribeStreamSummary") <= DESCRIBE_STREAM_SUMMARY);
    assert!(peaks.of("ListShards") <= LIST_SHARDS);
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_fleet_asks_kinesis_for_little() {
    asks_kinesis_for_little(40, 10, 1).await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation; run with --release"
)]
async fn a23_the_start_of_a_large_fleet_stays_far_below_every_limit() {
    // A listing of so many shards takes two pages.
    asks_kinesis_for_little(2_000, 200, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_a_fleet_asks_kinesis_for_records_only() {
    let stage = Stage::new(4);
    stage.put_numbered(0, 40).await;
    let script = async {
        stage.wait_for_records(40).await;
        let joins = async {
            stage
                .wait("the newcomer has a shard", |log| {
                    log.first(|entry| entry.worker == "b").is_some()
                })
                .await;
        };
        stage.run_until("b", joins).await;
    };
    stage.run_until("a", script).await;
    for operation in ["DescribeStreamSummary", "ListShards"] {
        assert_eq!(
            stage.calls("b", Service::Kinesis, operation),
            0,
            "{operation}"
        );
        assert_eq!(
            stage.calls("a", Service::Kinesis, operation),
            1,
            "{operation}"
        );
    }
    assert!(stage.calls("b", Service::Kinesis, "GetShardIterator") > 0);
}
