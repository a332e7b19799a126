//! Records that retention took before they were read: told once, with their range, and gone past or stopped at.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::retrieval::MemoryStream;
use kcl_core::{
    Checkpoint, GapPolicy, Position, SequenceNumber, ShardState, SourceErrorKind, WorkerBuilder,
    WorkerEvent, WorkerHandle,
};
use tokio::time::Instant;

use crate::fixture::{Call, Fixture, Running, eventually};
use crate::orders::only;
use crate::poison::builder;

const QUIET: Duration = Duration::from_secs(600);

/// Every gap that is told, in order.
fn listen(
    fixture: &Fixture,
    handle: &WorkerHandle,
) -> impl Future<Output = Vec<(Option<SequenceNumber>, Option<SequenceNumber>)>> + use<> {
    let mut events = handle.events();
    let told = fixture.runtime.spawn(async move {
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            if let WorkerEvent::GapDetected { from, to, .. } = event {
                told.push((from, to));
            }
        }
        told
    });
    async move { told.await.unwrap() }
}

fn fine(fixture: &Fixture) -> WorkerBuilder {
    builder(fixture, |_| Ok(()))
}

/// Processes these records, and stops. Returns the checkpoint.
async fn process(fixture: &Fixture, texts: &[&str]) -> Position {
    fixture.put_many(0, texts);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    let stored = fixture.lease(&fixture.shard(0)).checkpoint;
    stored.position().unwrap().clone()
}

fn put(fixture: &Fixture, text: &str) -> SequenceNumber {
    let shard = fixture.shard(0);
    fixture
        .stream
        .put_to(&shard, "key", text.to_owned())
        .unwrap()
}

async fn is_told_once(
    worker: Running,
    fixture: &Fixture,
    gap: (Option<SequenceNumber>, Option<SequenceNumber>),
) {
    let told = listen(fixture, &worker.handle);
    let handle = worker.handle.clone();
    handle.caught_up().await;
    let iterators = fixture.stream.calls(crate::BEGIN);
    tokio::time::sleep(QUIET).await;
    // An iterator lives for minutes in the service, and as long as nobody ends it here.
    assert!(fixture.stream.calls(crate::BEGIN) <= iterators + crate::RENEWALS);
    worker.stop().await;
    assert_eq!(told.await, [gap]);
    assert_eq!(handle.counters().gaps, 1);
}

