//! The whole worker over the two seams in memory, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

mod acknowledgements;
mod checkpoints;
mod crew;
mod dead_letters;
mod deferred;
mod delivery;
mod desk;
mod failure_policy;
mod failures;
mod fixture;
mod gaps;
mod hanging;
mod health;
mod jump;
mod lane_checkpoints;
mod lane_ends;
mod lanes;
mod lapses;
mod orders;
mod poison;
mod quiet;
mod read_limits;
mod replay;
mod shard_ends;
mod shard_reads;
mod shutdown;
mod stops;
mod streams;
mod stuck;
mod tips;
mod two_phase;
mod user_code;

/// How the workers of these tests read.
fn retrieval() -> kcl_core::Retrieval {
    kcl_core::Retrieval::polling()
}

/// The operation that brings records.
const READ: &str = "GetRecords";
/// The operation by which reading begins.
const BEGIN: &str = "GetShardIterator";
/// How often two shards begin to be read anew in ten minutes in which nothing happens.
const RENEWALS: usize = 0;
/// How soon another worker can read a shard on.
const NEXT_READS_WITHIN: Duration = Duration::from_secs(1);
/// How often an idle shard is heard of.
const HEARD_OF_WITHIN: Duration = Duration::from_secs(2);
