//! Why a grant is over, and why a write under it is not stored.

use crate::key::{LeaseKey, ShardId};

/// Why a grant is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// Another worker owns the lease, or its row was changed by somebody else.
    #[error("another worker owns the lease or changed its row")]
    Taken,
    /// The lease's row is gone.
    #[error("the lease's row was deleted")]
    RowMissing,
    /// The lease's row cannot be read any more.
    #[error("the lease's row cannot be read any more")]
    RowUnreadable,
    /// The session of this worker ended: its item was deleted or replaced.
    #[error(
        "the worker's session ended because its item in the lease table was deleted or replaced"
    )]
    SessionOver,
    /// The holder released the lease or handed it over.
    #[error("the holder released the lease or handed it over")]
    Released,
    /// The holder finished the shard.
    #[error("the holder finished the shard")]
    ShardEnded,
    /// The worker gave all its leases up without releasing them.
    #[error("the worker gave its leases up")]
    Abandoned,
    /// Coordination does not run any more.
    #[error("coordination of leases does not run any more")]
    Stopped,
}

/// Why a write of a holder is not (yet) stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The grant is over, nothing more can be written under it.
    #[error("the lease {key} is lost: {reason}")]
    Lost {
        /// The lease.
        key: LeaseKey,
        /// Why.
        reason: LossReason,
    },
    /// The table did not answer in time: the write may or may not be applied. It is tried again until it is resolved.
    #[error("the lease table did not answer in time; the write to {key} is tried again")]
    Unknown {
        /// The lease.
        key: LeaseKey,
    },
    /// The table refuses too much traffic. The write is tried again.
    #[error(
        "the lease table is throttled; the write to {key} is tried again, use on-demand capacity if this lasts"
    )]
    Throttled {
        /// The lease.
        key: LeaseKey,
    },
    /// The table could not carry the write out. It is tried again.
    #[error("the lease table did not take the write to {key}, which is tried again: {reason}")]
    Unavailable {
        /// The lease.
        key: LeaseKey,
        /// Why.
        reason: String,
    },
    /// Reading was moved to another place: what was delivered before is no progress any more.
    #[error("reading of {key} was moved to another place meanwhile; this progress is not stored")]
    Repositioned {
        /// The lease.
        key: LeaseKey,
    },
    /// A seek to LATEST, to SHARD_END, or to AT_TIMESTAMP without a moment.
    #[error("reading of {key} cannot be moved there: name a position, a moment or TRIM_HORIZON")]
    NoFixedPlace {
        /// The lease.
        key: LeaseKey,
    },
    /// The children named at the end of a shard are not its children.
    #[error("{child} cannot be stored as a child of {key}: {reason}")]
    InvalidChild {
        /// The lease of the parent.
        key: LeaseKey,
        /// The shard that was named.
        child: ShardId,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl GrantError {
    /// Whether the write is still tried: asking again waits for its outcome.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::Throttled { .. } | Self::Unavailable { .. }
        )
    }
}
