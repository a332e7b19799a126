//! What can go wrong, for users: each says what happened and what to do, and whether trying again helps.

use kcl_checkpoint::{CheckpointRuleError, Position};
use kcl_lease::{CoordinatorError, GrantError, LeaseKey};

use crate::retrieval::SourceError;

/// An option or a combination of options that cannot work. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// One option has a value that cannot work.
    #[error("option {option}: {value} {reason}")]
    InvalidOption {
        /// The option's name, as the builder spells it.
        option: &'static str,
        /// The value.
        value: String,
        /// Why it cannot work, and what to use.
        reason: String,
    },
    /// Two options contradict each other.
    #[error("options {a} and {b} contradict each other: {reason}")]
    Conflict {
        /// The name of one option, as the builder spells it.
        a: &'static str,
        /// The name of the other.
        b: &'static str,
        /// Why they do not go together, and what to do.
        reason: String,
    },
    /// The AWS configuration lacks something.
    #[error("the AWS configuration has no {what}: {remedy}")]
    IncompleteAwsConfig {
        /// What is missing.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

impl BuildError {
    pub(crate) const NO_REGION: Self = Self::IncompleteAwsConfig {
        what: "region",
        remedy: "set AWS_REGION, a region in the profile, or the region of the SdkConfig",
    };
}

/// Why a worker could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The application began to read at another time than its replay should.
    #[error(
        "the application's leases begin at another time than the replay; use another application name, or the time of its \
         first start"
    )]
    ReplayBegunElsewhere,
    /// The stream cannot be described, listed or read.
    #[error("stream {stream}: {source}")]
    Stream {
        /// The stream.
        stream: String,
        /// Why, and what to do.
        source: SourceError,
    },
    /// The stream was still being created when the startup timeout ended.
    #[error(
        "stream {stream} is still being created: wait for it, or give the worker a longer startup_timeout"
    )]
    StreamCreating {
        /// The stream.
        stream: String,
    },
    /// The stream is being deleted.
    #[error(
        "stream {stream} is being deleted: start the worker when it exists again, under a new application name"
    )]
    StreamDeleting {
        /// The stream.
        stream: String,
    },
    /// The stream was deleted while the worker ran. The leases stay as they are.
    #[error(
        "stream {stream} was deleted while the worker ran: its leases are kept; a stream that is created anew under this name needs a new application name"
    )]
    StreamDeleted {
        /// The stream.
        stream: String,
    },
    /// The list of several streams could not be had at the start.
    #[error("the streams could not be listed, because the tracker failed: {error}")]
    StreamList {
        /// The tracker's error.
        error: String,
    },
    /// Two entries of the list are the same stream.
    #[error("stream {stream} is in the list twice, under two names: leave one out")]
    StreamTwice {
        /// The second of them.
        stream: String,
    },
    /// The lease table cannot be used, or it belongs to another stream.
    #[error(transparent)]
    Coordination(#[from] CoordinatorError),
    /// A record could not be processed, and the failure policy says [`StopWorker`](crate::OnFailure::StopWorker). The worker
    /// was shut down; the shard's checkpoint stays before the record.
    #[error(
        "the record at {position} of {shard} could not be processed ({error}), and the failure policy stops the worker: mend the processor or the record's handling, or choose another outcome"
    )]
    Processor {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record's place in the shard.
        position: Position,
        /// The text of the last error.
        error: String,
    },
    /// A task of the framework failed. This is a bug of the framework.
    #[error(
        "a task of the framework ended unexpectedly ({0}): please report this; the leases are released or expire, and nothing was skipped"
    )]
    Internal(String),
}

/// Why a checkpoint was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The lease belongs to somebody else by now. Stop processing this shard.
    #[error("the lease was lost: another worker continues from the last stored checkpoint")]
    #[doc(alias = "ShutdownException")]
    LeaseLost,
    /// Reading of the shard was moved to another place meanwhile: what was delivered before is no progress any more.
    #[error(
        "reading of the shard was moved to another place meanwhile; this progress is not stored"
    )]
    Repositioned,
    /// The processor that this was given to is gone, because it panicked or was cut off, and another one is given its records
    /// again. What the new one was given is not for code of the old one to declare complete.
    #[error(
        "another processor took the place of the one that this was given to: its records are delivered again"
    )]
    ProcessorReplaced,
    /// The position lies outside of what this grant may store. A mistake of the caller.
    #[error(transparent)]
    OutOfRange(#[from] CheckpointRuleError),
    /// A checkpoint in two phases of a shard with several lanes, of which a processor knows only its own. A mistake of the
    /// caller.
    #[error(
        "a checkpoint cannot be prepared with several lanes, because it covers the records of all of them: use one lane"
    )]
    SeveralLanes,
    /// The table did not take the write in time. It may still be applied; the automatic checkpoint tries again.
    #[error("the lease table did not take the checkpoint: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl CheckpointError {
    pub(crate) fn from_grant(error: GrantError) -> Self {
        match error {
            GrantError::Lost { .. } => Self::LeaseLost,
            GrantError::Repositioned { .. } => Self::Repositioned,
            other => Self::Unavailable {
                reason: other.to_string(),
            },
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl WorkerError {
    /// Whether starting the worker again, with nothing changed, may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ReplayBegunElsewhere => false,
            Self::Stream { source, .. } => source.is_retryable(),
            Self::Coordination(error) => error.is_retryable(),
            Self::StreamDeleting { .. } | Self::StreamDeleted { .. } | Self::Processor { .. } => {
                false
            }
            Self::StreamTwice { .. } => false,
            Self::StreamCreating { .. } | Self::StreamList { .. } => true,
            Self::Internal(_) => true,
        }
    }
}
