//! A shard as the stream's listing shows it.

use crate::key::{HashKeyRange, ShardId};

/// A shard as the stream's listing shows it, or as its parent's last answer names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListedShard {
    /// The shard's name.
    pub shard_id: ShardId,
    /// The shard that was split or merged into this one. May be gone from the listing.
    pub parent: Option<ShardId>,
    /// The second of two merged parents.
    pub adjacent_parent: Option<ShardId>,
    /// The hash keys that the shard owns.
    pub hash_range: HashKeyRange,
    /// Whether the shard still takes records.
    pub open: bool,
}

impl ListedShard {
    /// The parents, none to two.
    pub fn parents(&self) -> impl Iterator<Item = &ShardId> {
        self.parent.iter().chain(&self.adjacent_parent)
    }
}
