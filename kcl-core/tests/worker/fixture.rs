//! A stream and a lease table in memory, and a processor that writes down what it is given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_checkpoint::Checkpoint;
use kcl_core::retrieval::{MemoryStream, ShardSource};
use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    Runtime, ShardEndedInput, ShutdownReport, ShutdownRequestedInput, SourceErrorKind, Worker,
    WorkerBuilder, WorkerError, WorkerHandle, async_trait,
};
use kcl_lease::{Lease, LeaseKey, LeaseTable, MemoryLeaseTable, ShardId};

/// One call of a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Initialize(Checkpoint),
    Records { data: Vec<String>, attempt: u32 },
    ShardEnded(Vec<ShardId>),
    ShutdownRequested,
    LeaseLost,
}

/// What every processor of a test did, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(ShardId, Call)>>>);

impl Log {
    pub(crate) fn push(&self, shard: &ShardId, call: Call) {
        self.0.lock().unwrap().push((shard.clone(), call));
    }

    pub(crate) fn calls(&self) -> Vec<(ShardId, Call)> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn calls_of(&self, shard: &ShardId) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|(s, _)| s == shard)
            .map(|(_, call)| call)
            .collect()
    }

    /// How many records of a shard were delivered.
    pub(crate) fn delivered_of(&self, shard: &ShardId) -> usize {
        let calls = self.calls_of(shard).into_iter();
        let records = calls.map(|call| match call {
            Call::Records { data, .. } => data.len(),
            _ => 0,
        });
        records.sum()
    }

    /// Every record of every delivery, in order.
    pub(crate) fn delivered(&self) -> Vec<String> {
        self.calls()
            .into_iter()
            .filter_map(|(_, call)| match call {
                Call::Records { data, .. } => Some(data),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

pub(crate) type Behaviour = Arc<dyn Fn(&ProcessRecordsInput) -> ProcessorResult + Send + Sync>;

/// Writes everything down, then does what the test says.
pub(crate) struct Recorder {
    pub(crate) shard: ShardId,
    pub(crate) log: Log,
    pub(crate) behaviour: Behaviour,
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        self.log
            .push(&self.shard, Call::Initialize(input.checkpoint().clone()));
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.log.push(
            &self.shard,
            Call::Records {
                data: texts(&input),
                attempt: input.attempt(),
            },
        );
        (self.behaviour)(&input)
    }

    async fn shard_ended(&mut self, input: ShardEndedInput) -> ProcessorResult {
        self.log
            .push(&self.shard, Call::ShardEnded(input.children().to_vec()));
        Ok(())
    }

    async fn shutdown_requested(&mut self, _input: ShutdownRequestedInput) -> ProcessorResult {
        self.log.push(&self.shard, Call::ShutdownRequested);
        Ok(())
    }

    async fn lease_lost(&mut self, _input: LeaseLostInput) -> ProcessorResult {
        self.log.push(&self.shard, Call::LeaseLost);
        Ok(())
    }
}

pub(crate) fn texts(input: &ProcessRecordsInput) -> Vec<String> {
    input
        .iter()
        .map(|record| String::from_utf8(record.data().to_vec()).unwrap())
        .collect()
}

/// One application on one stream.
pub(crate) struct Fixture {
    pub(crate) runtime: Runtime,
    pub(crate) stream: MemoryStream,
    pub(crate) table: Arc<MemoryLeaseTable>,
    pub(crate) log: Log,
}

impl Fixture {
    pub(crate) fn new(shards: u32) -> Self {
        let runtime = Runtime::virtual_time(7);
        Self {
            stream: MemoryStream::new(shards, runtime.clone()),
            runtime,
            table: Arc::new(MemoryLeaseTable::new()),
            log: Log::default(),
        }
    }

    pub(crate) fn shard(&self, index: usize) -> ShardId {
        self.stream.shards()[index].shard_id.clone()
    }

    pub(crate) fn lease_key(&self, index: usize) -> LeaseKey {
        LeaseKey::of_shard(&self.shard(index))
    }

    pub(crate) fn put_many(&self, shard: usize, texts: &[&str]) {
        let shard = self.shard(shard);
        for text in texts {
            self.stream
                .put_to(&shard, "key", (*text).to_owned())
                .unwrap();
        }
    }

    /// Puts one record and waits until it is processed: the reader has learned the size of records, so that the next
    /// ones come in one batch.
    pub(crate) async fn warm_up(&self, worker: &Running) {
        self.put_many(0, &["warm"]);
        eventually("the first record", || self.log.delivered() == ["warm"]).await;
        worker.handle.caught_up().await;
    }

    /// Runs a worker with this behaviour.
    pub(crate) fn start(
        &self,
        behaviour: impl Fn(&ProcessRecordsInput) -> ProcessorResult + Send + Sync + 'static,
    ) -> Running {
        self.start_builder(self.builder(behaviour))
    }

    /// A worker with this behaviour.
    pub(crate) fn builder(
        &self,
        behaviour: impl Fn(&ProcessRecordsInput) -> ProcessorResult + Send + Sync + 'static,
    ) -> WorkerBuilder {
        let (log, behaviour): (Log, Behaviour) = (self.log.clone(), Arc::new(behaviour));
        Worker::builder("app", "memory", move |shard| Recorder {
            shard: shard.shard_id().clone(),
            log: log.clone(),
            behaviour: Arc::clone(&behaviour),
        })
    }

    pub(crate) fn start_builder(&self, builder: WorkerBuilder) -> Running {
        let builder = builder.retrieval(crate::retrieval());
        self.start_on(Arc::new(self.stream.clone()), builder)
    }

    /// Runs a worker on this stream, as the builder says.
    pub(crate) fn start_on(&self, source: Arc<dyn ShardSource>, builder: WorkerBuilder) -> Running {
        self.start_between(source, Arc::clone(&self.table) as _, builder)
    }

    /// Runs a worker with this table in front of that of the fixture.
    pub(crate) fn start_with_table(
        &self,
        table: Arc<dyn LeaseTable>,
        builder: WorkerBuilder,
    ) -> Running {
        let builder = builder.retrieval(crate::retrieval());
        self.start_between(Arc::new(self.stream.clone()), table, builder)
    }

    fn start_between(
        &self,
        source: Arc<dyn ShardSource>,
        table: Arc<dyn LeaseTable>,
        builder: WorkerBuilder,
    ) -> Running {
        let worker = builder
            .runtime(self.runtime.clone())
            .build_with(source, table)
            .unwrap();
        let handle = worker.handle();
        Running {
            handle,
            task: self.runtime.spawn(worker.run()),
        }
    }

    /// Makes the next reads of all shards fail, those that go on included.
    pub(crate) fn refuse_reads(&self, kind: SourceErrorKind, times: usize) {
        self.stream.fail_next(crate::READ, kind, times);
        self.stream.cut_subscriptions();
    }

    /// Whether progress of the shard is stored.
    pub(crate) fn is_checkpointed(&self, shard: &ShardId) -> bool {
        let items = self.table.items();
        let lease = items
            .get(shard.as_str())
            .map(|item| Lease::from_item(item).unwrap().unwrap());
        lease.is_some_and(|lease| !lease.checkpoint.is_start())
    }

    /// The lease row as it is stored.
    pub(crate) fn lease(&self, shard: &ShardId) -> Lease {
        Lease::from_item(&self.table.items()[shard.as_str()])
            .unwrap()
            .unwrap()
    }
}

/// A worker that runs in the background.
pub(crate) struct Running {
    pub(crate) handle: WorkerHandle,
    task: tokio_util::task::AbortOnDropHandle<Result<ShutdownReport, WorkerError>>,
}

impl Running {
    pub(crate) async fn stop(self) -> ShutdownReport {
        self.handle.shutdown();
        self.result().await.unwrap()
    }

    pub(crate) async fn result(self) -> Result<ShutdownReport, WorkerError> {
        tokio::time::timeout(Duration::from_secs(3600), self.task)
            .await
            .expect("the worker ends")
            .unwrap()
    }
}

/// Waits, in virtual time, until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
