//! An account with streams in memory, a table, and processors that write down what they get of which stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kcl_core::retrieval::{
    Fetched, MemoryStream, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamConsumer,
    StreamDescription, Subscription,
};
use kcl_core::{
    BoxError, InitializationInput, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime,
    ShardId, ShutdownReport, SourceError, SourceErrorKind, StreamConfig, StreamTracker, Streams,
    Worker, WorkerBuilder, WorkerError, WorkerEvent, WorkerHandle, async_trait,
};
use kcl_lease::{ListedShard, MemoryLeaseTable};

use crate::fixture::texts;

/// A stream whose name begins like this never answers.
pub(super) const SILENT: &str = "silent";

/// The streams of an account by name; a stream that is not there is not found.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Mutex<BTreeMap<String, MemoryStream>>>);

impl Account {
    pub(super) fn get(&self, name: &str) -> Option<MemoryStream> {
        self.0.lock().unwrap().get(name).cloned()
    }

    pub(super) fn remove(&self, name: &str) {
        let removed = self.0.lock().unwrap().remove(name);
        removed.unwrap().delete();
    }
}

/// One of them, whichever has the name at the moment. Sequence numbers are of one incarnation only, as with the service.
struct Named {
    account: Account,
    name: String,
    /// When the one was created that was read first.
    read: Mutex<Option<SystemTime>>,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Named {
    fn now(&self) -> Result<MemoryStream, SourceError> {
        let missing = || SourceError::new(SourceErrorKind::StreamNotFound, "any");
        self.account.get(&self.name).ok_or_else(missing)
    }

    /// Whether it is the one that was read first.
    async fn is_same(&self) -> Result<bool, SourceError> {
        let created = self.now()?.describe().await?.created_at;
        Ok(*self.read.lock().unwrap().get_or_insert(created) == created)
    }

    async fn begin(&self, from: &StartPosition) -> Result<(), SourceError> {
        match from {
            StartPosition::AtSequenceNumber(_) | StartPosition::AfterSequenceNumber(_)
                if !self.is_same().await? =>
            {
                let kind = SourceErrorKind::InvalidArgument;
                Err(SourceError::new(kind, "GetShardIterator"))
            }
            _ => self.is_same().await.map(drop),
        }
    }
}

#[async_trait]
impl ShardSource for Named {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        if self.name.starts_with(SILENT) {
            std::future::pending::<()>().await;
        }
        self.now()?.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.now()?.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.begin(from).await?;
        self.now()?.iterator(shard, from).await
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.now()?.describe_consumer(name).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.now()?.register_consumer(name).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        self.begin(from).await?;
        self.now()?.subscribe(consumer_arn, shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.now()?.get_records(iterator, limit).await
    }
}

/// What a tracker says, which a test may change.
#[derive(Clone)]
pub(super) struct List(Arc<Mutex<Result<Vec<String>, String>>>);

impl List {
    pub(super) fn of(names: &[&str]) -> Self {
        let list = Self(Arc::new(Mutex::new(Ok(Vec::new()))));
        list.set(names);
        list
    }

    pub(super) fn set(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        *self.0.lock().unwrap() = Ok(names);
    }

