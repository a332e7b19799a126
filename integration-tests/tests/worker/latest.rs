//! LATEST is one moment, stored at the first start: whoever reads a shard later starts from it.

use std::time::Duration;

use integration_tests::{Probe, Stage, What};
use kcl_core::InitialPosition;

const FIRST: &str = "shardId-000000000000";

/// A worker at LATEST whose processor never completes a record, killed when `until` is over.
async fn kill_before_the_first_checkpoint(stage: &Stage, until: impl Future<Output = ()>) {
    let failing = Probe::new("a", &stage.log).judged(|_| Err("never".into()));
    let worker = stage
        .worker_with("a", failing)
        .initial_position(InitialPosition::Latest);
    stage.kill_after("a", worker, until).await;
}

/// Another worker, until it was given 40 records.
async fn deliver_the_rest(stage: &Stage) {
    let worker = stage.worker("b").initial_position(InitialPosition::Latest);
    let all = stage.wait("b was given all", |log| log.data_of("b").len() >= 40);
    stage.run("b", worker, all).await;
}

fn started(stage: &Stage) -> bool {
    stage
        .log
        .first(|entry| matches!(entry.what, What::Initialize(..)))
        .is_some()
}

#[tokio::test(start_paused = true)]
async fn a06_records_after_the_first_start_are_delivered_although_the_first_owner_died() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 20).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    kill_before_the_first_checkpoint(&stage, async {
        stage.wait("the shard started", |_| started(&stage)).await;
        stage.put_numbered(100, 20).await;
        stage.wait_for_records(1).await;
    })
    .await;
    stage.put_numbered(120, 20).await;
    deliver_the_rest(&stage).await;
    let expected: Vec<String> = (100..140).map(|n| format!("{n:05}")).collect();
    assert_eq!(stage.log.data_of("b"), expected);
}

#[tokio::test(start_paused = true)]
async fn a06_a_reshard_before_the_first_checkpoint_neither_loses_nor_replays() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 20).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    kill_before_the_first_checkpoint(&stage, async {
        stage.wait("the shard started", |_| started(&stage)).await;
        stage.put_numbered(100, 20).await;
        stage.split(FIRST).await;
        stage.put_numbered(120, 20).await;
        stage.wait_for_records(1).await;
    })
    .await;
    deliver_the_rest(&stage).await;
    let mut delivered = stage.log.data_of("b");
    delivered.sort();
    let expected: Vec<String> = (100..140).map(|n| format!("{n:05}")).collect();
    assert_eq!(delivered, expected);
}
