//! An account with streams in memory, a table, and processors that write down what they get of which stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_types::SdkConfig;
use aws_types::region::Region;
use kcl_core::retrieval::{MemoryStream, ShardSource};
use kcl_core::{
    BoxError, InitializationInput, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime,
    ShutdownReport, StreamConfig, StreamTracker, Streams, Worker, WorkerBuilder, WorkerError,
    WorkerEvent, WorkerHandle, async_trait,
};
use kcl_lease::write::{Change, RowWrite};
use kcl_lease::{LeaseTable, MemoryLeaseTable};

use super::account::{Account, FAR, Named};
use crate::fixture::texts;

/// What a tracker says, which a test may change, and how often it was asked. Streams that are far away come with a client of their
/// own.
#[derive(Clone)]
pub(super) struct List(Arc<Mutex<Said>>);

struct Said {
    answer: Answer,
    asked: usize,
}

#[derive(Clone)]
enum Answer {
    Streams(Vec<String>),
    Fails,
    NeverComes,
}

impl List {
    pub(super) fn of(names: &[&str]) -> Self {
        let answer = Answer::Streams(Vec::new());
        let list = Self(Arc::new(Mutex::new(Said { answer, asked: 0 })));
        list.set(names);
        list
    }

    fn answer(&self, answer: Answer) {
        self.0.lock().unwrap().answer = answer;
    }

    pub(super) fn set(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.answer(Answer::Streams(names));
    }

    pub(super) fn fail(&self) {
        self.answer(Answer::Fails);
    }

    pub(super) fn hang(&self) {
        self.answer(Answer::NeverComes);
    }

    pub(super) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }
}

#[async_trait]
impl StreamTracker for List {
    async fn streams(&self) -> Result<Vec<StreamConfig>, BoxError> {
        let answer = {
            let mut said = self.0.lock().unwrap();
            said.asked += 1;
            said.answer.clone()
        };
        match answer {
            Answer::Streams(names) => Ok(names.iter().map(|name| config(name)).collect()),
            Answer::Fails => Err("the list is locked".into()),
            Answer::NeverComes => std::future::pending().await,
        }
    }
}

fn config(name: &str) -> StreamConfig {
    let config = StreamConfig::new(name);
    match name.starts_with(FAR) {
        true => config.aws(
            SdkConfig::builder()
                .region(Region::new("us-east-1"))
                .build(),
        ),
        false => config,
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
        self.account.put(name, &stream);
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
            Arc::new(Named::new(&account, stream))
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

    /// How many records of a stream this worker processed.
    pub(super) fn done_by(&self, worker: &str, stream: &str) -> usize {
        let done = self.done.lock().unwrap();
        let by = done
            .iter()
            .filter(|(by, of, _)| by == worker && of == stream);
        by.count()
    }

    /// Who processed records.
    pub(super) fn workers(&self) -> Vec<String> {
        let done = self.done.lock().unwrap();
        let mut workers: Vec<String> = done.iter().map(|(worker, ..)| worker.clone()).collect();
        workers.sort();
        workers.dedup();
        workers
    }

    /// Deletes the lease of a stream's first shard by hand: whoever leads finds out by a listing what is missing.
    pub(super) async fn delete_lease(&self, stream: &str) -> String {
        let mut leases = self.rows(stream).into_iter();
        let key = leases.find(|key| key.contains(":shardId-")).unwrap();
        let delete = RowWrite {
            key: key.clone(),
            condition: Vec::new(),
            change: Change::Delete,
        };
        self.table.write(delete).await.unwrap();
        key
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
