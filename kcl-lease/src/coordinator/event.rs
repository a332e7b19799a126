//! What coordination tells its user.

use std::time::Duration;

use kcl_checkpoint::Checkpoint;

use crate::grant::Grant;
use crate::key::{HashKeyRange, InvalidWorkerName, LeaseKey, StreamKey, WorkerId};
use crate::table::TableError;

use super::handle::StreamIdentity;

/// Something that happened in coordination. The loss of a lease is told by its [`Grant`].
#[derive(Debug)]
#[non_exhaustive]
pub enum CoordinatorEvent {
    /// The worker has a session under this id.
    Registered {
        /// The id, until the next event of this kind.
        worker: WorkerId,
    },
    /// The session ended because its item was deleted or replaced: all grants are lost, a new session follows.
    SessionOver {
        /// The id that ended.
        worker: WorkerId,
    },
    /// A lease was taken: work on it may begin.
    Granted(Grant),
    /// A child of a shard that was finished here is not processed here, at least not soon.
    ChildElsewhere {
        /// The child's lease.
        key: LeaseKey,
    },
    /// The first round of takes is over: what can be had at the start was granted, the leases of owners that turned out
    /// to be dead included.
    Settled,
    /// An item of the table cannot be used. All others go on.
    RowUnreadable {
        /// Its key.
        key: String,
        /// What is wrong with it.
        error: String,
    },
    /// A lease cannot be judged without a current listing of all shards of its stream.
    ListingWanted {
        /// The stream.
        stream: StreamKey,
        /// What is stored of it, if it is one of several.
        identity: Option<Box<StreamIdentity>>,
    },
    /// This worker leads an application of several streams: whoever uses it finds out which there are, opens new ones, and says
    /// which it [keeps](crate::CoordinatorHandle::keep_streams). Told again each minute, while this worker leads.
    StreamsWanted {
        /// What was known of them may be wrong by now, because this worker has just come to lead, or what was stored of one is
        /// gone: all of them are opened again.
        anew: bool,
    },
    /// All leases of a stream were deleted that the application does not read any more.
    StreamRemoved {
        /// The stream.
        stream: StreamKey,
    },
    /// A worker speaks a newer version of the protocol between workers. This one keeps its leases and takes no more.
    NewerProtocol {
        /// That worker.
        worker: WorkerId,
        /// Its version.
        protocol: u64,
    },
    /// The leases of another stream were deleted, as
    /// [`reset_if_stream_changed`](crate::CoordinatorOptions::reset_if_stream_changed) asks for.
    ApplicationReset {
        /// The stream that the application belonged to.
        before: StreamIdentity,
    },
    /// A lease's row was deleted by hand.
    LeaseRowDeleted {
        /// The row's key.
        key: LeaseKey,
        /// The shard's hash keys, if known: nobody reads them until the row is there again.
        hash_keys: Option<HashKeyRange>,
        /// What was done about it.
        repair: RowRepair,
    },
    /// Calls to the table fail. They are tried again.
    TableTrouble {
        /// The call.
        operation: &'static str,
        /// What is wrong, and what to do.
        error: String,
        /// For how long calls have been failing.
        since: Duration,
    },
    /// Calls to the table succeed again.
    TableHealed,
    /// Coordination could not start, and has ended.
    Fatal(CoordinatorError),
    /// Coordination has ended as it was asked to.
    Stopped,
}

/// What was done about a lease whose row was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowRepair {
    /// It was made again at the progress that this worker saw last: nothing is skipped, and at most what was processed
    /// since then comes again.
    Restored {
        /// The progress.
        checkpoint: Checkpoint,
    },
    /// It was made again where the application began, as
    /// [`replay_deleted_leases`](crate::CoordinatorOptions::replay_deleted_leases) asks for.
    Replayed,
    /// Nothing: no worker that runs knows its progress. The shard is not read until somebody decides.
    ProgressUnknown,
}

/// Why coordination cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The worker's name cannot be used.
    #[error(transparent)]
    WorkerName(#[from] InvalidWorkerName),
    /// An option has a value that cannot work.
    #[error("option {option} {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Why, and what to use.
        reason: &'static str,
    },
    /// The operating system gave no thread.
    #[error("no thread for coordination: {reason}; raise the process's limits")]
    NoThread {
        /// What it said.
        reason: String,
    },
    /// The lease table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The lease table did not answer in time.
    #[error("the lease table did not answer {operation} in time; check network and endpoint")]
    NoAnswer {
        /// The call.
        operation: &'static str,
    },
    /// The item that fixes the stream's identity cannot be read.
    #[error(transparent)]
    StreamItem(#[from] crate::RowError),
    /// The item that fixes the stream's identity is of another kind.
    #[error("item {key} of the lease table is no stream item; delete it")]
    NoStreamItem {
        /// The item's key.
        key: String,
    },
    /// The application's leases belong to another stream, or to an earlier stream of the same name.
    #[error(
        "the lease table belongs to stream {} created at {} ms, not to {} created at {} ms; use another application \
         name, or start one worker with reset_if_stream_changed(true), which deletes the leases of the former",
        stored.stream_arn, stored.created_at, found.stream_arn, found.created_at
    )]
    StreamMismatch {
        /// The stream that the leases belong to.
        stored: Box<StreamIdentity>,
        /// The stream that is there.
        found: Box<StreamIdentity>,
    },
    /// A reset was asked for, but somebody still works on the leases of the other stream.
    #[error(
        "the leases of stream {} created at {} ms cannot be deleted: worker {worker} still works on them; stop it, then \
         start this worker again",
        stored.stream_arn, stored.created_at
    )]
    ResetRefused {
        /// The worker that lives and holds leases.
        worker: WorkerId,
        /// The stream that the leases belong to.
        stored: Box<StreamIdentity>,
    },
    /// The table belongs to an application of one stream and this worker reads several, or the other way round.
    #[error(
        "item {key} of the lease table shows that it belongs to an application of {}: use another application name, or give \
         this worker its streams in the same way as the others",
        if *.several { "several streams" } else { "one stream" }
    )]
    OtherKind {
        /// The item's key.
        key: String,
        /// What it belongs to.
        several: bool,
    },
    /// While the worker ran, the item that fixes the stream's identity was deleted.
    #[error(
        "the lease table does not say any more which stream it belongs to: its items were deleted while this worker \
         ran; start it again to begin anew"
    )]
    StreamItemDeleted,
    /// While the worker ran, the lease table was deleted.
    #[error("the lease table was deleted while this worker ran; start it again to begin anew")]
    TableDeleted,
    /// Leases cannot be made from the listing.
    #[error(transparent)]
    Listing(#[from] crate::graph::ListingError),
    /// Coordination does not run any more.
    #[error("coordination of leases does not run any more")]
    Stopped,
}

impl CoordinatorError {
    /// False if leases exist by now: what follows is a listing of all shards.
    #[must_use]
    pub fn allows_fresh_start(&self) -> bool {
        !matches!(self, Self::Listing(crate::graph::ListingError::LeasesExist))
    }

    /// True if the same call can succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Table(error) => error.is_retryable(),
            Self::NoAnswer { .. }
            | Self::Listing(_)
            | Self::NoThread { .. }
            | Self::ResetRefused { .. } => true,
            _ => false,
        }
    }
}
