//! A worker from outside, while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_checkpoint::Position;
use kcl_lease::ShardId;
use tokio::sync::watch;

use crate::counters::WorkerCounters;
use crate::event::{EventSink, Events};
use crate::retrieval::Budget;
use crate::shutdown::Stop;

/// Watches and stops a worker. Cheap to clone; made by [`Worker::handle`](crate::Worker::handle).
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    pub(crate) events: EventSink,
    pub(crate) stop: Stop,
    pub(crate) drain_budget: Duration,
    pub(crate) board: Arc<ShardBoard>,
    pub(crate) budget: Budget,
}

impl WorkerHandle {
    /// The events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// What the worker did so far.
    #[must_use]
    pub fn counters(&self) -> WorkerCounters {
        self.events.counters().snapshot()
    }

    /// The shards whose leases the worker holds now.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.board.held()
    }

    /// The held shards whose delivery was stopped because a record could not be processed, each with its cause.
    #[must_use]
    pub fn stopped_shards(&self) -> Vec<StoppedShard> {
        self.board.stopped()
    }

    /// Bytes of memory that records which were fetched and are not processed yet take now, in all shards together, and the
    /// room that is kept for the answers of running reads: what
    /// [`memory_budget`](crate::WorkerBuilder::memory_budget) limits.
    ///
    /// An answer counts until the last slice of it that a processor keeps is dropped. Above the budget only by what running
    /// reads brought beyond the room kept for them. A value that stays near the budget means that processors are slower
    /// than the stream, or keep what they were given.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Begins a graceful shutdown, as the future given to
    /// [`with_graceful_shutdown`](crate::Worker::with_graceful_shutdown) does.
    pub fn shutdown(&self) {
        if self.stop.begin(self.drain_budget) {
            self.events.emit(crate::WorkerEvent::ShutdownStarted);
        }
    }

    /// Waits until every shard that the worker could take is processed up to its tip, or the worker has ended.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn caught_up(&self) {
        self.board.caught_up().await;
    }
}

/// A shard whose delivery was stopped, as [`OnFailure::StopShard`](crate::OnFailure::StopShard) says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedShard {
    /// The shard.
    pub shard: ShardId,
    /// The record that could not be processed. The checkpoint stays before it.
    pub position: Position,
    /// The text of the last error.
    pub error: String,
}

/// Which shards a worker holds and which of them are at their tip.
#[derive(Debug)]
pub(crate) struct ShardBoard {
    state: Mutex<Board>,
    caught_up: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Board {
    /// Whether the first look at the lease table is over, so that "all shards" means something.
    settled: bool,
    /// Held shards, and whether each is at its tip.
    shards: BTreeMap<ShardId, bool>,
    /// Held shards that rest.
    stopped: BTreeMap<ShardId, StoppedShard>,
    /// Children of shards that ended here and that are not held yet.
    expected: BTreeSet<ShardId>,
    /// Children that others process, known before their parent's task said that it ended.
    elsewhere: BTreeSet<ShardId>,
    /// The worker has ended: nothing more comes.
    over: bool,
}

impl ShardBoard {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            caught_up: watch::Sender::new(false),
        }
    }

    /// Notes that the worker has ended.
    pub(crate) fn end(&self) {
        self.change(|board| board.over = true);
    }

    pub(crate) fn settle(&self) {
        self.change(|board| board.settled = true);
    }

    pub(crate) fn started(&self, shard: &ShardId) {
        self.change(|board| {
            board.expected.remove(shard);
            board.shards.insert(shard.clone(), false);
        });
    }

    /// Notes that `shard` is at its tip or not; true if it has just come there for the first time since it fell behind.
    pub(crate) fn at_tip(&self, shard: &ShardId, at_tip: bool) -> bool {
        let mut arrived = false;
        self.change(|board| {
            if let Some(known) = board.shards.get_mut(shard) {
                arrived = at_tip && !*known;
                *known = at_tip;
            }
        });
        arrived
    }

    pub(crate) fn ended(&self, shard: &ShardId, children: &[ShardId]) {
        self.change(|board| {
            board.shards.remove(shard);
            for child in children {
                let known = board.shards.contains_key(child) || board.elsewhere.remove(child);
                if !known {
                    board.expected.insert(child.clone());
                }
            }
        });
    }

    /// Notes that a child is not processed by this worker.
    pub(crate) fn elsewhere(&self, child: &ShardId) {
        self.change(|board| {
            if !board.expected.remove(child) {
                board.elsewhere.insert(child.clone());
            }
        });
    }

    /// Notes that a held shard rests until its lease ends.
    pub(crate) fn rests(&self, stopped: StoppedShard) {
        self.change(|board| {
            board.shards.insert(stopped.shard.clone(), false);
            board.stopped.insert(stopped.shard.clone(), stopped);
        });
    }

    pub(crate) fn gone(&self, shard: &ShardId) {
        self.change(|board| {
            board.shards.remove(shard);
            board.stopped.remove(shard);
        });
    }

    fn held(&self) -> Vec<ShardId> {
        self.lock().shards.keys().cloned().collect()
    }

    fn stopped(&self) -> Vec<StoppedShard> {
        self.lock().stopped.values().cloned().collect()
    }

    async fn caught_up(&self) {
        let mut receiver = self.caught_up.subscribe();
        // The sender is in `self`: the wait cannot fail.
        let _outcome = receiver.wait_for(|caught_up| *caught_up).await;
    }

    fn change(&self, change: impl FnOnce(&mut Board)) {
        let mut board = self.lock();
        change(&mut board);
        let settled = board.settled && board.expected.is_empty();
        let caught_up = board.over || (settled && board.shards.values().all(|at_tip| *at_tip));
        drop(board);
        self.caught_up
            .send_if_modified(|known| std::mem::replace(known, caught_up) != caught_up);
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn caught_up_waits_for_the_children_of_an_ended_shard() {
        let board = ShardBoard::new();
        let (parent, child) = (ShardId::from("p"), ShardId::from("c"));
        board.started(&parent);
        board.settle();
        assert!(!*board.caught_up.borrow());
        assert!(board.at_tip(&parent, true));
        assert!(!board.at_tip(&parent, true));
        assert!(*board.caught_up.borrow());
        board.ended(&parent, std::slice::from_ref(&child));
        assert!(!*board.caught_up.borrow());
        board.started(&child);
        board.at_tip(&child, true);
        board.caught_up().await;
        assert_eq!(board.held(), std::slice::from_ref(&child));
        board.ended(&child, &["a".into(), "b".into()]);
        board.elsewhere(&"a".into());
        assert!(!*board.caught_up.borrow());
        board.elsewhere(&"b".into());
        board.caught_up().await;
    }
}
