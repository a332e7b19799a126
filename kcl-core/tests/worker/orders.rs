//! Commands of operators: a paused shard delivers nothing, and a seek moves its reading.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    Ack, AckError, Checkpoint, Commanded, Events, InitializationInput, Operator, OperatorError,
    Position, ProcessRecordsInput, ProcessorResult, RecordProcessor, SeekTo, ShardState, Shards,
    ShutdownReason, ShutdownRequestedInput, Standing, StartPoint, Worker, WorkerEvent, async_trait,
};
use kcl_lease::{Fault, LeaseKey, MemoryLeaseTable, ShardId};

use crate::fixture::{Call, Fixture, Log, Running, eventually, texts};
use crate::poison::builder;

pub(crate) fn only(shard: &ShardId) -> Shards {
    Shards::Of(vec![LeaseKey::of_shard(shard)])
}

async fn obeyed(operator: &Operator, commanded: &Commanded) {
    assert!(commanded.failed.is_empty(), "{commanded:?}");
    let within = Duration::from_secs(30);
    operator.obeyed(&commanded.commands, within).await.unwrap();
}

/// An event that was told already.
async fn next_of(events: &mut Events) -> Option<WorkerEvent> {
    let next = tokio::time::timeout(Duration::from_millis(1), events.next());
    next.await.ok().flatten()
}

