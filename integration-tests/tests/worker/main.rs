//! Whole workers, end to end: the real AWS SDK over the emulator inside the process, in virtual time.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::large_futures,
    reason = "a test's script holds the states of many SDK calls"
)]

mod aggregates;
mod caught_up;
mod cold_start;
mod costs;
mod crew;
mod deleted;
mod fast_start;
mod fleet_start;
mod iam_policy;
mod identity;
mod latest;
mod outage;
mod processor_failures;
mod read_trouble;
mod reshard;
mod reshard_under_fire;
mod resume;
mod slow_handler;
mod table_trouble;
