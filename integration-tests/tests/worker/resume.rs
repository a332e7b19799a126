//! Another worker goes on where the first one stopped, cleanly or not.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::{Stage, What};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn after_a_clean_stop_every_record_is_processed_once_and_in_order() {
    let stage = Stage::new(2);
    let first_half = stage.put_numbered(0, 100).await;
    stage.run_until("a", stage.wait_for_records(40)).await;
    let second_half = stage.put_numbered(100, 100).await;
    stage.catch_up("b").await;

    let expected: BTreeSet<String> = first_half.into_iter().chain(second_half).collect();
    let delivered = stage.log.data();
    assert_eq!(delivered.len(), expected.len(), "a record came twice");
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>(), expected);
    for (key, data) in stage.log.by_key() {
        assert!(data.is_sorted(), "{key}: {data:?}");
    }
    assert!(!stage.log.data_of("b").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_leaves_no_owner_behind() {
    let stage = Stage::new(1);
    let last = stage.put("key", "data").await;
    stage.catch_up("a").await;
    assert_eq!(
        stage.lease("shardId-000000000000").await.unwrap(),
        (last, None)
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_nothing_is_missing_and_only_what_was_not_checkpointed_comes_again() {
    let stage = Stage::new(1);
    let lease_duration = Duration::from_secs(10);
    stage.put_numbered(0, 50).await;
    let until = async {
        stage.wait_for_records(50).await;
        // The first checkpoint is stored at once, the next one not before the interval.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.put_numbered(50, 50).await;
        stage.wait_for_records(100).await;
    };
    let worker = stage.worker("a").lease_duration(lease_duration);
    stage
        .kill_after(
            "a",
            worker.checkpoint_interval(Duration::from_secs(30)),
            until,
        )
        .await;
    let killed = Instant::now();
    let (checkpoint, owner) = stage.lease("shardId-000000000000").await.unwrap();
    assert!(owner.is_some());

    stage.put_numbered(100, 10).await;
    let worker = stage.worker("b").lease_duration(lease_duration);
    stage.run("b", worker, stage.wait_for_different(110)).await;
    let first = stage.log.first(|entry| entry.worker == "b").unwrap();
    let rested = first.duration_since(killed);
    assert!(
        rested <= lease_duration + Duration::from_secs(3),
        "{rested:?}"
    );

    let all: BTreeSet<String> = stage.log.data().into_iter().collect();
    assert_eq!(all.len(), 110, "records are missing");
    let below = stage.log.entries().into_iter().filter(|entry| entry.worker == "b").any(|entry| {
        matches!(entry.what, What::Record { sequence_number, .. } if sequence_number <= checkpoint)
    });
    assert!(!below, "a record below the stored checkpoint came again");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_restarted_at_once_after_a_kill_waits_one_lease_duration_at_most() {
    let stage = Stage::new(4);
    stage.put_numbered(0, 20).await;
    let worker = stage.worker("a").lease_duration(Duration::from_secs(5));
    stage
        .kill_after("a", worker, stage.wait_for_records(20))
        .await;
    stage.emulator.faults().heal("a");
    let killed = Instant::now();
    stage.put_numbered(20, 20).await;
    // The same name, but a new process: a new id.
    let worker = stage.worker("a").lease_duration(Duration::from_secs(5));
    stage.run("a", worker, stage.wait_for_different(40)).await;
    let last = stage
        .log
        .entries()
        .into_iter()
        .rev()
        .find(|e| matches!(e.what, What::Record { .. }));
    let took = last.unwrap().at.duration_since(killed);
    assert!(took <= Duration::from_secs(8), "{took:?}");
}
