//! The engine: all streams of one account in one region.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    api::{Request, Response, SubscriptionId},
    arn, hash_key, reshard,
    sequence::SequenceNumber,
    shard::Moment,
    stream::{Change, Pending, Status, Stream},
    subscribe::Subscription,
};
use crate::{ApiError, Caller, Timestamp};

/// What an engine is like. The defaults are the service's, but that transitions take no time.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The account that owns every stream.
    pub account: String,
    /// The region of every stream.
    pub region: String,
    /// Whether a shard gives no more than 2 MiB and 5 calls a second.
    pub throttle_reads: bool,
    /// Whether a shard takes no more than 1 MiB and 1,000 records a second.
    pub throttle_writes: bool,
    /// How long a stream is `CREATING`, `UPDATING` or `DELETING`.
    pub transition: Duration,
    /// How long a registered consumer is `CREATING` or `DELETING`.
    pub consumer_transition: Duration,
    /// How long a shard iterator can be used.
    pub iterator_lifetime: Duration,
    /// How long a subscription lasts.
    pub subscription_lifetime: Duration,
    /// How many shards the account may have open.
    pub shard_limit: usize,
    /// How many on-demand streams the account may have.
    pub on_demand_stream_limit: usize,
    /// How often the shard count of a stream may be updated in 24 hours.
    pub scalings_per_day: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            throttle_reads: true,
            throttle_writes: true,
            transition: Duration::ZERO,
            consumer_transition: Duration::ZERO,
            iterator_lifetime: Duration::from_mins(5),
            subscription_lifetime: Duration::from_mins(5),
            shard_limit: 20_000,
            on_demand_stream_limit: 50,
            scalings_per_day: 10,
        }
    }
}

/// Kinesis for one account in one region.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    /// The latest moment that was handed in.
    pub(super) now: Timestamp,
    /// Who asks.
    pub(super) caller: Caller,
    /// The last position given out: to a record, or to the opening or closing of a shard.
    pub(super) index: u64,
    pub(super) streams: BTreeMap<String, Stream>,
    /// When which stream has a transition to finish.
    agenda: BTreeSet<(Timestamp, String)>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    pub(super) last_subscription: u64,
    pub(super) woken: BTreeSet<SubscriptionId>,
    /// Iterators issued before this moment count as expired.
    pub(super) iterators_valid_from: Timestamp,
}

