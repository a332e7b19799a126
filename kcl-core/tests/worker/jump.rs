//! Jumping to the tip when a shard is too far behind.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::{Checkpoint, SeekTo, Shards, SourceErrorKind, Worker, WorkerBuilder, WorkerEvent};

use crate::fixture::{Call, Fixture, Recorder, eventually};

const HOUR: Duration = Duration::from_secs(3_600);

/// One record in each answer, so that the first one says how much is left.
fn builder(fixture: &Fixture) -> WorkerBuilder {
    let log = fixture.log.clone();
    let builder = Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::new(|_| Ok(())),
    });
    builder.max_records(1)
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_too_far_behind_goes_on_at_its_tip_and_says_so() {
    for lanes in [1, 2] {
        let fixture = Fixture::new(1);
        fixture.put_many(0, &["old 1", "old 2", "old 3"]);
        tokio::time::sleep(2 * HOUR).await;
        let builder = builder(&fixture).lanes(lanes);
        let worker = fixture.start_builder(builder.jump_to_latest_when_behind(HOUR));
        let mut events = worker.handle.events();
        let jump = async {
            loop {
                if let Some(WorkerEvent::JumpedToLatest { from, to, lag, .. }) = events.next().await
                {
                    return (from, to, lag);
                }
            }
        };
        let (from, to, lag) = tokio::time::timeout(HOUR, jump).await.unwrap();
        assert_eq!(from, Checkpoint::TrimHorizon);
        assert!(
            lag > 2 * HOUR - Duration::from_secs(60) && lag < 3 * HOUR,
            "{lag:?}"
        );
        let stored = fixture.lease(&fixture.shard(0)).start();
        assert_eq!(stored, to, "whoever takes the lease goes on there, too");
        fixture.put_many(0, &["new"]);
        eventually("the new one", || fixture.log.delivered() == ["new"]).await;
        let counters = worker.handle.counters();
        assert_eq!((counters.jumps, counters.seeks), (1, 0));
        let calls = fixture.log.calls_of(&fixture.shard(0));
        let begun = Call::Initialize(Checkpoint::AtTimestamp);
        assert_eq!(calls.iter().filter(|call| **call == begun).count(), lanes);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_so_far_behind_is_read_on() {
    for behind in [None, Some(3 * HOUR)] {
        let fixture = Fixture::new(1);
        fixture.put_many(0, &["old 1", "old 2"]);
        tokio::time::sleep(2 * HOUR).await;
        let mut builder = builder(&fixture);
        if let Some(behind) = behind {
            builder = builder.jump_to_latest_when_behind(behind);
        }
        let worker = fixture.start_builder(builder);
        let all = || fixture.log.delivered() == ["old 1", "old 2"];
        eventually("all of them", all).await;
        assert_eq!(worker.handle.counters().jumps, 0);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_does_not_jump() {
    let fixture = Fixture::new(1);
    let builder = builder(&fixture).jump_to_latest_when_behind(HOUR);
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    let operator = worker.handle.operator();
    let paused = operator.pause(&Shards::All).await.unwrap();
    let within = Duration::from_secs(30);
    operator.obeyed(&paused.commands, within).await.unwrap();
    let stored = fixture.lease(&fixture.shard(0)).checkpoint;
    fixture.put_many(0, &["a", "b", "c"]);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(worker.handle.counters().jumps, 0);
    worker.stop().await;
    // Nor under its next holder, whose first answer says how far behind it is.
    let next = fixture.start_builder(self::builder(&fixture).jump_to_latest_when_behind(HOUR));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(next.handle.counters().jumps, 0);
    assert_eq!(fixture.lease(&fixture.shard(0)).checkpoint, stored);
    next.stop().await;
}

const MINUTE: Duration = Duration::from_secs(60);

fn with_default_options(fixture: &Fixture) -> WorkerBuilder {
    builder(fixture).max_records(10_000)
}

/// Lets all reads be refused for three minutes.
async fn refuse_reads(fixture: &Fixture) {
    fixture.refuse_reads(SourceErrorKind::Throttled, 10_000);
    tokio::time::sleep(3 * MINUTE).await;
    fixture.stream.fail_no_more(crate::READ);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_fits_into_one_answer_is_jumped_over_too() {
    let fixture = Fixture::new(1);
    let builder = with_default_options(&fixture).jump_to_latest_when_behind(MINUTE);
    let worker = fixture.start_builder(builder);
    // From now on one answer has room for many records.
    fixture.warm_up(&worker).await;
    fixture.put_many(0, &["old 1", "old 2", "old 3"]);
    refuse_reads(&fixture).await;
    eventually("the jump", || worker.handle.counters().jumps == 1).await;
    fixture.put_many(0, &["new"]);
    let delivered = || fixture.log.delivered() == ["warm", "new"];
    eventually("the new one", delivered).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_by_an_operator_is_not_undone_and_later_the_shard_jumps_again() {
    for max_records in [1, 10_000] {
        let fixture = Fixture::new(1);
        let builder = builder(&fixture).max_records(max_records);
        let worker = fixture.start_builder(builder.jump_to_latest_when_behind(MINUTE));
        fixture.put_many(0, &["a", "b"]);
        eventually("the first", || fixture.log.delivered() == ["a", "b"]).await;
        tokio::time::sleep(3 * MINUTE).await;
        fixture.put_many(0, &["c"]);
        eventually("the last", || fixture.log.delivered().len() == 3).await;
        let operator = worker.handle.operator();
        operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
        let again = || fixture.log.delivered() == ["a", "b", "c", "a", "b", "c"];
        eventually("all again", again).await;
        assert_eq!(worker.handle.counters().jumps, 0);
        worker.handle.caught_up().await;
        // Back at the tip, the limit counts again.
        fixture.put_many(0, &["d", "e"]);
        refuse_reads(&fixture).await;
        eventually("the jump", || worker.handle.counters().jumps == 1).await;
        assert_eq!(fixture.log.delivered().len(), 6);
        worker.stop().await;
    }
}
