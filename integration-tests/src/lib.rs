//! What the end-to-end tests share: a stage with an emulated account, and a record processor that writes everything down.
//!
//! The tests run the real AWS SDK over the emulator inside the process, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws;
pub mod bench;
mod clocks;
pub mod fleet;
mod log;
mod memory;
mod probe;
pub mod reading;
pub mod simulation;
mod stage;

pub use log::{Entry, Log, What};
pub use probe::Probe;
pub use stage::{APPLICATION, STREAM, Stage};

/// The manual of testing, whose programs are compiled and run.
#[doc = include_str!("../../docs/testing.md")]
pub mod manual {}
