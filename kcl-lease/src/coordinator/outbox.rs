//! Hints for other workers that wait to be sent, several in one write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hint::Hint;
use crate::key::WorkerId;
use crate::runtime::Moment;

/// Hints in one write at most. An inbox should stay small: each heartbeat rewrites the whole item.
const BATCH_MAX: usize = 25;
/// An inbox with more hints than this gets no more for a while.
const INBOX_MAX: usize = 100;
/// A receiver empties a full inbox by an early heartbeat.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// How long a hint may wait for others to the same worker.
pub(super) const GATHER: Duration = Duration::from_millis(100);
/// A write that failed is tried again this often; a hint that is lost costs time only.
const ATTEMPTS_MAX: u32 = 4;

/// What waits, by receiver.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: BTreeMap<WorkerId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeSet<String>,
    due: Option<Moment>,
    not_before: Option<Moment>,
    on_its_way: bool,
    failures: u32,
}

impl Outbox {
    /// Adds a hint that should be sent by `due`.
    pub(super) fn push(&mut self, to: &WorkerId, hint: &Hint, due: Moment) {
        let queue = self.queues.entry(to.clone()).or_default();
        queue.waiting.insert(hint.encode());
        queue.due = Some(queue.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// The writes whose time has come.
    pub(super) fn send(&mut self, now: Moment) -> Vec<(WorkerId, BTreeSet<String>)> {
        let due = |queue: &Queue| queue.next().is_some_and(|at| at <= now);
        self.queues
            .iter_mut()
            .filter(|(_, queue)| due(queue))
            .map(|(worker, queue)| {
                queue.on_its_way = true;
                (worker.clone(), queue.take_batch())
            })
            .collect()
    }

    /// When the next write is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.queues.values().filter_map(Queue::next).min()
    }

    /// Nothing waits, and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// A write was applied; the inbox has so many hints now.
    pub(super) fn sent(&mut self, to: &WorkerId, inbox: usize, now: Moment) {
        let Some(queue) = self.queues.get_mut(to) else {
            return;
        };
        queue.on_its_way = false;
        queue.failures = 0;
        queue.not_before = (inbox > INBOX_MAX).then(|| now.plus(FULL_PAUSE));
        if queue.waiting.is_empty() {
            self.queues.remove(to);
        }
    }

    /// A write was not applied, as far as is known. False if it is given up.
    pub(super) fn failed(&mut self, to: &WorkerId, hints: BTreeSet<String>, now: Moment) -> bool {
        let Some(queue) = self.queues.get_mut(to) else {
            return false;
        };
        queue.on_its_way = false;
        queue.failures += 1;
        if queue.failures >= ATTEMPTS_MAX {
            self.queues.remove(to);
            return false;
        }
        queue.waiting.extend(hints);
        queue.due = Some(now.plus(GATHER));
        true
    }

    /// The worker has no item any more.
    pub(super) fn gone(&mut self, to: &WorkerId) {
        self.queues.remove(to);
    }
}

impl Queue {
    fn next(&self) -> Option<Moment> {
        if self.on_its_way || self.waiting.is_empty() {
            return None;
        }
        let due = match self.waiting.len() >= BATCH_MAX {
            true => self.due?.minus(GATHER),
            false => self.due?,
        };
        Some(self.not_before.map_or(due, |at| at.max(due)))
    }

    fn take_batch(&mut self) -> BTreeSet<String> {
        let batch: BTreeSet<String> = self.waiting.iter().take(BATCH_MAX).cloned().collect();
        self.waiting.retain(|text| !batch.contains(text));
        if self.waiting.is_empty() {
            self.due = None;
        }
        batch
    }
}
