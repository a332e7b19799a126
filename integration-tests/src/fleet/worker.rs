//! The worker process: a real worker over real sockets that writes down what it does.

use std::collections::BTreeMap;

use kcl_core::{
    Events, InitializationInput, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime,
    ShutdownRequestedInput, Worker, WorkerEvent, async_trait, shutdown_signal,
};
use tokio::io::AsyncReadExt;

use super::acknowledger;
use super::clock::now;
use super::error::FleetError;
use super::journal::{Journal, Line, RecordLine, What};
use super::options::WorkerOptions;
use crate::{STREAM, aws};

/// The exit code of a worker whose harness is gone.
const ORPHANED: i32 = 9;

/// Runs a worker until SIGTERM, and ends the process. It also ends when the harness does, however that ends.
///
/// # Errors
/// When the worker cannot be made.
pub async fn work(options: WorkerOptions) -> Result<std::convert::Infallible, FleetError> {
    let runtime = Runtime::production();
    die_with_the_harness(&runtime);
    let journal = Journal::open(&options.journal)
        .map_err(|error| FleetError::system("cannot open the journal", error))?;
    let builder = match options.acknowledges {
        true => acknowledger::builder(&options.application, &journal, &runtime),
        false => {
            let processor = Scribe(journal.clone());
            Worker::builder(options.application.as_str(), STREAM, move |_shard| {
                processor.clone()
            })
        }
    };
    let worker = builder
        .worker_name(&options.name)
        .lease_duration(options.lease_duration)
        .retrieval(options.retrieval.retrieval())
        .build(&aws::at(&options.endpoint, &options.name))?
        .with_graceful_shutdown(shutdown_signal());
    let events = worker.handle().events();
    let _scribe = runtime.spawn(write_events(events, journal));
    worker.run_to_exit().await
}

/// The harness holds the other end of standard input. A stopped process cannot see that it closed, so the kernel is asked
/// for a signal as well.
fn die_with_the_harness(runtime: &Runtime) {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        tracing::warn!(%error, "the kernel will not end this worker with its harness");
    }
    runtime
        .spawn(async {
            let mut rest = Vec::new();
            let _closed = tokio::io::stdin().read_to_end(&mut rest).await;
            std::process::exit(ORPHANED);
        })
        .detach();
}

/// Writes down what it is told.
#[derive(Debug, Clone)]
struct Scribe(Journal);

#[async_trait]
impl RecordProcessor for Scribe {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let what = What::Started {
            shard: input.shard().shard_id().to_string(),
            epoch: input.grant().epoch(),
            checkpoint: input.checkpoint().text().to_owned(),
        };
        Ok(self.0.write([Line::new(now(), what)])?)
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let (at, epoch) = (now(), input.grant().epoch());
        let lines = input.iter().map(|record| {
            let number = std::str::from_utf8(record.data())
                .ok()
                .and_then(|text| text.parse().ok());
            let what = What::Record(RecordLine {
                shard: input.shard().shard_id().to_string(),
                epoch,
                sequence: record.sequence_number().to_owned(),
                key: record.partition_key().to_owned(),
                number: number.unwrap_or(u64::MAX),
            });
            Line::new(at, what)
        });
        Ok(self.0.write(lines)?)
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        let what = What::ShutdownRequested {
            shard: input.shard().shard_id().to_string(),
            epoch: input.grant().epoch(),
        };
        Ok(self.0.write([Line::new(now(), what)])?)
    }
}

/// Writes down what the worker reports about itself.
async fn write_events(mut events: Events, journal: Journal) {
    let mut epochs = BTreeMap::new();
    while let Some(event) = events.next().await {
        let what = match event {
            WorkerEvent::SessionStarted { worker } => What::Session {
                worker: worker.to_string(),
            },
            WorkerEvent::ShardStarted { shard, epoch, .. } => {
                epochs.insert(shard, epoch);
                continue;
            }
            WorkerEvent::Checkpointed { shard, checkpoint } => What::Checkpointed {
                epoch: epochs.get(&shard).copied().unwrap_or(0),
                shard: shard.to_string(),
                checkpoint: checkpoint.text().to_owned(),
            },
            WorkerEvent::ShardEnded { shard, .. } => What::ShardEnded {
                shard: shard.to_string(),
            },
            WorkerEvent::LeaseLost { shard, .. } => What::LeaseLost {
                shard: shard.to_string(),
            },
            _ => continue,
        };
        if let Err(error) = journal.write([Line::new(now(), what)]) {
            tracing::error!(%error, "the journal cannot be written");
        }
    }
}
