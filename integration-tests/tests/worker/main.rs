//! One worker at a time, end to end: the real AWS SDK over the emulator inside the process, in virtual time.
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
mod deleted;
mod fleet_start;
mod iam_policy;
mod identity;
mod latest;
mod processor_failures;
mod read_trouble;
mod reshard;
mod resume;
mod table_trouble;
