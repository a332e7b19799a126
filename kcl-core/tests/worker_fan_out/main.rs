//! The same tests of the whole worker as by polling, by enhanced fan-out, and those of their differences.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use kcl_core::Retrieval;

mod choice;
mod emulated;
mod not_active;
mod several;
mod take_over;
mod tip_of_events;

#[path = "../worker/acknowledgements.rs"]
mod acknowledgements;
#[path = "../worker/checkpoints.rs"]
mod checkpoints;
#[path = "../worker/crew.rs"]
mod crew;
#[path = "../worker/dead_letters.rs"]
mod dead_letters;
#[path = "../worker/deferred.rs"]
mod deferred;
#[path = "../worker/delivery.rs"]
mod delivery;
#[path = "../worker/desk.rs"]
mod desk;
#[path = "../worker/failure_policy.rs"]
mod failure_policy;
#[path = "../worker/failures.rs"]
mod failures;
#[path = "../worker/fixture.rs"]
mod fixture;
#[path = "../worker/gaps.rs"]
mod gaps;
#[path = "../worker/hanging.rs"]
mod hanging;
#[path = "../worker/health.rs"]
mod health;
#[path = "../worker/jump.rs"]
mod jump;
#[path = "../worker/lane_checkpoints.rs"]
mod lane_checkpoints;
#[path = "../worker/lane_ends.rs"]
mod lane_ends;
#[path = "../worker/lanes.rs"]
mod lanes;
#[path = "../worker/lapses.rs"]
mod lapses;
#[path = "../worker/orders.rs"]
mod orders;
#[path = "../worker/poison.rs"]
mod poison;
#[path = "../worker/quiet.rs"]
mod quiet;
#[path = "../worker/read_limits.rs"]
mod read_limits;
#[path = "../worker/shard_ends.rs"]
mod shard_ends;
#[path = "../worker/shutdown.rs"]
mod shutdown;
#[path = "../worker/stops.rs"]
mod stops;
#[path = "../worker/streams/mod.rs"]
mod streams;
#[path = "../worker/stuck.rs"]
mod stuck;
#[path = "../worker/tips.rs"]
mod tips;
#[path = "../worker/two_phase.rs"]
mod two_phase;
#[path = "../worker/user_code.rs"]
mod user_code;

/// How the workers of these tests read.
fn retrieval() -> Retrieval {
    Retrieval::fan_out().into()
}

/// The operation that brings records.
const READ: &str = "SubscribeToShard";
/// The operation by which reading begins.
const BEGIN: &str = READ;
/// How often two shards begin to be read anew in ten minutes in which nothing happens.
const RENEWALS: usize = 4;
/// How soon another worker can read a shard on: a subscription that began a moment ago is in use for five seconds.
const NEXT_READS_WITHIN: Duration = Duration::from_secs(6);
/// How often an idle shard is heard of.
const HEARD_OF_WITHIN: Duration = Duration::from_secs(6);
