//! One held lease: what its holder wants written, what is on its way, and what an answer changes.
//!
//! At most one write per lease is on its way. A call that was not answered is *unresolved*: it is repeated, or another
//! write is sent under the same counter; of all writes under one counter at most one is applied.

use std::sync::Arc;
use std::time::Duration;

use kcl_checkpoint::Checkpoint;

use crate::answer::{Mine, Verdict, judge};
use crate::grant::{GrantError, GrantShared, LossReason, Reply, ShardEndOutcome};
use crate::item::Item;
use crate::key::WorkerId;
use crate::lease::PendingCheckpoint;
use crate::runtime::Moment;
use crate::session::Validity;
use crate::shard_end::{Part, Reaction, ShardEnd};
use crate::table::Refusal;
use crate::write::{self, Held, RowWrite};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// A lease that this worker holds.
#[derive(Debug)]
pub(crate) struct HeldLease {
    pub(crate) shared: Arc<GrantShared>,
    held: Held,
    committed: Checkpoint,
    pending: Option<PendingCheckpoint>,
    confirmed: Moment,
    flight: Option<Flight>,
    unresolved: Option<Unresolved>,
    checkpoint: Wanted<Checkpoint>,
    prepare: Wanted<PendingCheckpoint>,
    ending: Option<Ending>,
    failures: u32,
    retry_at: Option<Moment>,
}

/// The write that is on its way.
#[derive(Debug)]
struct Flight {
    attempt: u64,
    intent: Intent,
    sent: Moment,
    parts: Vec<Part>,
}

/// Writes under the current counter that were sent and not answered.
#[derive(Debug, Clone, Copy)]
struct Unresolved {
    /// When the earliest of them was sent.
    since: Moment,
    /// A release is among them.
    release: bool,
}

/// A value to store and who waits for that.
#[derive(Debug)]
struct Wanted<T> {
    value: Option<T>,
    waiters: Vec<(T, Reply<()>)>,
}

#[derive(Debug)]
enum Ending {
    Release {
        checkpoint: Option<Checkpoint>,
        waiters: Vec<Reply<()>>,
    },
    Shard {
        plan: ShardEnd,
        waiters: Vec<Reply<ShardEndOutcome>>,
    },
}

/// What the next write is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Intent {
    Regrant,
    Checkpoint(Checkpoint),
    Prepare(PendingCheckpoint),
    Release(Option<Checkpoint>),
    EndShard,
}

/// A call to make for a held lease.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) attempt: u64,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) enum Request {
    Write(RowWrite),
    Transact(Vec<RowWrite>),
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Response {
    Applied,
    Refused(Option<Item>),
    TransactionRefused(Vec<Refusal>),
    Failed {
        error: GrantError,
        may_be_applied: bool,
    },
}

/// What an answer means for the lease as a whole.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is still held.
    Held,
    /// It was released; the row is as the lease says.
    Released,
    /// The shard is finished.
    Ended(ShardEnd),
    /// It is lost.
    Lost(LossReason),
}

impl HeldLease {
    /// A lease that was just granted by a write that was sent at `confirmed`.
    pub(crate) fn new(shared: Arc<GrantShared>, me: WorkerId, confirmed: Moment) -> Self {
        let lease = shared.lease();
        Self {
            held: Held {
                key: lease.key.clone(),
                counter: lease.counter,
                owner: me,
            },
            committed: lease.checkpoint.clone(),
            pending: lease.pending.clone(),
            shared,
            confirmed,
            flight: None,
            unresolved: None,
            checkpoint: Wanted::default(),
            prepare: Wanted::default(),
            ending: None,
            failures: 0,
            retry_at: None,
        }
    }

    pub(crate) fn counter(&self) -> u64 {
        self.held.counter
    }

    pub(crate) fn committed(&self) -> &Checkpoint {
        &self.committed
    }

    /// When the next write should be tried after a failure.
    pub(crate) fn retry_at(&self) -> Option<Moment> {
        self.retry_at.filter(|_| self.flight.is_none())
    }

