//! Splits and merges: before the first start, between runs, and while a worker runs.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use integration_tests::{Log, Stage, What};
use kcl_core::InitialPosition;
use tokio::time::Instant;

const FIRST: &str = "shardId-000000000000";
const SECOND: &str = "shardId-000000000001";

fn position_of(log: &Log, shard: &str, wanted: fn(&What) -> bool) -> Option<usize> {
    log.entries()
        .iter()
        .position(|entry| entry.shard == shard && wanted(&entry.what))
}

fn started(log: &Log, shard: &str) -> bool {
    position_of(log, shard, |what| matches!(what, What::Initialize(..))).is_some()
}

#[track_caller]
fn assert_parent_first(log: &Log, parent: &str, child: &str) {
    let ended = position_of(log, parent, |what| *what == What::ShardEnded).unwrap();
    let begun = position_of(log, child, |what| matches!(what, What::Initialize(..))).unwrap();
    assert!(ended < begun, "{child} started before {parent} ended");
}

#[track_caller]
fn assert_each_once_and_in_order(log: &Log, expected: usize) {
    let data = log.data();
    assert_eq!(data.len(), expected);
    assert_eq!(
        data.iter().collect::<BTreeSet<_>>().len(),
        expected,
        "a record came twice"
    );
    for (key, data) in log.by_key() {
        assert!(data.is_sorted(), "{key}: {data:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn children_start_after_their_parents_while_records_come_in() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 100).await;
    let script = async {
        stage.wait_for_records(20).await;
        stage.split(FIRST).await; // into 2 and 3
        stage.put_numbered(100, 100).await;
        stage.merge("shardId-000000000003", SECOND).await; // into 4
        stage.put_numbered(200, 100).await;
        stage.wait_for_records(300).await;
    };
    stage.run_until("a", script).await;
    assert_each_once_and_in_order(&stage.log, 300);
    for (parent, child) in [
        (FIRST, "shardId-000000000002"),
        (FIRST, "shardId-000000000003"),
        ("shardId-000000000003", "shardId-000000000004"),
        (SECOND, "shardId-000000000004"),
    ] {
        assert_parent_first(&stage.log, parent, child);
    }
}

/// Waits for a child of FIRST and checks that FIRST was finished, within 5 seconds of `since`.
async fn assert_ended_within_five_seconds(stage: &Stage, since: Instant) {
    let child = "shardId-000000000001";
    stage
        .wait("the child started", |log| started(log, child))
        .await;
    let took = since.elapsed();
    assert!(took <= Duration::from_secs(5), "{took:?}");
    // The row may be deleted already: then it was finished.
    if let Some((checkpoint, _)) = stage.lease(FIRST).await {
        assert_eq!(checkpoint, "SHARD_END");
    }
    assert_parent_first(&stage.log, FIRST, child);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_last_record_is_checkpointed_already_ends() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 10).await;
    stage.catch_up("a").await;
    stage.split(FIRST).await;
    let since = Instant::now();
    stage
        .run_until("b", assert_ended_within_five_seconds(&stage, since))
        .await;
    assert_eq!(stage.log.records(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_ends_while_its_worker_runs() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 10).await;
    let script = async {
        stage.wait_for_records(10).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        stage.split(FIRST).await;
        assert_ended_within_five_seconds(&stage, Instant::now()).await;
    };
    stage.run_until("a", script).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_any_record_ends() {
    let before_start = Stage::new(1);
    before_start.split(FIRST).await;
    let since = Instant::now();
    let script = assert_ended_within_five_seconds(&before_start, since);
    before_start.run_until("a", script).await;

    let running = Stage::new(1);
    let script = async {
        running
            .wait("the shard started", |log| started(log, FIRST))
            .await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        running.split(FIRST).await;
        assert_ended_within_five_seconds(&running, Instant::now()).await;
    };
    running.run_until("a", script).await;
}

/// Old records in shards that are split and merged away, new records in their children.
async fn resharded_before_the_first_start() -> (Stage, Duration) {
    let stage = Stage::new(2);
    stage.put_numbered(0, 50).await;
    stage.split(FIRST).await;
    stage.put_numbered(50, 50).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let middle = Duration::from_millis(stage.emulator.clock().now().0.unsigned_abs());
    stage.put_numbered(100, 50).await;
    stage.merge("shardId-000000000003", SECOND).await;
    stage.put_numbered(150, 50).await;
    (stage, middle)
}

#[tokio::test(start_paused = true)]
async fn trim_horizon_reads_the_whole_lineage_of_a_resharded_stream() {
    let (stage, _) = resharded_before_the_first_start().await;
    stage.run_until("a", stage.wait_for_different(200)).await;
    assert_each_once_and_in_order(&stage.log, 200);
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_begins_in_the_middle_of_the_lineage() {
    let (stage, middle) = resharded_before_the_first_start().await;
    let position = InitialPosition::AtTimestamp(UNIX_EPOCH + middle);
    let worker = stage.worker("a").initial_position(position);
    stage.run("a", worker, stage.wait_for_different(100)).await;
    assert_each_once_and_in_order(&stage.log, 100);
    assert!(stage.log.data().iter().all(|data| data.as_str() >= "00100"));
}

#[tokio::test(start_paused = true)]
async fn latest_reads_only_what_comes_after_the_start() {
    let (stage, _) = resharded_before_the_first_start().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let worker = stage.worker("a").initial_position(InitialPosition::Latest);
    let script = async {
        stage
            .wait("all open shards started", |log| {
                started(log, "shardId-000000000004")
            })
            .await;
        stage.put_numbered(200, 50).await;
        stage.wait_for_records(50).await;
    };
    stage.run("a", worker, script).await;
    assert_each_once_and_in_order(&stage.log, 50);
    assert!(stage.log.data().iter().all(|data| data.as_str() >= "00200"));
}
