//! Writes down what it is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kcl_core::{
    InitializationInput, ProcessRecordsInput, ProcessorResult, RecordProcessor, ShardEndedInput,
    async_trait,
};

use crate::ledger::Ledger;

/// The ledger, as all processors see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record processor of one shard under one worker.
#[derive(Debug)]
pub(crate) struct Recorder {
    ledger: SharedLedger,
    worker: u8,
}

impl Recorder {
    pub(crate) fn new(ledger: SharedLedger, worker: u8) -> Self {
        Self { ledger, worker }
    }
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let parents = input
            .shard()
            .parents()
            .iter()
            .map(|id| id.as_str().to_owned())
            .collect();
        self.ledger
            .lock()
            .shard(input.shard().shard_id().as_str())
            .parents = parents;
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let mut ledger = self.ledger.lock();
        let mut aggregated = 0;
        for record in &input {
            ledger.processed_record(record.partition_key(), record.data());
            aggregated += u64::from(record.is_aggregated());
        }
        let story = ledger.shard(input.shard().shard_id().as_str());
        story.aggregated += aggregated;
        *story.by_worker.entry(self.worker).or_default() += input.len() as u64;
        Ok(())
    }

    async fn shard_ended(&mut self, input: ShardEndedInput) -> ProcessorResult {
        self.ledger
            .lock()
            .shard(input.shard().shard_id().as_str())
            .ended = true;
        Ok(())
    }
}
