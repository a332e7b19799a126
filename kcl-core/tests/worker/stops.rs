//! A shard that was stopped for a record, and operators who do something about it at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kcl_core::{OnFailure, Operator, WorkerEvent};
use kcl_lease::{CommandItem, LeaseKey, LeaseTable};

use crate::fixture::{Fixture, Running, eventually};
use crate::lapses::{NO_WRITES_TO_ONE_ROW, OPEN, Refusing};
use crate::orders::only;
use crate::poison::{builder, numbered, put_all, refuse_poison, three_times};

/// A worker with a record that stops its shard.
async fn stopping(fixture: &Fixture) -> Running {
    let builder = builder(fixture, refuse_poison).failure_policy(three_times(OnFailure::StopShard));
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_all(fixture, &numbered(2, &[0]));
    worker
}

async fn resume(fixture: &Fixture, operator: &Operator) {
    let resumed = operator.resume(&only(&fixture.shard(0))).await.unwrap();
    let within = Duration::from_secs(30);
    operator.obeyed(&resumed.commands, within).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a01_a_shard_that_is_resumed_just_after_it_was_stopped_begins_again() {
    for after in [0, 50, 400, 5_000] {
        let fixture = Fixture::new(1);
        let worker = stopping(&fixture).await;
        let mut events = worker.handle.events();
        while !matches!(
            events.next().await.unwrap(),
            WorkerEvent::ShardStopped { .. }
        ) {}
        tokio::time::sleep(Duration::from_millis(after)).await;
        resume(&fixture, &worker.handle.operator()).await;
        // It meets the record again.
        eventually("the next stop", || {
            worker.handle.counters().shards_stopped == 2
        })
        .await;
        let mut told = Vec::new();
        loop {
            match events.next().await.unwrap() {
                WorkerEvent::ShardResumed { .. } => told.push("resumed"),
                WorkerEvent::ShardStopped { .. } => break,
                _ => {}
            }
        }
        assert_eq!(told, ["resumed"], "after {after} ms");
        eventually("that is shown", || {
            worker.handle.stopped_shards().len() == 1
        })
        .await;
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_stop_that_cannot_be_stored_for_long_is_told_and_stored_later() {
    let fixture = Fixture::new(1);
    let row = CommandItem::key_of(&LeaseKey::of_shard(&fixture.shard(0)));
    let table = Refusing::open(&fixture, &row);
    let builder =
        builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::StopShard));
    let worker = fixture.start_with_table(Arc::clone(&table) as Arc<dyn LeaseTable>, builder);
    fixture.warm_up(&worker).await;
    table.refuses.store(NO_WRITES_TO_ONE_ROW, Ordering::SeqCst);
    put_all(&fixture, &numbered(2, &[0]));
    // Told, although it cannot be stored.
    eventually("the stop", || worker.handle.stopped_shards().len() == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!fixture.table.items().contains_key(&row));
    table.refuses.store(OPEN, Ordering::SeqCst);
    eventually("the mark", || fixture.table.items().contains_key(&row)).await;
    let seen = fixture.log.delivered().len();
    worker.stop().await;
    // Whoever comes next does not begin with the record by himself.
    let worker = fixture.start(|_| Ok(()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.log.delivered().len(), seen);
    assert_eq!(worker.handle.stopped_shards().len(), 1);
    resume(&fixture, &worker.handle.operator()).await;
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered()[seen..], ["poison 0", "1"]);
}
