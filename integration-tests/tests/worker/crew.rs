//! Several workers at once, and who of them holds what.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use futures_util::future::join_all;
use integration_tests::{APPLICATION, STREAM, Stage};
use kcl_core::{Worker, WorkerBuilder, WorkerHandle};
use tokio::time::Instant;

/// The lease duration of a worker that is told nothing else.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// As many as the service takes in one call of `PutRecords`.
const RECORDS_IN_CALL: usize = 500;

/// Workers that start at the same time; faults know them as `w0`, `w1` and so on, and all together as `w*`.
pub(crate) struct Crew<'a> {
    stage: &'a Stage,
    handles: Vec<WorkerHandle>,
    workers: Vec<Worker>,
}

impl<'a> Crew<'a> {
    pub(crate) fn new(stage: &'a Stage, size: usize, make: impl Fn(&str) -> WorkerBuilder) -> Self {
        let make = |name: String| {
            make(&name)
                .build(&stage.emulator.sdk_config(&name))
                .unwrap()
        };
        let workers: Vec<Worker> = (0..size).map(|n| make(format!("w{n}"))).collect();
        Self {
            stage,
            handles: workers.iter().map(Worker::handle).collect(),
            workers,
        }
    }

    /// Runs all of them until the script is over; none may end before.
    pub(crate) async fn run(mut self, script: impl AsyncFnOnce(&Self)) {
        let workers = std::mem::take(&mut self.workers);
        tokio::select! {
            () = script(&self) => {}
            stopped = join_all(workers.into_iter().map(Worker::run)) => panic!("{stopped:?}"),
        }
    }

    /// Waits until every shard is held and nobody holds two more than another.
    pub(crate) async fn balanced(&self, shards: usize) {
        let began = Instant::now();
        loop {
            let held: Vec<usize> = self.handles.iter().map(|h| h.shards().len()).collect();
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            if held.iter().sum::<usize>() == shards && most - least <= 1 {
                return;
            }
            assert!(began.elapsed() < 12 * LEASE, "not balanced: {held:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Which worker of the crew processes which shard, at rest.
    pub(crate) fn holders(&self) -> BTreeMap<String, usize> {
        let mut holders = BTreeMap::new();
        for (worker, handle) in self.handles.iter().enumerate() {
            for shard in handle.shards() {
                let other = holders.insert(shard.as_str().to_owned(), worker);
                assert_eq!(other, None, "two workers process {shard:?}");
            }
        }
        holders
    }

    /// How many leases were granted to workers of the crew so far.
    pub(crate) fn granted(&self) -> u64 {
        let granted = self.handles.iter().map(|h| h.counters().leases_granted);
        granted.sum()
    }

    /// How many leases workers of the crew lost so far.
    pub(crate) fn lost(&self) -> u64 {
        let lost = self.handles.iter().map(|h| h.counters().leases_lost);
        lost.sum()
    }

    /// The owners in the lease table, by shard.
    pub(crate) async fn owners(&self) -> BTreeMap<String, Option<String>> {
        let scan = self.stage.dynamodb.scan().table_name(APPLICATION);
        let mut pages = scan.consistent_read(true).into_paginator().send();
        let mut owners = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for row in page.unwrap().items.unwrap_or_default() {
                let text = |name: &str| row.get(name).and_then(|value| value.as_s().ok()).cloned();
                let shard = row.get("leaseKey").map(AttributeValue::as_s);
                let shard = shard.unwrap().unwrap().clone();
                if shard.starts_with("shardId-") {
                    owners.insert(shard, text("leaseOwner"));
                }
            }
        }
        owners
    }
}

/// Puts one record into each shard of a stream that was never resharded.
pub(crate) async fn put_into_each(stage: &Stage, shards: u32, data: &str) {
    let width = u128::MAX / u128::from(shards);
    let records: Vec<PutRecordsRequestEntry> = (0..shards)
        .map(|shard| {
            let hash = width * u128::from(shard) + width / 2;
            record(&format!("key-{shard}"), &format!("{data}-{shard}"))
                .explicit_hash_key(hash.to_string())
                .build()
                .unwrap()
        })
        .collect();
    put_all(stage, &records).await;
}

/// One record of [`put_all`].
pub(crate) fn record(
    key: &str,
    data: &str,
) -> aws_sdk_kinesis::types::builders::PutRecordsRequestEntryBuilder {
    PutRecordsRequestEntry::builder()
        .partition_key(key)
        .data(Blob::new(data))
}

/// Puts records in this order.
pub(crate) async fn put_all(stage: &Stage, records: &[PutRecordsRequestEntry]) {
    for some in records.chunks(RECORDS_IN_CALL) {
        let put = stage.kinesis.put_records().stream_name(STREAM);
        let answer = put.set_records(Some(some.to_vec())).send().await.unwrap();
        assert_eq!(answer.failed_record_count, Some(0));
    }
}
