//! The other workers, as their items were last read.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::WorkerId;
use crate::liveness::Liveness;
use crate::runtime::Moment;
use crate::worker_item::{PROTOCOL_VERSION, WorkerItem};

/// A worker's second heartbeat shows that it lives. Until then, some six seconds, it counts as new: it looks into its inbox
/// all the time for most of that.
const PROVEN_AT: u64 = 2;

/// What is known of the workers of the fleet, this one excluded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    workers: BTreeMap<WorkerId, WorkerItem>,
    /// Workers that said themselves that they have just registered.
    joined: BTreeSet<WorkerId>,
}

/// Whether a worker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It showed that it lives, and not too long ago.
    Alive,
    /// It has an item, and did not show anything since that was first read.
    Unproven,
    /// Its heartbeat stood still for too long.
    Expired,
    /// It has no item, as far as is known.
    Missing,
}

impl Roster {
    /// A worker's item was read.
    pub(crate) fn saw(&mut self, mut item: WorkerItem) {
        // By now it has shown by itself that it lives.
        if item.heartbeat >= PROVEN_AT {
            self.joined.remove(&item.id);
        }
        let known = self.workers.get(&item.id);
        // Who stops does not change its mind: a read without that is an old one.
        item.draining |= known.is_some_and(|known| known.draining);
        if known.is_none_or(|known| known.heartbeat <= item.heartbeat) {
            self.workers.insert(item.id.clone(), item);
        }
    }

    /// A worker told that it has just registered.
    pub(crate) fn joined(&mut self, worker: WorkerId) {
        self.joined.insert(worker);
    }

    /// A worker's item is gone.
    pub(crate) fn gone(&mut self, worker: &WorkerId) {
        self.workers.remove(worker);
        self.joined.remove(worker);
    }

    /// A whole scan found these items: others are forgotten, unless they joined while it ran.
    pub(crate) fn saw_scan(&mut self, items: &[WorkerItem], me: &WorkerId) {
        let present: BTreeSet<&WorkerId> = items.iter().map(|item| &item.id).collect();
        let joined = &self.joined;
        self.workers
            .retain(|id, _| present.contains(id) || joined.contains(id));
        for item in items.iter().filter(|item| item.id != *me) {
            self.saw(item.clone());
        }
    }

    /// All workers that have an item, and those that told of themselves before it was read.
    pub(crate) fn ids(&self) -> BTreeSet<WorkerId> {
        self.workers.keys().chain(&self.joined).cloned().collect()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &WorkerItem> {
        self.workers.values()
    }

    pub(crate) fn item(&self, worker: &WorkerId) -> Option<&WorkerItem> {
        self.workers.get(worker)
    }

    /// Whether the worker says that it stops.
    pub(crate) fn stops(&self, worker: &WorkerId) -> bool {
        self.item(worker).is_some_and(|item| item.draining)
    }

    /// Nobody else is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.workers.is_empty() && self.joined.is_empty()
    }

    /// Whether the worker has just joined: it looks into its inbox all the time.
    pub(crate) fn is_newcomer(&self, worker: &WorkerId) -> bool {
        // Its fast look-outs end five seconds after it registered, which is about its second heartbeat.
        self.joined.contains(worker)
    }

    pub(crate) fn life(
        &self,
        worker: &WorkerId,
        liveness: &Liveness,
        undisturbed_since: Moment,
        now: Moment,
    ) -> Life {
        if !self.workers.contains_key(worker) {
            return Life::Missing;
        }
        let expires = liveness.worker_expires(worker, undisturbed_since);
        match expires {
            Some(expires) if now >= expires => Life::Expired,
            Some(_) if liveness.was_alive(worker) || self.joined.contains(worker) => Life::Alive,
            _ => Life::Unproven,
        }
    }

    /// A worker whose protocol is newer than ours, of those that `live`.
    pub(crate) fn newer(&self, live: impl Fn(&WorkerId) -> bool) -> Option<&WorkerItem> {
        self.items()
            .find(|item| item.protocol > PROTOCOL_VERSION && live(&item.id))
    }
}
