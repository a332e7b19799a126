//! How long others did not show that they live, by our own clock.
//!
//! An age is the time since a value was first seen, never more than the time since our own last interruption: after an
//! outage of the table every age has grown for everybody, and that proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;
use crate::worker_item::WorkerItem;

/// What this worker saw of the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Liveness {
    duration: Duration,
    margin: Duration,
    workers: BTreeMap<WorkerId, SeenWorker>,
    rows: BTreeMap<LeaseKey, SeenRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeenWorker {
    heartbeat: u64,
    /// The heartbeat of the item as it was read last: smaller if a late registration made it again after it was deleted.
    stored: u64,
    since: Moment,
    duration: Duration,
    /// Whether the heartbeat moved since it was first seen.
    moved: bool,
}

/// A row whose owner has no heartbeat: its counter shows that the owner lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeenRow {
    counter: u64,
    owner: WorkerId,
    since: Moment,
}

impl Liveness {
    /// `duration` is our own lease duration, `margin` covers the drift of two clocks over it.
    pub(crate) fn new(duration: Duration, margin: Duration) -> Self {
        Self {
            duration,
            margin,
            workers: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// A worker's item was read. A smaller heartbeat than seen before is an old read.
    pub(crate) fn saw_worker(&mut self, item: &WorkerItem, now: Moment) {
        match self.workers.get_mut(&item.id) {
            Some(known) if known.heartbeat >= item.heartbeat => {
                known.stored = item.heartbeat;
                if known.heartbeat == item.heartbeat {
                    // It may have been told of before its item was read.
                    known.duration = item.duration;
                }
            }
            known => {
                let seen = SeenWorker {
                    heartbeat: item.heartbeat,
                    stored: item.heartbeat,
                    since: now,
                    duration: item.duration,
                    moved: known.is_some(),
                };
                self.workers.insert(item.id.clone(), seen);
            }
        }
    }

    /// Somebody told that the worker's heartbeat had this value for `age` when he wrote. The larger age counts.
    pub(crate) fn told_of_worker(
        &mut self,
        worker: &WorkerId,
        heartbeat: u64,
        age: Duration,
        now: Moment,
    ) {
        let since = now.minus(age);
        match self.workers.get_mut(worker) {
            Some(known) if known.heartbeat == heartbeat => known.since = known.since.min(since),
            Some(known) if known.heartbeat > heartbeat => {}
            known => {
                let seen = SeenWorker {
                    heartbeat,
                    stored: heartbeat,
                    since,
                    duration: known.as_ref().map_or(self.duration, |known| known.duration),
                    moved: known.is_some(),
                };
                self.workers.insert(worker.clone(), seen);
            }
        }
    }

    /// For how long the worker's heartbeat has been the same, as far as that counts.
    pub(crate) fn age(
        &self,
        worker: &WorkerId,
        undisturbed_since: Moment,
        now: Moment,
    ) -> Option<Duration> {
        let seen = self.workers.get(worker)?;
        Some(now.since(seen.since.max(undisturbed_since)))
    }

    /// A lease row was read. Only rows of owners without a heartbeat of ours are watched.
    pub(crate) fn saw_row(&mut self, lease: &Lease, now: Moment) {
        let foreign = lease.owner.as_ref().filter(|owner| !owner.is_session());
        let Some(owner) = foreign.filter(|_| !lease.is_finished()) else {
            self.rows.remove(&lease.key);
            return;
        };
        let known = self.rows.get(&lease.key);
        if known.is_none_or(|known| known.counter != lease.counter || known.owner != *owner) {
            let seen = SeenRow {
                counter: lease.counter,
                owner: owner.clone(),
                since: now,
            };
            self.rows.insert(lease.key.clone(), seen);
        }
    }

    /// The worker's item is gone.
    pub(crate) fn forget_worker(&mut self, worker: &WorkerId) {
        self.workers.remove(worker);
    }

    /// Forgets workers and rows that are not in the table any more.
    pub(crate) fn retain(
        &mut self,
        worker: impl Fn(&WorkerId) -> bool,
        row: impl Fn(&LeaseKey) -> bool,
    ) {
        self.workers.retain(|id, _| worker(id));
        self.rows.retain(|key, _| row(key));
    }

    /// The heartbeat that was last seen of a worker.
    pub(crate) fn heartbeat(&self, worker: &WorkerId) -> Option<u64> {
        self.workers.get(worker).map(|seen| seen.heartbeat)
    }

    /// Whether the worker's heartbeat was seen to move: it was alive then.
    pub(crate) fn was_alive(&self, worker: &WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|seen| seen.moved)
    }

    /// When the worker counts as expired if its heartbeat stays as it is; `None` if it was never seen.
    pub(crate) fn worker_expires(
        &self,
        worker: &WorkerId,
        undisturbed_since: Moment,
    ) -> Option<Moment> {
        let seen = self.workers.get(worker)?;
        let since = match mutant::is(Mutant::OutageCounts) {
            true => seen.since,
            false => seen.since.max(undisturbed_since),
        };
        let duration = self.duration.max(seen.duration);
        Some(since.plus(if mutant::is(Mutant::ExpireEarly) {
            duration / 2
        } else if mutant::is(Mutant::NoMargin) {
            duration
        } else {
            duration + self.margin
        }))
    }

    /// When the row's owner counts as expired if the row stays as it is; `None` if the row is not watched.
    pub(crate) fn row_expires(&self, key: &LeaseKey, undisturbed_since: Moment) -> Option<Moment> {
        let seen = self.rows.get(key)?;
        let since = seen.since.max(undisturbed_since);
        Some(since.plus(self.duration + self.margin))
    }

    /// Whether the row changed after this moment, or was first seen then.
    pub(crate) fn row_moved_since(&self, key: &LeaseKey, moment: Moment) -> bool {
        self.rows.get(key).is_some_and(|seen| seen.since > moment)
    }

    /// Workers whose heartbeat stood still for ten lease durations, with the heartbeat of their items: these are litter.
    pub(crate) fn long_dead(&self, now: Moment, undisturbed_since: Moment) -> Vec<(WorkerId, u64)> {
        self.workers
            .iter()
            .filter(|_| !mutant::is(Mutant::NeverDeleteWorkers))
            .filter(|(_, seen)| {
                let age = now.since(seen.since.max(undisturbed_since));
                age >= self.duration.max(seen.duration) * 10 + self.margin
            })
            .map(|(id, seen)| (id.clone(), seen.stored))
            .collect()
    }
}

#[cfg(feature = "internals")]
impl crate::internals::Moments for Liveness {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        let workers = self.workers.values_mut().map(|seen| &mut seen.since);
        let rows = self.rows.values_mut().map(|seen| &mut seen.since);
        workers.chain(rows).for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    const L: Duration = Duration::from_secs(10);
    const M: Duration = Duration::from_millis(250);

