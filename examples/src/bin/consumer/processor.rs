//! Prints the records of one shard.

use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ShardEndedInput, ShardId, ShutdownRequestedInput, async_trait,
};

use crate::line::Line;
use crate::output::Output;

/// Prints a batch and flushes it before the batch counts as complete.
#[derive(Debug)]
pub(crate) struct JsonLines {
    output: Output,
    text: Vec<u8>,
}

impl JsonLines {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            text: Vec::new(),
        }
    }

    async fn print(&mut self, line: Line<'_>) -> ProcessorResult {
        self.text.clear();
        line.write(&mut self.text)?;
        Ok(self.output.write(&self.text).await?)
    }
}

#[async_trait]
impl RecordProcessor for JsonLines {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        self.print(Line::initialize(
            self.output.now(),
            shard,
            input.checkpoint(),
        ))
        .await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.text.clear();
        let at = self.output.now();
        let shard = input.shard().shard_id().as_str();
        for record in &input {
            Line::record(at, shard, record).write(&mut self.text)?;
        }
        Ok(self.output.write(&self.text).await?)
    }

    async fn shard_ended(&mut self, input: ShardEndedInput) -> ProcessorResult {
        let children = input.children().iter().map(ShardId::as_str).collect();
        let shard = input.shard().shard_id().as_str();
        self.print(Line::ShardEnded {
            at: self.output.now(),
            shard,
            children,
        })
        .await
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        self.print(Line::ShutdownRequested {
            at: self.output.now(),
            shard,
        })
        .await
    }

    async fn lease_lost(&mut self, input: LeaseLostInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        let reason = format!("{:?}", input.reason());
        self.print(Line::LeaseLost {
            at: self.output.now(),
            shard,
            reason,
        })
        .await
    }
}
