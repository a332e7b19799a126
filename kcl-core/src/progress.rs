//! How far one shard is: delivered, complete, stored. Shared by the shard's task, its checkpointer and its automatic
//! checkpoints.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kcl_checkpoint::{Checkpoint, CheckpointRuleError, Position, Progress, Step, Watermark};
use tokio::sync::Notify;

/// The progress of one grant of one shard.
#[derive(Debug)]
pub(crate) struct ShardProgress {
    state: Mutex<State>,
    advanced: Notify,
}

#[derive(Debug)]
struct State {
    /// What the lease row says, and what may be stored next.
    rules: Progress,
    /// What is complete.
    watermark: Watermark,
    /// The end of the records whose call runs or succeeded; `None` after a failed call, whose records nobody may declare
    /// complete as a whole.
    claimable: Option<Position>,
}

impl State {
    fn complete(&self) -> Checkpoint {
        match self.watermark.completed() {
            Some(position) => Checkpoint::At(position.clone()),
            None => self.rules.last().clone(),
        }
    }

    fn unstored(&self) -> Option<Checkpoint> {
        Some(self.complete()).filter(|complete| complete > self.rules.last())
    }
}

impl ShardProgress {
    /// Progress of a grant whose row stores `start`.
    pub(crate) fn new(start: Checkpoint) -> Self {
        let watermark = Watermark::new(start.position().cloned());
        Self {
            state: Mutex::new(State {
                rules: Progress::new(start),
                watermark,
                claimable: None,
            }),
            advanced: Notify::new(),
        }
    }

    /// Notes that the records up to `last` are worked on from now on.
    pub(crate) fn deliver(&self, last: &Position) {
        let mut state = self.lock();
        state.rules.deliver(last);
        if state
            .watermark
            .delivered()
            .is_none_or(|delivered| delivered < last)
        {
            // The check above is the only reason for a refusal.
            let _delivery = state.watermark.deliver(last.clone());
        }
    }

    /// Notes that the records up to `last` are given to the processor now, which may declare all of them complete.
    pub(crate) fn claim(&self, last: &Position) {
        self.lock().claimable = Some(last.clone());
    }

    /// Notes that everything up to `position` is complete, as far as it was delivered.
    pub(crate) fn settle(&self, position: &Position) {
        self.lock().watermark.complete_through(position);
        self.advanced.notify_one();
    }

    /// Notes, as the processor says it, that everything up to `position` is complete.
    ///
    /// # Errors
    /// When `position` lies before what is stored or beyond what was delivered (the Java library's rule, interop §6.4).
    pub(crate) fn complete_through(&self, position: &Position) -> Result<(), CheckpointRuleError> {
        let mut state = self.lock();
        state.rules.check(&Checkpoint::At(position.clone()))?;
        state.watermark.complete_through(position);
        drop(state);
        self.advanced.notify_one();
        Ok(())
    }

    /// Notes that the call for the last batch failed: it is complete only as far as was declared record by record.
    pub(crate) fn fail(&self) {
        self.lock().claimable = None;
    }

    /// Notes that everything that was delivered is complete, unless its call failed.
    pub(crate) fn complete_all(&self) {
        let mut state = self.lock();
        if let Some(delivered) = state.claimable.clone() {
            state.watermark.complete_through(&delivered);
            drop(state);
            self.advanced.notify_one();
        }
    }

    /// Everything up to here is complete.
    pub(crate) fn complete(&self) -> Checkpoint {
        self.lock().complete()
    }

    /// What should be stored next, unless it is stored already.
    pub(crate) fn unstored(&self) -> Option<Checkpoint> {
        self.lock().unstored()
    }

    /// Notes that the row says `checkpoint` now. False if that was known already, from a call at the same time.
    pub(crate) fn stored(&self, checkpoint: &Checkpoint) -> bool {
        matches!(self.lock().rules.store(checkpoint), Ok(Step::Forward))
    }

    /// Waits until something is complete that is not stored.
    pub(crate) async fn wait_unstored(&self) -> Checkpoint {
        loop {
            if let Some(checkpoint) = self.unstored() {
                return checkpoint;
            }
            self.advanced.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kcl_checkpoint::SequenceNumber;

    use super::*;

    fn at(number: u64, sub: u64) -> Position {
        Position::new(SequenceNumber::parse(&number.to_string()).unwrap(), sub)
    }

    #[test]
    fn a_checkpoint_beyond_what_was_delivered_is_refused() {
        let progress = ShardProgress::new(Checkpoint::TrimHorizon);
        progress.deliver(&at(100, 3));
        assert!(progress.complete_through(&at(100, 4)).is_err());
        assert!(progress.complete_through(&at(100, 3)).is_ok());
        assert_eq!(progress.complete(), Checkpoint::At(at(100, 3)));
    }

    #[test]
    fn a_checkpoint_before_what_is_stored_is_refused() {
        let progress = ShardProgress::new(Checkpoint::At(at(50, 0)));
        progress.deliver(&at(60, 0));
        assert!(progress.complete_through(&at(49, 0)).is_err());
        assert_eq!(progress.unstored(), None);
    }

    #[test]
    fn completing_less_than_before_changes_nothing() {
        let progress = ShardProgress::new(Checkpoint::TrimHorizon);
        progress.deliver(&at(9, 0));
        progress.complete_through(&at(8, 0)).unwrap();
        progress.complete_through(&at(7, 0)).unwrap();
        assert_eq!(progress.unstored(), Some(Checkpoint::At(at(8, 0))));
    }

    #[test]
    fn a_batch_whose_call_failed_cannot_be_completed_as_a_whole() {
        let progress = ShardProgress::new(Checkpoint::TrimHorizon);
        progress.deliver(&at(9, 0));
        progress.claim(&at(9, 0));
        progress.fail();
        progress.complete_all();
        assert_eq!(progress.unstored(), None);
        progress.complete_through(&at(8, 0)).unwrap();
        assert_eq!(progress.unstored(), Some(Checkpoint::At(at(8, 0))));
        progress.deliver(&at(9, 0));
        progress.claim(&at(9, 0));
        progress.complete_all();
        assert_eq!(progress.unstored(), Some(Checkpoint::At(at(9, 0))));
    }

    #[test]
    fn what_is_stored_is_not_stored_again() {
        let progress = ShardProgress::new(Checkpoint::TrimHorizon);
        progress.deliver(&at(9, 0));
        progress.claim(&at(9, 0));
        progress.complete_all();
        let next = progress.unstored().unwrap();
        assert!(progress.stored(&next));
        assert!(!progress.stored(&next));
        assert_eq!(progress.unstored(), None);
    }
}
