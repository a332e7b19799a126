//! The whole framework: a worker with a record processor; leases are in memory.

use std::sync::Arc;

use kcl_core::retrieval::KinesisSource;
use kcl_core::{
    LeaseTable, ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait,
};
use kcl_lease::MemoryLeaseTable;

use super::super::consumer::Consumption;
use super::super::null_kinesis::STREAM;
use super::source::look_at;
use super::{Ended, aws};

/// Enough for an answer of every shard and one more ahead of it.
const MEMORY: usize = 1 << 30;

pub(crate) async fn run(consumption: &Consumption) -> Ended {
    let options = &consumption.options;
    let aws = aws(&options.endpoint);
    let source = KinesisSource::new(&aws, STREAM, None).with_wire(options.wire());
    let looker = Looker(consumption.clone());
    let table: Arc<dyn LeaseTable> = Arc::new(MemoryLeaseTable::new());
    let worker = Worker::builder("bench", STREAM, move |_| looker.clone())
        .memory_budget(MEMORY)
        .max_records(options.limit)
        .runtime(consumption.runtime.clone())
        .build_with(Arc::new(source), table)?;
    worker.run().await?;
    Ok(())
}

/// Looks at every record.
#[derive(Debug, Clone)]
struct Looker(Consumption);

#[async_trait]
impl RecordProcessor for Looker {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.0.gate.pass().await;
        let bytes = input.iter().map(look_at).sum();
        self.0.tally.add(input.len(), bytes);
        Ok(())
    }
}
