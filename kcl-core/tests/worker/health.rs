//! Health: green while everything moves or rests, red with shard and cause when something stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcl_core::retrieval::{
    Fetched, MemoryStream, ShardFilter, ShardIterator, ShardSource, StartPosition,
    StreamDescription,
};
use kcl_core::{
    FailurePolicy, Health, OnFailure, ShardHealth, ShardId, ShardState, Shards, SourceError,
    SourceErrorKind, Worker, WorkerBuilder, WorkerEvent, WorkerState, async_trait,
};
use kcl_lease::ListedShard;

use crate::crew::Crew;
use crate::desk::{Desk, start_with};
use crate::fixture::{Behaviour, Fixture, Recorder, eventually, texts};
use crate::poison::{builder, name_poison, put_keyed};

const LIMIT: Duration = Duration::from_secs(60);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A worker that fails on records with this text while `failing` holds.
fn failing_on(fixture: &Fixture, text: &'static str, failing: &Arc<AtomicBool>) -> WorkerBuilder {
    let (log, failing) = (fixture.log.clone(), Arc::clone(failing));
    let behaviour: Behaviour = Arc::new(move |input| {
        let fails = failing.load(Ordering::SeqCst) && texts(input).contains(&text.to_owned());
        if fails {
            Err("the sink is closed".into())
        } else {
            Ok(())
        }
    });
    Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::clone(&behaviour),
    })
    .unhealthy_after(LIMIT)
}