    // --- requests of the holder ---------------------------------------------------------------------------------

    pub(crate) fn want_checkpoint(&mut self, checkpoint: Checkpoint, reply: Reply<()>) {
        if checkpoint <= self.committed && self.pending.is_none() {
            let _ = reply.send(Ok(()));
            return;
        }
        // With a prepared checkpoint outstanding even a covered one is written, to end it; progress never moves back.
        self.checkpoint
            .ask(checkpoint.max(self.committed.clone()), reply);
    }

    pub(crate) fn want_prepare(&mut self, pending: PendingCheckpoint, reply: Reply<()>) {
        self.prepare.value = Some(pending.clone());
        self.prepare.waiters.push((pending, reply));
    }

    pub(crate) fn want_release(&mut self, asked: Option<Checkpoint>, reply: Option<Reply<()>>) {
        self.shared.begin_release();
        match &mut self.ending {
            Some(Ending::Release {
                checkpoint,
                waiters,
            }) => {
                *checkpoint = asked.max(checkpoint.take());
                waiters.extend(reply);
            }
            Some(Ending::Shard { .. }) => {
                // The end of the shard is the better release; whoever waits learns that the grant is over.
            }
            None => {
                self.ending = Some(Ending::Release {
                    checkpoint: asked,
                    waiters: reply.into_iter().collect(),
                });
            }
        }
    }

    pub(crate) fn want_end(&mut self, plan: ShardEnd, reply: Reply<ShardEndOutcome>) {
        match &mut self.ending {
            Some(Ending::Shard { waiters, .. }) => waiters.push(reply),
            Some(Ending::Release { .. }) => {}
            None => {
                self.ending = Some(Ending::Shard {
                    plan,
                    waiters: vec![reply],
                });
            }
        }
    }

    // --- writes -------------------------------------------------------------------------------------------------

    /// The next call, if one should be made now. `row_counter` starts rows of children.
    pub(crate) fn next_call(
        &mut self,
        validity: Validity,
        now: Moment,
        attempt: u64,
        row_counter: u64,
    ) -> Option<Call> {
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let intent = self.next_intent(validity, now)?;
        let mut parts = Vec::new();
        let request = match (&intent, &self.ending) {
            (Intent::EndShard, Some(Ending::Shard { plan, .. })) => {
                let (sent_parts, writes) = plan.writes(&self.held, row_counter).into_iter().unzip();
                parts = sent_parts;
                Request::Transact(writes)
            }
            (Intent::EndShard, _) => return None,
            (Intent::Regrant, _) => Request::Write(write::regrant(&self.held)),
            (Intent::Checkpoint(to), _) => Request::Write(write::checkpoint(&self.held, to)),
            (Intent::Prepare(pending), _) => Request::Write(write::prepare(&self.held, pending)),
            (Intent::Release(to), _) => Request::Write(write::release(&self.held, to.as_ref())),
        };
        self.retry_at = None;
        self.flight = Some(Flight {
            attempt,
            intent,
            sent: now,
            parts,
        });
        Some(Call { attempt, request })
    }

    fn next_intent(&self, validity: Validity, now: Moment) -> Option<Intent> {
        let valid = now < validity.deadline;
        let lapsed = self.confirmed < validity.chain_start;
        match &self.ending {
            Some(Ending::Release { checkpoint, .. }) => {
                let unresolved = self.unresolved.is_some_and(|u| u.release);
                // Giving a lease away is for its holder only: after a lapse the row has to confirm that first. A release
                // that may be applied already is resolved by sending it again.
                return match (unresolved, valid, lapsed) {
                    (true, _, _) | (false, true, false) => {
                        Some(Intent::Release(self.final_checkpoint(checkpoint.as_ref())))
                    }
                    (false, true, true) => Some(Intent::Regrant),
                    (false, false, _) => None,
                };
            }
            Some(Ending::Shard { .. }) => return Some(Intent::EndShard),
            None => {}
        }
        // A checkpoint needs no time to be safe, and serves as the re-grant.
        if let Some(checkpoint) = &self.checkpoint.value {
            Some(Intent::Checkpoint(checkpoint.clone()))
        } else if let Some(pending) = &self.prepare.value {
            Some(Intent::Prepare(pending.clone()))
        } else if lapsed && valid {
            Some(Intent::Regrant)
        } else {
            None
        }
    }

