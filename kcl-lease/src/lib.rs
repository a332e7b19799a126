//! Shard leases: the DynamoDB table, worker sessions, and the graph of shards.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod item;
mod key;
mod leader_item;
mod lease;
mod listed_shard;
mod memory;
pub mod retry;
mod row;
mod row_reader;
pub mod runtime;
mod stream_item;
pub mod table;
mod worker_item;
pub mod write;

pub use key::{
    HashKeyRange, InvalidHashKeyRange, InvalidWorkerName, LeaseKey, MAX_WORKER_NAME, ShardId,
    WorkerId,
};
pub use leader_item::{HeartbeatAge, LEADER_KEY, LeaderItem};
pub use lease::{Lease, NewLease, PendingCheckpoint, new_lease_item};
pub use listed_shard::ListedShard;
pub use memory::{Fault, MemoryLeaseTable};
pub use row::Row;
pub use row_reader::RowError;
pub use stream_item::{StreamItem, StreamStart};
pub use table::{LeaseTable, TableError, TableErrorKind};
pub use worker_item::{PROTOCOL_VERSION, WorkerItem};
