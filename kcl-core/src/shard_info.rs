//! Which shard of which stream a processor is for.

use std::sync::Arc;

use kcl_lease::{HashKeyRange, LeaseKey, ShardId};

/// The shard that a record processor was made for. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    inner: Arc<Inner>,
    lane: usize,
    lanes: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    stream_name: Arc<str>,
    stream_arn: Arc<str>,
    lease_key: LeaseKey,
    shard_id: ShardId,
    parents: Vec<ShardId>,
    hash_range: Option<HashKeyRange>,
}

impl ShardInfo {
    pub(crate) fn new(
        stream_name: Arc<str>,
        stream_arn: Arc<str>,
        lease_key: LeaseKey,
        parents: Vec<ShardId>,
        hash_range: Option<HashKeyRange>,
    ) -> Self {
        let inner = Inner {
            stream_name,
            stream_arn,
            shard_id: lease_key.shard(),
            lease_key,
            parents,
            hash_range,
        };
        Self {
            inner: Arc::new(inner),
            lane: 0,
            lanes: 1,
        }
    }

    /// The same shard for the processor of a lane.
    pub(crate) fn in_lane(&self, lane: usize, lanes: usize) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            lane,
            lanes,
        }
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        &self.inner.stream_name
    }

    /// The ARN of the stream.
    #[must_use]
    pub fn stream_arn(&self) -> &str {
        &self.inner.stream_arn
    }

    /// The name of the stream, to keep.
    pub(crate) fn stream(&self) -> Arc<str> {
        Arc::clone(&self.inner.stream_name)
    }

    /// The ARN of the stream, to keep.
    pub(crate) fn arn(&self) -> Arc<str> {
        Arc::clone(&self.inner.stream_arn)
    }

    /// The key of the shard's lease: its id, or with several streams `<account>:<stream>:<creation epoch>:<shard>`. Events,
    /// health and operators name the shard by it.
    #[must_use]
    pub fn lease_key(&self) -> &LeaseKey {
        &self.inner.lease_key
    }

    /// The shard's id, unique in its stream.
    #[must_use]
    pub fn shard_id(&self) -> &ShardId {
        &self.inner.shard_id
    }

    /// The shards that this one took over from: one after a split, two after a merge, none at first.
    #[must_use]
    pub fn parents(&self) -> &[ShardId] {
        &self.inner.parents
    }

    /// The hash keys that the shard covers; `None` when the lease row does not say (rows of old Java versions).
    #[must_use]
    pub fn hash_range(&self) -> Option<HashKeyRange> {
        self.inner.hash_range
    }

    /// Which lane of the shard the processor is for, from 0; see [`WorkerBuilder::lanes`](crate::WorkerBuilder::lanes).
    #[must_use]
    pub fn lane(&self) -> usize {
        self.lane
    }

    /// How many lanes the shard has under this worker, 1 by default.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }
}
