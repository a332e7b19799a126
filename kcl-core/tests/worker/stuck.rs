//! Calls that take too long: over their limit they fail, without progress their shard goes to another worker.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    FailurePolicy, LossReason, OnFailure, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ReleaseCause, ShardState, Worker, WorkerBuilder, WorkerEvent, async_trait,
};
use kcl_lease::item::Value;
use tokio::time::{Instant, sleep};

use crate::crew::{Crew, Did, keyed, put};
use crate::fixture::{Call, Fixture, Log, Running, eventually, texts};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The default.
const LEASE: Duration = Duration::from_secs(10);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Takes as long over a record as its text says: `for ever`, or a time in seconds after which it checkpoints there.
#[derive(Clone)]
struct Slow {
    worker: &'static str,
    log: Log,
    hangs: Arc<AtomicBool>,
    dropped: Arc<AtomicU32>,
    initialized: Arc<AtomicU32>,
}

/// Counts when a call is dropped before its end.
struct Unfinished<'a>(&'a AtomicU32);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Slow {
    fn new(fixture: &Fixture, worker: &'static str) -> Self {
        Self {
            worker,
            log: fixture.log.clone(),
            hangs: Arc::new(AtomicBool::new(true)),
            dropped: Arc::default(),
            initialized: Arc::default(),
        }
    }

    fn builder(&self) -> WorkerBuilder {
        let slow = self.clone();
        Worker::builder("app", "memory", move |_| {
            slow.initialized.fetch_add(1, Ordering::SeqCst);
            slow.clone()
        })
        .worker_name(self.worker)
    }

    fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl RecordProcessor for Slow {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let call = Unfinished(&self.dropped);
        for (record, text) in input.iter().zip(texts(&input)) {
            match text.split_once(' ') {
                Some(("hang", _)) if self.hangs.load(Ordering::SeqCst) => {
                    std::future::pending::<()>().await;
                }
                Some((time, _)) if time.parse::<u64>().is_ok() => {
                    sleep(seconds(time.parse().unwrap())).await;
                    input
                        .checkpointer()
                        .checkpoint_at(&record.position())
                        .await?;
                }
                _ => {}
            }
        }
        let data = texts(&input)
            .into_iter()
            .map(|text| format!("{}: {text}", self.worker));
        let attempt = input.attempt();
        let shard = input.shard().shard_id();
        self.log.push(
            shard,
            Call::Records {
                data: data.collect(),
                attempt,
            },
        );
        std::mem::forget(call);
        Ok(())
    }
}

/// Two workers on as many shards, one each. Returns the one that has the first shard first.
async fn two(fixture: &Fixture, slow: [&Slow; 2]) -> [Running; 2] {
    let a = fixture.start_builder(slow[0].builder().stall_timeout(TIMEOUT));
    a.handle.caught_up().await;
    let b = fixture.start_builder(slow[1].builder().stall_timeout(TIMEOUT));
    let one = |worker: &Running| worker.handle.shards().len() == 1;
    eventually("balance", || one(&a) && one(&b)).await;
    match a.handle.shards() == [fixture.lease_key(0)] {
        true => [a, b],
        false => [b, a],
    }
}

