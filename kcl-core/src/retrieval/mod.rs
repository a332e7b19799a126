//! From a shard to batches of user records: source, pacing, byte budget, polling, de-aggregation.

pub mod batch;
pub mod source;
