//! A processor that defers everything and leaves the handles to the test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    Ack, BatchAck, BatchFailure, Checkpoint, FailurePolicy, OnFailure, Position,
    ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, WorkerBuilder, async_trait,
};

use crate::fixture::{Call, Fixture, Log, Running, eventually, texts};
use crate::poison::{Letters, numbered, put_all};

/// A handle that waits for its answer.
pub(crate) struct Open {
    pub(crate) text: String,
    pub(crate) position: Position,
    pub(crate) ack: Ack,
}

/// Where handles wait for their answers.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    pub(crate) log: Log,
    pub(crate) open: Arc<Mutex<Vec<Open>>>,
    pub(crate) batches: Arc<Mutex<Vec<BatchAck>>>,
    /// Whether whole calls are deferred.
    pub(crate) by_batch: Arc<AtomicBool>,
    /// Whether the next call fails after it has deferred.
    pub(crate) fails: Arc<AtomicBool>,
    /// Whether the next call fails, after it has deferred, at its last record.
    pub(crate) fails_at_last: Arc<AtomicBool>,
}

impl Desk {
    pub(crate) fn of(fixture: &Fixture) -> Self {
        Self {
            log: fixture.log.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn builder(&self) -> WorkerBuilder {
        let desk = self.clone();
        Worker::builder("app", "memory", move |_| desk.clone())
    }

    /// Gives up after so many attempts, into `letters` if the outcome says so.
    pub(crate) fn builder_that_gives_up(
        &self,
        attempts: u32,
        outcome: OnFailure,
        letters: &Letters,
    ) -> WorkerBuilder {
        self.builder()
            .failure_policy(FailurePolicy::retry().attempts(attempts).then(outcome))
            .dead_letters(letters.sink())
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let open = self.open.lock().unwrap();
        open.iter().map(|open| open.text.clone()).collect()
    }

    pub(crate) fn take(&self, text: &str) -> Open {
        let mut open = self.open.lock().unwrap();
        let index = open.iter().position(|open| open.text == text).unwrap();
        open.remove(index)
    }

    pub(crate) fn take_all(&self) -> Vec<Open> {
        std::mem::take(&mut *self.open.lock().unwrap())
    }
}

#[async_trait]
impl RecordProcessor for Desk {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let call = Call::Records {
            data: texts(&input),
            attempt: input.attempt(),
        };
        self.log.push(input.shard().shard_id(), call);
        if self.by_batch.load(Ordering::SeqCst) {
            self.batches.lock().unwrap().push(input.defer_all());
            return Ok(());
        }
        for record in &input {
            let open = Open {
                text: String::from_utf8(record.data().to_vec()).unwrap(),
                position: record.position(),
                ack: input.defer(record),
            };
            self.open.lock().unwrap().push(open);
        }
        if self.fails_at_last.swap(false, Ordering::SeqCst) {
            let last = input.iter().next_back().unwrap().position();
            Err(BatchFailure::at(last, "after deferring"))?;
        }
        match self.fails.swap(false, Ordering::SeqCst) {
            true => Err("after deferring".into()),
            false => Ok(()),
        }
    }
}

/// Starts a worker whose records so far are deferred, all of them.
pub(crate) async fn start_with(
    fixture: &Fixture,
    desk: &Desk,
    builder: WorkerBuilder,
    records: usize,
) -> Running {
    put_all(fixture, &numbered(records, &[]));
    let worker = fixture.start_builder(builder);
    eventually("all in flight", || {
        desk.open.lock().unwrap().len() == records
    })
    .await;
    worker
}

pub(crate) fn stored(fixture: &Fixture) -> Checkpoint {
    fixture.lease(&fixture.shard(0)).checkpoint
}

pub(crate) const STORED: Duration = Duration::from_secs(20);