    pub(super) fn fail(&self) {
        *self.0.lock().unwrap() = Err("the list is locked".to_owned());
    }
}

#[async_trait]
impl StreamTracker for List {
    async fn streams(&self) -> Result<Vec<StreamConfig>, BoxError> {
        let list = self.0.lock().unwrap().clone()?;
        Ok(list.into_iter().map(StreamConfig::new).collect())
    }
}

/// One application on several streams.
pub(super) struct Stage {
    pub(super) runtime: Runtime,
    pub(super) account: Account,
    pub(super) table: Arc<MemoryLeaseTable>,
    /// What was processed: worker, stream, text.
    done: Arc<Mutex<Vec<(String, String, String)>>>,
}

struct Writer {
    worker: String,
    stream: String,
    done: Arc<Mutex<Vec<(String, String, String)>>>,
}

#[async_trait]
impl RecordProcessor for Writer {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        assert_eq!(input.shard().stream_name(), self.stream);
        assert!(input.shard().stream_arn().ends_with(&self.stream));
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for text in texts(&input) {
            let line = (self.worker.clone(), self.stream.clone(), text);
            self.done.lock().unwrap().push(line);
        }
        Ok(())
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            runtime: Runtime::virtual_time(11),
            account: Account::default(),
            table: Arc::new(MemoryLeaseTable::new()),
            done: Arc::default(),
        }
    }

    /// Makes a stream, anew if there is one.
    pub(super) fn create(&self, name: &str, shards: u32) -> MemoryStream {
        let stream = MemoryStream::named(name, shards, self.runtime.clone());
        let mut account = self.account.0.lock().unwrap();
        if let Some(before) = account.insert(name.to_owned(), stream.clone()) {
            before.delete();
            // Iterators are of one incarnation only.
            stream.expire_iterators();
        }
        stream
    }

    pub(super) fn builder(&self, worker: &str, streams: impl Into<Streams>) -> WorkerBuilder {
        let (worker, done) = (worker.to_owned(), Arc::clone(&self.done));
        let name = worker.clone();
        Worker::builder("app", streams, move |shard| Writer {
            worker: worker.clone(),
            stream: shard.stream_name().to_owned(),
            done: Arc::clone(&done),
        })
        .worker_name(name)
        .retrieval(crate::retrieval())
        .runtime(self.runtime.clone())
    }

    pub(super) fn start(&self, builder: WorkerBuilder) -> Running {
        let account = self.account.clone();
        let sources = move |stream: &StreamConfig| -> Arc<dyn ShardSource> {
            Arc::new(Named {
                account: account.clone(),
                name: stream.name().to_owned(),
                read: Mutex::default(),
            })
        };
        let table = Arc::clone(&self.table);
        let worker = builder.build_with_sources(sources, table).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (mut events, telling) = (worker.events(), Arc::clone(&told));
        let listener = self.runtime.spawn(async move {
            while let Some(event) = events.next().await {
                telling.lock().unwrap().push(event);
            }
        });
        Running {
            handle: worker.handle(),
            told,
            _listener: listener,
            task: self.runtime.spawn(worker.run()),
        }
    }

    /// What was processed of a stream, by whomever, in order.
    pub(super) fn done(&self, stream: &str) -> Vec<String> {
        let done = self.done.lock().unwrap();
        let of = done.iter().filter(|(_, of, _)| of == stream);
        of.map(|(_, _, text)| text.clone()).collect()
    }

    /// Who processed records.
    pub(super) fn workers(&self) -> Vec<String> {
        let done = self.done.lock().unwrap();
        let mut workers: Vec<String> = done.iter().map(|(worker, ..)| worker.clone()).collect();
        workers.sort();
        workers.dedup();
        workers
    }

    /// The keys of rows and items that say something of a stream.
    pub(super) fn rows(&self, stream: &str) -> Vec<String> {
        let of = format!(":{stream}:");
        let items = self.table.items();
        items
            .keys()
            .filter(|key| key.contains(&of))
            .cloned()
            .collect()
    }
}

pub(super) struct Running {
    pub(super) handle: WorkerHandle,
    told: Arc<Mutex<Vec<WorkerEvent>>>,
    _listener: tokio_util::task::AbortOnDropHandle<()>,
    task: tokio_util::task::AbortOnDropHandle<Result<ShutdownReport, WorkerError>>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.handle.shutdown();
        let report = self.result().await.unwrap();
        assert_eq!(report.abandoned, 0);
    }

    pub(super) async fn result(self) -> Result<ShutdownReport, WorkerError> {
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, self.task)
            .await
            .unwrap()
            .unwrap()
    }

    /// How many events are such.
    pub(super) fn told(&self, such: impl Fn(&WorkerEvent) -> bool) -> usize {
        self.told
            .lock()
            .unwrap()
            .iter()
            .filter(|event| such(event))
            .count()
    }

    pub(super) fn told_unavailable(&self, stream: &str) -> usize {
        self.told(|event| matches!(event, WorkerEvent::StreamUnavailable { stream: of, .. } if of == stream))
    }

    pub(super) fn told_removed(&self, name: &str) -> usize {
        self.told(|event| matches!(event, WorkerEvent::StreamRemoved { stream } if stream.name() == Some(name)))
    }
}

pub(super) fn put(stream: &MemoryStream, texts: &[&str]) {
    for text in texts {
        stream.put(text, (*text).to_owned()).unwrap();
    }
}
