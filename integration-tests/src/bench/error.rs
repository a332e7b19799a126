//! Why something could not be measured.

/// Why something could not be measured. A bound that is broken is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// A consumer could not go on.
    #[error("the consumer {consumer} failed: {reason}")]
    Consumer {
        /// Which one.
        consumer: String,
        /// What it said.
        reason: String,
    },
    /// The emulated account refused something.
    #[error("{what}: {reason}")]
    Service {
        /// What was tried.
        what: String,
        /// What it said.
        reason: String,
    },
    /// The run was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl BenchError {
    pub(super) fn system(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::System {
            what: what.into(),
            source,
        }
    }
}
