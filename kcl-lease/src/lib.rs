//! Shard leases: the DynamoDB table, worker sessions, and the graph of shards.

mod advice;
mod answer;
mod apply;
mod audit;
mod command_item;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod coordinator;
mod digest;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
mod expectation;
mod gate;
mod giving;
mod grant;
mod grant_error;
mod grant_orders;
mod graph;
mod hash_cover;
mod held;
mod held_core;
mod hint;
mod inbox;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod item;
mod key;
mod last_seen;
mod leader_item;
mod leadership;
mod lease;
mod listed_shard;
mod liveness;
mod memory;
#[doc(hidden)]
pub mod mutant;
pub mod operator;
mod orders;
mod planner;
mod reset;
pub mod retry;
mod roster;
mod row;
mod row_reader;
mod row_write;
pub mod runtime;
mod session;
mod shard_end;
mod stop_cause;
mod stream_item;
pub mod table;
mod take;
#[cfg(test)]
mod test_support;
mod view;
mod worker_item;
pub mod write;
mod write_orders;

pub use command_item::{CommandId, CommandItem};
pub use coordinator::{
    Coordinator, CoordinatorError, CoordinatorEvent, CoordinatorHandle, CoordinatorOptions,
    OpenedStream, RowRepair, StreamIdentity, SyncOutcome,
};
pub use grant::{Grant, GrantError, LossReason, Recall, ShardEndOutcome};
pub use graph::ListingError;
pub use key::{
    HashKeyRange, InvalidHashKeyRange, InvalidWorkerName, LeaseKey, MAX_WORKER_NAME, ShardId,
    StreamKey, WorkerId,
};
pub use leader_item::{HeartbeatAge, LEADER_KEY, LeaderItem};
pub use lease::{Lease, NewLease, PendingCheckpoint, new_lease_item};
pub use listed_shard::ListedShard;
pub use memory::{Fault, MemoryLeaseTable};
pub use orders::{Obeyed, Orders, Seek, StartPoint};
pub use row::Row;
pub use row_reader::RowError;
pub use stop_cause::StopCause;
pub use stream_item::{StreamItem, StreamStart};
pub use table::{LeaseTable, TableError, TableErrorKind};
pub use worker_item::{PROTOCOL_VERSION, WorkerItem};