    fn worker(heartbeat: u64, duration: Duration) -> WorkerItem {
        WorkerItem {
            heartbeat,
            ..WorkerItem::new(WorkerId::from("w/0"), duration)
        }
    }

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_expires_a_duration_and_a_margin_after_its_heartbeat_was_first_seen() {
        let t0 = Runtime::virtual_time(0).now();
        let mut liveness = Liveness::new(L, M);
        let id = WorkerId::from("w/0");
        assert_eq!(liveness.worker_expires(&id, t0), None);
        liveness.saw_worker(&worker(5, L), after(t0, 1_000));
        // The same value again, and an old read, change nothing.
        liveness.saw_worker(&worker(5, L), after(t0, 2_000));
        liveness.saw_worker(&worker(4, L), after(t0, 3_000));
        assert_eq!(liveness.worker_expires(&id, t0), Some(after(t0, 11_250)));
        liveness.saw_worker(&worker(6, L), after(t0, 4_000));
        assert_eq!(liveness.worker_expires(&id, t0), Some(after(t0, 14_250)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_age_reaches_back_before_our_own_interruption() {
        let t0 = Runtime::virtual_time(0).now();
        let mut liveness = Liveness::new(L, M);
        let id = WorkerId::from("w/0");
        liveness.saw_worker(&worker(5, L), t0);
        let back = after(t0, 60_000);
        assert_eq!(liveness.worker_expires(&id, back), Some(after(t0, 70_250)));
        assert!(liveness.long_dead(after(t0, 150_000), back).is_empty());
        assert_eq!(liveness.long_dead(after(t0, 160_250), back).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_a_late_registration_made_again_is_litter_as_it_is() {
        let t0 = Runtime::virtual_time(0).now();
        let mut liveness = Liveness::new(L, M);
        liveness.saw_worker(&worker(3, L), t0);
        // The worker said farewell, and then its first request arrived once more.
        liveness.saw_worker(&worker(0, L), after(t0, 3_000));
        let dead = liveness.long_dead(after(t0, 100_250), t0);
        assert_eq!(dead, [(WorkerId::from("w/0"), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_larger_duration_of_both_counts() {
        let t0 = Runtime::virtual_time(0).now();
        let mut liveness = Liveness::new(L, M);
        let id = WorkerId::from("w/0");
        liveness.saw_worker(&worker(5, L * 3), t0);
        assert_eq!(liveness.worker_expires(&id, t0), Some(after(t0, 30_250)));
        let mut slow = Liveness::new(L * 6, M);
        slow.saw_worker(&worker(5, L), t0);
        assert_eq!(slow.worker_expires(&id, t0), Some(after(t0, 60_250)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_java_row_is_judged_by_its_counter_and_owner() {
        let t0 = Runtime::virtual_time(0).now();
        let mut liveness = Liveness::new(L, M);
        let mut lease = crate::test_support::lease("shard-1");
        let key = lease.key.clone();
        lease.owner = Some(WorkerId::from("ip-10-0-0-1:uuid"));
        lease.counter = 7;
        liveness.saw_row(&lease, t0);
        liveness.saw_row(&lease, after(t0, 5_000));
        assert_eq!(liveness.row_expires(&key, t0), Some(after(t0, 10_250)));
        lease.counter = 8;
        liveness.saw_row(&lease, after(t0, 6_000));
        assert_eq!(liveness.row_expires(&key, t0), Some(after(t0, 16_250)));
        lease.owner = Some(WorkerId::from("another"));
        liveness.saw_row(&lease, after(t0, 7_000));
        assert_eq!(liveness.row_expires(&key, t0), Some(after(t0, 17_250)));
        lease.owner = None;
        liveness.saw_row(&lease, after(t0, 8_000));
        assert_eq!(liveness.row_expires(&key, t0), None);
    }
}
