//! The example programs as processes, on an emulated account at a loopback port.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod common;
mod demo;
mod pipe;
mod processing;