    /// The checkpoint of a release: the largest that was asked for, none if the row has it.
    fn final_checkpoint(&self, asked: Option<&Checkpoint>) -> Option<Checkpoint> {
        let wanted = asked.max(self.checkpoint.value.as_ref())?;
        (*wanted > self.committed).then(|| wanted.clone())
    }

    // --- answers ------------------------------------------------------------------------------------------------

    /// Takes the answer to a call in; an answer to a call that is not on its way any more says nothing.
    pub(crate) fn answered(
        &mut self,
        attempt: u64,
        response: Response,
        validity: Validity,
        now: Moment,
    ) -> Fate {
        let Some(flight) = self.flight.take_if(|flight| flight.attempt == attempt) else {
            return Fate::Held;
        };
        match response {
            Response::Applied => self.applied(flight, validity),
            Response::Refused(found) => self.refused(&flight, found.as_ref(), validity),
            Response::TransactionRefused(refusals) => {
                self.transaction_refused(&flight, refusals, validity, now)
            }
            Response::Failed {
                error,
                may_be_applied,
            } => {
                if may_be_applied {
                    self.note_unresolved(&flight);
                }
                self.failed(&error, now);
                Fate::Held
            }
        }
    }

    fn applied(&mut self, flight: Flight, validity: Validity) -> Fate {
        let counter = self.held.counter.saturating_add(1);
        match flight.intent {
            Intent::Release(to) => {
                self.held.counter = counter;
                self.committed = to.unwrap_or_else(|| self.committed.clone());
                return self.released();
            }
            Intent::EndShard => {
                self.held.counter = counter;
                return self.ended();
            }
            Intent::Regrant => {}
            Intent::Checkpoint(to) => {
                self.committed = to;
                self.pending = None;
            }
            Intent::Prepare(pending) => self.pending = Some(pending),
        }
        self.goes_on(counter, flight.sent, validity);
        Fate::Held
    }

    fn refused(&mut self, flight: &Flight, found: Option<&Item>, validity: Validity) -> Fate {
        let release_unresolved = matches!(flight.intent, Intent::Release(_))
            || self.unresolved.is_some_and(|u| u.release);
        let held = &self.held;
        match judge(found, &held.owner, held.counter, release_unresolved) {
            Verdict::Mine(mine) => self.recovered(flight, *mine, validity),
            Verdict::Released => {
                self.held.counter = self.held.counter.saturating_add(1);
                self.released()
            }
            Verdict::Lost(reason) => Fate::Lost(reason),
        }
    }

    /// One of our writes was applied, it is not known when: only the send time of the earliest one counts.
    fn recovered(&mut self, flight: &Flight, mine: Mine, validity: Validity) -> Fate {
        let earliest = self.unresolved.map_or(flight.sent, |u| u.since);
        self.committed = mine.checkpoint;
        self.pending = mine.pending;
        let ends = matches!(self.ending, Some(Ending::Shard { .. }));
        if ends && self.committed == Checkpoint::ShardEnd {
            self.held.counter = mine.counter;
            return self.ended();
        }
        self.goes_on(mine.counter, earliest, validity);
        Fate::Held
    }

    fn transaction_refused(
        &mut self,
        flight: &Flight,
        refusals: Vec<Refusal>,
        validity: Validity,
        now: Moment,
    ) -> Fate {
        let Some(Ending::Shard { plan, .. }) = &mut self.ending else {
            return Fate::Held;
        };
        match plan.refused(&flight.parts, refusals) {
            // This attempt changed nothing, but an earlier one may still arrive.
            Reaction::Again => Fate::Held,
            Reaction::ParentChanged(found) => self.refused(flight, found.as_ref(), validity),
            Reaction::Later => {
                let key = self.held.key.clone();
                self.failed(&GrantError::Throttled { key }, now);
                Fate::Held
            }
        }
    }

