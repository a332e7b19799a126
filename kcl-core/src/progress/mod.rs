//! How far one shard is: delivered, complete, stored. Shared by the shard's task, its lanes, their checkpointers, the
//! automatic checkpoints and the handles of deferred records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kcl_checkpoint::{Checkpoint, Position, Progress, Step};
use kcl_lease::PendingCheckpoint;
use kcl_lease::mutant::{self, Mutant};
use tokio::sync::Notify;

mod lane;
mod open_call;
mod standing;

use lane::LaneCell;
pub(crate) use lane::{CallId, LaneProgress};
pub(crate) use open_call::{OpenCall, Whole};
pub(crate) use standing::Standing;

/// The progress of one grant of one shard.
///
/// Every lane is told how far the shard was handed out and knows which of its own records up to there are complete. All
/// records are complete up to where those of every lane are.
#[derive(Debug)]
pub(crate) struct ShardProgress {
    row: Mutex<Row>,
    lanes: Vec<Arc<LaneCell>>,
    /// Something is complete.
    advanced: Notify,
    /// Fewer records are in flight.
    lightened: Notify,
}

/// What concerns the lease row.
#[derive(Debug)]
struct Row {
    /// What it says, and what may be stored next.
    rules: Progress,
    /// The checkpoint that is prepared and not committed: nothing is stored meanwhile, which would remove it.
    prepared: Option<u64>,
    prepares: u64,
    /// The last checkpoint that was prepared, by this holder or an earlier one, and that none has reached.
    uncommitted: Option<PendingCheckpoint>,
}

impl ShardProgress {
    /// Progress of a grant whose row stores `start`, in so many lanes.
    pub(crate) fn new(start: Checkpoint, lanes: usize) -> Self {
        let position = start.position().cloned();
        let lane = || Arc::new(LaneCell::new(position.clone()));
        Self {
            row: Mutex::new(Row {
                rules: Progress::new(start),
                prepared: None,
                prepares: 0,
                uncommitted: None,
            }),
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            advanced: Notify::new(),
            lightened: Notify::new(),
        }
    }

    /// Notes what an earlier holder prepared.
    pub(crate) fn inherit(&self, pending: Option<&PendingCheckpoint>) {
        self.row().uncommitted = pending.cloned();
    }

    /// What was prepared, and may have been carried out although nobody said so.
    pub(crate) fn uncommitted(&self) -> Option<PendingCheckpoint> {
        self.row().uncommitted.clone()
    }

    /// The progress of each lane.
    pub(crate) fn lanes(self: &Arc<Self>) -> impl Iterator<Item = LaneProgress> {
        let lane = |cell| LaneProgress::new(Arc::clone(self), Arc::clone(cell));
        self.lanes.iter().map(lane)
    }

    /// Whether there is more than one lane.
    pub(crate) fn has_lanes(&self) -> bool {
        self.lanes.len() > 1
    }

    /// Notes that the records up to `last` are handed out. Returns after which others these come; `None` if all of them
    /// were handed out before.
    pub(crate) fn hand_out(&self, last: &Position) -> Option<Checkpoint> {
        let mut row = self.row();
        let before = row.rules.delivered().clone();
        row.rules.deliver(last);
        (before < Checkpoint::At(last.clone())).then_some(before)
    }

    /// Everything up to here was handed out.
    pub(crate) fn handed_out(&self) -> Checkpoint {
        self.row().rules.delivered().clone()
    }

    /// How many records are handed out to lanes, or deferred, and not complete.
    pub(crate) fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lane.in_flight()).sum()
    }

    /// Waits until fewer records may be in flight.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn lightened(&self) {
        self.lightened.notified().await;
    }

    /// Begins a checkpoint in two phases, in place of any other.
    fn prepare(&self, pending: PendingCheckpoint) -> u64 {
        let mut row = self.row();
        row.uncommitted = Some(pending);
        row.prepares += 1;
        row.prepared = Some(row.prepares);
        row.prepares
    }

    /// Ends a prepared checkpoint, if no other took its place.
    pub(crate) fn end_prepared(&self, id: u64) {
        let mut row = self.row();
        if row.prepared == Some(id) {
            row.prepared = None;
        }
        drop(row);
        self.advanced.notify_one();
    }

    /// Ends whatever is prepared: a checkpoint by hand takes its place.
    pub(crate) fn replace_prepared(&self) {
        self.row().prepared = None;
        self.advanced.notify_one();
    }

    /// Whether a checkpoint is prepared and not committed.
    pub(crate) fn is_prepared(&self) -> bool {
        self.row().prepared.is_some()
    }

    /// Notes that records up to `position` are complete although they were not delivered under this grant.
    pub(crate) fn adopt(&self, position: &Position) {
        self.row().rules.deliver(position);
        for lane in &self.lanes {
            lane.adopt(position);
        }
        self.advance();
    }

    /// Forgets deferred records, whose lease is over: nobody delivers them again here.
    pub(crate) fn forget_deferred(&self) {
        for lane in &self.lanes {
            lane.forget_deferred();
        }
    }

    /// How all lanes stand together.
    pub(crate) fn standing(&self) -> Standing {
        let lanes = self.lanes.iter().map(|lane| lane.standing());
        lanes.fold(Standing::default(), Standing::and)
    }

    /// What is stored.
    pub(crate) fn last_stored(&self) -> Checkpoint {
        self.row().rules.last().clone()
    }

    /// Everything up to here is complete.
    pub(crate) fn complete(&self) -> Checkpoint {
        let complete = self.complete_in_all_lanes();
        complete.unwrap_or_else(|| self.row().rules.last().clone())
    }

    /// What should be stored next, unless it is stored already.
    pub(crate) fn unstored(&self) -> Option<Checkpoint> {
        let complete = self.complete_in_all_lanes()?;
        let row = self.row();
        (row.prepared.is_none() && complete > *row.rules.last()).then_some(complete)
    }

    /// Notes that the row says `checkpoint` now. False if that was known already, from a call at the same time.
    pub(crate) fn stored(&self, checkpoint: &Checkpoint) -> bool {
        let mut row = self.row();
        let reaches = |pending: &PendingCheckpoint| pending.checkpoint <= *checkpoint;
        row.uncommitted = row.uncommitted.take().filter(|pending| !reaches(pending));
        matches!(row.rules.store(checkpoint), Ok(Step::Forward))
    }

    /// Waits until something is complete that is not stored.
    pub(crate) async fn wait_unstored(&self) {
        while self.unstored().is_none() {
            self.advanced.notified().await;
        }
    }

    /// Where the lane ends that is behind all others. Each lane only moves on, so that it does not matter that one is
    /// looked at after the other.
    fn complete_in_all_lanes(&self) -> Option<Checkpoint> {
        let complete = self.lanes.iter().map(|lane| lane.completed());
        let complete = match mutant::is(Mutant::FastestLane) {
            true => complete.max(),
            false => complete.min(),
        };
        complete.flatten().map(Checkpoint::At)
    }

    fn advance(&self) {
        self.advanced.notify_one();
        self.lightened.notify_one();
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod lanes_tests;
#[cfg(test)]
mod tests;
