//! One held lease: who waits for which of its writes, and what its grant shows.
//!
//! What is written when, and what an answer means, is decided by [`HeldCore`].

use std::sync::Arc;

use kcl_checkpoint::Checkpoint;

use crate::command_item::CommandItem;
use crate::grant::{GrantError, GrantShared, LossReason, Reply, ShardEndOutcome};
pub(crate) use crate::held_core::{Call, Request, Response};
use crate::held_core::{HeldCore, Turn};
use crate::key::WorkerId;
use crate::lease::{Lease, PendingCheckpoint};
use crate::orders::{Obey, Orders};
use crate::runtime::Moment;
use crate::session::Validity;
use crate::shard_end::ShardEnd;

/// A lease that this worker holds.
#[derive(Debug)]
pub(crate) struct HeldLease {
    pub(crate) shared: Arc<GrantShared>,
    core: HeldCore,
    waiting: Waiting,
    /// How many seeks were asked for. What was delivered before the last of them is no progress any more.
    era: u64,
    sought: Option<Obey>,
    /// The command as it was read last, once it was.
    command: Option<Option<CommandItem>>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Waiting {
    checkpoint: Vec<(Checkpoint, Reply<()>)>,
    prepare: Vec<(PendingCheckpoint, Reply<()>)>,
    obey: Vec<(u64, Reply<u64>)>,
    release: Vec<Reply<Checkpoint>>,
    end: Vec<Reply<ShardEndOutcome>>,
}

/// What an answer means for the lease as a whole.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is still held.
    Held,
    /// It was released, or handed over to `to`; the row is as the lease says.
    Released { to: Option<WorkerId> },
    /// The shard is finished.
    Ended(ShardEnd),
    /// It is lost.
    Lost(LossReason),
}

impl HeldLease {
    /// A lease that was just granted by a write that was sent at `confirmed`.
    pub(crate) fn new(shared: Arc<GrantShared>, me: WorkerId, confirmed: Moment) -> Self {
        Self {
            core: HeldCore::new(shared.lease(), me, confirmed),
            shared,
            waiting: Waiting::default(),
            era: 0,
            sought: None,
            command: None,
        }
    }

    pub(crate) fn counter(&self) -> u64 {
        self.core.held().counter
    }

    /// The row as the holder knows it.
    pub(crate) fn lease(&self) -> Lease {
        Lease {
            counter: self.counter(),
            checkpoint: self.core.committed().clone(),
            obeyed: self.core.obeyed().clone(),
            ..self.shared.lease().clone()
        }
    }

    /// The command for the lease was read; `None` if there is none.
    pub(crate) fn saw_command(&mut self, command: Option<CommandItem>) {
        self.command = Some(command);
        self.show_orders();
    }

    /// While it is not clear whether a seek was applied nothing new is shown: the command may be gone because it was.
    fn show_orders(&self) {
        let (Some(command), true) = (&self.command, self.core.is_obeyed()) else {
            return;
        };
        let orders = Orders::of(command.as_ref(), self.core.obeyed());
        self.shared.orders().send_if_modified(|known| {
            let changed = known.as_ref() != Some(&orders);
            *known = Some(orders);
            changed
        });
    }

    /// The worker to which the lease is being handed over.
    pub(crate) fn next_owner(&self) -> Option<&WorkerId> {
        self.core.next_owner()
    }

    /// When the next write should be tried after a failure.
    pub(crate) fn retry_at(&self) -> Option<Moment> {
        self.core.retry_at()
    }

    // --- requests of the holder ---------------------------------------------------------------------------------

    pub(crate) fn want_checkpoint(&mut self, era: u64, checkpoint: Checkpoint, reply: Reply<()>) {
        if era < self.era {
            let _ = reply.send(Err(self.repositioned()));
            return;
        }
        match self.core.want_checkpoint(checkpoint) {
            Some(wanted) => self.waiting.checkpoint.push((wanted, reply)),
            None => drop(reply.send(Ok(()))),
        }
    }

    pub(crate) fn want_prepare(&mut self, era: u64, pending: PendingCheckpoint, reply: Reply<()>) {
        if era < self.era {
            let _ = reply.send(Err(self.repositioned()));
            return;
        }
        self.core.want_prepare(pending.clone());
        self.waiting.prepare.push((pending, reply));
    }

