//! What the framework hands to each call of a record processor.

use std::time::Duration;

use kcl_checkpoint::Checkpoint;
use kcl_lease::{LossReason, ShardId};

use crate::ack::{Ack, AckError, BatchAck};
use crate::checkpointer::Checkpointer;
use crate::error::CheckpointError;
use crate::grant::Grant;
use crate::progress::CallId;
use crate::retrieval::{RecordRef, Records};
use crate::selection::Selection;
use crate::shard_info::ShardInfo;
use crate::two_phase::PendingCheckpoint;

/// The input of [`RecordProcessor::initialize`](crate::RecordProcessor::initialize).
#[derive(Debug)]
pub struct InitializationInput {
    pub(crate) shard: ShardInfo,
    pub(crate) grant: Grant,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) pending: Option<PendingCheckpoint>,
    pub(crate) checkpointer: Checkpointer,
}

impl InitializationInput {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardInfo {
        &self.shard
    }

    /// The lease under which the processor works.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The stored progress: delivery starts right after it.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What an earlier holder of the lease [prepared](Checkpointer::prepare) and did not commit, if nothing was stored since.
    #[must_use]
    pub fn pending_checkpoint(&self) -> Option<&PendingCheckpoint> {
        self.pending.as_ref()
    }

    /// Commits the [pending checkpoint](Self::pending_checkpoint): its records are complete, and delivery starts after them.
    /// Does nothing if there is none. Without this, delivery starts after the stored checkpoint, and the next checkpoint
    /// removes the pending one.
    ///
    /// # Errors
    /// See [`CheckpointError`]. The records count as complete all the same, and that is stored later.
    pub async fn commit_pending(&self) -> Result<(), CheckpointError> {
        match &self.pending {
            Some(pending) => self.checkpointer.commit_pending(&pending.position).await,
            None => Ok(()),
        }
    }
}

/// A batch of user records of one shard, in sequence order; never empty.
///
/// Records borrow from the buffers of the service's answer: see [`RecordRef`].
#[derive(Debug)]
pub struct ProcessRecordsInput {
    pub(crate) shard: ShardInfo,
    pub(crate) grant: Grant,
    pub(crate) records: Selection,
    pub(crate) call: CallId,
    pub(crate) attempt: u32,
    pub(crate) behind_latest: Option<Duration>,
    pub(crate) checkpointer: Checkpointer,
}

impl ProcessRecordsInput {
    /// The records, in order.
    #[must_use]
    pub fn iter(&self) -> Records<'_> {
        self.records.iter()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none (never so in a call of the framework).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardInfo {
        &self.shard
    }

    /// The lease under which the records are delivered.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Which delivery of the first of these records this is under this grant, from 1. The others may have been delivered
    /// less often, or as often.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How far the end of this batch was behind the tip of the shard when it was read (`MillisBehindLatest`).
    #[must_use]
    #[doc(alias = "millis_behind_latest")]
    pub fn behind_latest(&self) -> Option<Duration> {
        self.behind_latest
    }

    /// Takes a record of this call out of it: `Ok` from the call does not complete it, the handle does, at any later time.
    ///
    /// The checkpoint stays before the record until then. If the call fails, its deferred records are delivered again with
    /// the others, and their handles do nothing any more. A record that is not of this call, or is deferred already, gives a
    /// handle that answers with an error; so does one that is deferred after the call has returned.
    ///
    /// How many records may be in flight is [`max_in_flight`](crate::WorkerBuilder::max_in_flight).
    pub fn defer(&self, record: RecordRef<'_>) -> Ack {
        let place = self.records.find(record).ok_or(AckError::NotInCall);
        let progress = self.checkpointer.progress();
        let deferred = place.and_then(|place| progress.defer(self.call, place));
        Ack::new(self.checkpointer.clone(), deferred)
    }

    /// Takes all records of this call out of it that are not deferred, to be completed together. As
    /// [`defer`](Self::defer) otherwise.
    pub fn defer_all(&self) -> BatchAck {
        let deferred = self.checkpointer.progress().defer_all(self.call);
        BatchAck::new(self.checkpointer.clone(), deferred)
    }

    /// Checkpoints by hand, for sinks that complete records inside the call.
    #[must_use]
    pub fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }
}

impl<'a> IntoIterator for &'a ProcessRecordsInput {
    type Item = RecordRef<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// The input of [`RecordProcessor::shard_ended`](crate::RecordProcessor::shard_ended).
#[derive(Debug)]
pub struct ShardEndedInput {
    pub(crate) shard: ShardInfo,
    pub(crate) grant: Grant,
    pub(crate) children: Vec<ShardId>,
}

impl ShardEndedInput {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardInfo {
        &self.shard
    }

    /// The lease that ends.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The shards that take over.
    #[must_use]
    pub fn children(&self) -> &[ShardId] {
        &self.children
    }
}

/// Why a processor is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownReason {
    /// The whole worker stops.
    WorkerStops,
    /// The lease moves to a worker that has fewer.
    LeaseMoves,
    /// An operator moved the reading of the shard to another place. What is stored now is stored before that; then new
    /// processors are made, and records come from there. What is deferred and not acknowledged is dropped: handles for it
    /// give errors.
    Repositioned,
    /// A bounded [replay](crate::WorkerBuilder::replay) of the shard is done.
    ReplayDone,
    /// The stream is not read any more: it left the [list](crate::Streams), and its leases are about to be deleted. Nobody goes on
    /// from what is stored now.
    StreamRemoved,
}

/// The input of [`RecordProcessor::shutdown_requested`](crate::RecordProcessor::shutdown_requested).
#[derive(Debug)]
pub struct ShutdownRequestedInput {
    pub(crate) shard: ShardInfo,
    pub(crate) grant: Grant,
    pub(crate) reason: ShutdownReason,
    pub(crate) deadline: tokio::time::Instant,
    pub(crate) checkpointer: Checkpointer,
}

impl ShutdownRequestedInput {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardInfo {
        &self.shard
    }

    /// The lease, still held.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> ShutdownReason {
        self.reason
    }

    /// When the call should have returned, with answers for deferred records, which are taken until shortly before. With
    /// [`WorkerStops`](ShutdownReason::WorkerStops) the call is dropped then; with
    /// [`LeaseMoves`](ShutdownReason::LeaseMoves) it goes on, and so long the lease does not move.
    #[must_use]
    pub fn deadline(&self) -> tokio::time::Instant {
        self.deadline
    }

    /// Checkpoints by hand. What is complete when the call returns is stored anyway.
    #[must_use]
    pub fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }
}

/// The input of [`RecordProcessor::lease_lost`](crate::RecordProcessor::lease_lost). It has no checkpointer: the
/// checkpoint belongs to the next holder.
#[derive(Debug)]
pub struct LeaseLostInput {
    pub(crate) shard: ShardInfo,
    pub(crate) reason: LossReason,
}

impl LeaseLostInput {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardInfo {
        &self.shard
    }

    /// How the lease was lost.
    #[must_use]
    pub fn reason(&self) -> LossReason {
        self.reason
    }
}
