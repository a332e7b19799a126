//! One shard: its place among the hash keys, its lineage, its records.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    api::{self, Blob, PartitionKey, SubscriptionId},
    hash_key::HashRange,
    limits::Bucket,
    sequence::SequenceNumber,
};
use crate::Timestamp;

const MIB: i64 = 1024 * 1024;

/// A point in the history of an engine. Positions tell apart what happens within one millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) time: Timestamp,
    pub(super) index: u64,
}

impl Moment {
    /// Just before everything that happens at `time`.
    pub(super) fn before(time: Timestamp) -> Self {
        Self { time, index: 0 }
    }
}

/// A stored record; its sequence number follows from its index, its arrival and its shard.
#[derive(Debug, Clone)]
pub(super) struct StoredRecord {
    pub(super) index: u64,
    pub(super) arrived: Timestamp,
    pub(super) partition_key: PartitionKey,
    pub(super) data: Bytes,
    pub(super) encrypted: bool,
}

impl StoredRecord {
    /// What the record counts for limits: payload and partition key.
    pub(super) fn size(&self) -> i64 {
        size(&self.data, &self.partition_key)
    }
}

/// What a payload and a partition key count for limits, in bytes.
pub(super) fn size(data: &[u8], partition_key: &str) -> i64 {
    i64::try_from(data.len() + partition_key.len()).unwrap_or(i64::MAX)
}

/// The limits of one shard, as the service documents them.
#[derive(Debug, Clone)]
pub(super) struct ShardLimits {
    pub(super) bytes_in: Bucket,
    pub(super) records_in: Bucket,
    pub(super) bytes_out: Bucket,
    pub(super) calls_out: Bucket,
}

#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) number: u32,
    pub(super) range: HashRange,
    pub(super) parent: Option<u32>,
    pub(super) adjacent_parent: Option<u32>,
    pub(super) children: Vec<u32>,
    pub(super) opened: Moment,
    pub(super) closed: Option<Moment>,
    pub(super) log: VecDeque<StoredRecord>,
    pub(super) limits: ShardLimits,
    /// Subscriptions that wait for what happens here.
    pub(super) followers: BTreeSet<SubscriptionId>,
}

impl Shard {
    pub(super) fn new(number: u32, range: HashRange, opened: Moment) -> Self {
        Self {
            number,
            range,
            parent: None,
            adjacent_parent: None,
            children: Vec::new(),
            opened,
            closed: None,
            log: VecDeque::new(),
            limits: ShardLimits {
                bytes_in: Bucket::new(MIB),
                records_in: Bucket::new(1000),
                bytes_out: Bucket::new(2 * MIB),
                calls_out: Bucket::new(5),
            },
            followers: BTreeSet::new(),
        }
    }

    pub(super) fn id(&self) -> String {
        id(self.number)
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether the shard was open at a moment.
    pub(super) fn was_open(&self, moment: Moment) -> bool {
        self.opened <= moment && !self.ended_before(moment)
    }

    /// Whether the shard was closed by then.
    pub(super) fn ended_before(&self, moment: Moment) -> bool {
        self.closed.is_some_and(|closed| closed < moment)
    }

    /// The first position at which the shard can have a record.
    pub(super) fn first_index(&self) -> u64 {
        self.opened.index + 1
    }

    /// Where in the log the first record at or after `index` is.
    pub(super) fn offset(&self, index: u64) -> usize {
        self.log.partition_point(|record| record.index < index)
    }

    /// Where in the log the first record is that arrived at `time` or later.
    pub(super) fn offset_of_time(&self, time: Timestamp) -> usize {
        self.log.partition_point(|record| record.arrived < time)
    }

    /// Drops the records that arrived before `time`.
    pub(super) fn trim(&mut self, time: Timestamp) {
        if self.log.front().is_some_and(|record| record.arrived < time) {
            self.log.drain(..self.offset_of_time(time));
        }
    }

    /// The sequence number of a position in this shard.
    pub(super) fn number_at(&self, created: Timestamp, moment: Moment) -> SequenceNumber {
        SequenceNumber::new(created, moment.index, moment.time, self.number)
    }

    /// A record in the form of the API.
    pub(super) fn record(&self, created: Timestamp, record: &StoredRecord) -> api::Record {
        let moment = Moment {
            time: record.arrived,
            index: record.index,
        };
        api::Record {
            sequence_number: self.number_at(created, moment),
            approximate_arrival_timestamp: record.arrived,
            data: Blob(record.data.clone()),
            partition_key: record.partition_key.clone(),
            encryption_type: record.encrypted.then_some("KMS"),
        }
    }

    /// The shard in the form of listings.
    pub(super) fn to_api(&self, created: Timestamp) -> api::Shard {
        api::Shard {
            shard_id: self.id(),
            parent_shard_id: self.parent.map(id),
            adjacent_parent_shard_id: self.adjacent_parent.map(id),
            hash_key_range: self.range.to_api(),
            sequence_number_range: api::SequenceNumberRange {
                starting_sequence_number: self.number_at(created, self.opened),
                ending_sequence_number: self.closed.map(|closed| self.number_at(created, closed)),
            },
        }
    }

    /// The shard as its parents announce it at their end.
    pub(super) fn to_child(&self) -> api::ChildShard {
        api::ChildShard {
            shard_id: self.id(),
            parent_shards: self
                .parent
                .into_iter()
                .chain(self.adjacent_parent)
                .map(id)
                .collect(),
            hash_key_range: self.range.to_api(),
        }
    }
}

/// The id of a shard.
pub(super) fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number in a shard's id; the service takes it with or without leading zeros.
pub(super) fn number(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-")?;
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| digits.parse().ok()).flatten()
}
