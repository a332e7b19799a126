//! Handing leases over: telling the receiver, asking the holder to stop, and the hint after the last write.

use std::time::Duration;

use super::driver::Driver;
use super::outbox::GATHER;
use crate::giving::Notice;
use crate::grant::Recall;
use crate::hint::{Dead, Hint};
use crate::key::{LeaseKey, WorkerId};
use crate::runtime::Moment;

impl Driver {
    /// Begins to hand a lease over to a worker that lives as far as is known.
    pub(super) fn begin_giving(
        &mut self,
        key: &LeaseKey,
        to: &WorkerId,
        newcomer: bool,
        now: Moment,
    ) {
        let me = self.worker.borrow().clone();
        let gives = self.draining || !self.newer_protocol;
        let Some(held) = self.held.get(key).filter(|_| *to != me && gives) else {
            return;
        };
        let announcement = Hint::Expect {
            key: key.clone(),
            counter: held.counter(),
            from: me,
        };
        let notice = match (newcomer, self.draining) {
            // It looks into its inbox all the time.
            (true, _) => Notice::Time(Duration::ZERO),
            // It has just shown that it lives.
            (false, true) => Notice::Time(self.options.watch_interval),
            (false, false) => Notice::Heartbeat,
        };
        let text = announcement.encode();
        if self
            .giving
            .begin(key.clone(), to.clone(), text, notice, now)
        {
            self.outbox.push(to, &announcement, now);
        }
    }

    /// Asks the holders to stop whose receivers had time to learn of it.
    pub(super) fn recall_holders(&mut self, now: Moment) {
        let reason = match self.draining {
            true => Recall::WorkerStops,
            false => Recall::Rebalance,
        };
        self.giving.expire(self.options.lease_duration, now);
        for key in self.giving.recall(now) {
            if let Some(held) = self.held.get(&key) {
                held.shared.recall(reason);
            }
        }
    }

    /// The row names the new owner: it is told, together with others if more follow soon.
    pub(super) fn on_handed_over(
        &mut self,
        key: &LeaseKey,
        counter: u64,
        to: &WorkerId,
        now: Moment,
    ) {
        let due = match self.giving.has_more_for(to) {
            true => now.plus(GATHER),
            false => now,
        };
        let hint = Hint::Yours {
            key: key.clone(),
            counter,
        };
        self.outbox.push(to, &hint, due);
    }

    /// A lease was left without an owner, or with one that is `gone`: the leader finds somebody.
    pub(super) fn on_left_alone(
        &mut self,
        key: &LeaseKey,
        counter: u64,
        gone: Option<&WorkerId>,
        now: Moment,
    ) {
        let hint = Hint::Take {
            key: key.clone(),
            counter,
            dead: gone.cloned().map(Dead::without_item),
        };
        self.tell_leader(&hint, now);
    }

    /// A lease was left without an owner because this worker could not work on it.
    pub(super) fn refuse(&mut self, key: &LeaseKey, counter: u64, now: Moment) {
        let until = now.plus(self.options.lease_duration);
        self.not_before.insert(key.clone(), until);
        let worker = self.worker.borrow().clone();
        self.on_refused(key.clone(), worker.clone(), now);
        let hint = Hint::Refused {
            key: key.clone(),
            counter,
            worker,
        };
        self.tell_leader(&hint, now);
    }

    /// Has a hint sent to whoever leads, if that is somebody else.
    pub(super) fn tell_leader(&mut self, hint: &Hint, now: Moment) {
        if self.leads() {
            return;
        }
        let me = self.worker.borrow().clone();
        let leader = self.leadership.leader().filter(|leader| **leader != me);
        match leader.cloned() {
            Some(leader) => self.outbox.push(&leader, hint, now),
            None => self.ask_who_leads(hint.clone(), &me),
        }
    }

    /// The leader that a hint was meant for is `gone`, or nobody is known to lead: whoever leads now gets it.
    pub(super) fn ask_who_leads(&mut self, hint: Hint, gone: &WorkerId) {
        self.untold.push((hint, gone.clone()));
        self.lookout.stand.look_again();
    }

    /// The leader item was read since a leader was found to be gone. If nobody leads, whoever does next looks at all leases.
    pub(super) fn tell_who_leads(&mut self, now: Moment) {
        let me = self.worker.borrow().clone();
        let leader = self.leadership.leader().filter(|leader| **leader != me);
        let leader = leader.cloned();
        for (hint, gone) in std::mem::take(&mut self.untold) {
            if let Some(leader) = leader.as_ref().filter(|leader| **leader != gone) {
                self.outbox.push(leader, &hint, now);
            }
        }
    }

    /// Nothing can be handed to this worker any more. Holders that were asked to stop do so all the same, and leave their
    /// leases to whoever the leader finds.
    pub(super) fn on_receiver_lost(&mut self, worker: &WorkerId) {
        for key in self.giving.cancel(worker) {
            self.pending.remove(&key);
            self.replan = true;
        }
    }
}
