//! Which checkpoint may follow which: the rules, without any storage.

use crate::{Checkpoint, Position};

/// How far a shard was delivered and how far it is stored as complete: the bounds of the next checkpoint.
///
/// The rules are those of the Java library's `ShardRecordProcessorCheckpointer`: not behind the last checkpoint, not
/// beyond what was delivered, and SHARD_END only once the shard's end was reached. Unlike there, nothing moves once
/// SHARD_END is stored, and a starting sentinel can never be checkpointed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    last: Checkpoint,
    delivered: Checkpoint,
    ended: bool,
}

/// What an acceptable checkpoint means for storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is the last checkpoint again: nothing to store.
    Unchanged,
    /// It lies after the last checkpoint.
    Forward,
}

/// A checkpoint that breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointRuleError {
    /// It lies before the last checkpoint.
    #[error(
        "cannot checkpoint at {wanted}: the shard is already checkpointed at {last}, which a checkpoint never moves back from"
    )]
    Behind {
        /// The checkpoint that was asked for.
        wanted: Checkpoint,
        /// The last checkpoint.
        last: Checkpoint,
    },
    /// It lies after everything that was delivered.
    #[error(
        "cannot checkpoint at {wanted}: records were delivered up to {delivered} only; use the position of a record that was delivered"
    )]
    NotDelivered {
        /// The checkpoint that was asked for.
        wanted: Checkpoint,
        /// The position of the last record that was delivered, or where reading began.
        delivered: Checkpoint,
    },
    /// It is SHARD_END, and the shard's end was not reached.
    #[error(
        "cannot checkpoint at SHARD_END: the shard was delivered up to {delivered}, its end was not reached"
    )]
    NotEnded {
        /// The position of the last record that was delivered, or where reading began.
        delivered: Checkpoint,
    },
    /// It is a sentinel that only says where to begin.
    #[error("cannot checkpoint at {wanted}: it says where reading begins and is no progress")]
    StartSentinel {
        /// The checkpoint that was asked for.
        wanted: Checkpoint,
    },
}

impl Progress {
    /// The progress of a shard whose row says `stored`.
    #[must_use]
    pub fn new(stored: Checkpoint) -> Self {
        Self {
            delivered: stored.clone(),
            ended: stored == Checkpoint::ShardEnd,
            last: stored,
        }
    }

    /// The last checkpoint that was stored.
    #[must_use]
    pub fn last(&self) -> &Checkpoint {
        &self.last
    }

    /// The highest position that was delivered, at least the stored checkpoint.
    #[must_use]
    pub fn delivered(&self) -> &Checkpoint {
        &self.delivered
    }

    /// Notes that records up to `position` are about to be delivered. A lower position than before changes nothing.
    pub fn deliver(&mut self, position: &Position) {
        let position = Checkpoint::At(position.clone());
        if position > self.delivered {
            self.delivered = position;
        }
    }

    /// Notes that the shard's last record was delivered: SHARD_END may follow.
    pub fn reach_end(&mut self) {
        self.ended = true;
    }

    /// Decides whether `wanted` may be stored next.
    ///
    /// # Errors
    /// When it may not; see [`CheckpointRuleError`].
    pub fn check(&self, wanted: &Checkpoint) -> Result<Step, CheckpointRuleError> {
        if *wanted == self.last {
            return Ok(Step::Unchanged);
        }
        if wanted.is_start() {
            let wanted = wanted.clone();
            return Err(CheckpointRuleError::StartSentinel { wanted });
        }
        if *wanted < self.last {
            return Err(CheckpointRuleError::Behind {
                wanted: wanted.clone(),
                last: self.last.clone(),
            });
        }
        let delivered = || self.delivered.clone();
        match wanted {
            Checkpoint::ShardEnd if !self.ended => Err(CheckpointRuleError::NotEnded {
                delivered: delivered(),
            }),
            Checkpoint::At(_) if *wanted > self.delivered => {
                Err(CheckpointRuleError::NotDelivered {
                    wanted: wanted.clone(),
                    delivered: delivered(),
                })
            }
            _ => Ok(Step::Forward),
        }
    }

    /// Notes that `stored` is in the row now. A checkpoint that breaks the rules changes nothing.
    ///
    /// # Errors
    /// When the rules forbid it, as [`check`](Self::check) says.
    pub fn store(&mut self, stored: &Checkpoint) -> Result<Step, CheckpointRuleError> {
        let step = self.check(stored)?;
        self.last = stored.clone();
        Ok(step)
    }
}
