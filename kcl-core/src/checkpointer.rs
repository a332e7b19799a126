//! Checkpointing by hand, and the automatic checkpoints: both store the same watermark through the same grant.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kcl_checkpoint::{Checkpoint, DeliveryId, Position};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::retry::RetryPolicy;
use kcl_lease::runtime::Runtime;

use crate::ack::AckError;
use crate::call::CallFailure;
use crate::error::CheckpointError;
use crate::event::{EventSink, WorkerEvent};
use crate::progress::LaneProgress;
use crate::two_phase::PreparedCheckpoint;

/// Moves the checkpoint of one grant of one shard. Cheap to clone; may outlive the call it was given to.
///
/// With several [lanes](crate::WorkerBuilder::lanes) it declares only records of its own lane complete. What is stored is
/// still one checkpoint for the shard, at the first record that is not complete in any lane.
///
/// A checkpoint declares records complete and then stores the watermark. After an error the declaration stands, and the
/// automatic checkpoint stores it later unless the lease is lost.
///
/// # Cancellation
/// Dropping a call's future is safe: the write may or may not be applied, and the declaration stands.
#[derive(Debug, Clone)]
#[doc(alias = "RecordProcessorCheckpointer")]
pub struct Checkpointer {
    inner: Arc<Inner>,
    /// For which of the lane's processors it was made.
    processor: u64,
}

#[derive(Debug)]
struct Inner {
    grant: kcl_lease::Grant,
    progress: LaneProgress,
    events: EventSink,
    /// Held from looking at what is to be written until that is sent, so that a checkpoint that was looked at before another
    /// one was prepared is not sent after it, which would remove it. Never held across an `await`.
    sending: Mutex<()>,
}

impl Checkpointer {
    pub(crate) fn new(grant: kcl_lease::Grant, progress: LaneProgress, events: EventSink) -> Self {
        Self {
            inner: Arc::new(Inner {
                grant,
                progress,
                events,
                sending: Mutex::default(),
            }),
            processor: 0,
        }
    }

