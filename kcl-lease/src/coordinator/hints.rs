//! Hints: what those in this worker's inbox make it do, and sending those for others.

use std::collections::BTreeSet;

use super::calls::{Answer, CallError};
use super::driver::Driver;
use crate::advice::Refusal;
use crate::grant::LossReason;
use crate::hint::{Dead, Hint};
use crate::key::{LeaseKey, WorkerId};
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;
use crate::table::Written;
use crate::worker_item::WorkerItem;
use crate::write::{self, Held};

/// A worker does not get a lease back that it could not work on for so many lease durations, if there is anybody else.
const REFUSED_FOR: u32 = 30;

impl Driver {
    /// Does what a hint suggests, if it still makes sense.
    pub(super) fn on_hint(&mut self, hint: Hint, now: Moment) {
        match hint {
            Hint::Yours { key, counter } => self.on_yours(key, counter, now),
            // It takes nothing, and leads no more: whoever leads now looks after the lease.
            Hint::Take { .. } | Hint::Refused { .. } if self.draining => {
                self.tell_leader(&hint, now);
            }
            Hint::Take { key, dead, .. } => self.on_take_hint(key, dead, now),
            Hint::Give {
                key, to, newcomer, ..
            } if !self.draining => self.begin_giving(&key, &to, newcomer, now),
            // It has chosen a receiver of its own.
            Hint::Give { .. } => {}
            Hint::Expect { key, counter, from } => {
                self.expectations.expect(key, from, counter, now);
            }
            Hint::Refused { key, worker, .. } => self.on_refused(key, worker, now),
            Hint::Joined { worker } => self.on_joined(worker, now),
            Hint::Ordered { key, .. } if self.held.contains_key(&key) => self.looks.news(key),
            // Whoever takes the lease looks.
            Hint::Ordered { .. } => {}
            Hint::Removed { key, .. } => self.on_removed(&key),
        }
    }

    /// A row names this worker under `counter`: the accepting write is the grant.
    fn on_yours(&mut self, key: LeaseKey, counter: u64, now: Moment) {
        if let Some(held) = self.held.get(&key) {
            // One more is a write of our own that was not answered yet.
            if counter <= held.counter().saturating_add(1) {
                return;
            }
            self.on_lost(&key, LossReason::Taken);
        }
        // A take that is on its way learns by itself what became of the row.
        if self.busy.contains(&key) || !self.may_take() {
            return;
        }
        if !self.knows_stream_of(&key) {
            return self.look_at_row(key);
        }
        let me = self.worker.borrow().clone();
        let named = Held {
            key: key.clone(),
            counter,
            owner: me,
        };
        self.send_take(key, write::accept(&named), now);
    }

    fn on_take_hint(&mut self, key: LeaseKey, dead: Option<Dead>, now: Moment) {
        if self.held.contains_key(&key) {
            return;
        }
        if let Some(dead) = dead.filter(|dead| dead.owner != *self.worker.borrow()) {
            match dead.has_no_item() {
                // It has no item, they say: whoever saw one before looks again, and does not wait until it expires.
                true => {
                    self.liveness.forget_worker(&dead.owner);
                    self.roster.gone(&dead.owner);
                }
                false => {
                    let (heartbeat, age) = (dead.heartbeat, dead.age);
                    self.liveness
                        .told_of_worker(&dead.owner, heartbeat, age, now);
                }
            }
        }
        // The leader plans for itself: to it the hint says only that there is something to look at.
        if !self.leads() {
            let until = now.plus(self.options.lease_duration * 2);
            self.wanted.insert(key.clone(), until);
        }
        self.look_at_row(key);
    }

    /// A worker could not work on a lease: whoever leads gives it to somebody else, if there is anybody.
    pub(super) fn on_refused(&mut self, key: LeaseKey, worker: WorkerId, now: Moment) {
        if !self.leads() {
            return;
        }
        let until = now.plus(self.options.lease_duration * REFUSED_FOR);
        self.refused.retain(|_, refusal| now < refusal.until);
        self.refused.insert(key.clone(), Refusal { worker, until });
        self.look_at_row(key);
    }

    fn on_joined(&mut self, worker: WorkerId, now: Moment) {
        if worker == *self.worker.borrow() || !worker.is_session() {
            return;
        }
        if self.roster.item(&worker).is_none() {
            self.lookout.watch_soon(worker.clone());
        }
        self.roster.joined(worker);
        if self.leads() {
            self.want_scan(now);
        }
        self.replan = true;
    }

    /// Sends the hints that wait, several in one write.
    pub(super) fn send_hints(&mut self, now: Moment) {
        if self.running().is_none() {
            return;
        }
        for (worker, hints) in self.outbox.send(now) {
            if mutant::is(Mutant::NeverHint) {
                continue;
            }
            let write = write::hint(&worker, &hints);
            self.calls.write(write, move |result| Answer::Hinted {
                worker,
                hints,
                sent: now,
                result,
            });
        }
    }

    pub(super) fn on_hinted(
        &mut self,
        worker: &WorkerId,
        hints: BTreeSet<String>,
        sent: Moment,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        match result {
            Ok(Written::Applied(item)) => {
                let item = WorkerItem::from_item(&item).ok().flatten();
                let inbox = item.as_ref().map_or(0, |item| item.inbox.len());
                self.outbox.sent(worker, inbox, now);
                if let Some(item) = item {
                    self.giving.told(worker, &hints, item.heartbeat, now);
                    self.see_worker_item(item, now);
                }
            }
            Ok(Written::Refused(_)) => {
                self.on_worker_gone(worker, sent);
                for hint in hints.iter().filter_map(|text| Hint::parse(text)) {
                    match hint {
                        // The row names it already: the leader finds somebody else.
                        Hint::Yours { key, counter } => {
                            self.on_left_alone(&key, counter, Some(worker), now);
                        }
                        // What was meant for a leader that is gone.
                        Hint::Take { .. } | Hint::Refused { .. } if !self.leads() => {
                            self.ask_who_leads(hint, worker);
                        }
                        _ => {}
                    }
                }
            }
            Err(_) => {
                if !self.outbox.failed(worker, hints, now) {
                    self.on_receiver_lost(worker);
                }
            }
        }
    }
}
