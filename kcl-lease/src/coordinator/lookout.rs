//! Looking at the fleet: this worker's inbox and the others' heartbeats.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::standing::Stand;
use crate::expectation::Look;
use crate::hint::Hint;
use crate::item::Item;
use crate::key::WorkerId;
use crate::roster::Life;
use crate::runtime::Moment;
use crate::table::Consistency;
use crate::view::{OwnerCheck, OwnerFound};
use crate::worker_item::WorkerItem;

/// A new worker looks into its inbox all the time for so long: a lease may be meant for it any moment.
const NEWCOMER_FOR: Duration = Duration::from_secs(5);
/// The inbox is looked at so many times as often while something is expected in it.
const EAGERNESS: u32 = 10;
/// Heartbeats of others that are being read at once.
const WATCHING_MAX: usize = 16;

/// When this worker looked at what, and what it still has to look at.
#[derive(Debug)]
pub(super) struct Lookout {
    pub(super) registered: Moment,
    own_read: Moment,
    own_on_its_way: bool,
    workers_read: Option<Moment>,
    to_watch: VecDeque<WorkerId>,
    watching: BTreeSet<WorkerId>,
    /// Workers whose item was not found by a read that may have been too old to tell.
    doubted: BTreeSet<WorkerId>,
    pub(super) stand: Stand,
    /// Who was told that this worker joined.
    greeted: BTreeSet<WorkerId>,
}

impl Lookout {
    /// Everything is due.
    pub(super) fn new(registered: Moment) -> Self {
        Self {
            registered,
            own_read: registered,
            own_on_its_way: false,
            workers_read: None,
            to_watch: VecDeque::new(),
            watching: BTreeSet::new(),
            doubted: BTreeSet::new(),
            stand: Stand::default(),
            greeted: BTreeSet::new(),
        }
    }

    fn is_new(&self, now: Moment) -> bool {
        now.since(self.registered) < NEWCOMER_FOR
    }

    /// Has this worker's heartbeat read before those of others.
    pub(super) fn watch_soon(&mut self, worker: WorkerId) {
        if !self.to_watch.contains(&worker) {
            self.to_watch.push_front(worker);
        }
    }
}

impl Driver {
    /// When a worker that does not lead has had its chance to be given leases.
    pub(super) fn settles_at(&self) -> Option<Moment> {
        self.leadership.leader()?;
        self.running()?;
        Some(self.lookout.registered.plus(NEWCOMER_FOR))
    }

    /// Reads rows of leases that should have been handed over by now, in case a hint was lost.
    pub(super) fn meet_expectations(&mut self, now: Moment) {
        self.expectations.expire(self.options.lease_duration, now);
        match self.expectations.look(now) {
            Look::Nothing => {}
            Look::Rows(keys) => {
                self.rows_wanted.extend(keys);
                self.replan = true;
            }
            Look::Scan => self.want_scan(now),
        }
    }

    /// How often the leader item is looked at. Alone there is nobody to hear from but newcomers, who have patience.
    pub(super) fn watch_each(&self) -> Duration {
        match self.leads() && self.roster.is_alone() {
            true => self.options.watch_interval * 2,
            false => self.options.watch_interval,
        }
    }

    fn inbox_each(&self, now: Moment) -> Duration {
        let alone = self.leads() && self.roster.is_alone();
        let eager = !self.expectations.is_empty() || (self.lookout.is_new(now) && !alone);
        match eager {
            true => self.options.watch_interval / EAGERNESS,
            false => self.watch_each(),
        }
    }

    fn own_due(&self, now: Moment) -> Option<Moment> {
        let due = self.lookout.own_read.plus(self.inbox_each(now));
        (!self.lookout.own_on_its_way).then_some(due)
    }

    fn workers_due(&self) -> Moment {
        let each = match self.draining {
            true => self.options.watch_interval / 2,
            false => self.options.watch_interval,
        };
        let read = self.lookout.workers_read;
        read.map_or(self.lookout.registered, |read| read.plus(each))
    }

    fn has_workers_to_watch(&self) -> bool {
        !self.roster.is_alone() || self.leadership.leader().is_some()
    }

    /// When to look next.
    pub(super) fn next_look(&self, now: Moment) -> Option<Moment> {
        self.running()?;
        let workers = self.has_workers_to_watch().then(|| self.workers_due());
        let stand = self.next_stand(now);
        let rows = self.expectations.next_look();
        [self.own_due(now), self.leader_due(), workers, stand, rows]
            .into_iter()
            .flatten()
            .min()
    }

    /// Looks at whatever is due.
    pub(super) fn look_out(&mut self, now: Moment) {
        if self.running().is_none() {
            return;
        }
        self.read_inbox(now);
        self.read_leader(now);
        self.watch_workers(now);
        self.stand(now);
        self.greet(now);
    }

    fn read_inbox(&mut self, now: Moment) {
        if self.own_due(now).is_none_or(|due| now < due) {
            return;
        }
        let Some(running) = self.running() else {
            return;
        };
        let key = running.session.id.as_str().to_owned();
        self.lookout.own_read = now;
        self.lookout.own_on_its_way = true;
        self.calls.get(key, Consistency::Eventual, Answer::Inbox);
    }

    pub(super) fn on_inbox(&mut self, result: Result<Option<Item>, CallError>, now: Moment) {
        self.heard(&result, now);
        self.lookout.own_on_its_way = false;
        if let Ok(Some(item)) = result {
            self.see_inbox(&item, now);
        }
    }