    /// The same for a processor that takes the place of the one before.
    pub(crate) fn for_new_processor(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            processor: self.inner.progress.replace_processor(),
        }
    }

    /// Declares all records that this processor was given so far complete, those of the running call included, but what was
    /// deferred, and stores what that allows.
    ///
    /// # Errors
    /// [`CheckpointError::ProcessorReplaced`] when another processor took the place of the one that this was given to; else
    /// see [`CheckpointError`].
    pub async fn checkpoint(&self) -> Result<(), CheckpointError> {
        if !self.inner.progress.complete_call_of(self.processor) {
            return Err(CheckpointError::ProcessorReplaced);
        }
        self.inner.progress.shard().replace_prepared();
        self.store().await
    }

    /// Declares every record up to and including `position` complete, deferred or not, and stores that. A later error of the
    /// same call redelivers only what follows.
    ///
    /// # Errors
    /// [`CheckpointError::OutOfRange`] when `position` is before the stored checkpoint, or beyond what was given to the
    /// processor or given up; else see [`CheckpointError`].
    pub async fn checkpoint_at(&self, position: &Position) -> Result<(), CheckpointError> {
        self.inner.progress.complete_through(position)?;
        self.inner.progress.shard().replace_prepared();
        self.store().await
    }

    /// Stores the first phase of a checkpoint at `position`: what is about to be complete, and bytes of the application's
    /// own. The second is [`PreparedCheckpoint::commit`]; until then the stored checkpoint stays as it is.
    ///
    /// Whoever holds the lease next without a second phase learns of it by
    /// [`InitializationInput::pending_checkpoint`](crate::InitializationInput::pending_checkpoint). The bytes are part of
    /// the lease's row, which DynamoDB limits to 400 KB. (The Java library's `prepareCheckpoint`, in the same attributes.)
    ///
    /// # Errors
    /// As [`checkpoint_at`](Self::checkpoint_at), and [`CheckpointError::SeveralLanes`]; nothing is prepared then, although
    /// the row may still get what was to be.
    pub async fn prepare(
        &self,
        position: &Position,
        state: Option<Bytes>,
    ) -> Result<PreparedCheckpoint, CheckpointError> {
        if self.inner.progress.shard().has_lanes() {
            return Err(CheckpointError::SeveralLanes);
        }
        let checkpoint = Checkpoint::At(position.clone());
        let state = state.map(|state| state.to_vec());
        let (prepared, answer) = {
            let _turn = self.inner.turn();
            let id = self.inner.progress.prepare(position, state.clone())?;
            // Ends the phase if the write fails or is given up.
            let prepared = PreparedCheckpoint::new(self.clone(), position.clone(), id);
            (prepared, sent(self.inner.grant.prepare(checkpoint, state)))
        };
        answer.await.map_err(CheckpointError::from_grant)?;
        Ok(prepared)
    }

    /// Stores that everything up to `position` is complete, which an earlier holder of the lease prepared.
    pub(crate) async fn commit_pending(&self, position: &Position) -> Result<(), CheckpointError> {
        self.inner.progress.shard().adopt(position);
        self.store().await
    }

    /// Notes that deferred records are complete.
    pub(crate) fn acknowledge(&self, deferred: DeliveryId) -> Result<(), AckError> {
        self.check_lease()?;
        let records = self.inner.progress.acknowledge(deferred)?;
        let counters = self.inner.events.counters();
        counters.records_processed.add(records as u64);
        Ok(())
    }

    /// Notes that deferred records failed.
    pub(crate) fn reject(&self, deferred: DeliveryId, why: CallFailure) -> Result<(), AckError> {
        self.check_lease()?;
        if mutant::is(Mutant::RejectionCounts) {
            return self.inner.progress.acknowledge(deferred).map(|_| ());
        }
        if mutant::is(Mutant::RejectionIgnored) {
            return Ok(());
        }
        self.inner.progress.reject(deferred, why)
    }

    pub(crate) fn progress(&self) -> &LaneProgress {
        &self.inner.progress
    }

    fn check_lease(&self) -> Result<(), AckError> {
        match self.inner.grant.loss() {
            Some(_) if !mutant::is(Mutant::AnswerAfterLoss) => Err(AckError::LeaseLost),
            _ => Ok(()),
        }
    }

    /// Stores the watermark unless it is stored already.
    pub(crate) async fn store(&self) -> Result<(), CheckpointError> {
        let inner = &self.inner;
        let (checkpoint, answer) = {
            let _turn = inner.turn();
            match inner.progress.shard().unstored() {
                Some(checkpoint) => {
                    let answer = sent(inner.grant.checkpoint(checkpoint.clone()));
                    (checkpoint, answer)
                }
                None if inner.grant.loss().is_some() => return Err(CheckpointError::LeaseLost),
                None => return Ok(()),
            }
        };
        answer.await.map_err(CheckpointError::from_grant)?;
        if inner.progress.shard().stored(&checkpoint) {
            inner.events.counters().checkpoints.add(1);
            inner.events.emit(WorkerEvent::Checkpointed {
                shard: inner.grant.lease_key().clone(),
                checkpoint,
            });
        }
        Ok(())
    }

    /// Stores the watermark whenever it moved, at most once an `interval`, until the lease is lost.
    ///
    /// The first move is stored at once: a shard that has just started shows progress, and an idle shard writes nothing.
    pub(crate) async fn run_automatic(
        self,
        interval: Duration,
        retry: RetryPolicy,
        runtime: Runtime,
    ) {
        let mut schedule = retry.schedule(runtime.rng(self.inner.grant.lease_key().as_str()));
        loop {
            self.inner.progress.shard().wait_unstored().await;
            match self.store().await {
                Ok(()) => {
                    schedule.reset();
                    tokio::time::sleep(interval).await;
                }
                Err(CheckpointError::LeaseLost | CheckpointError::Repositioned) => return,
                Err(error) => {
                    let retry_in = schedule.next_or_cap();
                    self.inner.events.emit(WorkerEvent::CheckpointFailed {
                        shard: self.inner.grant.lease_key().clone(),
                        error: error.to_string(),
                        retry_in,
                    });
                    tokio::time::sleep(retry_in).await;
                }
            }
        }
    }
}

impl Inner {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a write, which a grant does when it is first polled. The future waits for the answer.
fn sent<F: Future>(write: F) -> impl Future<Output = F::Output> {
    let mut write = Box::pin(write);
    let answer = write.as_mut().now_or_never();
    async move {
        match answer {
            Some(answer) => answer,
            None => write.await,
        }
    }
}
