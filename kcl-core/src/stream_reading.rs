//! What all shards of one stream share: which stream it is, and how it is read.

use std::sync::Arc;
use std::time::SystemTime;

use kcl_lease::Grant;

use crate::replay::Replay;
use crate::retrieval::{Reader, ShardSource};
use crate::shard_info::ShardInfo;

/// One stream, as its shards need it.
pub(crate) struct StreamReading {
    pub(crate) name: Arc<str>,
    pub(crate) arn: Arc<str>,
    /// Where a shard without a checkpoint of its own starts, as stored with the stream's identity.
    pub(crate) initial_time: Option<SystemTime>,
    pub(crate) source: Arc<dyn ShardSource>,
    pub(crate) reader: Reader,
    pub(crate) replay: Option<Arc<Replay>>,
    /// That it is gone is no reason for the worker to stop.
    pub(crate) is_one_of_several: bool,
}

impl StreamReading {
    pub(crate) fn shard_info(&self, grant: &Grant) -> ShardInfo {
        ShardInfo::new(
            Arc::clone(&self.name),
            Arc::clone(&self.arn),
            grant.lease_key().clone(),
            grant.parents().iter().cloned().collect(),
            grant.hash_range(),
        )
    }
}
