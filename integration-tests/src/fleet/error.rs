//! Why a scenario could not be played to its end.

use std::time::Duration;

/// Why a scenario could not be played to its end. A bound that is broken is no error: see [`Report`](super::Report).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// A service refused something that no fault was to befall.
    #[error("{what}: {reason}")]
    Service {
        /// What was tried.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// The fleet did not come to a state in time.
    #[error("after {limit:?} still waiting until {what}")]
    TooLate {
        /// The state.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A worker ended although nobody asked it to.
    #[error("worker {worker} ended by itself; see its log {log}")]
    WorkerEnded {
        /// The worker.
        worker: String,
        /// Where its log is.
        log: String,
    },
    /// A worker cannot be made from its options.
    #[error(transparent)]
    Worker(#[from] kcl_core::BuildError),
    /// The harness was told to stop.
    #[error("interrupted; all workers were killed")]
    Interrupted,
}

impl FleetError {
    pub(super) fn system(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(super) fn service(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Service {
            what,
            reason: reason.to_string(),
        }
    }
}
