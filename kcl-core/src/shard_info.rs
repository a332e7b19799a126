//! Which shard of which stream a processor is for.

use std::sync::Arc;

use kcl_lease::{HashKeyRange, ShardId};

/// The shard that a record processor was made for. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    stream_name: Arc<str>,
    stream_arn: Arc<str>,
    shard_id: ShardId,
    parents: Vec<ShardId>,
    hash_range: Option<HashKeyRange>,
}

impl ShardInfo {
    pub(crate) fn new(
        stream_name: Arc<str>,
        stream_arn: Arc<str>,
        shard_id: ShardId,
        parents: Vec<ShardId>,
        hash_range: Option<HashKeyRange>,
    ) -> Self {
        Self(Arc::new(Inner {
            stream_name,
            stream_arn,
            shard_id,
            parents,
            hash_range,
        }))
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        &self.0.stream_name
    }

    /// The ARN of the stream.
    #[must_use]
    pub fn stream_arn(&self) -> &str {
        &self.0.stream_arn
    }

    /// The shard's id.
    #[must_use]
    pub fn shard_id(&self) -> &ShardId {
        &self.0.shard_id
    }

    /// The shards that this one took over from: one after a split, two after a merge, none at first.
    #[must_use]
    pub fn parents(&self) -> &[ShardId] {
        &self.0.parents
    }

    /// The hash keys that the shard covers; `None` when the lease row does not say (rows of old Java versions).
    #[must_use]
    pub fn hash_range(&self) -> Option<HashKeyRange> {
        self.0.hash_range
    }
}