impl Engine {
    /// An engine without streams.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            now: Timestamp(0),
            caller: Caller::new(""),
            index: 0,
            streams: BTreeMap::new(),
            agenda: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            last_subscription: 0,
            woken: BTreeSet::new(),
            iterators_valid_from: Timestamp(i64::MIN),
        }
    }

    /// The ARN of the stream called `name`, whether there is one or not.
    #[must_use]
    pub fn stream_arn(&self, name: &str) -> String {
        arn::of_stream(&self.config.region, &self.config.account, name)
    }

    /// Carries one request out at the moment `now`. Time never goes back: an earlier `now` counts as the latest one so far.
    ///
    /// # Errors
    /// What the service answers to such a request.
    pub fn call(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: Request,
    ) -> Result<Response, ApiError> {
        self.settle(now);
        self.caller.clone_from(caller);
        match request {
            Request::AddTagsToStream(input) => self
                .add_tags_to_stream(&input)
                .map(Response::AddTagsToStream),
            Request::CreateStream(input) => self.create_stream(input).map(Response::CreateStream),
            Request::DecreaseStreamRetentionPeriod(input) => self
                .decrease_retention(&input)
                .map(Response::DecreaseStreamRetentionPeriod),
            Request::DeleteResourcePolicy(input) => self
                .delete_resource_policy(&input)
                .map(Response::DeleteResourcePolicy),
            Request::DeleteStream(input) => self.delete_stream(&input).map(Response::DeleteStream),
            Request::DeregisterStreamConsumer(input) => self
                .deregister_stream_consumer(&input)
                .map(Response::DeregisterStreamConsumer),
            Request::DescribeLimits(_) => Ok(Response::DescribeLimits(self.describe_limits())),
            Request::DescribeStream(input) => {
                self.describe_stream(&input).map(Response::DescribeStream)
            }
            Request::DescribeStreamConsumer(input) => self
                .describe_stream_consumer(&input)
                .map(Response::DescribeStreamConsumer),
            Request::DescribeStreamSummary(input) => self
                .describe_stream_summary(&input)
                .map(Response::DescribeStreamSummary),
            Request::DisableEnhancedMonitoring(input) => self
                .disable_enhanced_monitoring(&input)
                .map(Response::DisableEnhancedMonitoring),
            Request::EnableEnhancedMonitoring(input) => self
                .enable_enhanced_monitoring(&input)
                .map(Response::EnableEnhancedMonitoring),
            Request::GetRecords(input) => self.get_records(&input).map(Response::GetRecords),
            Request::GetResourcePolicy(input) => self
                .get_resource_policy(&input)
                .map(Response::GetResourcePolicy),
            Request::GetShardIterator(input) => self
                .get_shard_iterator(&input)
                .map(Response::GetShardIterator),
            Request::IncreaseStreamRetentionPeriod(input) => self
                .increase_retention(&input)
                .map(Response::IncreaseStreamRetentionPeriod),
            Request::ListShards(input) => self.list_shards(&input).map(Response::ListShards),
            Request::ListStreamConsumers(input) => self
                .list_stream_consumers(&input)
                .map(Response::ListStreamConsumers),
            Request::ListStreams(input) => self.list_streams(&input).map(Response::ListStreams),
            Request::ListTagsForResource(input) => self
                .list_tags_for_resource(&input)
                .map(Response::ListTagsForResource),
            Request::ListTagsForStream(input) => self
                .list_tags_for_stream(&input)
                .map(Response::ListTagsForStream),
            Request::MergeShards(input) => self.merge_shards(&input).map(Response::MergeShards),
            Request::PutRecord(input) => self.put_record(input).map(Response::PutRecord),
            Request::PutRecords(input) => self.put_records(input).map(Response::PutRecords),
            Request::PutResourcePolicy(input) => self
                .put_resource_policy(&input)
                .map(Response::PutResourcePolicy),
            Request::RegisterStreamConsumer(input) => self
                .register_stream_consumer(&input)
                .map(Response::RegisterStreamConsumer),
            Request::RemoveTagsFromStream(input) => self
                .remove_tags_from_stream(&input)
                .map(Response::RemoveTagsFromStream),
            Request::SplitShard(input) => self.split_shard(&input).map(Response::SplitShard),
            Request::StartStreamEncryption(input) => self
                .start_stream_encryption(&input)
                .map(Response::StartStreamEncryption),
            Request::StopStreamEncryption(input) => self
                .stop_stream_encryption(&input)
                .map(Response::StopStreamEncryption),
            Request::SubscribeToShard(input) => self
                .subscribe_to_shard(&input)
                .map(Response::SubscribeToShard),
            Request::TagResource(input) => self.tag_resource(&input).map(Response::TagResource),
            Request::UntagResource(input) => {
                self.untag_resource(&input).map(Response::UntagResource)
            }
            Request::UpdateMaxRecordSize(input) => self
                .update_max_record_size(&input)
                .map(Response::UpdateMaxRecordSize),
            Request::UpdateShardCount(input) => self
                .update_shard_count(&input)
                .map(Response::UpdateShardCount),
            Request::UpdateStreamMode(input) => self
                .update_stream_mode(&input)
                .map(Response::UpdateStreamMode),
        }
    }

    /// Finishes every transition that is due at `now`, each at the moment at which it fell due.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((due, _)) = self.agenda.first() {
            if *due > self.now {
                break;
            }
            let Some((due, name)) = self.agenda.pop_first() else {
                break;
            };
            let pending = self
                .streams
                .get_mut(&name)
                .and_then(|stream| stream.pending.take_if(|pending| pending.due == due));
            if let Some(pending) = pending {
                self.finish(&name, pending);
            }
        }
    }

    fn finish(&mut self, name: &str, Pending { due, change }: Pending) {
        let first = self.index + 1;
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        stream.status = Status::Active;
        let woken = stream.followers().collect::<Vec<_>>();
        match change {
            Change::Create { shards } => {
                let ranges = hash_key::tiles(hash_key::uniform_starts(shards));
                let opened = ranges.into_iter().zip(first..).map(|(range, index)| {
                    let moment = Moment { time: due, index };
                    stream.open_shard(range, moment);
                    moment
                });
                if let Some(moment) = opened.last() {
                    stream.begin(moment);
                    self.index = moment.index;
                }
            }
            Change::Reshard(steps) => self.index = reshard::apply(stream, &steps, due, first),
            Change::Delete => {
                self.streams.remove(name);
            }
            Change::Setting => return,
        }
        self.woken.extend(woken);
    }

    /// Finishes the transition of a stream now, however long it would still take.
    pub fn finish_transition(&mut self, stream: &str) {
        let pending = self.streams.get_mut(stream);
        if let Some(pending) = pending.and_then(|stream| stream.pending.take()) {
            let due = self.now;
            self.finish(stream, Pending { due, ..pending });
        }
    }

    /// Lets a stream go through a transition with this status and this end.
    pub(super) fn begin_transition(&mut self, name: &str, status: Status, change: Change) {
        let due = self.now.plus(milliseconds(self.config.transition));
        if let Some(stream) = self.streams.get_mut(name) {
            stream.status = status;
            stream.pending = Some(Pending { due, change });
            // Its subscriptions shall know when to look again.
            self.woken.extend(stream.followers());
            self.agenda.insert((due, name.to_owned()));
        }
    }

    /// The moment `now` at the next free position.
    pub(super) fn next_moment(&mut self) -> Moment {
        self.index += 1;
        Moment {
            time: self.now,
            index: self.index,
        }
    }

    /// The open shards of the account.
    pub(super) fn open_shard_count(&self) -> usize {
        self.streams.values().map(Stream::open_count).sum()
    }
}