fn state(worker: &Running) -> ShardState {
    worker.handle.health().shards[0].state
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_delivers_nothing_and_goes_on_exactly_there() {
    let fixture = Fixture::new(2);
    let worker = fixture.start(|_| Ok(()));
    fixture.warm_up(&worker).await;
    let mut events = worker.handle.events();
    let operator = worker.handle.operator();
    let paused = operator.pause(&only(&fixture.shard(0))).await.unwrap();
    obeyed(&operator, &paused).await;
    fixture.put_many(0, &["a", "b"]);
    fixture.put_many(1, &["other"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        fixture.log.delivered(),
        ["warm", "other"],
        "the other shard flows"
    );
    assert_eq!(state(&worker), ShardState::Paused);
    let unmoved = worker.handle.health().shards[0].unmoved_for;
    assert_eq!(unmoved, None, "standing still on purpose is no fault");
    let resumed = operator.resume(&Shards::All).await.unwrap();
    obeyed(&operator, &resumed).await;
    eventually("the rest", || fixture.log.delivered().len() == 4).await;
    let calls = fixture.log.calls_of(&fixture.shard(0));
    let begun = calls
        .iter()
        .filter(|call| matches!(call, Call::Initialize(_)));
    assert_eq!(begun.count(), 1, "the processor stays: {calls:?}");
    let mut told = Vec::new();
    while let Some(event) = next_of(&mut events).await {
        match event {
            WorkerEvent::ShardPaused { .. } => told.push("paused"),
            WorkerEvent::ShardResumed { .. } => told.push("resumed"),
            _ => {}
        }
    }
    assert_eq!(told, ["paused", "resumed"]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_on_a_paused_shard_delivers_nothing() {
    let fixture = Fixture::new(1);
    let first = fixture.start(|_| Ok(()));
    fixture.warm_up(&first).await;
    let operator = first.handle.operator();
    obeyed(&operator, &operator.pause(&Shards::All).await.unwrap()).await;
    first.stop().await;
    fixture.put_many(0, &["a"]);
    let second = fixture.start(|_| Ok(()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.log.delivered(), ["warm"]);
    operator.resume(&Shards::All).await.unwrap();
    eventually("the rest", || fixture.log.delivered() == ["warm", "a"]).await;
    second.stop().await;
}

/// Takes ten seconds for each call.
struct Slow(Log, ShardId);

#[async_trait]
impl RecordProcessor for Slow {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (data, attempt) = (texts(&input), input.attempt());
        self.0.push(&self.1, Call::Records { data, attempt });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_reported_when_the_call_that_runs_has_ended() {
    for lanes in [1, 3] {
        let fixture = Fixture::new(1);
        let log = fixture.log.clone();
        let builder = Worker::builder("app", "memory", move |shard| {
            Slow(log.clone(), shard.shard_id().clone())
        });
        let worker = fixture.start_builder(builder.lanes(lanes));
        fixture.put_many(0, &["a"]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let operator = worker.handle.operator();
        let paused = operator.pause(&Shards::All).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let standing = operator.standing(&paused.commands[0]).await.unwrap();
        assert_eq!(standing, Standing::Waiting, "the call still runs");
        obeyed(&operator, &paused).await;
        assert_eq!(fixture.log.delivered(), ["a"]);
        fixture.put_many(0, &["b"]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(fixture.log.delivered(), ["a"]);
        let stored = fixture.lease(&fixture.shard(0)).checkpoint;
        assert!(!stored.is_start(), "what was complete is stored: {stored}");
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_does_not_end_and_its_children_begin_when_it_is_resumed() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    fixture.warm_up(&worker).await;
    let operator = worker.handle.operator();
    obeyed(&operator, &operator.pause(&Shards::All).await.unwrap()).await;
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    fixture.put_many(1, &["of a child"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!fixture.lease(&parent).is_finished());
    assert_eq!(operator.leases().await.unwrap().len(), 1);
    assert_eq!(fixture.log.delivered(), ["warm"]);
    operator.resume(&Shards::All).await.unwrap();
    eventually("the end", || fixture.lease(&parent).is_finished()).await;
    let begun = || fixture.log.delivered() == ["warm", "of a child"];
    eventually("a child", begun).await;
    let sought = operator.seek(&only(&parent), SeekTo::Oldest).await.unwrap();
    assert_eq!(sought.finished, [LeaseKey::of_shard(&parent)]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_seek_reads_again_with_a_new_processor_in_every_number_of_lanes() {
    for lanes in [1, 4] {
        let fixture = Fixture::new(1);
        let worker = fixture.start_builder(builder(&fixture, |_| Ok(())).lanes(lanes));
        fixture.warm_up(&worker).await;
        let mut events = worker.handle.events();
        let operator = worker.handle.operator();
        let sought = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
        obeyed(&operator, &sought).await;
        eventually("again", || fixture.log.delivered() == ["warm", "warm"]).await;
        fixture.put_many(0, &["new"]);
        eventually("new", || fixture.log.delivered() == ["warm", "warm", "new"]).await;
        let calls = fixture.log.calls_of(&fixture.shard(0));
        let told = calls
            .iter()
            .filter(|call| **call == Call::ShutdownRequested);
        assert_eq!(told.count(), lanes);
        let oldest = Call::Initialize(Checkpoint::TrimHorizon);
        let begun = calls.iter().filter(|call| **call == oldest).count();
        assert_eq!(begun, 2 * lanes, "{calls:?}");
        let mut moved = Vec::new();
        while let Some(event) = next_of(&mut events).await {
            if let WorkerEvent::ShardRepositioned { from, to, .. } = event {
                assert!(!from.is_start());
                moved.push(to);
            }
        }
        assert_eq!(moved, [StartPoint::oldest()]);
        assert_eq!(worker.handle.counters().seeks, 1);
        assert_eq!(worker.handle.counters().leases_lost, 0);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_seek_to_the_same_place_reads_it_again() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    fixture.warm_up(&worker).await;
    let operator = worker.handle.operator();
    for times in 2..=3 {
        let sought = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
        obeyed(&operator, &sought).await;
        let again = || fixture.log.delivered() == vec!["warm"; times];
        eventually("once more", again).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(again() && !fixture.lease(&fixture.shard(0)).checkpoint.is_start());
    }
    assert_eq!(worker.handle.counters().seeks, 2);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_to_a_position_reads_exactly_what_follows_it_in_every_number_of_lanes() {
    for lanes in [1, 4] {
        let fixture = Fixture::new(2);
        let worker = fixture.start_builder(builder(&fixture, |_| Ok(())).lanes(lanes));
        let texts: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
        let mut positions = Vec::new();
        for text in &texts {
            let put = fixture.stream.put_to(&fixture.shard(0), text, text.clone());
            positions.push(Position::new(put.unwrap(), 0));
        }
        let delivered = || {
            let mut delivered = fixture.log.delivered();
            delivered.sort_unstable();
            delivered
        };
        eventually("all of them", || delivered() == texts).await;
        let operator = worker.handle.operator();
        let after = SeekTo::After(positions[11].clone());
        let all = operator.seek(&Shards::All, after.clone()).await;
        let refused = matches!(all, Err(OperatorError::PositionOfOneShard { shards: 2 }));
        assert!(refused, "{all:?}");
        assert!(operator.commands().await.unwrap().is_empty());
        let this = only(&fixture.shard(0));
        obeyed(&operator, &operator.seek(&this, after).await.unwrap()).await;
        let mut twice = texts.clone();
        twice.extend_from_slice(&texts[12..]);
        twice.sort_unstable();
        eventually("the rest again", || delivered() == twice).await;
        worker.handle.caught_up().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(delivered(), twice);
        let stored = fixture.lease(&fixture.shard(0)).checkpoint;
        assert_eq!(stored, Checkpoint::At(positions[19].clone()));
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_to_the_tip_passes_over_what_is_there_and_nothing_that_comes() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    fixture.warm_up(&worker).await;
    let operator = worker.handle.operator();
    obeyed(&operator, &operator.pause(&Shards::All).await.unwrap()).await;
    fixture.put_many(0, &["old", "old"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sought = operator.seek(&Shards::All, SeekTo::Latest).await.unwrap();
    fixture.put_many(0, &["new"]);
    obeyed(&operator, &sought).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.log.delivered(), ["warm"], "still paused");
    operator.resume(&Shards::All).await.unwrap();
    eventually("new", || fixture.log.delivered() == ["warm", "new"]).await;
    worker.stop().await;
}

/// When it is asked to stop, the answers to the next calls to the lease table are lost.
struct Disturbs {
    log: Log,
    shard: ShardId,
    table: Arc<MemoryLeaseTable>,
    times: usize,
}

#[async_trait]
impl RecordProcessor for Disturbs {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let begin = Call::Initialize(input.checkpoint().clone());
        self.log.push(&self.shard, begin);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let (data, attempt) = (texts(&input), input.attempt());
        self.log.push(&self.shard, Call::Records { data, attempt });
        Ok(())
    }

    async fn shutdown_requested(&mut self, _input: ShutdownRequestedInput) -> ProcessorResult {
        for _ in 0..self.times {
            self.table.inject(Fault::LoseAnswer);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_whose_answer_is_lost_stays_applied() {
    // Each time another one of those that wait is the first to try again.
    for times in 1..8 {
        let fixture = Fixture::new(1);
        let (log, table) = (fixture.log.clone(), Arc::clone(&fixture.table));
        let builder = Worker::builder("app", "memory", move |shard| Disturbs {
            log: log.clone(),
            shard: shard.shard_id().clone(),
            table: Arc::clone(&table),
            times,
        });
        let worker = fixture.start_builder(builder);
        fixture.warm_up(&worker).await;
        let shard = fixture.shard(0);
        eventually("stored", || fixture.is_checkpointed(&shard)).await;
        let operator = worker.handle.operator();
        let sought = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
        obeyed(&operator, &sought).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let delivered = fixture.log.delivered();
        assert_eq!(delivered, ["warm", "warm"], "{times} answers lost");
        worker.stop().await;
    }
}

/// Defers everything, and stores progress when it is asked to stop.
struct Defers {
    acks: Arc<Mutex<Vec<Ack>>>,
    reasons: Arc<Mutex<Vec<ShutdownReason>>>,
    started: Arc<Mutex<Vec<Checkpoint>>>,
}

#[async_trait]
impl RecordProcessor for Defers {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let mut started = self.started.lock().unwrap();
        started.push(input.checkpoint().clone());
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in input.iter() {
            self.acks.lock().unwrap().push(input.defer(record));
        }
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        self.reasons.lock().unwrap().push(input.reason());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deferred_is_accepted_while_paused_and_dropped_by_a_seek() {
    let fixture = Fixture::new(1);
    let acks = Arc::new(Mutex::new(Vec::new()));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::new(Mutex::new(Vec::new()));
    let (a, r, s) = (
        Arc::clone(&acks),
        Arc::clone(&reasons),
        Arc::clone(&started),
    );
    let builder = Worker::builder("app", "memory", move |_| Defers {
        acks: Arc::clone(&a),
        reasons: Arc::clone(&r),
        started: Arc::clone(&s),
    });
    let worker = fixture.start_builder(builder);
    fixture.put_many(0, &["a", "b"]);
    eventually("two deferred", || acks.lock().unwrap().len() == 2).await;
    let operator = worker.handle.operator();
    obeyed(&operator, &operator.pause(&Shards::All).await.unwrap()).await;
    let (first, second) = {
        let mut acks = acks.lock().unwrap();
        (acks.remove(0), acks.remove(0))
    };
    first.done().unwrap();
    let shard = fixture.shard(0);
    eventually("progress", || fixture.is_checkpointed(&shard)).await;
    let progress = fixture.lease(&shard).checkpoint;
    let begun = tokio::time::Instant::now();
    let sought = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
    obeyed(&operator, &sought).await;
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "no answer is waited for: {took:?}"
    );
    assert_eq!(*reasons.lock().unwrap(), [ShutdownReason::Repositioned]);
    let late: Result<(), AckError> = second.done();
    assert!(late.is_err(), "its record comes again");
    assert_eq!(fixture.lease(&shard).checkpoint, Checkpoint::TrimHorizon);
    operator.resume(&Shards::All).await.unwrap();
    eventually("again", || acks.lock().unwrap().len() == 2).await;
    for ack in acks.lock().unwrap().drain(..) {
        ack.done().unwrap();
    }
    eventually("more progress", || {
        fixture.lease(&shard).checkpoint > progress
    })
    .await;
    assert_eq!(started.lock().unwrap().len(), 2);
    worker.stop().await;
}
