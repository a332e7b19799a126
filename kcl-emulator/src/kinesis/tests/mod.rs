//! Tests of the engine as a whole, by the areas K01 to K26 of the emulator's yardstick. Every moment is given, none is measured.

mod basics;
mod fanout;
mod limits;
mod listing;
mod properties;
mod requests;
mod reshard;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Engine, EngineConfig, Request, SubscriptionPoll,
    api::{SubscribeToShardEvent, SubscriptionId},
};
use crate::{ApiError, Caller, Timestamp};

/// An engine and the moment at which it is asked.
pub(super) struct Lab {
    pub(super) engine: Engine,
    pub(super) now: Timestamp,
}

impl Lab {
    /// An engine without throttling whose transitions take no time.
    pub(super) fn new() -> Self {
        Self::with(EngineConfig {
            throttle_reads: false,
            throttle_writes: false,
            ..EngineConfig::default()
        })
    }

    pub(super) fn with(config: EngineConfig) -> Self {
        Self {
            engine: Engine::new(config),
            now: Timestamp(1_790_000_000_000),
        }
    }

    /// An engine whose streams take a second to change.
    pub(super) fn slow() -> Self {
        Self::with(EngineConfig {
            transition: Duration::from_secs(1),
            consumer_transition: Duration::from_secs(1),
            ..EngineConfig::default()
        })
    }

    /// An engine with a stream `s` of `shards` shards.
    pub(super) fn stream(shards: usize) -> Self {
        let mut lab = Self::new();
        lab.ok(
            "CreateStream",
            json!({"StreamName": "s", "ShardCount": shards}),
        );
        lab
    }

    pub(super) fn pass(&mut self, milliseconds: i64) {
        self.now = self.now.plus(milliseconds);
    }

    pub(super) fn call(&mut self, operation: &str, input: Value) -> Result<Value, ApiError> {
        let request = Request::decode(operation, input)?;
        let caller = Caller::new("test");
        let response = self.engine.call(self.now, &caller, request)?;
        Ok(serde_json::to_value(response).unwrap())
    }

    pub(super) fn ok(&mut self, operation: &str, input: Value) -> Value {
        let shown = input.to_string();
        self.call(operation, input)
            .unwrap_or_else(|error| panic!("{operation} {shown}: {error}"))
    }

    /// The error of a call that must be refused.
    pub(super) fn refused(&mut self, operation: &str, input: Value) -> ApiError {
        let shown = input.to_string();
        match self.call(operation, input) {
            Ok(answer) => panic!("{operation} {shown} was not refused: {answer}"),
            Err(error) => error,
        }
    }

    /// The code of the error of a call that must be refused.
    pub(super) fn code(&mut self, operation: &str, input: Value) -> String {
        self.refused(operation, input).code
    }

    /// Puts a record into `s` and returns its sequence number.
    pub(super) fn put(&mut self, key: &str, hash_key: u128, data: &[u8]) -> String {
        let data = base64_simd::STANDARD.encode_to_string(data);
        let answer = self.ok(
            "PutRecord",
            json!({
                "StreamName": "s", "PartitionKey": key, "Data": data, "ExplicitHashKey": hash_key.to_string(),
            }),
        );
        text(&answer["SequenceNumber"])
    }

    pub(super) fn iterator(&mut self, shard: u32, mut input: Value) -> String {
        input["StreamName"] = json!("s");
        input["ShardId"] = json!(shard_id(shard));
        text(&self.ok("GetShardIterator", input)["ShardIterator"])
    }

    pub(super) fn get(&mut self, iterator: &str) -> Value {
        self.ok("GetRecords", json!({"ShardIterator": iterator}))
    }

    /// The partition keys that a reader gets who starts like this and reads to the tip or to the end.
    pub(super) fn keys(&mut self, shard: u32, start: Value) -> Vec<String> {
        let iterator = self.iterator(shard, start);
        keys(&self.get(&iterator))
    }

    pub(super) fn shards(&mut self, filter: Value) -> Vec<String> {
        let mut input = json!({"StreamName": "s"});
        if !filter.is_null() {
            input["ShardFilter"] = filter;
        }
        let answer = self.ok("ListShards", input);
        let shards = answer["Shards"].as_array().unwrap();
        shards.iter().map(|shard| text(&shard["ShardId"])).collect()
    }

    pub(super) fn split(&mut self, shard: u32, at: u128) {
        self.ok(
            "SplitShard",
            json!({"StreamName": "s", "ShardToSplit": shard_id(shard), "NewStartingHashKey": at.to_string()}),
        );
    }

    pub(super) fn merge(&mut self, first: u32, second: u32) {
        self.ok(
            "MergeShards",
            json!({
                "StreamName": "s", "ShardToMerge": shard_id(first), "AdjacentShardToMerge": shard_id(second),
            }),
        );
    }

    pub(super) fn scale(&mut self, target: usize) {
        self.ok(
            "UpdateShardCount",
            json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}),
        );
    }

    /// Registers a consumer `name` of `s` and returns its ARN.
    pub(super) fn register(&mut self, name: &str) -> String {
        let answer = self.ok(
            "RegisterStreamConsumer",
            json!({"StreamARN": STREAM_ARN, "ConsumerName": name}),
        );
        text(&answer["Consumer"]["ConsumerARN"])
    }

    pub(super) fn try_subscribe(
        &mut self,
        consumer: &str,
        shard: u32,
        position: &Value,
    ) -> Result<SubscriptionId, ApiError> {
        let input = json!({"ConsumerARN": consumer, "ShardId": shard_id(shard), "StartingPosition": position});
        let request = Request::decode("SubscribeToShard", input)?;
        match self.engine.call(self.now, &Caller::new("test"), request)? {
            super::Response::SubscribeToShard(output) => Ok(output.subscription),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        consumer: &str,
        shard: u32,
        position: &Value,
    ) -> SubscriptionId {
        self.try_subscribe(consumer, shard, position).unwrap()
    }

    /// The next event, which must be there now.
    pub(super) fn event(&mut self, id: SubscriptionId) -> SubscribeToShardEvent {
        match self.poll(id) {
            SubscriptionPoll::Event(event) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    pub(super) fn status(&mut self) -> String {
        let answer = self.ok("DescribeStreamSummary", json!({"StreamName": "s"}));
        text(&answer["StreamDescriptionSummary"]["StreamStatus"])
    }

    pub(super) fn poll(&mut self, id: SubscriptionId) -> SubscriptionPoll {
        self.engine.poll_subscription(self.now, id)
    }
}

pub(super) const HALF: u128 = 1 << 127;
pub(super) const HOUR: i64 = 3_600_000;
pub(super) const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

pub(super) fn from_start() -> Value {
    json!({"ShardIteratorType": "TRIM_HORIZON"})
}

pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}

pub(super) fn shard_id(number: u32) -> String {
    super::shard::id(number)
}

pub(super) fn keys(answer: &Value) -> Vec<String> {
    let records = answer["Records"].as_array().unwrap();
    records
        .iter()
        .map(|record| text(&record["PartitionKey"]))
        .collect()
}
