//! How the lanes of a shard end: with the shard, at a stop, with a lost lease, and when one of them stops the shard.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::{Checkpoint, OnFailure, WorkerEvent};
use kcl_lease::item::Value;

use crate::crew::{Crew, Did, keyed, put};
use crate::desk::stored;
use crate::fixture::{Fixture, eventually};
use crate::poison::{name_poison, three_times};

const LANES: usize = 4;

fn once_each() -> BTreeMap<usize, usize> {
    (0..LANES).map(|lane| (lane, 1)).collect()
}

fn slow() -> Crew {
    Crew::new(|input| (Duration::from_millis(100 * input.len() as u64), Ok(())))
}

#[tokio::test(start_paused = true)]
async fn b05_every_lane_is_told_of_the_end_when_all_have_reached_it() {
    let fixture = Fixture::new(1);
    let crew = slow();
    let worker = fixture.start_builder(crew.builder(LANES));
    worker.handle.caught_up().await;
    put(&fixture, &keyed(32, 0..100));
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    eventually("the end", || stored(&fixture) == Checkpoint::ShardEnd).await;
    assert_eq!(crew.count(&Did::ShardEnded), once_each());
    let did = crew.did();
    let last_done = did.iter().rposition(|(_, did)| matches!(did, Did::Done(_)));
    let first_told = did.iter().position(|(_, did)| *did == Did::ShardEnded);
    assert!(last_done < first_told, "not before all lanes are done");
    assert_eq!(crew.processed().len(), 100);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn b05_a_stop_lets_running_calls_end_and_begins_no_other() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|_| (Duration::from_secs(3), Ok(())));
    let worker = fixture.start_builder(crew.builder(LANES).max_in_flight(40));
    put(&fixture, &keyed(32, 0..400));
    eventually("all lanes at work", || {
        crew.most.load(std::sync::atomic::Ordering::SeqCst) == LANES
    })
    .await;
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert!(asked.elapsed() < Duration::from_secs(4));
    assert_eq!(crew.count(&Did::ShutdownRequested), once_each());
    let did = crew.did();
    let first = did
        .iter()
        .position(|(_, did)| *did == Did::ShutdownRequested);
    let last = did
        .iter()
        .rposition(|(_, did)| matches!(did, Did::Begun(_) | Did::Done(_)));
    assert!(last < first, "no lane is told while another works");
    // Nothing that was complete comes again, and nothing is passed over.
    let mut processed = crew.processed();
    let heir = fixture.start(|_| Ok(()));
    heir.handle.caught_up().await;
    heir.stop().await;
    processed.extend(fixture.log.delivered());
    processed.sort_unstable();
    processed.dedup();
    assert_eq!(processed.len(), 400);
}

#[tokio::test(start_paused = true)]
async fn b05_a_lost_lease_is_told_to_every_lane_after_its_call() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|_| (Duration::from_secs(12), Ok(())));
    let worker = fixture.start_builder(crew.builder(LANES));
    let mut events = worker.handle.events();
    put(&fixture, &keyed(32, 0..400));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let shard = fixture.shard(0);
    let mut row = fixture.table.items()[shard.as_str()].clone();
    row.insert("leaseOwner".to_owned(), Value::S("stranger".to_owned()));
    row.insert("leaseCounter".to_owned(), Value::N("1000".to_owned()));
    fixture.table.put(shard.as_str(), row);
    eventually("all told", || crew.count(&Did::LeaseLost) == once_each()).await;
    let did = crew.did();
    let lost = did
        .iter()
        .position(|(_, did)| *did == Did::LeaseLost)
        .unwrap();
    let after: Vec<_> = did[lost..]
        .iter()
        .filter(|(_, did)| *did != Did::LeaseLost && *did != Did::Initialized)
        .collect();
    assert!(
        after
            .iter()
            .all(|(_, did)| matches!(did, Did::Begun(_) | Did::Done(_)))
    );
    drop(worker);
    let mut lost = 0;
    while let Some(event) = events.next().await {
        lost += usize::from(matches!(event, WorkerEvent::LeaseLost { .. }));
    }
    assert_eq!(lost, 1);
}

#[tokio::test(start_paused = true)]
async fn b05_a_record_that_stops_the_shard_stops_all_lanes_also_those_with_work() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| match name_poison(input) {
        Ok(()) => (Duration::from_secs(20), Ok(())),
        refused => (Duration::ZERO, refused),
    });
    let stops = three_times(OnFailure::StopShard);
    let worker = fixture.start_builder(crew.builder(LANES).failure_policy(stops));
    worker.handle.caught_up().await;
    put(&fixture, &["poison-a/0".to_owned()]);
    for part in keyed(32, 1..400).chunks(10) {
        put(&fixture, part);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    eventually("it rests", || worker.handle.stopped_shards().len() == 1).await;
    let begun = || {
        let is_begun = |(_, did): &(usize, Did)| matches!(did, Did::Begun(_));
        crew.did().into_iter().filter(is_begun).count()
    };
    let seen = begun();
    assert!(worker.handle.counters().records_processed < 200);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(begun(), seen, "no lane goes on");
    assert!(crew.is_idle());
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert_eq!(crew.count(&Did::ShutdownRequested), once_each());
}

#[tokio::test(start_paused = true)]
async fn b05_a_stuck_lane_cannot_hold_the_worker_beyond_its_drain_budget() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|_| (Duration::from_secs(100_000), Ok(())));
    let worker = fixture.start_builder(crew.builder(LANES));
    put(&fixture, &keyed(32, 0..40));
    eventually("all lanes at work", || {
        crew.most.load(std::sync::atomic::Ordering::SeqCst) == LANES
    })
    .await;
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!(report.abandoned, 1);
    assert!(asked.elapsed() < Duration::from_secs(27));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(crew.processed().len(), 0);
    assert!(crew.is_idle(), "the calls are dropped");
}