/// A duration in milliseconds.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A stored record as tests see it: the truth that an answer can be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRecord {
    /// The id of its shard.
    pub shard_id: String,
    /// Its sequence number.
    pub sequence_number: SequenceNumber,
    /// When it arrived.
    pub arrived: Timestamp,
    /// Its partition key.
    pub partition_key: Arc<str>,
    /// Its payload.
    pub data: bytes::Bytes,
}

/// Looking in from the side, for tests.
impl Engine {
    /// The names of the streams.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(String::as_str)
    }

    /// Every record of a stream that is not trimmed yet, in the order in which they were put.
    #[must_use]
    pub fn log(&self, stream: &str) -> Vec<LoggedRecord> {
        let Some(stream) = self.streams.get(stream) else {
            return Vec::new();
        };
        let mut log: Vec<_> = stream
            .shards
            .values()
            .flat_map(|shard| {
                shard.log.iter().map(|record| {
                    let record = shard.record(stream.created, record);
                    LoggedRecord {
                        shard_id: shard.id(),
                        sequence_number: record.sequence_number,
                        arrived: record.approximate_arrival_timestamp,
                        partition_key: record.partition_key.0,
                        data: record.data.0,
                    }
                })
            })
            .collect();
        log.sort_by_key(|record| record.sequence_number);
        log
    }

    /// Makes every iterator that was issued before `now` count as expired.
    pub fn expire_iterators_before(&mut self, now: Timestamp) {
        self.iterators_valid_from = now;
    }
}