    /// The holder obeys a command, or seeks. The answer is the era that begins with the seek.
    pub(crate) fn want_obey(&mut self, era: u64, obey: Obey, reply: Reply<u64>) {
        // An order is followed once. A holder that moved may move to the same place again.
        let is_same = self.sought.as_ref() == Some(&obey);
        let asks_again = is_same && (obey.seek.is_some() || era < self.era);
        if asks_again && self.core.is_obeyed() {
            let _ = reply.send(Ok(self.era));
            return;
        }
        if obey.to.is_some() && !asks_again {
            self.era += 1;
            self.sought = Some(obey.clone());
            let error = self.repositioned();
            self.waiting.refuse_progress(&error);
        }
        match self.core.want_obey(obey) {
            true => self.waiting.obey.push((self.era, reply)),
            false => drop(reply.send(Ok(self.era))),
        }
    }

    fn repositioned(&self) -> GrantError {
        let key = self.core.held().key.clone();
        GrantError::Repositioned { key }
    }

    /// The holder gives the lease away: to `to`, or to whoever takes it.
    pub(crate) fn want_release(
        &mut self,
        era: u64,
        asked: Option<Checkpoint>,
        to: Option<WorkerId>,
        reply: Option<Reply<Checkpoint>>,
    ) {
        self.shared.begin_release();
        let asked = asked.filter(|_| era == self.era);
        // Whoever is not told of a release learns that the grant is over.
        if self.core.want_release(asked, to) {
            self.waiting.release.extend(reply);
        }
    }

    pub(crate) fn want_end(&mut self, era: u64, plan: ShardEnd, reply: Reply<ShardEndOutcome>) {
        if era < self.era {
            let _ = reply.send(Err(self.repositioned()));
            return;
        }
        if self.core.want_end(plan) {
            self.waiting.end.push(reply);
        }
    }

    // --- writes -------------------------------------------------------------------------------------------------

    /// The next call, if one should be made now. `row_counter` starts rows of children.
    pub(crate) fn next_call(
        &mut self,
        validity: Validity,
        now: Moment,
        attempt: u64,
        row_counter: impl FnOnce() -> u64,
    ) -> Option<Call> {
        self.core.next_call(validity, now, attempt, row_counter)
    }

    /// Takes the answer to a call in; an answer to a call that is not on its way any more says nothing.
    pub(crate) fn answered(
        &mut self,
        attempt: u64,
        response: Response,
        validity: Validity,
        now: Moment,
    ) -> Fate {
        match self.core.answered(attempt, response, now) {
            Turn::Open => Fate::Held,
            Turn::Confirmed { confirmed } => {
                self.shared
                    .confirm(confirmed, self.counter(), validity.chain_start);
                self.show_orders();
                self.waiting.settle(&self.core);
                Fate::Held
            }
            Turn::Delayed(error) => {
                self.waiting.answer_all(&error);
                Fate::Held
            }
            Turn::Released { to } => {
                accept(&mut self.waiting.release, self.core.committed());
                self.end(LossReason::Released);
                Fate::Released { to }
            }
            Turn::Ended(plan) => {
                accept(&mut self.waiting.end, &plan.outcome());
                self.end(LossReason::ShardEnded);
                Fate::Ended(plan)
            }
            Turn::Lost(reason) => Fate::Lost(reason),
        }
    }

    /// Ends the grant and tells everybody who waits for it.
    pub(crate) fn end(&mut self, reason: LossReason) {
        self.shared.end(reason);
        let key = self.core.held().key.clone();
        self.waiting.settle(&self.core);
        self.waiting.answer_all(&GrantError::Lost { key, reason });
    }
}

impl Waiting {
    /// Answers everybody whose value is stored by now.
    fn settle(&mut self, core: &HeldCore) {
        settle(&mut self.checkpoint, |wanted| core.is_stored(wanted));
        settle(&mut self.prepare, |wanted| core.is_prepared(wanted));
        if core.is_obeyed() {
            for (era, waiter) in self.obey.drain(..) {
                let _ = waiter.send(Ok(era));
            }
        }
    }

    fn refuse_progress(&mut self, error: &GrantError) {
        let (checkpoint, prepare) = (self.checkpoint.drain(..), self.prepare.drain(..));
        let writes = checkpoint.map(|(_, w)| w).chain(prepare.map(|(_, w)| w));
        for waiter in writes {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    fn answer_all(&mut self, error: &GrantError) {
        self.refuse_progress(error);
        for waiter in self.release.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
        for (_, waiter) in self.obey.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
        for waiter in self.end.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

fn settle<T>(waiters: &mut Vec<(T, Reply<()>)>, is_stored: impl Fn(&T) -> bool) {
    let (stored, open) = waiters
        .drain(..)
        .partition(|(value, _): &(T, Reply<()>)| is_stored(value));
    *waiters = open;
    for (_, waiter) in stored {
        let _ = waiter.send(Ok(()));
    }
}

fn accept<T: Clone>(waiters: &mut Vec<Reply<T>>, outcome: &T) {
    for waiter in waiters.drain(..) {
        let _ = waiter.send(Ok(outcome.clone()));
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
