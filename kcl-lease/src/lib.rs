//! Shard leases: the DynamoDB table, worker sessions, and the graph of shards.

pub mod runtime;
