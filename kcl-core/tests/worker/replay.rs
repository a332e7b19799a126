//! Bounded replay: what arrived in a stretch of time is read, and then the worker stops by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kcl_core::{
    InitialPosition, ProcessRecordsInput, ProcessorResult, RecordProcessor, StartPoint, Worker,
    WorkerBuilder, WorkerError, WorkerEvent, WorkerState, async_trait,
};
use kcl_lease::{LeaseTable, MemoryLeaseTable, ShardId};

use crate::fixture::{Call, Fixture, Log, Recorder, eventually, texts};

const MINUTE: Duration = Duration::from_secs(60);

fn builder(fixture: &Fixture) -> WorkerBuilder {
    let log = fixture.log.clone();
    Worker::builder("replay", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::new(|_| Ok(())),
    })
}

/// Records each minute, on shards of which the second one gets none after the first minute. Returns the minutes.
async fn records(fixture: &Fixture) -> Vec<SystemTime> {
    let mut minutes = Vec::new();
    fixture.put_many(1, &["other"]);
    for text in ["0", "1", "2", "3", "4"] {
        minutes.push(fixture.runtime.wall_time());
        fixture.put_many(0, &[text]);
        tokio::time::sleep(MINUTE).await;
    }
    minutes
}

#[tokio::test(start_paused = true)]
async fn b03_the_window_is_read_and_the_worker_stops() {
    for (lanes, most) in [(1, 10_000), (1, 1), (3, 2)] {
        let fixture = Fixture::new(2);
        let minutes = records(&fixture).await;
        let builder = builder(&fixture).lanes(lanes).max_records(most);
        let worker = fixture.start_builder(builder.replay(minutes[1], minutes[3]));
        let mut events = worker.handle.events();
        worker.result().await.unwrap();
        assert_eq!(fixture.log.delivered(), ["1", "2"], "{lanes} {most}");
        let mut replayed = 0;
        while let Some(event) = events.next().await {
            replayed += u32::from(matches!(event, WorkerEvent::ShardReplayed { .. }));
        }
        assert_eq!(replayed, 2);
        let until = minutes[3].duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let until = StartPoint::at_time(u64::try_from(until.as_millis()).unwrap());
        for shard in 0..2 {
            assert_eq!(fixture.lease(&fixture.shard(shard)).start(), until);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b03_a_window_that_ends_later_is_waited_for() {
    let fixture = Fixture::new(1);
    let now = fixture.runtime.wall_time();
    let worker = fixture.start_builder(builder(&fixture).replay(now, now + 10 * MINUTE));
    tokio::time::sleep(9 * MINUTE).await;
    fixture.put_many(0, &["in time"]);
    eventually("the record", || fixture.log.delivered() == ["in time"]).await;
    tokio::time::sleep(50 * Duration::from_secs(1)).await;
    assert!(worker.handle.health().shards.len() == 1, "it still waits");
    fixture.put_many(0, &["just in time"]);
    let stopped = tokio::time::timeout(MINUTE, worker.result()).await;
    stopped.expect("it stops soon").unwrap();
    assert_eq!(fixture.log.delivered(), ["in time", "just in time"]);
}

#[tokio::test(start_paused = true)]
async fn b03_children_are_replayed_and_all_workers_of_a_fleet_stop() {
    let fixture = Fixture::new(2);
    let begin = fixture.runtime.wall_time();
    let end = begin + 2 * MINUTE;
    let workers = [(); 2].map(|()| fixture.start_builder(builder(&fixture).replay(begin, end)));
    fixture.put_many(0, &["parent"]);
    tokio::time::sleep(MINUTE).await;
    let children = fixture.stream.split(&fixture.shard(0)).unwrap();
    for child in &children {
        fixture.stream.put_to(child, "key", "child").unwrap();
    }
    tokio::time::sleep(MINUTE).await;
    for child in &children {
        fixture.stream.put_to(child, "key", "late").unwrap();
    }
    for worker in workers {
        worker.result().await.unwrap();
    }
    let mut delivered = fixture.log.delivered();
    delivered.sort();
    assert_eq!(delivered, ["child", "child", "parent"]);
    // Who starts again finds that it is done.
    let again = fixture.start_builder(builder(&fixture).replay(begin, end));
    again.result().await.unwrap();
    assert_eq!(fixture.log.delivered().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn b03_a_worker_that_is_stopped_before_the_end_is_followed_where_it_was() {
    let fixture = Fixture::new(1);
    let begin = fixture.runtime.wall_time();
    fixture.put_many(0, &["a", "b"]);
    let end = begin + 60 * MINUTE;
    let first = fixture.start_builder(builder(&fixture).replay(begin, end));
    eventually("both", || fixture.log.delivered() == ["a", "b"]).await;
    tokio::time::sleep(MINUTE).await;
    first.stop().await;
    fixture.put_many(0, &["c"]);
    let second = fixture.start_builder(builder(&fixture).replay(begin, end));
    second.result().await.unwrap();
    assert_eq!(fixture.log.delivered(), ["a", "b", "c"]);
    let elsewhere = fixture.start_builder(builder(&fixture).replay(begin - MINUTE, end));
    let error = elsewhere.result().await.unwrap_err();
    assert!(
        matches!(error, WorkerError::ReplayBegunElsewhere),
        "{error}"
    );
}

/// Takes five minutes for a call.
struct Slow(Log, ShardId);

#[async_trait]
impl RecordProcessor for Slow {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        tokio::time::sleep(5 * MINUTE).await;
        let (data, attempt) = (texts(&input), input.attempt());
        self.0.push(&self.1, Call::Records { data, attempt });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn b03_who_is_done_waits_for_the_others() {
    let fixture = Fixture::new(2);
    let begin = fixture.runtime.wall_time();
    let end = begin + MINUTE;
    fixture.put_many(0, &["a"]);
    fixture.put_many(1, &["b"]);
    tokio::time::sleep(2 * MINUTE).await;
    let quick = builder(&fixture).max_leases(1).replay(begin, end);
    let quick = fixture.start_builder(quick);
    eventually("one", || fixture.log.delivered().len() == 1).await;
    let log = fixture.log.clone();
    let slow = Worker::builder("replay", "memory", move |shard| {
        Slow(log.clone(), shard.shard_id().clone())
    });
    let slow = fixture.start_builder(slow.max_leases(1).replay(begin, end));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(quick.handle.health().worker, WorkerState::Running);
    quick.result().await.unwrap();
    assert_eq!(fixture.log.delivered().len(), 2);
    slow.result().await.unwrap();
}

#[test]
fn b03_contradictions_are_refused_with_the_pair() {
    let fixture = Fixture::new(1);
    let now = SystemTime::UNIX_EPOCH + 1_000 * MINUTE;
    let window = || builder(&fixture).replay(now, now + MINUTE);
    let text = |builder: WorkerBuilder| {
        let table: Arc<dyn LeaseTable> = Arc::new(MemoryLeaseTable::new());
        let built = builder.build_with(Arc::new(fixture.stream.clone()), table);
        built.map(drop).unwrap_err().to_string()
    };
    let positioned = text(window().initial_position(InitialPosition::TrimHorizon));
    assert!(
        positioned.contains("replay and initial_position"),
        "{positioned}"
    );
    let before = builder(&fixture).initial_position(InitialPosition::Latest);
    let before = text(before.replay(now, now + MINUTE));
    assert!(before.contains("replay and initial_position"), "{before}");
    let jumps = text(window().jump_to_latest_when_behind(MINUTE));
    assert!(
        jumps.contains("replay and jump_to_latest_when_behind"),
        "{jumps}"
    );
    let empty = text(builder(&fixture).replay(now, now));
    assert!(empty.contains("option replay"), "{empty}");
}
