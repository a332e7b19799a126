//! Which shards a worker holds, which of them are at their tip, and who watches each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kcl_lease::{LeaseKey, ShardId};
use tokio::sync::watch;

use crate::handle::StoppedShard;
use crate::health::{Monitor, ShardHealth, WorkerState};

/// The shards of a worker.
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
    shards: BTreeMap<LeaseKey, bool>,
    /// The shards that have a task, and what is known of it.
    watched: BTreeMap<LeaseKey, Arc<Monitor>>,
    /// Held shards that rest.
    stopped: BTreeMap<LeaseKey, StoppedShard>,
    /// Children of shards that ended here and that are not held yet.
    expected: BTreeSet<LeaseKey>,
    /// Children that others process, known before their parent's task said that it ended.
    elsewhere: BTreeSet<LeaseKey>,
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
        self.change(|board| {
            board.over = true;
            board.watched.clear();
        });
    }

    pub(crate) fn settle(&self) {
        self.change(|board| board.settled = true);
    }

    /// Notes that a task works on the shard.
    pub(crate) fn watch(&self, shard: &LeaseKey, monitor: &Arc<Monitor>) {
        let mut board = self.lock();
        board.watched.insert(shard.clone(), Arc::clone(monitor));
    }

    /// Notes that a task has ended.
    pub(crate) fn unwatch(&self, monitor: &Arc<Monitor>) {
        let mut board = self.lock();
        let is_other = |known: &Arc<Monitor>| !Arc::ptr_eq(known, monitor);
        board.watched.retain(|_, known| is_other(known));
    }

    pub(crate) fn started(&self, shard: &LeaseKey) {
        self.change(|board| {
            board.expected.remove(shard);
            board.stopped.remove(shard);
            board.shards.insert(shard.clone(), false);
        });
    }

    /// Notes that `shard` is at its tip or not.
    pub(crate) fn at_tip(&self, shard: &LeaseKey, at_tip: bool) {
        self.change(|board| {
            if let Some(known) = board.shards.get_mut(shard) {
                *known = at_tip;
            }
        });
    }

    /// Notes that a shard is complete, and the shards of the same stream that take over.
    pub(crate) fn ended(&self, shard: &LeaseKey, children: &[ShardId]) {
        self.change(|board| {
            board.shards.remove(shard);
            for child in children.iter().map(|child| shard.relative(child)) {
                let known = board.shards.contains_key(&child) || board.elsewhere.remove(&child);
                if !known {
                    board.expected.insert(child);
                }
            }
        });
    }

    /// Notes that a child is not processed by this worker.
    pub(crate) fn elsewhere(&self, child: &LeaseKey) {
        self.change(|board| {
            if !board.expected.remove(child) {
                board.elsewhere.insert(child.clone());
            }
        });
    }

    /// Notes that a held shard rests until it is resumed or its lease ends. False if that is known.
    pub(crate) fn rests(&self, stopped: StoppedShard) -> bool {
        let mut is_new = false;
        self.change(|board| {
            board.shards.insert(stopped.shard.clone(), false);
            is_new = board
                .stopped
                .insert(stopped.shard.clone(), stopped)
                .is_none();
        });
        is_new
    }

    /// Notes that a held shard does not rest any more. False if that is known.
    pub(crate) fn resumes(&self, shard: &LeaseKey) -> bool {
        let mut is_new = false;
        self.change(|board| is_new = board.stopped.remove(shard).is_some());
        is_new
    }

    pub(crate) fn gone(&self, shard: &LeaseKey) {
        self.change(|board| {
            board.shards.remove(shard);
            board.stopped.remove(shard);
        });
    }

    /// What the worker does, as far as this knows.
    pub(crate) fn worker_state(&self) -> WorkerState {
        match *self.lock() {
            Board { over: true, .. } => WorkerState::Ended,
            Board { settled: true, .. } => WorkerState::Running,
            _ => WorkerState::Starting,
        }
    }

    pub(crate) fn health(&self) -> Vec<ShardHealth> {
        let watched: Vec<Arc<Monitor>> = self.lock().watched.values().cloned().collect();
        watched.iter().map(|monitor| monitor.health()).collect()
    }

    pub(crate) fn is_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    pub(crate) fn held(&self) -> Vec<LeaseKey> {
        self.lock().shards.keys().cloned().collect()
    }

    pub(crate) fn stopped(&self) -> Vec<StoppedShard> {
        self.lock().stopped.values().cloned().collect()
    }

    pub(crate) async fn caught_up(&self) {
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
        let (parent, child) = (LeaseKey::from("p"), LeaseKey::from("c"));
        board.started(&parent);
        board.settle();
        assert!(!*board.caught_up.borrow());
        board.at_tip(&parent, true);
        assert!(*board.caught_up.borrow());
        board.ended(&parent, &[child.shard()]);
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
