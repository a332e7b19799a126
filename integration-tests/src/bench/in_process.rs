//! Reading in this process, without sockets and in virtual time: nothing but the code itself is measured.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use kcl_core::retrieval::{KinesisSource, OutOfRange, ShardSource, StartPosition, deaggregate};
use kcl_core::{
    HashKeyRange, LeaseTable, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Wire,
    Worker, async_trait,
};
use kcl_lease::MemoryLeaseTable;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::answers::{iterator, shard_id};
use super::case::Case;
use super::error::BenchError;
use super::loops::{CALLER, source::look_at};
use super::null_kinesis::{NullKinesis, STREAM, request};

/// What is read in this process.
#[derive(Debug, Clone, Copy)]
pub struct InProcess {
    /// The records.
    pub case: Case,
    /// How answers are written.
    pub wire: Wire,
    /// Shards of the stream, read in turn or side by side.
    pub shards: u32,
    /// Kinesis records in an answer, at most.
    pub limit: u16,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasRead {
    /// Answers.
    pub answers: u64,
    /// User records.
    pub records: u64,
}

impl InProcess {
    /// Reads so many answers in a loop around the source, and calls `seen` with the number of each.
    ///
    /// # Errors
    /// If the source fails.
    pub async fn bare(
        self,
        answers: u64,
        mut seen: impl FnMut(u64),
    ) -> Result<WasRead, BenchError> {
        let source = self.source();
        let mut iterators = Vec::new();
        for shard in 0..self.shards {
            let shard = shard_id(shard as usize).as_str().into();
            let first = source.iterator(&shard, &StartPosition::TrimHorizon).await;
            iterators.push(first.map_err(|error| failed("source", &error))?);
        }
        let (mut records, mut answer) = (0, 0);
        while answer < answers {
            for iterator in &mut iterators {
                let fetched = source.get_records(iterator, self.limit).await;
                let fetched = fetched.map_err(|error| failed("source", &error))?;
                *iterator = fetched.next.unwrap_or_else(|| iterator.clone());
                let batch = match self.case {
                    Case::Aggregated => {
                        let all = HashKeyRange::FULL;
                        deaggregate(fetched.batch, &all, OutOfRange::Deliver).0
                    }
                    Case::Bytes100 | Case::Kilobyte | Case::TenKilobytes => fetched.batch,
                };
                std::hint::black_box(batch.iter().map(look_at).sum::<usize>());
                records += batch.len() as u64;
                answer += 1;
                seen(answer);
            }
        }
        Ok(WasRead { answers, records })
    }

    /// Runs a worker until its processors have got so many answers. Needs tokio's clock to stand still where nothing is to be
    /// done: the worker keeps the limits of shards.
    ///
    /// # Errors
    /// If the worker ends by itself.
    pub async fn framework(
        self,
        answers: NonZeroU64,
        seen: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<WasRead, BenchError> {
        let progress = Arc::new(Progress {
            wanted: answers.get(),
            seen: Box::new(seen),
            answers: AtomicU64::new(0),
            records: AtomicU64::new(0),
            done: Notify::new(),
        });
        let table: Arc<dyn LeaseTable> = Arc::new(MemoryLeaseTable::new());
        let processor = Looker(Arc::clone(&progress));
        let worker = Worker::builder("bench", STREAM, move |_| processor.clone())
            .max_records(self.limit)
            .runtime(Runtime::virtual_time(1))
            .build_with(Arc::new(self.source()), table)
            .map_err(|error| failed("worker", &error))?;
        tokio::select! {
            ended = worker.run() => Err(BenchError::Consumer {
                consumer: "worker".to_owned(),
                reason: format!("it ended by itself: {ended:?}"),
            }),
            () = progress.done.notified() => Ok(WasRead {
                answers: progress.answers.load(Ordering::Relaxed),
                records: progress.records.load(Ordering::Relaxed),
            }),
        }
    }

    /// Makes so many answers that nobody reads: what the others do not do themselves.
    #[must_use]
    pub fn serve(self, answers: u64) -> WasRead {
        let kinesis = NullKinesis::new(self.case, self.shards);
        for answer in 0..answers {
            let from = answer * u64::from(self.limit);
            let (content_type, body) = request(self.wire, &iterator(0, from), self.limit);
            std::hint::black_box(kinesis.answer("GetRecords", content_type, &body));
        }
        WasRead {
            answers,
            records: answers * u64::from(self.limit) * self.case.users() as u64,
        }
    }

    fn source(self) -> KinesisSource {
        let server = Server(Arc::new(NullKinesis::new(self.case, self.shards)));
        let aws = crate::aws::called_by(CALLER)
            .http_client(http_client_fn(move |_: &HttpConnectorSettings, _| {
                SharedHttpConnector::new(server.clone())
            }))
            .build();
        KinesisSource::new(&aws, STREAM, None).with_wire(self.wire)
    }
}

/// The Kinesis that does nothing, without a socket.
#[derive(Clone)]
struct Server(Arc<NullKinesis>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl HttpConnector for Server {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name| request.headers().get(name).unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let reply = self
            .0
            .answer(header("x-amz-target"), header("content-type"), body);
        let length = reply.body.len().to_string();
        let status = match reply.status.try_into() {
            Ok(status) => status,
            Err(error) => {
                let error = ConnectorError::other(Box::new(error), None);
                return HttpConnectorFuture::ready(Err(error));
            }
        };
        let mut response = HttpResponse::new(status, SdkBody::from(reply.body));
        let headers = response.headers_mut();
        headers.insert("content-length", length);
        headers.insert("content-type", reply.content_type);
        HttpConnectorFuture::ready(Ok(response))
    }
}

struct Progress {
    wanted: u64,
    seen: Box<dyn Fn(u64) + Send + Sync>,
    answers: AtomicU64,
    records: AtomicU64,
    done: Notify,
}

#[derive(Clone)]
struct Looker(Arc<Progress>);

#[async_trait]
impl RecordProcessor for Looker {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        std::hint::black_box(input.iter().map(look_at).sum::<usize>());
        let progress = &self.0;
        let records = input.len() as u64;
        progress.records.fetch_add(records, Ordering::Relaxed);
        let answers = progress.answers.fetch_add(1, Ordering::Relaxed) + 1;
        (progress.seen)(answers);
        if answers >= progress.wanted {
            progress.done.notify_one();
        }
        Ok(())
    }
}

fn failed(consumer: &str, error: &(dyn std::error::Error + 'static)) -> BenchError {
    BenchError::Consumer {
        consumer: consumer.to_owned(),
        reason: error.to_string(),
    }
}