    /// The lease is held under a new counter: nothing that was sent before can be applied any more.
    fn goes_on(&mut self, counter: u64, confirmed: Moment, validity: Validity) {
        self.held.counter = counter;
        self.unresolved = None;
        self.failures = 0;
        self.retry_at = None;
        self.confirmed = self.confirmed.max(confirmed);
        self.shared
            .confirm(confirmed, counter, validity.chain_start);
        self.settle();
    }

    /// Answers everybody whose value is stored by now.
    fn settle(&mut self) {
        let (committed, pending) = (&self.committed, &self.pending);
        let is_stored = |c: &Checkpoint| c <= committed && pending.is_none();
        self.checkpoint.settle(is_stored);
        self.prepare
            .settle(|wanted| pending.as_ref() == Some(wanted));
    }

    fn note_unresolved(&mut self, flight: &Flight) {
        let release = matches!(flight.intent, Intent::Release(_));
        let unresolved = self.unresolved.get_or_insert(Unresolved {
            since: flight.sent,
            release,
        });
        unresolved.release |= release;
    }

    fn failed(&mut self, error: &GrantError, now: Moment) {
        let wait = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.plus(wait.min(RETRY_LONGEST)));
        self.answer_all(error);
    }

    // --- ends ---------------------------------------------------------------------------------------------------

    fn released(&mut self) -> Fate {
        if let Some(Ending::Release { waiters, .. }) = self.ending.take() {
            waiters.into_iter().for_each(|w| drop(w.send(Ok(()))));
        }
        self.end(LossReason::Released);
        Fate::Released
    }

    fn ended(&mut self) -> Fate {
        let Some(Ending::Shard { plan, waiters }) = self.ending.take() else {
            return Fate::Held;
        };
        self.committed = Checkpoint::ShardEnd;
        for waiter in waiters {
            let _ = waiter.send(Ok(plan.outcome()));
        }
        self.end(LossReason::ShardEnded);
        Fate::Ended(plan)
    }

    /// Ends the grant and tells everybody who waits for it.
    pub(crate) fn end(&mut self, reason: LossReason) {
        self.shared.end(reason);
        let key = self.held.key.clone();
        self.settle();
        self.answer_all(&GrantError::Lost { key, reason });
    }

    fn answer_all(&mut self, error: &GrantError) {
        self.checkpoint.answer(error);
        self.prepare.answer(error);
        match &mut self.ending {
            Some(Ending::Release { waiters, .. }) => refuse(waiters, error),
            Some(Ending::Shard { waiters, .. }) => refuse(waiters, error),
            None => {}
        }
    }
}

fn refuse<T>(waiters: &mut Vec<Reply<T>>, error: &GrantError) {
    for waiter in waiters.drain(..) {
        let _ = waiter.send(Err(error.clone()));
    }
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self {
            value: None,
            waiters: Vec::new(),
        }
    }
}

impl<T> Wanted<T> {
    /// Drops the value if it is stored, and answers everybody whose value is.
    fn settle(&mut self, is_stored: impl Fn(&T) -> bool) {
        self.value.take_if(|value| is_stored(value));
        let (stored, open) = self
            .waiters
            .drain(..)
            .partition(|(value, _): &(T, Reply<()>)| is_stored(value));
        self.waiters = open;
        for (_, waiter) in stored {
            let _ = waiter.send(Ok(()));
        }
    }

    fn answer(&mut self, error: &GrantError) {
        for (_, waiter) in self.waiters.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

impl<T: Ord> Wanted<T> {
    /// A larger value replaces the one that is wanted; a smaller one is covered by it.
    fn ask(&mut self, value: T, reply: Reply<()>)
    where
        T: Clone,
    {
        if self.value.as_ref().is_none_or(|wanted| *wanted < value) {
            self.value = Some(value.clone());
        }
        self.waiters.push((value, reply));
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
