//! Hints for other workers that wait to be sent, several in one write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hint::Hint;
use crate::key::WorkerId;
use crate::retry::doubled;
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
const ATTEMPTS_MAX: u32 = 8;
/// The longest wait between two attempts.
const RETRY_LONGEST: Duration = Duration::from_secs(2);

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
        let wait = doubled(GATHER, RETRY_LONGEST, queue.failures);
        queue.failures += 1;
        if queue.failures >= ATTEMPTS_MAX {
            self.queues.remove(to);
            return false;
        }
        queue.waiting.extend(hints);
        queue.due = Some(now);
        queue.not_before = Some(now.plus(wait));
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

    /// What goes first: the lease of a `yours` is silent until it arrives, all others only make something begin later.
    fn take_batch(&mut self) -> BTreeSet<String> {
        let urgent = self.waiting.iter().filter(|text| Hint::is_yours(text));
        let others = self.waiting.iter().filter(|text| !Hint::is_yours(text));
        let batch: BTreeSet<String> = urgent.chain(others).take(BATCH_MAX).cloned().collect();
        self.waiting.retain(|text| !batch.contains(text));
        if self.waiting.is_empty() {
            self.due = None;
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    fn hint(number: u64) -> Hint {
        Hint::Yours {
            key: format!("shard-{number}").as_str().into(),
            counter: number,
        }
    }

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn hints_gather_until_they_are_due_or_many() {
        let t0 = Runtime::virtual_time(0).now().plus(GATHER);
        let to = WorkerId::from("w/1");
        let mut outbox = Outbox::default();
        outbox.push(&to, &hint(0), t0.plus(GATHER));
        assert!(outbox.send(t0).is_empty());
        for number in 1..60 {
            outbox.push(&to, &hint(number), t0.plus(GATHER));
        }
        let sent = outbox.send(t0);
        assert_eq!(sent[0].1.len(), BATCH_MAX);
        assert!(outbox.send(t0).is_empty(), "one write at a time");
        outbox.sent(&to, BATCH_MAX, t0);
        assert_eq!(outbox.send(t0)[0].1.len(), BATCH_MAX);
        // The inbox is full: the rest waits until the receiver had time to tidy up.
        outbox.sent(&to, INBOX_MAX + 1, t0);
        assert!(outbox.send(after(t0, 499)).is_empty());
        assert_eq!(outbox.send(after(t0, 500))[0].1.len(), 60 - 2 * BATCH_MAX);
        outbox.sent(&to, 10, after(t0, 510));
        assert!(outbox.is_empty() && outbox.next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_lease_does_not_wait_behind_announcements() {
        let t0 = Runtime::virtual_time(0).now();
        let to = WorkerId::from("w/1");
        let mut outbox = Outbox::default();
        for number in 0..100 {
            let announced = Hint::Expect {
                key: format!("shard-{number}").as_str().into(),
                counter: 1,
                from: WorkerId::from("w/0"),
            };
            outbox.push(&to, &announced, t0);
        }
        outbox.push(&to, &hint(7), t0);
        let (_, sent) = outbox.send(t0).pop().unwrap();
        assert_eq!(sent.len(), BATCH_MAX);
        assert!(sent.contains(&hint(7).encode()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_is_repeated_and_given_up() {
        let t0 = Runtime::virtual_time(0).now();
        let to = WorkerId::from("w/1");
        let mut outbox = Outbox::default();
        outbox.push(&to, &hint(0), t0);
        for attempt in 1..=ATTEMPTS_MAX {
            let now = after(t0, u64::from(attempt) * 10_000);
            let (worker, hints) = outbox.send(now).pop().unwrap();
            assert_eq!(outbox.failed(&worker, hints, now), attempt < ATTEMPTS_MAX);
        }
        assert!(outbox.is_empty());
    }
}
