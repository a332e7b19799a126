//! Checkpoints in two phases.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    BatchFailure, Checkpoint, InitializationInput, PendingCheckpoint, PreparedCheckpoint,
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, WorkerBuilder, WorkerEvent,
    async_trait,
};

use crate::fixture::{Call, Fixture, eventually, texts};

/// Prepares each batch, and leaves the second phase to the test.
#[derive(Clone)]
struct Transactional {
    log: crate::fixture::Log,
    prepared: Arc<Mutex<Vec<PreparedCheckpoint>>>,
    pending: Arc<Mutex<Vec<PendingCheckpoint>>>,
    commits_pending: Arc<AtomicBool>,
    /// Whether the next call panics after the first phase.
    panics: Arc<AtomicBool>,
}

impl Transactional {
    fn new(fixture: &Fixture) -> Self {
        Self {
            log: fixture.log.clone(),
            prepared: Arc::default(),
            pending: Arc::default(),
            commits_pending: Arc::default(),
            panics: Arc::default(),
        }
    }

    fn builder(&self) -> WorkerBuilder {
        let processor = self.clone();
        Worker::builder("app", "memory", move |_| processor.clone())
    }

    async fn first_phase(&self) -> PreparedCheckpoint {
        eventually("the first phase", || {
            !self.prepared.lock().unwrap().is_empty()
        })
        .await;
        self.prepared.lock().unwrap().remove(0)
    }
}

