//! One record on its way into the stream.

use std::ops::AddAssign;

use bytes::Bytes;
use kcl_aggregation::{HashKeyRange, PackedRecord, effective_hash_key};

/// What must not overtake what: of one group at most one record is in flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Records of one partition key.
    Key(String),
    /// Aggregated records of one shard, known by its lowest hash key.
    Shard(u128),
}

/// One record on its way into the stream.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The partition key.
    pub partition_key: String,
    /// The explicit hash key, if it has one.
    pub explicit_hash_key: Option<String>,
    /// The payload.
    pub data: Bytes,
    /// How many user records it holds.
    pub user_records: u64,
    /// What it must not overtake.
    pub group: Group,
}

impl Entry {
    /// A record that holds one user record.
    #[must_use]
    pub fn plain(partition_key: String, data: Bytes) -> Self {
        Self {
            group: Group::Key(partition_key.clone()),
            partition_key,
            explicit_hash_key: None,
            data,
            user_records: 1,
        }
    }

    /// What a packer for a stream with these open shards put out.
    #[must_use]
    pub fn packed(record: PackedRecord, shards: &[HashKeyRange]) -> Self {
        let hash_key =
            effective_hash_key(&record.partition_key, record.explicit_hash_key.as_deref());
        let shard = shards.iter().find(|shard| shard.contains(hash_key));
        Self {
            group: Group::Shard(shard.map_or(0, |shard| shard.start)),
            partition_key: record.partition_key,
            explicit_hash_key: record.explicit_hash_key,
            data: record.data,
            user_records: record.user_records as u64,
        }
    }

    /// Bytes as the service counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }
}

/// How much was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Kinesis records.
    pub records: u64,
    /// User records in them.
    pub user_records: u64,
}

impl AddAssign<&Entry> for Stored {
    fn add_assign(&mut self, entry: &Entry) {
        self.records += 1;
        self.user_records += entry.user_records;
    }
}