#[tokio::test(start_paused = true)]
async fn a12_a_call_without_progress_is_given_up_and_its_shard_goes_to_another_worker() {
    let fixture = Fixture::new(2);
    let slow = [Slow::new(&fixture, "a"), Slow::new(&fixture, "b")];
    let [stuck, other] = two(&fixture, [&slow[0], &slow[1]]).await;
    let mut events = stuck.handle.events();
    fixture.put_many(0, &["good"]);
    stuck.handle.caught_up().await;
    let complete = stuck.handle.health().shards[0].complete.clone();
    fixture.put_many(0, &["hang here", "after"]);
    let begun = Instant::now();
    // The call begins within a second, and is left alone for the whole time.
    let dropped = || slow[0].dropped() + slow[1].dropped();
    sleep(TIMEOUT - seconds(1)).await;
    assert_eq!(stuck.handle.health().shards[0].state, ShardState::Running);
    sleep(seconds(3)).await;
    assert_eq!(stuck.handle.health().shards[0].state, ShardState::Stalled);
    let held = || stuck.handle.shards().contains(&fixture.lease_key(0));
    assert!(held(), "its grace");
    assert_eq!(dropped(), 0, "its grace");
    slow.iter()
        .for_each(|slow| slow.hangs.store(false, Ordering::SeqCst));
    eventually("the end of the call", || dropped() == 1).await;
    assert!(begun.elapsed() >= TIMEOUT + LEASE - seconds(1));
    let all = || fixture.log.delivered().len() >= 3;
    eventually("the other worker", all).await;
    let took = begun.elapsed();
    assert!(
        took >= TIMEOUT + LEASE && took < TIMEOUT + LEASE + seconds(5),
        "{took:?}"
    );
    assert!(other.handle.shards().contains(&fixture.lease_key(0)) && !held());
    let delivered = fixture.log.delivered();
    assert!(
        delivered.iter().any(|text| text.ends_with("after")),
        "{delivered:?}"
    );

    let mut told = Vec::new();
    while told.len() < 2 {
        match events.next().await.unwrap() {
            WorkerEvent::CallStalled {
                call,
                after,
                complete,
                ..
            } => {
                told.push((call, Some(after), complete));
            }
            WorkerEvent::LeaseReleased {
                checkpoint, cause, ..
            } => {
                assert_eq!(cause, ReleaseCause::CallStalled);
                told.push(("released", None, checkpoint));
            }
            _ => {}
        }
    }
    assert_eq!(
        told,
        [
            ("process_records", Some(TIMEOUT), complete.clone()),
            ("released", None, complete)
        ]
    );
    assert_eq!(stuck.handle.counters().calls_stalled, 1);
    // It does not come straight back: another shard does, for balance.
    sleep(seconds(120)).await;
    assert!(other.handle.shards().contains(&fixture.lease_key(0)));
    stuck.stop().await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_by_default_a_call_may_take_as_long_as_it_likes() {
    let fixture = Fixture::new(1);
    let slow = Slow::new(&fixture, "a");
    let worker = fixture.start_builder(slow.builder());
    fixture.put_many(0, &["hang here"]);
    sleep(seconds(7200)).await;
    assert_eq!(
        (slow.dropped(), worker.handle.counters().leases_lost),
        (0, 0)
    );
    assert!(!worker.handle.health().is_healthy(), "and is told about");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a12_a_call_that_makes_progress_is_left_alone() {
    let fixture = Fixture::new(1);
    let slow = Slow::new(&fixture, "a");
    let worker = fixture.start_builder(slow.builder().stall_timeout(TIMEOUT));
    fixture.put_many(0, &["warm"]);
    worker.handle.caught_up().await;
    fixture.put_many(0, &["50 a", "50 b", "50 c", "50 d", "50 e"]);
    let began = Instant::now();
    let all = || fixture.log.delivered().len() == 6;
    eventually("the end of a long call", all).await;
    assert!(began.elapsed() >= seconds(250));
    assert_eq!(
        (slow.dropped(), worker.handle.counters().calls_stalled),
        (0, 0)
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_worker_that_is_alone_goes_on_with_a_new_processor() {
    let fixture = Fixture::new(1);
    let slow = Slow::new(&fixture, "a");
    let worker = fixture.start_builder(slow.builder().stall_timeout(TIMEOUT));
    fixture.put_many(0, &["hang here"]);
    eventually("the end of the call", || slow.dropped() == 1).await;
    slow.hangs.store(false, Ordering::SeqCst);
    let gone = Instant::now();
    eventually("another try", || {
        fixture.log.delivered() == ["a: hang here"]
    })
    .await;
    assert!(gone.elapsed() < LEASE + seconds(5), "{:?}", gone.elapsed());
    assert_eq!(slow.initialized.load(Ordering::SeqCst), 2);
    worker.handle.caught_up().await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_call_over_its_time_limit_fails_under_the_policy_and_costs_the_processor() {
    let fixture = Fixture::new(1);
    let slow = Slow::new(&fixture, "a");
    let policy = FailurePolicy::retry().attempts(2).then(OnFailure::Skip);
    let builder = slow
        .builder()
        .call_time_limit(seconds(5))
        .failure_policy(policy);
    let worker = fixture.start_builder(builder);
    let mut events = worker.handle.events();
    fixture.put_many(0, &["hang here", "after"]);
    worker.handle.caught_up().await;
    assert_eq!(fixture.log.delivered(), ["a: after"]);
    let counters = worker.handle.counters();
    assert_eq!(counters.records_skipped, 1);
    assert_eq!(slow.initialized.load(Ordering::SeqCst), 1 + slow.dropped());
    worker.stop().await;
    while let Some(event) = events.next().await {
        if let WorkerEvent::RecordSkipped { error, .. } = event {
            assert!(error.contains("time limit of a call, 5s"), "{error}");
        }
    }
}

/// Waits in its call until the lease is lost, and writes down what it sees then.
#[derive(Clone, Default)]
struct Waits {
    begun: Arc<AtomicBool>,
    seen: Arc<Mutex<Option<(LossReason, bool)>>>,
}

#[async_trait]
impl RecordProcessor for Waits {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        if texts(&input).contains(&"wait".to_owned()) {
            self.begun.store(true, Ordering::SeqCst);
            let reason = input.grant().lost().await;
            *self.seen.lock().unwrap() = Some((reason, input.grant().is_current()));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a12_the_loss_of_the_lease_is_visible_inside_a_running_call() {
    let fixture = Fixture::new(1);
    let waits = Waits::default();
    let processor = waits.clone();
    let builder = Worker::builder("app", "memory", move |_| processor.clone());
    let worker = fixture.start_builder(builder);
    fixture.put_many(0, &["stored"]);
    worker.handle.caught_up().await;
    let complete = || worker.handle.health().shards[0].complete.clone();
    let before = complete();
    fixture.put_many(0, &["complete"]);
    eventually("something to store", || complete() != before).await;
    fixture.put_many(0, &["wait"]);
    eventually("the call", || waits.begun.load(Ordering::SeqCst)).await;
    // Somebody takes the lease, which the holder learns by its next write.
    let key = fixture.shard(0);
    let mut row = fixture.table.items()[key.as_str()].clone();
    let counter = fixture.lease(&key).counter + 1;
    row.insert("leaseCounter".to_owned(), Value::number(counter));
    row.insert("leaseOwner".to_owned(), Value::text("thief"));
    fixture.table.put(key.as_str(), row);
    eventually("the loss", || waits.seen.lock().unwrap().is_some()).await;
    assert_eq!(
        *waits.seen.lock().unwrap(),
        Some((LossReason::Taken, false))
    );
    drop(worker);
}

/// What a call does that watches its lease.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Succeeds,
    Fails,
}

#[tokio::test(start_paused = true)]
async fn a12_a_call_that_watches_its_lease_ends_in_time_and_its_failure_is_not_the_records() {
    for end in [End::Succeeds, End::Fails] {
        let fixture = Fixture::new(1);
        let (waits, made) = (Waits::default(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&made);
        let processor = waits.clone();
        let policy = FailurePolicy::retry().attempts(1).then(OnFailure::Skip);
        let builder = Worker::builder("app", "memory", move |_| {
            // Only the first one waits.
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            Watching {
                waits: processor.clone(),
                end: first.then_some(end),
            }
        });
        let builder = builder.stall_timeout(TIMEOUT).failure_policy(policy);
        let worker = fixture.start_builder(builder);
        fixture.put_many(0, &["wait"]);
        let begun = Instant::now();
        eventually("its end", || waits.seen.lock().unwrap().is_some()).await;
        let seen = (LossReason::Released, false);
        assert_eq!(*waits.seen.lock().unwrap(), Some(seen));
        let is_gone = || worker.handle.health().shards.is_empty();
        eventually("the release", is_gone).await;
        assert!(begun.elapsed() < TIMEOUT + seconds(3), "no need to wait");
        let again = || made.load(Ordering::SeqCst) == 2;
        eventually("a new processor", again).await;
        worker.handle.caught_up().await;
        let counters = worker.handle.counters();
        assert_eq!(
            (counters.records_skipped, counters.records_processed),
            (0, 1)
        );
        worker.stop().await;
    }
}

/// Waits until the lease is lost, and ends.
struct Watching {
    waits: Waits,
    end: Option<End>,
}

#[async_trait]
impl RecordProcessor for Watching {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        match self.end {
            None => Ok(()),
            Some(end) => {
                self.waits.process_records(input).await?;
                match end {
                    End::Succeeds => Ok(()),
                    End::Fails => Err("rolled back".into()),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a12_a_lane_without_progress_takes_the_others_with_it_and_they_are_told() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| match texts(input)[0].split('/').next() {
        Some("hang") => (seconds(1_000_000), Ok(())),
        _ => (seconds(1), Ok(())),
    });
    let builder = crew.builder(4).stall_timeout(TIMEOUT).max_leases(1);
    let worker = fixture.start_builder(builder);
    let mut events = worker.handle.events();
    put(&fixture, &["hang/0".to_owned()]);
    for number in 0..80 {
        put(&fixture, &keyed(12, number..number + 1));
        sleep(seconds(1)).await;
    }
    let (mut stalled, mut released) = (None, None);
    while released.is_none() {
        match events.next().await.unwrap() {
            WorkerEvent::CallStalled { lane, call, .. } => stalled = Some((lane, call)),
            WorkerEvent::LeaseReleased { checkpoint, .. } => released = Some(checkpoint),
            _ => {}
        }
    }
    let hung = crew.lane_of_keys()["hang"];
    assert_eq!(stalled, Some((hung, "process_records")));
    assert_eq!(released, Some(kcl_core::Checkpoint::TrimHorizon));
    sleep(seconds(2)).await;
    let told = crew.count(&Did::LeaseLost);
    let others: Vec<usize> = (0..4).filter(|lane| *lane != hung).collect();
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), others);
    assert_eq!(crew.overlaps.load(Ordering::SeqCst), 0);
    drop(worker);
}
