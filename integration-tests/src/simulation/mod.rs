//! Deterministic simulation: real workers, an emulated account, virtual time, and faults drawn from a seed.
//!
//! A run takes one thread. Its workers are those of production, over the engines of the emulator (or through the AWS SDK in
//! process); each request is a task of its own, so that killing or giving up its caller does not keep it from arriving. A
//! [`schedule`] of faults is drawn from the seed (see [`swarm`]) and played; then everything heals, and the [`checker`]
//! judges what happened. The same seed gives the same run, event by event.

pub mod answers;
pub mod checker;
pub mod cli;
pub mod draw;
pub mod fleet;
pub mod focus;
pub mod gauge;
pub mod history;
pub mod mutants;
pub mod node;
pub mod payload;
pub mod practice;
pub mod processor;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod sink;
pub mod stream;
pub mod swarm;
pub mod world;

pub use node::Path;
pub use run::{Outcome, RunError, Settings, play_of};
