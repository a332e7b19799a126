//! A session that lapsed: leases are delivered from as soon as each is granted again.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    AckError, DeadLetter, FailurePolicy, OnFailure, ProcessRecordsInput, ProcessorResult,
    RecordProcessor, Worker, async_trait,
};
use kcl_lease::item::Item;
use kcl_lease::table::{
    Consistency, Prepared, ScanPage, ScanToken, TableError, TableErrorKind, Transacted, Written,
};
use kcl_lease::write::RowWrite;
use kcl_lease::{LeaseTable, MemoryLeaseTable};

use crate::desk::{Desk, STORED, stored};
use crate::fixture::{Fixture, eventually, texts};

pub(crate) const OPEN: u8 = 0;
const NO_WRITES: u8 = 1;
pub(crate) const NO_WRITES_TO_ONE_ROW: u8 = 2;

/// A table that refuses some writes.
#[derive(Debug)]
pub(crate) struct Refusing {
    table: Arc<MemoryLeaseTable>,
    row: String,
    pub(crate) refuses: AtomicU8,
}

impl Refusing {
    /// Refuses nothing yet, and writes to this row if that is asked of it.
    pub(crate) fn open(fixture: &Fixture, row: &str) -> Arc<Self> {
        Arc::new(Self {
            table: Arc::clone(&fixture.table),
            row: row.to_owned(),
            refuses: AtomicU8::new(OPEN),
        })
    }
}

#[async_trait]
impl LeaseTable for Refusing {
    async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Item>, TableError> {
        self.table.get(key, consistency).await
    }

    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError> {
        self.table.scan(consistency, page).await
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        let refused = match self.refuses.load(Ordering::SeqCst) {
            NO_WRITES => true,
            NO_WRITES_TO_ONE_ROW => write.key == self.row,
            _ => false,
        };
        if refused {
            return Err(TableError::new(TableErrorKind::Throttled, "Write", "t"));
        }
        self.table.write(write).await
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        self.table.transact(writes).await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        self.table.prepare().await
    }
}

struct Collector(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl RecordProcessor for Collector {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.0.lock().unwrap().extend(texts(&input));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a09_a_lease_that_waits_to_be_granted_again_takes_no_call_from_others() {
    let fixture = Fixture::new(2);
    let table = Refusing::open(&fixture, fixture.shard(0).as_str());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&seen);
    let builder = Worker::builder("app", "memory", move |_| Collector(Arc::clone(&collected)))
        .max_concurrent_calls(1)
        .runtime(fixture.runtime.clone());
    let source = Arc::new(fixture.stream.clone());
    let worker = builder
        .build_with(source, Arc::clone(&table) as Arc<dyn LeaseTable>)
        .unwrap();
    let handle = worker.handle();
    let running = fixture.runtime.spawn(worker.run());
    handle.caught_up().await;
    table.refuses.store(NO_WRITES, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Both wait from here on, the first shard first in the queue.
    fixture.put_many(0, &["first"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    fixture.put_many(1, &["second"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(seen.lock().unwrap().is_empty(), "the session has lapsed");
    table.refuses.store(NO_WRITES_TO_ONE_ROW, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*seen.lock().unwrap(), ["second"]);
    table.refuses.store(OPEN, Ordering::SeqCst);
    eventually("the first shard", || seen.lock().unwrap().len() == 2).await;
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a02_an_answer_after_the_lease_was_taken_is_an_error_and_changes_nothing() {
    let fixture = Fixture::new(1);
    let table = Refusing::open(&fixture, "");
    let (first, second) = (Desk::default(), Desk::default());
    let worker = first.builder().runtime(fixture.runtime.clone()).build_with(
        Arc::new(fixture.stream.clone()),
        Arc::clone(&table) as Arc<dyn LeaseTable>,
    );
    let worker = worker.unwrap();
    let handle = worker.handle();
    let running = fixture.runtime.spawn(worker.run());
    let texts = ["0", "1", "2"];
    fixture.put_many(0, &texts);
    eventually("all deferred", || first.texts() == texts).await;
    // Nobody asks this worker to give its lease away: another one takes it.
    table.refuses.store(NO_WRITES, Ordering::SeqCst);
    let other = fixture.start_builder(second.builder());
    eventually("all at the other", || second.texts() == texts).await;
    // Cut off, it cannot know; what it is told goes nowhere.
    let _unknown = first.take("0").ack.done();
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture).is_start());
    table.refuses.store(OPEN, Ordering::SeqCst);
    eventually("the loss", || handle.counters().leases_lost == 1).await;
    let before = fixture.lease(&fixture.shard(0));
    assert_eq!(first.take("1").ack.done(), Err(AckError::LeaseLost));
    assert_eq!(first.take("2").ack.fail("late"), Err(AckError::LeaseLost));
    tokio::time::sleep(STORED).await;
    assert_eq!(fixture.lease(&fixture.shard(0)), before);
    assert_eq!(handle.counters().processor_failures, 0);
    for open in second.take_all() {
        open.ack.done().unwrap();
    }
    other.handle.caught_up().await;
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture) > before.checkpoint);
    drop(running);
    other.stop().await;
}

/// Fails on everything.
struct Refuses;

#[async_trait]
impl RecordProcessor for Refuses {
    async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
        Err("refused".into())
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_record_is_sent_to_the_sink_only_while_the_lease_is_surely_held() {
    let fixture = Fixture::new(1);
    let table = Refusing::open(&fixture, "");
    let asked = Arc::new(AtomicU32::new(0));
    let asks = Arc::clone(&asked);
    let policy = FailurePolicy::retry()
        .attempts(2)
        .then(OnFailure::DeadLetter);
    let worker = Worker::builder("app", "memory", |_| Refuses)
        .failure_policy(policy)
        .dead_letters(move |_: DeadLetter| {
            asks.fetch_add(1, Ordering::SeqCst);
            async { Err("closed".into()) }
        })
        .processor_backoff_max(Duration::from_secs(1))
        .runtime(fixture.runtime.clone())
        .build_with(
            Arc::new(fixture.stream.clone()),
            Arc::clone(&table) as Arc<dyn LeaseTable>,
        )
        .unwrap();
    let running = fixture.runtime.spawn(worker.run());
    fixture.put_many(0, &["a"]);
    let asked = || asked.load(Ordering::SeqCst);
    eventually("the sink's turn", || asked() > 10).await;
    table.refuses.store(NO_WRITES, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(12)).await;
    let lapsed = asked();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(asked(), lapsed);
    table.refuses.store(OPEN, Ordering::SeqCst);
    eventually("the sink's turn again", || asked() > lapsed + 10).await;
    drop(running);
}
