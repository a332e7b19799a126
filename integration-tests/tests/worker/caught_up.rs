//! `caught_up` means that nothing is left to process, whoever held the leases before.

use std::collections::BTreeSet;

use integration_tests::Stage;

#[tokio::test(start_paused = true)]
async fn b07_the_leases_of_a_killed_worker_are_waited_for() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 20).await;
    let worker = stage.worker("a");
    stage
        .kill_after("a", worker, stage.wait_for_records(20))
        .await;
    stage.put_numbered(20, 20).await;
    stage.catch_up("b").await;
    let all: BTreeSet<String> = stage.log.data().into_iter().collect();
    assert_eq!(all.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn b07_the_whole_lineage_of_a_resharded_stream_is_waited_for() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 50).await;
    stage.split("shardId-000000000000").await;
    stage.put_numbered(50, 50).await;
    stage
        .merge("shardId-000000000003", "shardId-000000000001")
        .await;
    stage.put_numbered(100, 50).await;
    stage.catch_up("a").await;
    assert_eq!(stage.log.records(), 150);
}