fn of(health: &Health, fixture: &Fixture, shard: usize) -> ShardHealth {
    let id = fixture.lease_key(shard);
    let mut shards = health.shards.iter();
    shards.find(|known| known.shard == id).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a25_a_shard_that_stands_still_turns_health_red_and_names_shard_and_cause() {
    let fixture = Fixture::new(2);
    let failing = Arc::new(AtomicBool::new(true));
    let worker = fixture.start_builder(failing_on(&fixture, "poison", &failing));
    worker.handle.caught_up().await;
    fixture.put_many(0, &["good", "poison"]);
    tokio::time::sleep(LIMIT - seconds(5)).await;
    assert!(worker.handle.health().is_healthy(), "not for so long yet");
    // The other shard goes on meanwhile.
    for _ in 0..4 {
        fixture.put_many(1, &["fine"]);
        tokio::time::sleep(seconds(10)).await;
    }
    let health = worker.handle.health();
    assert!(!health.is_healthy());
    assert!(health.is_healthy_within(2 * LIMIT));
    let red: Vec<String> = health.unhealthy_shards().map(ToString::to_string).collect();
    assert_eq!(red.len(), 1, "{red:?}");
    let name = fixture.shard(0).to_string();
    for part in [&name, "retrying", "process_records", "the sink is closed"] {
        assert!(red[0].contains(part), "{red:?} lacks {part}");
    }
    assert!(!red[0].contains("poison"), "a payload: {red:?}");
    let fine = of(&health, &fixture, 1);
    assert_eq!((fine.state, fine.unmoved_for), (ShardState::Running, None));
    assert!(fine.last_progress.unwrap() < seconds(12), "{fine:?}");
    assert!(fine.lag.unwrap().age < crate::HEARD_OF_WITHIN, "{fine:?}");
    assert_ne!(fine.complete, of(&health, &fixture, 0).complete);

    failing.store(false, Ordering::SeqCst);
    worker.handle.caught_up().await;
    let health = worker.handle.health();
    assert!(health.is_healthy(), "{health:?}");
    assert_eq!(of(&health, &fixture, 0).state, ShardState::Running);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a25_a_record_that_fails_again_and_again_is_no_progress() {
    let fixture = Fixture::new(1);
    let worker = fixture.start_builder(builder(&fixture, name_poison));
    fixture.warm_up(&worker).await;
    put_keyed(&fixture, &[("a", "good"), ("a", "poison")]);
    tokio::time::sleep(seconds(600)).await;
    let shard = of(&worker.handle.health(), &fixture, 0);
    assert!(worker.handle.counters().processor_failures > 20);
    assert!(shard.last_progress.unwrap() > seconds(590), "{shard}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a25_a_handle_that_is_never_acknowledged_shows_up_by_name() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let builder = desk.builder().max_in_flight(64).unhealthy_after(LIMIT);
    let worker = start_with(&fixture, &desk, builder, 64).await;
    let forgotten = desk.take("3");
    // Everything else is acknowledged soon, for as long as there is room.
    for text in 64..144 {
        for open in desk.take_all() {
            open.ack.done().unwrap();
        }
        fixture.put_many(0, &[&text.to_string()]);
        tokio::time::sleep(seconds(1)).await;
    }
    let health = worker.handle.health();
    let shard = of(&health, &fixture, 0);
    let open = shard.oldest_open.clone().unwrap();
    assert_eq!(open.position, forgotten.position);
    assert!(open.age >= seconds(80), "{open:?}");
    assert!(shard.deferred >= 1, "{shard:?}");
    assert!(!health.is_healthy(), "the checkpoint stands still");
    let text = shard.to_string();
    let named = format!("record {} was deferred", forgotten.position);
    assert!(text.contains(&named), "{text}");

    forgotten.ack.done().unwrap();
    for open in desk.take_all() {
        open.ack.done().unwrap();
    }
    let health = worker.handle.health();
    let shard = of(&health, &fixture, 0);
    assert_eq!((shard.oldest_open, shard.in_flight), (None, 0));
    assert!(health.is_healthy());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_says_that_it_waits_for_acknowledgements() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder().max_in_flight(8), 8).await;
    fixture.put_many(0, &["one too many"]);
    tokio::time::sleep(seconds(5)).await;
    let shard = of(&worker.handle.health(), &fixture, 0);
    assert_eq!(shard.state, ShardState::WaitingForAcknowledgements);
    assert_eq!((shard.deferred, shard.in_flight), (8, 8));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a25_a_shard_that_cannot_be_read_is_red_and_an_empty_one_stays_green() {
    let fixture = Fixture::new(2);
    let failing = Arc::new(AtomicBool::new(false));
    let worker = fixture.start_builder(failing_on(&fixture, "-", &failing));
    worker.handle.caught_up().await;
    tokio::time::sleep(seconds(3600)).await;
    let health = worker.handle.health();
    assert!(health.is_healthy() && health.is_ready(), "{health:?}");
    fixture.refuse_reads(SourceErrorKind::AccessDenied, 1000);
    tokio::time::sleep(LIMIT + seconds(5)).await;
    let health = worker.handle.health();
    assert_eq!(health.unhealthy_shards().count(), 2);
    let shard = of(&health, &fixture, 0);
    assert_eq!(shard.state, ShardState::ReadFailing);
    assert_eq!(shard.last_error.unwrap().what, "read");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a25_a_shard_whose_reads_are_all_throttled_is_not_ready_and_turns_red() {
    let fixture = Fixture::new(1);
    let failing = Arc::new(AtomicBool::new(false));
    let worker = fixture.start_builder(failing_on(&fixture, "-", &failing));
    worker.handle.caught_up().await;
    let throttle = |times| {
        fixture.refuse_reads(SourceErrorKind::Throttled, times);
    };
    throttle(1);
    tokio::time::sleep(seconds(10)).await;
    let health = worker.handle.health();
    assert!(health.is_healthy() && health.is_ready(), "one is nothing");
    throttle(10_000);
    tokio::time::sleep(seconds(5)).await;
    fixture.put_many(0, &["unread"]);
    let health = worker.handle.health();
    assert!(health.is_healthy() && !health.is_ready(), "{health:?}");
    tokio::time::sleep(LIMIT).await;
    let health = worker.handle.health();
    assert!(!health.is_healthy() && !health.is_ready(), "{health:?}");
    let shard = of(&health, &fixture, 0);
    assert_eq!(shard.state, ShardState::ReadFailing);
    let error = shard.last_error.unwrap();
    assert_eq!(error.what, "read");
    assert!(error.error.contains("throttled"), "{error:?}");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a25_a_pause_does_not_hide_a_call_that_never_ends() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|_| (seconds(1_000_000), Ok(())));
    let worker = fixture.start_builder(crew.builder(1).unhealthy_after(LIMIT));
    put_keyed(&fixture, &[("k", "hang")]);
    eventually("the call", || !crew.begun().is_empty()).await;
    let operator = worker.handle.operator();
    operator.pause(&Shards::All).await.unwrap();
    tokio::time::sleep(LIMIT + seconds(5)).await;
    let health = worker.handle.health();
    assert!(!health.is_healthy(), "{health:?}");
    assert_eq!(of(&health, &fixture, 0).state, ShardState::Running);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn ready_is_caught_up_and_healthy_is_moving() {
    let fixture = Fixture::new(1);
    let failing = Arc::new(AtomicBool::new(true));
    fixture.put_many(0, &["poison"]);
    let worker = fixture.start_builder(failing_on(&fixture, "poison", &failing));
    let handle = worker.handle.clone();
    assert_eq!(handle.health().worker, WorkerState::Starting);
    assert!(!handle.health().is_ready());
    eventually("a delivery", || !fixture.log.delivered().is_empty()).await;
    assert!(handle.health().is_healthy() && !handle.health().is_ready());
    failing.store(false, Ordering::SeqCst);
    handle.caught_up().await;
    assert!(handle.health().is_healthy() && handle.health().is_ready());
    handle.shutdown();
    assert_eq!(handle.health().worker, WorkerState::Stopping);
    assert!(!handle.health().is_ready());
    worker.stop().await;
    let health = handle.health();
    assert_eq!(
        (health.worker, health.shards.len()),
        (WorkerState::Ended, 0)
    );
    assert!(!health.is_healthy() && !health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a25_a_record_that_was_given_up_hides_nothing_later() {
    let fixture = Fixture::new(1);
    let policy = FailurePolicy::retry().attempts(3).then(OnFailure::Skip);
    let worker = fixture.start_builder(builder(&fixture, name_poison).failure_policy(policy));
    fixture.put_many(0, &["poison"]);
    worker.handle.caught_up().await;
    let state = || of(&worker.handle.health(), &fixture, 0).state;
    assert_eq!(state(), ShardState::Running, "nothing fails any more");
    assert!(worker.handle.health().is_ready());
    fixture.refuse_reads(SourceErrorKind::Throttled, 1_000);
    tokio::time::sleep(seconds(30)).await;
    assert_eq!(state(), ShardState::ReadFailing);
    assert!(!worker.handle.health().is_ready());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_from_before_the_start_misses_nothing() {
    let fixture = Fixture::new(1);
    let builder = failing_on(&fixture, "-", &Arc::default()).runtime(fixture.runtime.clone());
    let table = Arc::clone(&fixture.table) as Arc<dyn kcl_lease::LeaseTable>;
    let worker = builder.build_with(Arc::new(fixture.stream.clone()), table);
    let worker = worker.unwrap();
    let mut events = worker.events();
    let _task = fixture.runtime.spawn(worker.run());
    let first = events.next().await.unwrap();
    assert!(
        matches!(first, WorkerEvent::LeasesCreated { count: 1 }),
        "{first:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopped_shard_is_red_and_says_which_error_stopped_it() {
    let fixture = Fixture::new(1);
    let failing = Arc::new(AtomicBool::new(true));
    let policy = FailurePolicy::retry()
        .attempts(2)
        .then(OnFailure::StopShard);
    let builder = failing_on(&fixture, "poison", &failing).failure_policy(policy);
    let worker = fixture.start_builder(builder);
    fixture.put_many(0, &["poison"]);
    tokio::time::sleep(LIMIT + seconds(5)).await;
    let health = worker.handle.health();
    assert!(!health.is_healthy());
    let shard = of(&health, &fixture, 0);
    assert_eq!(shard.state, ShardState::Stopped);
    assert_eq!(shard.last_error.unwrap().error, "the sink is closed");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a25_a_call_that_never_returns_is_named_as_the_cause_and_other_lanes_do_not_hide_it() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| match texts(input).contains(&"hang".to_owned()) {
        true => (seconds(1_000_000), Ok(())),
        false => (Duration::ZERO, Ok(())),
    });
    let worker = fixture.start_builder(crew.builder(4).unhealthy_after(LIMIT));
    for _ in 0..4 {
        put_keyed(&fixture, &[("k", "hang")]);
        tokio::time::sleep(seconds(1)).await;
    }
    let shard = of(&worker.handle.health(), &fixture, 0);
    assert_eq!(shard.last_progress, None, "nothing is complete in any lane");
    for number in 0..70 {
        put_keyed(&fixture, &[(&number.to_string(), "fine")]);
        tokio::time::sleep(seconds(1)).await;
    }
    let health = worker.handle.health();
    let shard = of(&health, &fixture, 0);
    assert!(!health.is_healthy(), "{shard:?}");
    assert!(shard.last_progress.unwrap() < seconds(10), "{shard:?}");
    let call = shard.longest_call.unwrap();
    assert_eq!(call.call, "process_records");
    assert!(call.age > LIMIT, "{call:?}");
    assert!(shard.to_string().contains("process_records has run for"));
    drop(worker);
}

/// A stream that does not answer reads, if wanted.
#[derive(Debug)]
struct Silent {
    stream: MemoryStream,
    silent: Arc<AtomicBool>,
}

impl Silent {
    /// Answers until it is told to be silent.
    fn over(fixture: &Fixture) -> (Arc<Self>, Arc<AtomicBool>) {
        let silent = Arc::new(AtomicBool::new(false));
        let source = Self {
            stream: fixture.stream.clone(),
            silent: Arc::clone(&silent),
        };
        (Arc::new(source), silent)
    }
}

#[async_trait]
impl ShardSource for Silent {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.stream.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.stream.iterator(shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        if self.silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        self.stream.get_records(iterator, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a25_a_read_that_is_never_answered_turns_an_empty_shard_red() {
    let fixture = Fixture::new(2);
    let (source, silent) = Silent::over(&fixture);
    let failing = Arc::new(AtomicBool::new(false));
    let builder = failing_on(&fixture, "-", &failing);
    let worker = fixture.start_on(source, builder);
    worker.handle.caught_up().await;
    tokio::time::sleep(seconds(600)).await;
    assert!(worker.handle.health().is_healthy());
    silent.store(true, Ordering::SeqCst);
    tokio::time::sleep(seconds(35)).await;
    let health = worker.handle.health();
    assert_eq!(of(&health, &fixture, 0).state, ShardState::WaitingForRead);
    tokio::time::sleep(LIMIT).await;
    let health = worker.handle.health();
    assert_eq!(health.unhealthy_shards().count(), 2);
    let shard = of(&health, &fixture, 0);
    assert_eq!(shard.state, ShardState::ReadFailing);
    let error = shard.last_error.unwrap().error;
    assert!(error.contains("dropped after 40 s"), "{error}");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a25_a_read_that_is_never_answered_is_dropped_and_repeated() {
    let fixture = Fixture::new(1);
    let (source, silent) = Silent::over(&fixture);
    let builder = failing_on(&fixture, "-", &Arc::default());
    let worker = fixture.start_on(source, builder);
    fixture.warm_up(&worker).await;
    let mut events = worker.handle.events();
    silent.store(true, Ordering::SeqCst);
    tokio::time::sleep(seconds(5)).await;
    // The stream answers again, but for the read that is on its way.
    silent.store(false, Ordering::SeqCst);
    fixture.put_many(0, &["after"]);
    let delivered = || fixture.log.delivered().contains(&"after".to_owned());
    eventually("the next read", delivered).await;
    let error = loop {
        match events.next().await.unwrap() {
            WorkerEvent::ReadFailed { error, .. } => break error,
            _ => continue,
        }
    };
    assert!(error.contains("GetRecords"), "{error}");
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
}
