//! How often reading allocates, counted over the whole process: the SDK, the decoder, and the worker with everything in it.
//! A program of its own, because it counts every allocation.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use aws_types::region::Region;
use integration_tests::bench::{Case, NullKinesis, STREAM};
use kcl_core::retrieval::{KinesisSource, ShardSource, StartPosition};
use kcl_core::{
    LeaseTable, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Wire, Worker,
    async_trait,
};
use kcl_lease::MemoryLeaseTable;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// In answers with 1,000 records of 100 bytes.
const MOST_PER_RECORD: f64 = 0.5;
const ANSWERS: u64 = 40;
const RECORDS: u16 = 1_000;

fn allocations() -> u64 {
    let stats = HEAP.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// The Kinesis that does nothing, in the process. What it allocates counts, too: a handful for each answer.
#[derive(Clone)]
struct InProcess(Arc<NullKinesis>);

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name| request.headers().get(name).unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let reply = self
            .0
            .answer(header("x-amz-target"), header("content-type"), body);
        let length = reply.body.len().to_string();
        let status = reply.status.try_into().unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(reply.body));
        let headers = response.headers_mut();
        headers.insert("content-length", length);
        headers.insert("content-type", reply.content_type);
        HttpConnectorFuture::ready(Ok(response))
    }
}

fn source(wire: Wire) -> KinesisSource {
    let server = InProcess(Arc::new(NullKinesis::new(Case::Bytes100, 1)));
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _| {
            SharedHttpConnector::new(server.clone())
        }))
        .build();
    KinesisSource::new(&aws, STREAM, None).with_wire(wire)
}

/// Allocations per record of a bare loop.
async fn bare(wire: Wire) -> f64 {
    let source = source(wire);
    let shard = "shardId-000000000000".into();
    let first = source.iterator(&shard, &StartPosition::TrimHorizon).await;
    let (mut iterator, mut before, mut records) = (first.unwrap(), 0, 0);
    // The first answers fill pools and caches.
    for answer in 0..ANSWERS + 10 {
        if answer == 10 {
            (before, records) = (allocations(), 0);
        }
        let fetched = source.get_records(&iterator, RECORDS).await.unwrap();
        records += fetched.batch.len();
        iterator = fetched.next.unwrap();
    }
    per_record(allocations() - before, records as u64)
}

/// Allocations per record of a worker, leases, checkpoints and all.
async fn framework(wire: Wire) -> f64 {
    let records = Arc::new(AtomicU64::new(0));
    let table: Arc<dyn LeaseTable> = Arc::new(MemoryLeaseTable::new());
    let counter = Counter(Arc::clone(&records));
    let worker = Worker::builder("allocations", STREAM, move |_| counter.clone())
        .max_records(RECORDS)
        .runtime(Runtime::virtual_time(1))
        .build_with(Arc::new(source(wire)), table)
        .unwrap();
    let seen = || records.load(Ordering::Relaxed);
    let measure = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, began) = (allocations(), seen());
        // Five answers a second.
        tokio::time::sleep(Duration::from_millis(ANSWERS * 200)).await;
        assert!(seen() - began > ANSWERS * u64::from(RECORDS) / 2);
        per_record(allocations() - before, seen() - began)
    };
    tokio::select! {
        ended = worker.run() => panic!("the worker ended: {ended:?}"),
        measured = measure => measured,
    }
}

fn per_record(allocations: u64, records: u64) -> f64 {
    allocations as f64 / records as f64
}

#[derive(Clone)]
struct Counter(Arc<AtomicU64>);

#[async_trait]
impl RecordProcessor for Counter {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.0.fetch_add(input.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

// One test, so that no other one allocates meanwhile.
#[tokio::test(start_paused = true)]
async fn reading_allocates_per_answer_and_not_per_record() {
    for wire in [Wire::Json, Wire::Cbor] {
        let (bare, framework) = (bare(wire).await, framework(wire).await);
        println!("{wire:?}: {bare:.3} allocations per record, in a worker {framework:.3}");
        assert!(bare <= MOST_PER_RECORD, "{wire:?}: {bare:.3} per record");
        assert!(
            framework <= MOST_PER_RECORD,
            "{wire:?}, in a worker: {framework:.3} per record"
        );
    }
}
