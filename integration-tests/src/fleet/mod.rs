//! A fleet of real worker processes on the emulator's server, and the judgement of what it did.
//!
//! The harness process runs the emulator, a producer and a [`Cluster`] of worker processes (its own program, executed
//! again). Workers write what they do into journals; at the end `History::gather` puts these beside the emulator's log,
//! `judge` turns that into figures, and a [`Report`] holds the figures against their bounds.

mod acknowledger;
mod clock;
mod cluster;
mod deeds;
mod error;
mod history;
mod journal;
mod judge;
mod options;
mod process;
mod producer;
mod report;
mod scenarios;
mod table_watch;
mod usage;
mod worker;

pub use cluster::Cluster;
pub use error::FleetError;
pub use history::History;
pub use options::{FleetOptions, Part, Scenario, WORKER, WorkerOptions};
pub use report::{Figure, Report, json_line, table};
pub use scenarios::run;
pub use worker::work;
