//! An emulated account with one stream, and workers on it.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use kcl_aggregation::{HashKeyRange, PackLimits, Packer};
use kcl_core::{Runtime, Worker, WorkerBuilder};
use kcl_emulator::{Emulator, Service};
use tokio::time::Instant;

use crate::log::Log;
use crate::probe::Probe;

/// The stream of every test.
pub const STREAM: &str = "orders";
/// The application of every test.
pub const APPLICATION: &str = "orders-app";

/// No test waits longer than this, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// An emulated account with one stream.
#[derive(Debug)]
pub struct Stage {
    /// The account.
    pub emulator: Emulator,
    /// A Kinesis client that no fault befalls.
    pub kinesis: aws_sdk_kinesis::Client,
    /// A DynamoDB client that no fault befalls.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// What all processors were told.
    pub log: Log,
}

impl Stage {
    /// An account with a stream of so many shards.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self::on(
            Emulator::builder()
                .latency(Duration::from_millis(2))
                .build(),
            shards,
        )
    }

    /// A stream of so many shards in this account.
    #[must_use]
    pub fn on(emulator: Emulator, shards: u32) -> Self {
        emulator.create_stream(STREAM, shards).unwrap();
        let aws = emulator.sdk_config("test");
        Self {
            kinesis: aws_sdk_kinesis::Client::new(&aws),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            log: Log::default(),
            emulator,
        }
    }

    /// A worker of the application; its name is also the name by which faults know it.
    pub fn worker(&self, name: &str) -> WorkerBuilder {
        self.worker_with(name, Probe::new(name, &self.log))
    }

    /// A worker with clones of this processor.
    pub fn worker_with(&self, name: &str, processor: Probe) -> WorkerBuilder {
        Worker::builder(APPLICATION, STREAM, move |_shard| processor.clone())
            .worker_name(name)
            .runtime(Runtime::virtual_time(seed(name)))
    }

    /// Makes the worker and runs it until `until` is over, then stops it gracefully.
    pub async fn run_until(&self, name: &str, until: impl Future<Output = ()>) {
        self.run(name, self.worker(name), until).await;
    }

    /// Runs a worker until `until` is over, then stops it gracefully.
    pub async fn run(&self, name: &str, builder: WorkerBuilder, until: impl Future<Output = ()>) {
        let worker = builder.build(&self.emulator.sdk_config(name)).unwrap();
        let handle = worker.handle();
        let until = async {
            until.await;
            handle.shutdown();
        };
        let (stopped, ()) = tokio::join!(worker.run(), until);
        assert_eq!(stopped.unwrap().abandoned, 0, "{name} was not drained");
    }

    /// Runs a worker until everything that is in the stream has been processed.
    pub async fn catch_up(&self, name: &str) {
        self.catch_up_with(name, self.worker(name)).await;
    }

    /// Runs this worker until everything that is in the stream has been processed.
    pub async fn catch_up_with(&self, name: &str, builder: WorkerBuilder) {
        let worker = builder.build(&self.emulator.sdk_config(name)).unwrap();
        let handle = worker.handle();
        let worker = worker.with_graceful_shutdown(async move { handle.caught_up().await });
        let stopped = tokio::time::timeout(PATIENCE, worker.run()).await;
        assert_eq!(
            stopped.unwrap().unwrap().abandoned,
            0,
            "{name} was not drained"
        );
    }

    /// Runs a worker until `until` is over, then drops it in the middle of whatever it does, cut off from the services.
    pub async fn kill_after(
        &self,
        name: &str,
        builder: WorkerBuilder,
        until: impl Future<Output = ()>,
    ) {
        let worker = builder.build(&self.emulator.sdk_config(name)).unwrap();
        tokio::select! {
            biased;
            () = until => {}
            stopped = worker.run() => panic!("{name} stopped by itself: {stopped:?}"),
        }
        self.emulator.faults().partition(name);
    }

    /// Waits until `condition` holds.
    pub async fn wait(&self, what: &str, condition: impl Fn(&Log) -> bool) {
        let began = Instant::now();
        while !condition(&self.log) {
            assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many records were given to processors.
    pub async fn wait_for_records(&self, count: usize) {
        self.wait(&format!("{count} records came"), |log| {
            log.records() >= count
        })
        .await;
    }

    /// Waits until so many different records were given to processors.
    pub async fn wait_for_different(&self, count: usize) {
        let different = |log: &Log| log.data().into_iter().collect::<BTreeSet<_>>().len();
        self.wait(&format!("{count} different records came"), |log| {
            different(log) >= count
        })
        .await;
    }

    /// Puts a record; returns its sequence number.
    pub async fn put(&self, key: &str, data: &str) -> String {
        let put = self
            .kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key(key);
        let answer = put.data(Blob::new(data)).send().await.unwrap();
        answer.sequence_number
    }

    /// Puts so many records, numbered from `first`, over ten partition keys. Returns their payloads.
    pub async fn put_numbered(&self, first: usize, count: usize) -> Vec<String> {
        let payloads: Vec<String> = (first..first + count).map(|n| format!("{n:05}")).collect();
        for (offset, payload) in payloads.iter().enumerate() {
            self.put(&format!("key-{}", (first + offset) % 10), payload)
                .await;
        }
        payloads
    }

    /// Puts one aggregated record of these (key, payload) pairs, which goes to the shard of the first.
    pub async fn put_aggregate(&self, user_records: &[(&str, &str)]) -> String {
        let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
        for (key, data) in user_records {
            assert_eq!(packer.add(key, None, data.as_bytes()).unwrap(), None);
        }
        let packed = packer.flush().remove(0);
        let put = self.kinesis.put_record().stream_name(STREAM);
        let put = put.partition_key(packed.partition_key);
        let put = put.set_explicit_hash_key(packed.explicit_hash_key);
        put.data(Blob::new(packed.data.as_ref()))
            .send()
            .await
            .unwrap()
            .sequence_number
    }

    /// Splits a shard in the middle of a stream's range of `shards` equal shards.
    pub async fn split(&self, shard: &str) {
        let shards = self
            .kinesis
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await
            .unwrap();
        let shard = shards
            .shards()
            .iter()
            .find(|s| s.shard_id == shard)
            .unwrap()
            .clone();
        let range = shard.hash_key_range.unwrap();
        let start: u128 = range.starting_hash_key.parse().unwrap();
        let end: u128 = range.ending_hash_key.parse().unwrap();
        let split = self
            .kinesis
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split(shard.shard_id);
        let middle = start + (end - start) / 2 + 1;
        split
            .new_starting_hash_key(middle.to_string())
            .send()
            .await
            .unwrap();
    }

    /// Merges two adjacent shards.
    pub async fn merge(&self, shard: &str, other: &str) {
        let merge = self.kinesis.merge_shards().stream_name(STREAM);
        merge
            .shard_to_merge(shard)
            .adjacent_shard_to_merge(other)
            .send()
            .await
            .unwrap();
    }

    /// The lease row of a shard: (checkpoint, owner).
    pub async fn lease(&self, shard: &str) -> Option<(String, Option<String>)> {
        let get = self
            .dynamodb
            .get_item()
            .table_name(APPLICATION)
            .consistent_read(true);
        let get = get.key("leaseKey", AttributeValue::S(shard.to_owned()));
        let row = get.send().await.unwrap().item?;
        let text = |name: &str| row.get(name).and_then(|value| value.as_s().ok()).cloned();
        Some((text("checkpoint")?, text("leaseOwner")))
    }

    /// How often a worker called an operation.
    #[must_use]
    pub fn calls(&self, worker: &str, service: Service, operation: &str) -> u64 {
        self.emulator.calls().by(worker, service, operation)
    }
}

/// Different workers draw different random numbers.
fn seed(name: &str) -> u64 {
    name.bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte))
}
