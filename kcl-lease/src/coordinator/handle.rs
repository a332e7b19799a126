//! How others ask coordination for something.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::event::CoordinatorError;
use crate::grant::GrantRequest;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::listed_shard::ListedShard;
use crate::stream_item::{StreamItem, StreamStart};

/// Creation times of streams are given to fractions of a second that not every SDK and format keeps.
const CREATION_TOLERANCE_MS: u64 = 1_000;

/// A stream that an application reads, and where it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIdentity {
    /// The stream's ARN.
    pub stream_arn: String,
    /// When the stream was created, epoch milliseconds: tells a re-created stream from an earlier one.
    pub created_at: u64,
    /// Where reading began.
    pub start: StreamStart,
}

/// The stream that an application belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenedStream {
    /// What is stored: the first worker's proposal.
    pub identity: StreamIdentity,
    /// The table held no lease of the stream: when this worker started if it is the application's only one, else when it was
    /// read last.
    pub fresh: bool,
}

/// What a synchronisation of leases with a listing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncOutcome {
    /// How many leases this call created.
    pub created: usize,
}

/// Asks running coordination for something. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    commands: mpsc::UnboundedSender<Command>,
    worker: watch::Receiver<WorkerId>,
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, CoordinatorError>>;

/// What coordination can be asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Grant {
        key: LeaseKey,
        number: u64,
        era: u64,
        request: GrantRequest,
    },
    StoredStream(Answer<Option<StreamIdentity>>),
    JoinStream,
    LooksForStreams(Answer<bool>),
    KeepAllStreams,
    KeepStreams {
        streams: BTreeSet<StreamKey>,
        unclear: BTreeSet<String>,
    },
    OpenStream(StreamKey, StreamIdentity, Answer<OpenedStream>),
    SyncShards {
        stream: StreamKey,
        listing: Vec<ListedShard>,
        fresh: bool,
        answer: Answer<SyncOutcome>,
    },
    Shutdown {
        budget: Duration,
    },
    Abandon,
}

impl CoordinatorHandle {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<Command>,
        worker: watch::Receiver<WorkerId>,
    ) -> Self {
        Self { commands, worker }
    }

    /// What another worker, which leads, has stored about the stream: a worker that starts with it, by
    /// [`join_stream`](Self::join_stream), has no need to look at the stream. `None` if this worker has to look itself
    /// and to [open](Self::open_stream) the stream. Waits until one or the other is clear, at most for a lease duration.
    ///
    /// # Errors
    /// When coordination ends.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn stored_stream(&self) -> Result<Option<StreamIdentity>, CoordinatorError> {
        self.ask(Command::StoredStream).await
    }

    /// Lets leases be taken of the [stored](Self::stored_stream) stream, that another worker has looked at. If this worker comes to lead later, it asks for
    /// a listing before it plans for others; whoever lists [opens](Self::open_stream) the stream first.
    pub fn join_stream(&self) {
        let _ = self.commands.send(Command::JoinStream);
    }

    /// For an application of [several streams](super::CoordinatorOptions::many_streams): whether this worker has to find
    /// out which streams there are, to [open](Self::open_stream) them and to say which it [keeps](Self::keep_streams), because
    /// it leads. If another worker leads, this one takes leases from now on. Waits until one or the other is clear, at most for
    /// a lease duration.
    ///
    /// # Errors
    /// When coordination ends.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn looks_for_streams(&self) -> Result<bool, CoordinatorError> {
        self.ask(Command::LooksForStreams).await
    }

    /// For an application of several streams: says that it cannot be found out at the moment which they are. Those that the
    /// table knows are worked on as before, and none is judged to be a former one until
    /// [`keep_streams`](Self::keep_streams) is called again.
    pub fn keep_all_streams(&self) {
        let _ = self.commands.send(Command::KeepAllStreams);
    }

    /// For an application of several streams: says which of them it reads by now. `unclear` are the names of those that it
    /// reads as well and of which the service does not say at the moment when they were created. While this worker leads, the
    /// leases of all others that the table knows are removed after
    /// [`former_streams_after`](super::CoordinatorOptions::former_streams_after). Lets leases be taken.
    pub fn keep_streams(&self, streams: BTreeSet<StreamKey>, unclear: BTreeSet<String>) {
        let _ = self
            .commands
            .send(Command::KeepStreams { streams, unclear });
    }

    /// Stores that the application reads a stream, unless that is stored already. `proposed` is what the service says of the
    /// stream. Lets leases be taken if it is the only one.
    ///
    /// # Errors
    /// [`CoordinatorError::StreamMismatch`] when the leases belong to another stream; table errors that last longer than
    /// the startup timeout.
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn open_stream(
        &self,
        stream: StreamKey,
        proposed: StreamIdentity,
    ) -> Result<OpenedStream, CoordinatorError> {
        self.ask(|answer| Command::OpenStream(stream, proposed, answer))
            .await
    }

    /// Creates the leases that the shards of a stream need. `fresh` says that `listing` is what the service lists for the
    /// starting point and the table had no lease of it; otherwise it is everything that the service lists.
    ///
    /// # Errors
    /// When no leases can be made from the listing, or the table cannot be used for the startup timeout.
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn sync_shards(
        &self,
        stream: StreamKey,
        listing: Vec<ListedShard>,
        fresh: bool,
    ) -> Result<SyncOutcome, CoordinatorError> {
        self.ask(|answer| Command::SyncShards {
            stream,
            listing,
            fresh,
            answer,
        })
        .await
    }

    /// Hands every lease to a worker that lives: [recalls](crate::Grant::recalled) the grants one after the other, and
    /// ends once the holders have released or finished what they hold. `budget` is how long that may take; looking for
    /// workers that live takes a quarter of it at the most.
    pub fn shutdown(&self, budget: Duration) {
        let _ = self.commands.send(Command::Shutdown { budget });
    }

    /// Ends now. Leases that are held are lost to their holders, and expire for others: nobody may start while a call of
    /// the holder's processor still runs.
    pub fn abandon(&self) {
        let _ = self.commands.send(Command::Abandon);
    }

    /// Waits until coordination has ended.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn stopped(&self) {
        let mut worker = self.worker.clone();
        while worker.changed().await.is_ok() {}
    }

    /// The id of the current session. A session that is over is followed by one with another id.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker.borrow().clone()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<T, CoordinatorError> {
        let (answer, received) = oneshot::channel();
        let _ = self.commands.send(command(answer));
        received.await.unwrap_or(Err(CoordinatorError::Stopped))
    }
}

impl StreamIdentity {
    pub(super) fn to_item(&self, stream: StreamKey) -> StreamItem {
        StreamItem::new(stream, self.stream_arn.clone(), self.created_at, self.start)
    }

    pub(super) fn from_item(item: StreamItem) -> Self {
        Self {
            stream_arn: item.arn,
            created_at: item.created_ms,
            start: item.start,
        }
    }

    /// Whether both speak of the same stream, wherever they begin to read.
    pub(super) fn is_same_stream(&self, other: &Self) -> bool {
        self.stream_arn == other.stream_arn
            && self.created_at.abs_diff(other.created_at) < CREATION_TOLERANCE_MS
    }
}
