//! A worker that finds a large lease table reads from it at once.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::{Stage, What};
use tokio::time::Instant;

use crate::crew::{LEASE, put_into_each};

/// Until the first record reaches a processor.
const FIRST_RECORD: Duration = Duration::from_secs(5);

/// Until a record of each shard has reached a processor.
const ALL_SHARDS: Duration = Duration::from_secs(10);

/// How many shards gave records to this worker.
fn shards_read(stage: &Stage, worker: &str) -> usize {
    let entries = stage.log.entries();
    let records = entries
        .iter()
        .filter(|entry| entry.worker == worker && matches!(entry.what, What::Record { .. }));
    let shards: BTreeSet<&str> = records.map(|entry| entry.shard.as_str()).collect();
    shards.len()
}

/// One worker makes the table, reads everything and stops; another one starts on what it left.
async fn reads_at_once(shards: u32) {
    let stage = Stage::new(shards);
    put_into_each(&stage, shards, "early").await;
    let all = stage.wait_for_records(shards as usize);
    stage.run_until("earlier", all).await;
    put_into_each(&stage, shards, "late").await;
    tokio::time::sleep(6 * LEASE).await;

    let started = Instant::now();
    let script = async {
        stage.wait_for_records(2 * shards as usize).await;
        let took = started.elapsed();
        assert!(took <= ALL_SHARDS, "{took:?} until all shards");
    };
    stage.run_until("new", script).await;
    let first = stage
        .log
        .first(|entry| entry.worker == "new" && matches!(entry.what, What::Record { .. }));
    let took = first.unwrap().duration_since(started);
    assert!(took <= FIRST_RECORD, "{took:?} until the first record");
    assert_eq!(shards_read(&stage, "new"), shards as usize);
    assert_eq!(stage.log.records(), 2 * shards as usize, "each record once");
}

#[tokio::test(start_paused = true)]
async fn a_worker_reads_at_once_from_an_existing_table() {
    reads_at_once(50).await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation; run with --release"
)]
async fn a21_the_first_record_of_a_thousand_shards_comes_within_five_seconds() {
    reads_at_once(1_000).await;
}
