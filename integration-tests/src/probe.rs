//! A record processor that writes everything down and fails when it is told to.

use std::fmt;
use std::sync::Arc;

use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    RecordRef, ShardEndedInput, ShutdownRequestedInput, async_trait,
};

use crate::log::{Log, What};

type Verdict = dyn Fn(RecordRef<'_>) -> ProcessorResult + Send + Sync;

/// A record processor that writes everything down.
#[derive(Clone)]
pub struct Probe {
    worker: String,
    log: Log,
    verdict: Arc<Verdict>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// A processor of the worker with this name.
    #[must_use]
    pub fn new(worker: &str, log: &Log) -> Self {
        Self {
            worker: worker.to_owned(),
            log: log.clone(),
            verdict: Arc::new(|_| Ok(())),
        }
    }

    /// Asks `verdict` after each record that was written down; an error ends the call.
    #[must_use]
    pub fn judged(
        mut self,
        verdict: impl Fn(RecordRef<'_>) -> ProcessorResult + Send + Sync + 'static,
    ) -> Self {
        self.verdict = Arc::new(verdict);
        self
    }

    fn add(&self, shard: &kcl_core::ShardInfo, what: What) {
        self.log.add(&self.worker, shard.shard_id().as_str(), what);
    }
}

#[async_trait]
impl RecordProcessor for Probe {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let checkpoint = input.checkpoint();
        let what = What::Initialize(
            checkpoint.text().to_owned(),
            checkpoint.sub_sequence_number(),
        );
        self.add(input.shard(), what);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in &input {
            let what = What::Record {
                key: record.partition_key().to_owned(),
                data: String::from_utf8_lossy(record.data()).into_owned(),
                sequence_number: record.sequence_number().to_owned(),
                sub_sequence_number: record.sub_sequence_number(),
                out_of_range: record.is_out_of_range(),
            };
            self.add(input.shard(), what);
            (self.verdict)(record)?;
        }
        Ok(())
    }

    async fn shard_ended(&mut self, input: ShardEndedInput) -> ProcessorResult {
        self.add(input.shard(), What::ShardEnded);
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        self.add(input.shard(), What::ShutdownRequested);
        Ok(())
    }

    async fn lease_lost(&mut self, input: LeaseLostInput) -> ProcessorResult {
        self.add(input.shard(), What::LeaseLost);
        Ok(())
    }
}
