//! An emulated account behind a socket, and worker processes on it.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kcl_core::Runtime;
use kcl_emulator::{Emulator, Service};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::error::BenchError;
use super::process::Process;
use super::work::{State, WORK};

/// The name of its one stream.
const STREAM: &str = "bench";
const RECORDS_IN_A_PUT: usize = 500;
/// How often a worker is asked how it is.
const LOOK: Duration = Duration::from_millis(50);
/// Longest that is waited for anything.
const PATIENCE: Duration = Duration::from_secs(300);

/// Streams and tables are there as soon as they are created; answers come at once.
#[derive(Debug)]
pub(super) struct Account {
    emulator: Emulator,
    client: Client,
    endpoint: String,
    shards: u32,
    _serving: AbortOnDropHandle<()>,
}

/// Calls so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallCounts {
    pub(super) kinesis: u64,
    pub(super) dynamodb: u64,
}

impl Account {
    /// An account with a stream of so many shards.
    pub(super) async fn start(shards: u32) -> Result<Self, BenchError> {
        let emulator = Emulator::builder().wall_clock().row_versions(0).build();
        emulator
            .create_stream(STREAM, shards)
            .map_err(|error| refused("cannot create a stream", &error))?;
        let no_port = |error| BenchError::system("cannot listen on loopback", error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let served = emulator.clone();
        let serving = Runtime::production()
            .spawn(async move { served.serve(listener, std::future::pending()).await });
        Ok(Self {
            client: Client::new(&emulator.sdk_config("producer")),
            endpoint: format!("http://{address}"),
            emulator,
            shards,
            _serving: serving,
        })
    }

    /// Puts a record into every shard.
    pub(super) async fn put_into_each(&self) -> Result<(), BenchError> {
        let width = u128::MAX / u128::from(self.shards);
        let entries: Vec<PutRecordsRequestEntry> = (0..self.shards)
            .map(|shard| {
                PutRecordsRequestEntry::builder()
                    .partition_key("k")
                    .explicit_hash_key((width * u128::from(shard) + width / 2).to_string())
                    .data(Blob::new("record"))
                    .build()
            })
            .collect::<Result<_, _>>()
            .map_err(|error| refused("cannot put records", &error))?;
        for entries in entries.chunks(RECORDS_IN_A_PUT) {
            let put = self.client.put_records().stream_name(STREAM);
            put.set_records(Some(entries.to_vec()))
                .send()
                .await
                .map_err(|error| refused("cannot put records", &error))?;
        }
        Ok(())
    }

    /// Puts one record.
    pub(super) async fn put(&self, key: String, data: Vec<u8>) -> Result<(), BenchError> {
        let put = self.client.put_record().stream_name(STREAM);
        let put = put.partition_key(key).data(Blob::new(data));
        put.send()
            .await
            .map_err(|error| refused("cannot put a record", &error))?;
        Ok(())
    }

    /// Calls of everybody but the producer.
    pub(super) fn calls(&self) -> CallCounts {
        let calls = self.emulator.calls();
        let of = |service: Service| {
            let of_workers = calls
                .iter()
                .filter(|(key, _)| key.service == service && key.caller.0 != "producer");
            of_workers.map(|(_, count)| count).sum()
        };
        CallCounts {
            kinesis: of(Service::Kinesis),
            dynamodb: of(Service::DynamoDb),
        }
    }

    /// Starts a worker process of this application; see [`WorkOptions`](super::WorkOptions).
    pub(super) fn work(
        &self,
        application: &str,
        options: &[&str],
    ) -> Result<WorkerProcess, BenchError> {
        let mut arguments = vec![
            WORK.to_owned(),
            format!("--endpoint={}", self.endpoint),
            format!("--application={application}"),
            format!("--stream={STREAM}"),
        ];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let process = Process::start(format!("worker of {application}"), arguments)?;
        Ok(WorkerProcess { process })
    }
}

/// A process with a worker. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    process: Process,
}

impl WorkerProcess {
    pub(super) async fn state(&mut self) -> Result<State, BenchError> {
        self.process.tell("state").await?;
        let line = self.process.line(Duration::ZERO).await?;
        serde_json::from_str(&line).map_err(|_| self.process.failed(&line))
    }

    /// Looks at it again and again until this is so.
    pub(super) async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&State) -> bool,
    ) -> Result<State, BenchError> {
        let began = Instant::now();
        loop {
            let state = self.state().await?;
            if is_so(&state) {
                return Ok(state);
            }
            if began.elapsed() > PATIENCE {
                let reason = format!(
                    "waited too long until {what}; it has {} leases",
                    state.leases
                );
                return Err(self.process.failed(&reason));
            }
            sleep(LOOK).await;
        }
    }

    /// Stops it as a deployment does.
    pub(super) async fn stop(self) -> Result<(), BenchError> {
        self.process.end().await
    }
}

fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> BenchError {
    let source = error.source().map(|source| format!(": {source}"));
    BenchError::Service {
        what: what.to_owned(),
        reason: format!("{error}{}", source.unwrap_or_default()),
    }
}
