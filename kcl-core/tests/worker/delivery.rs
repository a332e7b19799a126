//! What is delivered: everything, in order, parents before children, from the stored checkpoint on.

use std::time::Duration;

use kcl_core::{
    Checkpoint, ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait,
};
use kcl_lease::LeaseKey;

use crate::fixture::{Call, Fixture, eventually};

#[tokio::test(start_paused = true)]
async fn records_come_in_order_once_and_the_next_worker_goes_on() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a", "b", "c"]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    assert_eq!(fixture.log.delivered(), ["a", "b", "c"]);
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));

    fixture.put_many(0, &["d"]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_record_comes_at_once_and_the_next_worker_starts_soon() {
    let fixture = Fixture::new(4);
    let started = tokio::time::Instant::now();
    fixture.put_many(2, &["a"]);
    let worker = fixture.start(|_| Ok(()));
    let log = fixture.log.clone();
    eventually("the first record", || !log.delivered().is_empty()).await;
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    worker.stop().await;

    fixture.put_many(2, &["b"]);
    let started = tokio::time::Instant::now();
    let worker = fixture.start(|_| Ok(()));
    eventually("the second worker's record", || log.delivered().len() == 2).await;
    assert!(
        started.elapsed() < crate::NEXT_READS_WITHIN,
        "{:?}",
        started.elapsed()
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_worker_is_followed_after_its_lease_duration_and_nothing_is_lost() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a", "b"]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    // Dropped, not stopped: nothing is released.
    drop(worker);
    fixture.put_many(0, &["c"]);
    let died = tokio::time::Instant::now();
    let worker = fixture.start(|_| Ok(()));
    let log = fixture.log.clone();
    eventually("the record after the kill", || {
        log.delivered().last().is_some_and(|last| last == "c")
    })
    .await;
    assert!(
        died.elapsed() < Duration::from_secs(13),
        "{:?}",
        died.elapsed()
    );
    assert!(
        fixture
            .log
            .delivered()
            .starts_with(&["a".to_owned(), "b".to_owned()])
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn children_start_after_all_their_parents_ended() {
    let fixture = Fixture::new(2);
    fixture.put_many(0, &["p0"]);
    fixture.put_many(1, &["p1"]);
    let (left, right) = (fixture.shard(0), fixture.shard(1));
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;

    let child = fixture.stream.merge(&left, &right).unwrap();
    fixture.stream.put_to(&child, "key", "child").unwrap();
    let [grandchild, other] = fixture.stream.split(&child).unwrap();
    fixture
        .stream
        .put_to(&grandchild, "key", "grandchild")
        .unwrap();
    let closed = tokio::time::Instant::now();
    let log = fixture.log.clone();
    eventually("the grandchild's record", || {
        log.delivered().contains(&"grandchild".to_owned())
    })
    .await;
    assert!(
        closed.elapsed() < Duration::from_secs(5),
        "{:?}",
        closed.elapsed()
    );
    worker.handle.caught_up().await;
    worker.stop().await;

    let calls = fixture.log.calls();
    let place = |wanted: &dyn Fn(&Call) -> bool, shard| {
        calls
            .iter()
            .position(|(s, call)| s == shard && wanted(call))
            .unwrap()
    };
    let ended = |call: &Call| matches!(call, Call::ShardEnded(_));
    let began = |call: &Call| matches!(call, Call::Initialize(_));
    assert!(place(&ended, &left) < place(&began, &child));
    assert!(place(&ended, &right) < place(&began, &child));
    assert!(place(&ended, &child) < place(&began, &grandchild));
    assert!(place(&ended, &child) < place(&began, &other));
    assert_eq!(fixture.log.delivered().len(), 4);
    assert!(!fixture.lease(&grandchild).checkpoint.is_start());
}

/// A closed shard ends without help of the application: with its last record checkpointed, with none since the
/// checkpoint, and with none ever (A3).
#[tokio::test(start_paused = true)]
async fn a3_a_shard_ends_whatever_is_in_it() {
    let fixture = Fixture::new(3);
    fixture.put_many(0, &["checkpointed"]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    fixture.put_many(1, &["new"]);
    let mut children = Vec::new();
    for index in 0..3 {
        children.extend(fixture.stream.split(&fixture.shard(index)).unwrap());
    }
    let closed = tokio::time::Instant::now();
    let handle = worker.handle.clone();
    eventually("all six children", || {
        let held = handle.shards();
        let is_held = |child| held.contains(&LeaseKey::of_shard(child));
        children.iter().all(is_held)
    })
    .await;
    assert!(
        closed.elapsed() < Duration::from_secs(5),
        "{:?}",
        closed.elapsed()
    );
    for index in 0..3 {
        let ends = |call: &Call| matches!(call, Call::ShardEnded(children) if children.len() == 2);
        assert_eq!(
            fixture
                .log
                .calls_of(&fixture.shard(index))
                .iter()
                .filter(|call| ends(call))
                .count(),
            1
        );
    }
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["checkpointed", "new"]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_past_retention_ends_and_its_children_start() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let parent = fixture.shard(0);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    let [left, _] = fixture.stream.split(&parent).unwrap();
    fixture.stream.put_to(&left, "key", "b").unwrap();
    fixture.stream.forget(&parent);
    let worker = fixture.start(|_| Ok(()));
    let log = fixture.log.clone();
    eventually("the child's record", || {
        log.delivered().contains(&"b".to_owned())
    })
    .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_initialized_processor_is_told_where_it_starts() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    let calls = fixture.log.calls_of(&fixture.shard(0));
    assert_eq!(
        calls,
        [
            Call::Initialize(Checkpoint::TrimHorizon),
            Call::ShutdownRequested
        ]
    );
}

/// Takes ten seconds for each call.
struct Patient;

#[async_trait]
impl RecordProcessor for Patient {
    async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_and_not_processed_yet_is_told_in_bytes() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a", &"b".repeat(100_000)]);
    let worker = fixture.start_builder(Worker::builder("app", "memory", |_| Patient));
    eventually("two buffered records", || {
        (100_000..200_000).contains(&worker.handle.buffered_bytes())
    })
    .await;
    worker.handle.caught_up().await;
    eventually("an empty buffer", || worker.handle.buffered_bytes() == 0).await;
    worker.stop().await;
}