#[async_trait]
impl RecordProcessor for Transactional {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let pending = input.pending_checkpoint().cloned();
        self.pending.lock().unwrap().extend(pending);
        if self.commits_pending.load(Ordering::SeqCst) {
            input.commit_pending().await?;
        }
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let data = texts(&input);
        let last = input.iter().next_back().unwrap().position();
        let state = data.join(",").into_bytes().into();
        let attempt = input.attempt();
        self.log
            .push(input.shard().shard_id(), Call::Records { data, attempt });
        let prepared = input.checkpointer().prepare(&last, Some(state)).await?;
        assert!(
            !self.panics.swap(false, Ordering::SeqCst),
            "between the effect and the second phase"
        );
        self.prepared.lock().unwrap().push(prepared);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepared_checkpoint_is_stored_when_it_is_committed_and_not_before() {
    let fixture = Fixture::new(1);
    let shard = fixture.shard(0);
    let processor = Transactional::new(&fixture);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(processor.builder());
    let prepared = processor.first_phase().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lease = fixture.lease(&shard);
    let pending = lease.pending.unwrap();
    assert!(
        lease.checkpoint.is_start(),
        "no automatic checkpoint removes it"
    );
    assert_eq!(pending.state.as_deref(), Some(&b"a"[..]));
    assert_eq!(
        pending.checkpoint,
        Checkpoint::At(prepared.position().clone())
    );
    prepared.commit().await.unwrap();
    let lease = fixture.lease(&shard);
    assert_eq!(lease.checkpoint, pending.checkpoint);
    assert_eq!(lease.pending, None);
    // One that is dropped lets the automatic checkpoint go on.
    fixture.put_many(0, &["b"]);
    eventually("the next", || {
        processor.prepared.lock().unwrap().pop().is_some()
    })
    .await;
    worker.handle.caught_up().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = fixture.lease(&shard);
    assert!(after.checkpoint > lease.checkpoint);
    assert_eq!(after.pending, None);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_first_phase_takes_the_place_of_an_earlier_one_which_then_means_nothing() {
    let fixture = Fixture::new(1);
    let shard = fixture.shard(0);
    let processor = Transactional::new(&fixture);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(processor.builder());
    let earlier = processor.first_phase().await;
    fixture.put_many(0, &["b"]);
    let later = processor.first_phase().await;
    drop(earlier);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lease = fixture.lease(&shard);
    assert_eq!(lease.pending.unwrap().state.as_deref(), Some(&b"b"[..]));
    assert!(lease.checkpoint.is_start());
    later.commit().await.unwrap();
    assert_eq!(fixture.lease(&shard).pending, None);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_holder_learns_what_was_prepared_and_decides() {
    for commits in [false, true] {
        let fixture = Fixture::new(1);
        let shard = fixture.shard(0);
        let processor = Transactional::new(&fixture);
        fixture.put_many(0, &["a"]);
        let worker = fixture.start_builder(processor.builder());
        let prepared = processor.first_phase().await;
        let mut events = worker.handle.events();
        worker.stop().await;
        let stored = fixture.lease(&shard);
        assert!(stored.pending.is_some(), "a stop keeps it");
        assert!(stored.checkpoint.is_start());
        let told = loop {
            if let WorkerEvent::LeaseReleased { checkpoint, .. } = events.next().await.unwrap() {
                break checkpoint;
            }
        };
        assert_eq!(told, stored.checkpoint, "nothing else is stored");
        fixture.put_many(0, &["b"]);
        processor.commits_pending.store(commits, Ordering::SeqCst);
        let seen = fixture.log.delivered().len();
        let worker = fixture.start_builder(processor.builder());
        eventually("b", || fixture.log.delivered().contains(&"b".to_owned())).await;
        let pending = processor.pending.lock().unwrap().clone();
        assert_eq!(pending.len(), 1);
        assert_eq!(&pending[0].position, prepared.position());
        assert_eq!(pending[0].state.as_deref(), Some(&b"a"[..]));
        let expected: &[&str] = if commits { &["b"] } else { &["a", "b"] };
        assert_eq!(fixture.log.delivered()[seen..], *expected);
        assert!(prepared.commit().await.is_err(), "its lease is over");
        processor.prepared.lock().unwrap().clear();
        worker.stop().await;
    }
}

/// As between two holders: the effects may have happened.
#[tokio::test(start_paused = true)]
async fn the_next_processor_of_the_same_worker_learns_what_was_prepared_too() {
    for commits in [false, true] {
        let fixture = Fixture::new(1);
        let processor = Transactional::new(&fixture);
        processor.panics.store(true, Ordering::SeqCst);
        processor.commits_pending.store(commits, Ordering::SeqCst);
        fixture.put_many(0, &["a"]);
        let worker = fixture.start_builder(processor.builder());
        worker.handle.caught_up().await;
        fixture.put_many(0, &["b"]);
        eventually("b", || fixture.log.delivered().contains(&"b".to_owned())).await;
        let pending = processor.pending.lock().unwrap().clone();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].state.as_deref(), Some(&b"a"[..]));
        let expected: &[&str] = match commits {
            true => &["a", "b"],
            false => &["a", "a", "b"],
        };
        assert_eq!(fixture.log.delivered(), *expected);
        processor.prepared.lock().unwrap().clear();
        worker.stop().await;
    }
}

/// Panics between the phases of the first batch of several records, and then fails at the last record of it.
#[derive(Clone, Default)]
struct Interrupted {
    batches: Arc<AtomicU32>,
    recovers: Arc<AtomicBool>,
    pending: Arc<Mutex<Vec<PendingCheckpoint>>>,
}

#[async_trait]
impl RecordProcessor for Interrupted {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let pending = input.pending_checkpoint().cloned();
        self.pending.lock().unwrap().extend(pending);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let last = input.iter().next_back().unwrap().position();
        let is_first = || self.batches.fetch_add(1, Ordering::SeqCst) == 0;
        if input.len() > 1 && is_first() {
            let state = Some((&b"transaction"[..]).into());
            let _prepared = input.checkpointer().prepare(&last, state).await?;
            panic!("between the effect and the second phase");
        }
        match self.batches.load(Ordering::SeqCst) > 0 && !self.recovers.load(Ordering::SeqCst) {
            true => Err(BatchFailure::at(last, "not yet").into()),
            false => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_automatic_checkpoint_before_the_prepared_one_leaves_it_in_the_row() {
    let fixture = Fixture::new(1);
    let shard = fixture.shard(0);
    let processor = Interrupted::default();
    let builder = || {
        let processor = processor.clone();
        Worker::builder("app", "memory", move |_| processor.clone())
    };
    // The first record is read alone.
    fixture.put_many(0, &["a", "b", "c", "d"]);
    let worker = fixture.start_builder(builder());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lease = fixture.lease(&shard);
    let pending = lease.pending.expect("what was prepared");
    assert_eq!(pending.state.as_deref(), Some(&b"transaction"[..]));
    assert!(!lease.checkpoint.is_start() && lease.checkpoint < pending.checkpoint);
    worker.stop().await;
    let lease = fixture.lease(&shard);
    assert_eq!(lease.pending.as_ref(), Some(&pending), "a release keeps it");
    // A worker of the same process, and then another one.
    let told = || processor.pending.lock().unwrap().len();
    assert_eq!(told(), 1);
    let worker = fixture.start_builder(builder());
    eventually("the next holder to learn it", || told() == 2).await;
    processor.recovers.store(true, Ordering::SeqCst);
    let passed = || fixture.lease(&shard).checkpoint == pending.checkpoint;
    eventually("a checkpoint that reaches it", passed).await;
    assert_eq!(fixture.lease(&shard).pending, None);
    worker.stop().await;
}
