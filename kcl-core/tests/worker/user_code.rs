//! User code that panics where nobody expects it, and code that outlives the processor that started it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kcl_core::{
    CheckpointError, Checkpointer, DeadLetter, DeadLetterSink, OnFailure, ProcessRecordsInput,
    ProcessorResult, RecordProcessor, Worker, WorkerBuilder, async_trait,
};

use crate::fixture::{Fixture, eventually, texts};
use crate::poison::{builder, refuse_poison, three_times};

/// Keeps the checkpointer of its first call, which panics; the next calls hang.
#[derive(Clone, Default)]
struct Outlived {
    kept: Arc<Mutex<Option<Checkpointer>>>,
    hangs: Arc<AtomicBool>,
}

#[async_trait]
impl RecordProcessor for Outlived {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        if self.kept.lock().unwrap().is_none() {
            *self.kept.lock().unwrap() = Some(input.checkpointer().clone());
            panic!("and leaves a task behind");
        }
        self.hangs.store(true, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn code_that_outlives_its_processor_completes_nothing_of_the_next_one() {
    let fixture = Fixture::new(1);
    let processor = Outlived::default();
    let made = processor.clone();
    fixture.put_many(0, &["a", "b"]);
    let builder = Worker::builder("app", "memory", move |_| made.clone());
    let worker = fixture.start_builder(builder.drain_budget(Duration::from_secs(1)));
    eventually("the next call", || processor.hangs.load(Ordering::SeqCst)).await;
    let kept = processor.kept.lock().unwrap().clone().unwrap();
    let refused = kept.checkpoint().await;
    assert_eq!(refused, Err(CheckpointError::ProcessorReplaced));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fixture.lease(&fixture.shard(0)).checkpoint.is_start());
    worker.stop().await;
}

/// An error that cannot be shown, or dropped.
#[derive(Debug)]
struct Spiteful;

impl fmt::Display for Spiteful {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not to be shown")
    }
}

impl std::error::Error for Spiteful {}

impl Drop for Spiteful {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("not to be dropped");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    WithAnErrorThatPanics,
    BeforeThereIsAFuture,
    AndPanicsAgainWhenDropped,
}

/// Fails in some way in its first call.
struct Hostile {
    how: Fails,
    failed: Arc<AtomicBool>,
    delivered: Arc<Mutex<Vec<String>>>,
    armed: bool,
}

/// Written by hand: not everything of it is inside the future.
impl RecordProcessor for Hostile {
    fn process_records<'life, 'async_trait>(
        &'life mut self,
        input: ProcessRecordsInput,
    ) -> BoxFuture<'async_trait, ProcessorResult>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        let is_first = !self.failed.swap(true, Ordering::SeqCst);
        match self.how {
            Fails::WithAnErrorThatPanics if is_first => {
                Box::pin(async { Err(Box::new(Spiteful) as _) })
            }
            Fails::BeforeThereIsAFuture if is_first => panic!("too early"),
            Fails::AndPanicsAgainWhenDropped if is_first => {
                self.armed = true;
                Box::pin(async { panic!("once") })
            }
            _ => {
                self.delivered.lock().unwrap().extend(texts(&input));
                Box::pin(async { Ok(()) })
            }
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        assert!(!self.armed, "and again");
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_panic_counts_as_an_error_wherever_user_code_runs() {
    for how in [
        Fails::WithAnErrorThatPanics,
        Fails::BeforeThereIsAFuture,
        Fails::AndPanicsAgainWhenDropped,
    ] {
        let fixture = Fixture::new(1);
        let (failed, delivered) = (Arc::default(), Arc::<Mutex<Vec<String>>>::default());
        let all = Arc::clone(&delivered);
        fixture.put_many(0, &["a", "b"]);
        let worker = fixture.start_builder(Worker::builder("app", "memory", move |_| Hostile {
            how,
            failed: Arc::clone(&failed),
            delivered: Arc::clone(&all),
            armed: false,
        }));
        worker.handle.caught_up().await;
        assert_eq!(worker.handle.counters().processor_failures, 1);
        assert_eq!(worker.stop().await.drained, 1);
        assert_eq!(*delivered.lock().unwrap(), ["a", "b"]);
    }
}

/// Panics at its first letter, before there is a future.
struct HostileSink(AtomicBool);

impl DeadLetterSink for HostileSink {
    fn accept<'life, 'async_trait>(
        &'life self,
        _letter: DeadLetter,
    ) -> BoxFuture<'async_trait, ProcessorResult>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        assert!(self.0.swap(true, Ordering::SeqCst), "too early");
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_sink_that_panics_at_once_is_asked_again() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["poison"]);
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(HostileSink(AtomicBool::new(false)));
    let worker = fixture.start_builder(builder);
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!(
        (counters.dead_letters, counters.dead_letter_failures),
        (1, 1)
    );
    worker.stop().await;
}

/// Panics when it is dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("not to be cut off");
        }
    }
}

async fn hang_with_a_trap() {
    let _trap = Trap;
    std::future::pending::<()>().await;
}

/// Hangs in its first call of all.
#[derive(Clone, Default)]
struct Trapped {
    hung: Arc<AtomicBool>,
    delivered: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl RecordProcessor for Trapped {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        if !self.hung.swap(true, Ordering::SeqCst) {
            hang_with_a_trap().await;
        }
        self.delivered.lock().unwrap().extend(texts(&input));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_call_that_panics_when_it_is_cut_off_ends_no_worker() {
    let limits: [fn(WorkerBuilder) -> WorkerBuilder; 2] = [
        |builder| builder.call_time_limit(Duration::from_secs(60)),
        |builder| builder.stall_timeout(Duration::from_secs(60)),
    ];
    for limited in limits {
        let fixture = Fixture::new(1);
        let trapped = Trapped::default();
        let made = trapped.clone();
        fixture.put_many(0, &["a", "b"]);
        let builder = Worker::builder("app", "memory", move |_| made.clone());
        let worker = fixture.start_builder(limited(builder));
        let all = || *trapped.delivered.lock().unwrap() == ["a", "b"];
        eventually("another call", all).await;
        assert_eq!(worker.stop().await.drained, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_sink_that_panics_when_it_is_cut_off_is_asked_again() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["poison"]);
    let hung = AtomicBool::new(false);
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(move |_: DeadLetter| {
            let hangs = !hung.swap(true, Ordering::SeqCst);
            async move {
                if hangs {
                    hang_with_a_trap().await;
                }
                Ok(())
            }
        });
    let worker = fixture.start_builder(builder);
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().dead_letters, 1);
    worker.stop().await;
}
