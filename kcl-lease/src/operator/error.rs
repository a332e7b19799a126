//! Why a command cannot be given, or was not obeyed in time.

use crate::key::LeaseKey;
use crate::row_reader::RowError;
use crate::table::TableError;

/// Why a command cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The lease table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The lease table did not answer in time.
    #[error(
        "the lease table did not answer in time; check network and endpoint, then command again"
    )]
    NoAnswer,
    /// The lease's row, or the command for it, cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RowError),
    /// A position is one shard's, and the command was for several.
    #[error(
        "a position belongs to one shard, and {shards} are meant; name the shard, or seek to a time"
    )]
    PositionOfOneShard {
        /// How many leases the command was for.
        shards: usize,
    },
    /// Others command the same lease all the time.
    #[error("others command {key} at the same time; command again")]
    Contended {
        /// The lease.
        key: LeaseKey,
    },
}

/// Commands that nobody has obeyed in time. They stay in force.
#[derive(Debug, thiserror::Error)]
#[error("{} of the commands were not obeyed in time, the first of them for {}; see whether a worker runs and holds the lease", leases.len(), leases.first().map_or("no lease", |key| key.as_str()))]
#[non_exhaustive]
pub struct NotObeyed {
    /// The leases.
    pub leases: Vec<LeaseKey>,
    /// What went wrong when that was looked up last.
    #[source]
    pub error: Option<OperatorError>,
}