    /// Handles the new hints in this worker's own item, however it was read.
    pub(super) fn see_inbox(&mut self, item: &Item, now: Moment) {
        let me = self.worker.borrow().clone();
        // A worker that says goodbye handles nothing any more; it is told what it left unread.
        if self.running().is_some()
            && let Ok(Some(item)) = WorkerItem::from_item(item)
            && item.id == me
        {
            self.lookout.own_read = now;
            for hint in self.inbox.saw(&item.inbox) {
                self.on_hint(hint, now);
            }
        }
    }

    /// Reads heartbeats: the leader and the deputy everybody's, others the leader's, a worker that stops those of whom it
    /// may hand its leases to.
    fn watch_workers(&mut self, now: Moment) {
        let me = self.worker.borrow().clone();
        if now >= self.workers_due() {
            self.lookout.workers_read = Some(now);
            let all = self.leads() || self.draining || self.leadership.is_deputy(&me);
            let mut ids = match all {
                true => self.roster.ids(),
                false => BTreeSet::new(),
            };
            ids.extend(self.leadership.leader().cloned());
            ids.extend(self.giving.receivers());
            ids.remove(&me);
            // What was not reached in time comes first.
            let waiting: BTreeSet<WorkerId> = self.lookout.to_watch.iter().cloned().collect();
            self.lookout
                .to_watch
                .extend(ids.into_iter().filter(|id| !waiting.contains(id)));
        }
        while self.lookout.watching.len() < WATCHING_MAX {
            let Some(worker) = self.lookout.to_watch.pop_front() else {
                break;
            };
            // One that was never seen may be newer than an old copy of the table.
            let doubted = self.lookout.doubted.remove(&worker);
            let consistency = match self.roster.item(&worker) {
                Some(_) if !doubted => Consistency::Eventual,
                _ => Consistency::Strong,
            };
            if worker == me || !self.lookout.watching.insert(worker.clone()) {
                continue;
            }
            let key = worker.as_str().to_owned();
            self.calls
                .get(key, consistency, move |result| Answer::Watched {
                    worker,
                    sent: now,
                    consistency,
                    result,
                });
        }
    }

    pub(super) fn on_watched(
        &mut self,
        worker: &WorkerId,
        sent: Moment,
        consistency: Consistency,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        self.lookout.watching.remove(worker);
        match result {
            Ok(None) if consistency == Consistency::Strong => self.on_worker_gone(worker, sent),
            Ok(None) => {
                self.lookout.doubted.insert(worker.clone());
                self.lookout.watch_soon(worker.clone());
            }
            Ok(item) => {
                self.see_worker(worker, item.as_ref(), now);
            }
            Err(_) => {}
        }
    }

    /// Whether another worker lives; only a session can tell.
    pub(super) fn life(&self, worker: &WorkerId, now: Moment) -> Option<Life> {
        let undisturbed = self.running()?.session.undisturbed_since();
        Some(self.roster.life(worker, &self.liveness, undisturbed, now))
    }

    /// A worker's item was read: returns what that says of it as an owner.
    pub(super) fn see_worker(
        &mut self,
        worker: &WorkerId,
        item: Option<&Item>,
        now: Moment,
    ) -> OwnerFound {
        match item.map(WorkerItem::from_item) {
            None => OwnerFound::Nothing,
            Some(Ok(Some(item))) if item.id == *worker => {
                let heartbeat = item.heartbeat;
                self.see_worker_item(item, now);
                OwnerFound::Heartbeat(heartbeat)
            }
            Some(_) => OwnerFound::Unreadable,
        }
    }

    pub(super) fn see_worker_item(&mut self, item: WorkerItem, now: Moment) {
        let me = self.worker.borrow().clone();
        if item.id == me {
            return;
        }
        let known = self.roster.item(&item.id);
        let takes = |item: &WorkerItem| (item.draining, item.protocol, item.max_leases);
        let changed = known.is_none_or(|known| takes(known) != takes(&item));
        let was_alive = self.liveness.was_alive(&item.id);
        let id = item.id.clone();
        self.liveness.saw_worker(&item, now);
        let draining = item.draining;
        self.giving
            .saw_heartbeat(&id, item.heartbeat, now, draining);
        self.roster.saw(item);
        // Judged on what was just read of it only: who watches nobody may have looked at a living one long ago.
        if draining || self.life(&id, now) == Some(Life::Expired) {
            self.on_receiver_lost(&id);
        }
        self.judge_protocol(now);
        if changed || was_alive != self.liveness.was_alive(&id) {
            self.replan = true;
        }
    }

    /// A strongly consistent read, or a refused hint, showed that the worker has no item.
    pub(super) fn on_worker_gone(&mut self, worker: &WorkerId, sent: Moment) {
        let found = OwnerFound::Nothing;
        self.view
            .saw_owner(worker.clone(), OwnerCheck { sent, found });
        self.liveness.forget_worker(worker);
        self.roster.gone(worker);
        self.leadership.is_vacant(worker);
        self.outbox.gone(worker);
        self.on_receiver_lost(worker);
        self.replan = true;
    }

    /// Tells the leader and the deputy that this worker has joined.
    fn greet(&mut self, now: Moment) {
        // Whoever hears of this worker reads its item, and gives leases only where there is room.
        let ready = self.has_room() && self.lookout.is_new(now);
        if self.leadership.leads() || self.draining || !ready {
            return;
        }
        let me = self.worker.borrow().clone();
        let leader = self.leadership.leader().into_iter();
        let known: Vec<WorkerId> = leader.chain(self.leadership.deputy()).cloned().collect();
        for worker in known {
            if worker != me && self.lookout.greeted.insert(worker.clone()) {
                let hint = Hint::Joined { worker: me.clone() };
                self.outbox.push(&worker, &hint, now);
            }
        }
    }
}
