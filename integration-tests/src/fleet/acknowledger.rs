//! A processor that acknowledges each record after a while, and writes down what is complete before it says so.

use std::time::Duration;

use kcl_core::{
    Ack, ProcessRecordsInput, ProcessorResult, RecordProcessor, RecordRef, Runtime, ShardInfo,
    Worker, WorkerBuilder, async_trait,
};

use super::clock::now;
use super::journal::{Journal, Line, What};
use crate::STREAM;

/// Records of a shard that are in flight at most.
const IN_FLIGHT: usize = 64;
/// Checkpoints are stored so often that one is always near a kill.
const CHECKPOINTS: Duration = Duration::from_millis(50);
/// A record takes at most this long.
const LONGEST_MICROS: u64 = 40_000;
/// One of so many fails, and comes again.
const FAILS: u64 = 32;

/// A worker whose shards have many records in flight, which complete in any order.
pub(super) fn builder(application: &str, journal: &Journal, runtime: &Runtime) -> WorkerBuilder {
    let (journal, runtime) = (journal.clone(), runtime.clone());
    Worker::builder(application, STREAM, move |shard: &ShardInfo| Acknowledger {
        journal: journal.clone(),
        runtime: runtime.clone(),
        rng: runtime.rng(shard.shard_id().as_str()),
    })
    .max_in_flight(IN_FLIGHT)
    .checkpoint_interval(CHECKPOINTS)
}

struct Acknowledger {
    journal: Journal,
    runtime: Runtime,
    rng: fastrand::Rng,
}

#[async_trait]
impl RecordProcessor for Acknowledger {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        for record in &input {
            self.begin(shard, record, input.defer(record));
        }
        Ok(())
    }
}

impl Acknowledger {
    /// Completes a record after a while, or lets it fail.
    fn begin(&mut self, shard: &str, record: RecordRef<'_>, ack: Ack) {
        let time = Duration::from_micros(self.rng.u64(..LONGEST_MICROS));
        let fails = self.rng.u64(..FAILS) == 0;
        let what = What::Completed {
            shard: shard.to_owned(),
            sequence: record.sequence_number().to_owned(),
            sub: record.sub_sequence_number(),
        };
        let journal = self.journal.clone();
        let completing = async move {
            tokio::time::sleep(time).await;
            if !fails && journal.write([Line::new(now(), what)]).is_ok() {
                // The lease may be gone, which changes nothing: the record is complete.
                let _over = ack.done();
            }
        };
        self.runtime.spawn(completing).detach();
    }
}
