//! Checkpoints in two phases, for processors whose effects and checkpoints should be one transaction.

use bytes::Bytes;
use kcl_checkpoint::Position;

use crate::checkpointer::Checkpointer;
use crate::error::CheckpointError;

/// The first phase of a checkpoint, stored with the lease; made by [`Checkpointer::prepare`].
///
/// No automatic checkpoint of the shard is stored while this exists. Dropping it without [`commit`](Self::commit) lets
/// them go on; so does a checkpoint by hand.
///
/// What was prepared stays in the lease's row until a checkpoint at or past its position is stored, by whomever, another
/// one is prepared, or an operator moves the shard: a failure between the phases hides it from nobody.
#[derive(Debug)]
#[must_use = "a prepared checkpoint that is dropped is not committed"]
#[doc(alias = "PreparedCheckpointer")]
pub struct PreparedCheckpoint {
    checkpointer: Checkpointer,
    position: Position,
    id: u64,
}

/// A prepared checkpoint that an earlier holder of the lease left behind: it may have died before its effects, or between
/// them and the second phase. The application's own state says which.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingCheckpoint {
    /// What was about to be complete.
    pub position: Position,
    /// The bytes that the application gave.
    pub state: Option<Bytes>,
}

impl PreparedCheckpoint {
    pub(crate) fn new(checkpointer: Checkpointer, position: Position, id: u64) -> Self {
        Self {
            checkpointer,
            position,
            id,
        }
    }

    /// The position that was prepared.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Declares every record up to and including the position complete, deferred or not, and stores that: the second phase.
    ///
    /// # Errors
    /// As [`Checkpointer::checkpoint_at`].
    ///
    /// # Cancellation
    /// As for any checkpoint: the declaration stands.
    pub async fn commit(self) -> Result<(), CheckpointError> {
        self.checkpointer.checkpoint_at(&self.position).await
    }
}

impl Drop for PreparedCheckpoint {
    fn drop(&mut self) {
        self.checkpointer.progress().shard().end_prepared(self.id);
    }
}
