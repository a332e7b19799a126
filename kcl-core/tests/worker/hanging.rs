//! Calls other than `process_records` that hang, and calls on threads of their own, under a stall timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kcl_core::retrieval::MemoryStream;
use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ReleaseCause, Runtime, SeekTo, ShardState, Shards, ShutdownRequestedInput, Worker,
    WorkerBuilder, WorkerEvent, async_trait,
};
use kcl_lease::MemoryLeaseTable;
use kcl_lease::item::Value;
use tokio::time::{Instant, sleep};

use crate::fixture::{Call, Fixture, Log, Running, eventually, texts};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The default.
const LEASE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Hangs in its first or its last call.
#[derive(Clone)]
struct Hanging {
    log: Log,
    first: Arc<AtomicBool>,
    last: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl Hanging {
    fn new(fixture: &Fixture) -> Self {
        Self {
            log: fixture.log.clone(),
            first: Arc::default(),
            last: Arc::default(),
            lost: Arc::default(),
        }
    }

    fn builder(&self) -> WorkerBuilder {
        let hanging = self.clone();
        let builder = Worker::builder("app", "memory", move |_| hanging.clone());
        builder.stall_timeout(TIMEOUT)
    }
}

async fn hang_if(hangs: &AtomicBool) {
    if hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl RecordProcessor for Hanging {
    async fn initialize(&mut self, _: InitializationInput) -> ProcessorResult {
        hang_if(&self.first).await;
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let call = Call::Records {
            data: texts(&input),
            attempt: input.attempt(),
        };
        self.log.push(input.shard().shard_id(), call);
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: ShutdownRequestedInput) -> ProcessorResult {
        hang_if(&self.last).await;
        Ok(())
    }

    async fn lease_lost(&mut self, _: LeaseLostInput) -> ProcessorResult {
        hang_if(&self.lost).await;
        Ok(())
    }
}

fn stalled(worker: &Running) -> u64 {
    worker.handle.counters().calls_stalled
}

#[tokio::test(start_paused = true)]
async fn a12_a_processor_that_cannot_start_gives_its_shard_up_too() {
    let fixture = Fixture::new(1);
    let hanging = Hanging::new(&fixture);
    hanging.first.store(true, Ordering::SeqCst);
    let worker = fixture.start_builder(hanging.builder());
    fixture.put_many(0, &["a"]);
    let began = Instant::now();
    eventually("a call to be given up", || stalled(&worker) == 1).await;
    hanging.first.store(false, Ordering::SeqCst);
    let delivered = || fixture.log.delivered() == ["a"];
    eventually("another processor", delivered).await;
    let (took, least) = (began.elapsed(), TIMEOUT + LEASE);
    assert!(
        took >= least && took < least + LEASE + 5 * SECOND,
        "{took:?}"
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_processor_that_never_answers_a_hand_over_does_not_keep_the_shard() {
    let fixture = Fixture::new(2);
    let hanging = Hanging::new(&fixture);
    let first = fixture.start_builder(hanging.builder());
    first.handle.caught_up().await;
    hanging.last.store(true, Ordering::SeqCst);
    let second = fixture.start_builder(Hanging::new(&fixture).builder());
    let began = Instant::now();
    eventually("a call to be given up", || stalled(&first) == 1).await;
    let moved = || second.handle.shards().len() == 1;
    eventually("the hand-over", moved).await;
    assert!(
        began.elapsed() < TIMEOUT + 2 * LEASE,
        "{:?}",
        began.elapsed()
    );
    assert_eq!(first.handle.shards().len(), 1);
    hanging.last.store(false, Ordering::SeqCst);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_processor_that_is_never_done_with_a_loss_does_not_keep_the_shard() {
    let fixture = Fixture::new(1);
    let hanging = Hanging::new(&fixture);
    hanging.lost.store(true, Ordering::SeqCst);
    let worker = fixture.start_builder(hanging.builder());
    fixture.put_many(0, &["a"]);
    worker.handle.caught_up().await;
    // Somebody takes the lease and does nothing with it.
    let key = fixture.shard(0);
    let mut row = fixture.table.items()[key.as_str()].clone();
    let counter = Value::number(fixture.lease(&key).counter + 1);
    row.insert("leaseCounter".to_owned(), counter);
    row.insert("leaseOwner".to_owned(), Value::text("thief"));
    fixture.table.put(key.as_str(), row);
    // The holder learns of it by its next write.
    fixture.put_many(0, &["b"]);
    let lost = || worker.handle.counters().leases_lost == 1;
    eventually("the loss", lost).await;
    let began = Instant::now();
    let again = || fixture.log.delivered() == ["a", "b", "b"];
    eventually("it is taken back", again).await;
    let took = began.elapsed();
    assert!(took < TIMEOUT + 3 * LEASE, "{took:?}");
    assert_eq!(stalled(&worker), 0, "there was no lease to be given up");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_processor_that_never_answers_a_seek_costs_the_lease_as_is_told() {
    let fixture = Fixture::new(1);
    let hanging = Hanging::new(&fixture);
    let worker = fixture.start_builder(hanging.builder());
    fixture.put_many(0, &["a"]);
    worker.handle.caught_up().await;
    hanging.last.store(true, Ordering::SeqCst);
    let mut events = worker.handle.events();
    let operator = worker.handle.operator();
    operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
    eventually("a call to be given up", || stalled(&worker) == 1).await;
    hanging.last.store(false, Ordering::SeqCst);
    let all = || fixture.log.delivered() == ["a", "a"];
    eventually("the other place", all).await;
    worker.stop().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            WorkerEvent::CallStalled { .. } => told.push("stalled"),
            WorkerEvent::LeaseReleased {
                cause: ReleaseCause::CallStalled,
                ..
            } => told.push("released"),
            WorkerEvent::ShardRepositioned { .. } => told.push("moved"),
            _ => {}
        }
    }
    assert_eq!(told, ["stalled", "released", "moved"]);
}

/// Its first call runs until the test lets it end, and notes whether its lease seemed lost.
#[derive(Clone)]
struct Stubborn {
    log: Log,
    calls: Arc<AtomicU32>,
    saw_loss: Arc<AtomicBool>,
    may_end: Arc<AtomicBool>,
}

#[async_trait]
impl RecordProcessor for Stubborn {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            while !self.may_end.load(Ordering::SeqCst) {
                sleep(SECOND / 100).await;
                let lost = !input.grant().is_current();
                self.saw_loss.fetch_or(lost, Ordering::SeqCst);
            }
            return Err("nobody is told of this".into());
        }
        let call = Call::Records {
            data: texts(&input),
            attempt: input.attempt(),
        };
        self.log.push(input.shard().shard_id(), call);
        Ok(())
    }
}

/// In real time: only there calls have threads.
#[tokio::test]
async fn a12_a_call_on_a_thread_of_its_own_sees_the_loss_and_does_not_keep_the_shard() {
    let runtime = Runtime::production();
    let fixture = Fixture {
        stream: MemoryStream::new(1, runtime.clone()),
        runtime,
        table: Arc::new(MemoryLeaseTable::new()),
        log: Log::default(),
    };
    let stubborn = Stubborn {
        log: fixture.log.clone(),
        calls: Arc::default(),
        saw_loss: Arc::default(),
        may_end: Arc::default(),
    };
    let processor = stubborn.clone();
    let builder = Worker::builder("app", "memory", move |_| processor.clone())
        .blocking_processor(true)
        .lease_duration(2 * SECOND)
        .stall_timeout(SECOND);
    let worker = fixture.start_builder(builder);
    fixture.put_many(0, &["a"]);
    let saw_loss = || stubborn.saw_loss.load(Ordering::SeqCst);
    eventually("the call to see it", saw_loss).await;
    let state = worker.handle.health().shards[0].state;
    assert_eq!(state, ShardState::Stalled, "the lease is still held");
    // Side effects of the two overlap.
    eventually("another processor", || fixture.log.delivered() == ["a"]).await;
    stubborn.may_end.store(true, Ordering::SeqCst);
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["a"]);
}
