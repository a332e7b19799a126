//! The whole worker over the two seams in memory, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

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
mod replay;
mod shard_ends;
mod shutdown;
mod stuck;
mod two_phase;
mod user_code;