#[tokio::test(start_paused = true)]
async fn a07_a_trimmed_checkpoint_resumes_at_the_oldest_record_and_tells_the_range_once() {
    let fixture = Fixture::new(1);
    let checkpoint = process(&fixture, &["a", "b"]).await;
    fixture.put_many(0, &["lost", "lost too"]);
    fixture.stream.trim(&fixture.shard(0));
    let kept = put(&fixture, "kept");
    let seen = fixture.log.delivered().len();
    let started = Instant::now();
    let worker = fixture.start(|_| Ok(()));
    let told = listen(&fixture, &worker.handle);
    eventually("the oldest record", || fixture.log.delivered().len() > seen).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    let handle = worker.handle.clone();
    handle.caught_up().await;
    let iterators = fixture.stream.calls(crate::BEGIN);
    tokio::time::sleep(QUIET).await;
    let begun = fixture.stream.calls(crate::BEGIN);
    assert!(begun <= iterators + crate::RENEWALS, "a loop");
    worker.stop().await;
    assert_eq!(told.await, [(Some(checkpoint.sequence_number), Some(kept))]);
    assert_eq!(handle.counters().gaps, 1);
    assert_eq!(fixture.log.delivered()[seen..], ["kept"]);
    // The next worker goes on without a word.
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().gaps, 0);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a07_a_closed_shard_whose_unread_rest_is_gone_ends_with_an_open_gap() {
    for (listed, lanes) in [(true, 1), (false, 1), (true, 3), (false, 3)] {
        let fixture = Fixture::new(1);
        let checkpoint = process(&fixture, &["a"]).await;
        fixture.put_many(0, &["lost"]);
        let parent = fixture.shard(0);
        let children = fixture.stream.split(&parent).unwrap();
        match listed {
            true => fixture.stream.trim(&parent),
            false => fixture.stream.forget(&parent),
        }
        let worker = fixture.start_builder(fine(&fixture).lanes(lanes));
        let gap = (Some(checkpoint.sequence_number), None);
        is_told_once(worker, &fixture, gap).await;
        assert_eq!(fixture.log.delivered(), ["a"]);
        let ended = Call::ShardEnded(children.to_vec());
        assert!(fixture.log.calls_of(&parent).contains(&ended));
        assert!(!fixture.log.calls_of(&children[0]).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a07_a_shard_that_is_gone_before_it_was_ever_read_is_a_gap_from_its_beginning() {
    let fixture = Fixture::new(1);
    // A worker that makes the leases and processes nothing.
    let worker = fixture.start(|_| Err("not now".into()));
    fixture.put_many(0, &["lost"]);
    eventually("a call", || !fixture.log.delivered().is_empty()).await;
    worker.stop().await;
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    fixture.stream.forget(&parent);
    let worker = fixture.start(|_| Ok(()));
    is_told_once(worker, &fixture, (None, None)).await;
}

#[tokio::test(start_paused = true)]
async fn no_gap_is_told_where_nothing_is_missing() {
    let fixture = Fixture::new(1);
    process(&fixture, &["a", "b"]).await;
    fixture.put_many(0, &["c"]);
    fixture.stream.split(&fixture.shard(0)).unwrap();
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!((counters.gaps, counters.checkpoints_ahead), (0, 0));
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a07_with_stop_nothing_after_the_gap_is_delivered_until_somebody_says_so() {
    for closed in [false, true] {
        let fixture = Fixture::new(1);
        let checkpoint = process(&fixture, &["a"]).await;
        fixture.put_many(0, &["lost"]);
        let shard = fixture.shard(0);
        fixture.stream.trim(&shard);
        if closed {
            fixture.stream.split(&shard).unwrap();
            fixture.stream.forget(&shard);
        } else {
            put(&fixture, "kept");
        }
        let seen = fixture.log.calls().len();
        let stops = fine(&fixture).on_gap(GapPolicy::StopShard);
        let worker = fixture.start_builder(stops);
        tokio::time::sleep(QUIET).await;
        let health = worker.handle.health();
        assert_eq!(health.shards[0].state, ShardState::Stopped);
        assert!(!health.is_healthy());
        let cause = health.shards[0].last_error.clone().unwrap();
        assert!(cause.error.contains("retention"), "{cause:?}");
        let stopped = worker.handle.stopped_shards();
        assert_eq!(stopped[0].position, Some(checkpoint.clone()));
        assert_eq!(worker.handle.counters().gaps, 1);
        worker.stop().await;
        let calls = fixture.log.calls();
        let [_initialized, (_, Call::ShutdownRequested)] = &calls[seen..] else {
            panic!("{:?}", &calls[seen..]);
        };
        assert_eq!(fixture.lease(&shard).checkpoint, checkpoint.into());
        // Told to go on, it does.
        let worker = fixture.start(|_| Ok(()));
        let resumed = worker
            .handle
            .operator()
            .resume(&only(&shard))
            .await
            .unwrap();
        assert_eq!(resumed.commands.len(), 1);
        worker.handle.caught_up().await;
        assert_eq!(worker.handle.counters().gaps, 1);
        worker.stop().await;
        assert_eq!(fixture.lease(&shard).is_finished(), closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a07_a_checkpoint_ahead_of_the_tip_is_told_once() {
    let fixture = Fixture::new(1);
    // The stream as it is after it was put back to an earlier state.
    let earlier = MemoryStream::new(1, fixture.runtime.clone());
    let shard = fixture.shard(0);
    let checkpoint = process(&fixture, &["a", "b", "c", "d"]).await;
    let tip = earlier.put_to(&shard, "key", "x").unwrap();
    earlier.fail_next(crate::BEGIN, SourceErrorKind::InvalidArgument, 1);
    let builder = fine(&fixture).retrieval(crate::retrieval());
    let worker = fixture.start_on(Arc::new(earlier), builder);
    let handle = worker.handle.clone();
    let mut events = handle.events();
    tokio::time::sleep(QUIET).await;
    worker.stop().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let WorkerEvent::CheckpointAheadOfTip {
            checkpoint, tip, ..
        } = event
        {
            told.push((checkpoint, tip));
        }
    }
    assert_eq!(told, [(Checkpoint::At(checkpoint), tip)]);
    assert_eq!(handle.counters().checkpoints_ahead, 1);
    assert_eq!(handle.counters().gaps, 0);
}
