//! One held lease as plain values: what its holder wants written, what is on its way, what an answer changes.
//!
//! At most one write per lease is on its way. A call that was not answered is *unresolved*: it is repeated, or another
//! write is sent under the same counter; of all writes under one counter at most one is applied.
//!
//! Nothing here waits, and nobody is told: values that can be compared and hashed, so that a model of the protocol can
//! search all that may happen to them. [`HeldLease`](crate::held::HeldLease) adds who waits for what.

use std::time::Duration;

use kcl_checkpoint::Checkpoint;

use crate::answer::{Given, Mine, Verdict, judge};
use crate::grant::{GrantError, LossReason};
use crate::item::Item;
use crate::key::WorkerId;
use crate::lease::{Lease, PendingCheckpoint};
use crate::mutant::{self, Mutant};
use crate::orders::{Obey, Obeyed};
use crate::retry::doubled;
use crate::runtime::Moment;
use crate::session::Validity;
use crate::shard_end::{Part, Reaction, ShardEnd};
use crate::table::Refusal;
use crate::write::{self, Held, RowWrite};
use crate::write_orders;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// What is known of a lease that this worker holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HeldCore {
    held: Held,
    committed: Checkpoint,
    pending: Option<PendingCheckpoint>,
    obeyed: Obeyed,
    confirmed: Moment,
    flight: Option<Flight>,
    unresolved: Option<Unresolved>,
    checkpoint: Option<Checkpoint>,
    prepare: Option<PendingCheckpoint>,
    obey: Option<Obey>,
    ending: Option<Ending>,
    failures: u32,
    retry_at: Option<Moment>,
}

/// The write that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Flight {
    attempt: u64,
    intent: Intent,
    sent: Moment,
    parts: Vec<Part>,
}

/// Writes under the current counter that were sent and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Unresolved {
    /// When the earliest of them was sent.
    since: Moment,
    /// A release is among them.
    release: bool,
}

/// How the holder wants to end its grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Ending {
    Release {
        checkpoint: Option<Checkpoint>,
        /// The next owner; none if the lease is left to whoever takes it.
        to: Option<WorkerId>,
    },
    Shard(ShardEnd),
}

/// What the next write is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Intent {
    Regrant,
    Checkpoint(Checkpoint),
    Prepare(PendingCheckpoint),
    Obey(Obey),
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

/// What an answer changes.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing: the call was abandoned before, or is corrected and sent again.
    Open,
    /// The lease is held under a new counter, by a write that was sent at `confirmed`.
    Confirmed { confirmed: Moment },
    /// The write is tried again later.
    Delayed(GrantError),
    /// The lease was released, or handed over to `to`.
    Released { to: Option<WorkerId> },
    /// The shard is finished.
    Ended(ShardEnd),
    /// The lease is lost.
    Lost(LossReason),
}

impl HeldCore {
    /// A lease that was granted by a write of `owner` that was sent at `confirmed`, after which its row was `lease`.
    pub(crate) fn new(lease: &Lease, owner: WorkerId, confirmed: Moment) -> Self {
        Self {
            held: Held {
                key: lease.key.clone(),
                counter: lease.counter,
                owner,
            },
            committed: lease.checkpoint.clone(),
            pending: lease.pending.clone(),
            obeyed: lease.obeyed.clone(),
            confirmed,
            flight: None,
            unresolved: None,
            checkpoint: None,
            prepare: None,
            obey: None,
            ending: None,
            failures: 0,
            retry_at: None,
        }
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    pub(crate) fn committed(&self) -> &Checkpoint {
        &self.committed
    }

    /// What the row says of commands.
    pub(crate) fn obeyed(&self) -> &Obeyed {
        &self.obeyed
    }

    /// When the next write should be tried after a failure.
    pub(crate) fn retry_at(&self) -> Option<Moment> {
        self.retry_at.filter(|_| self.flight.is_none())
    }

    /// Whether everything up to this checkpoint is stored, and no prepared one is left that ends with it.
    pub(crate) fn is_stored(&self, checkpoint: &Checkpoint) -> bool {
        let outlasts = |pending: &PendingCheckpoint| pending.outlasts(&self.committed);
        *checkpoint <= self.committed && self.pending.as_ref().is_none_or(outlasts)
    }

    /// Whether this is the prepared checkpoint that is stored.
    pub(crate) fn is_prepared(&self, pending: &PendingCheckpoint) -> bool {
        self.pending.as_ref() == Some(pending)
    }

    // --- requests of the holder ---------------------------------------------------------------------------------

    /// Asks for progress to be stored. Returns the checkpoint that has to be stored for that, `None` if it is already.
    pub(crate) fn want_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Checkpoint> {
        if self.is_stored(&checkpoint) {
            return None;
        }
        // A covered one is written to end a prepared one that is covered, too; progress never moves back.
        let wanted = checkpoint.max(self.committed.clone());
        // A larger value replaces the one that is wanted; a smaller one is covered by it.
        if self.checkpoint.as_ref().is_none_or(|known| *known < wanted) {
            self.checkpoint = Some(wanted.clone());
        }
        Some(wanted)
    }

    pub(crate) fn want_prepare(&mut self, pending: PendingCheckpoint) {
        self.prepare = Some(pending);
    }

    /// Asks for a note in the row that a command is obeyed, or for a seek. Returns false if the row says it already.
    ///
    /// Progress of the time before a seek is not stored any more: it is that of another place.
    pub(crate) fn want_obey(&mut self, obey: Obey) -> bool {
        // What waits or is on its way may move the checkpoint away from where the row has it.
        let may_move = self.checkpoint.is_some() || self.flight.is_some();
        let may_move = may_move || self.unresolved.is_some();
        if self.obeyed.covers(&obey, &self.committed) && !(obey.is_own_seek() && may_move) {
            return false;
        }
        if obey.to.is_some() && !mutant::is(Mutant::SeekKeepsCheckpoint) {
            self.checkpoint = None;
            self.prepare = None;
        }
        // A command says all that an earlier one said. It and a seek of the holder's own leave each other as they are.
        self.obey = Some(match self.obey.take() {
            Some(open) if obey.is_own_seek() => Obey {
                to: obey.to,
                ..open
            },
            Some(open) if open.is_own_seek() && obey.to.is_none() => Obey {
                to: open.to,
                ..obey
            },
            _ => obey,
        });
        true
    }

    /// Whether a note of this, or of something later, is in the row.
    pub(crate) fn is_obeyed(&self) -> bool {
        self.obey.is_none()
    }

    /// Asks for a release, or for a hand-over to `to`. Returns whether that is how the grant will end: the end of the shard
    /// is the better release. The first request decides about the next owner, so that an unanswered write has one only.
    pub(crate) fn want_release(&mut self, asked: Option<Checkpoint>, to: Option<WorkerId>) -> bool {
        match &mut self.ending {
            Some(Ending::Release { checkpoint, .. }) => *checkpoint = asked.max(checkpoint.take()),
            Some(Ending::Shard(_)) => return false,
            None => {
                self.ending = Some(Ending::Release {
                    checkpoint: asked,
                    to,
                });
            }
        }
        true
    }

    /// The worker to which the lease is handed over.
    pub(crate) fn next_owner(&self) -> Option<&WorkerId> {
        match &self.ending {
            Some(Ending::Release { to, .. }) => to.as_ref(),
            _ => None,
        }
    }

    /// Asks for the end of the shard. Returns whether that is how the grant will end.
    pub(crate) fn want_end(&mut self, plan: ShardEnd) -> bool {
        match &self.ending {
            Some(Ending::Shard(_)) => {}
            Some(Ending::Release { .. }) => return false,
            None => self.ending = Some(Ending::Shard(plan)),
        }
        true
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
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let intent = self.next_intent(validity, now)?;
        let mut parts = Vec::new();
        let request = match (&intent, &self.ending) {
            (Intent::EndShard, Some(Ending::Shard(plan))) => {
                let writes = plan.writes(&self.held, row_counter());
                let (sent_parts, writes) = writes.into_iter().unzip();
                parts = sent_parts;
                Request::Transact(writes)
            }
            (Intent::EndShard, _) => return None,
            (Intent::Regrant, _) => Request::Write(write::regrant(&self.held)),
            (Intent::Checkpoint(to), _) => {
                Request::Write(write::checkpoint(&self.held, to, self.pending.as_ref()))
            }
            (Intent::Prepare(pending), _) => Request::Write(write::prepare(&self.held, pending)),
            (Intent::Obey(what), _) => Request::Write(write_orders::obey(&self.held, what)),
            (Intent::Release(at), _) => Request::Write(match self.next_owner() {
                Some(to) => write::hand_over(&self.held, to, at.as_ref(), self.pending.as_ref()),
                None => write::release(&self.held, at.as_ref(), self.pending.as_ref()),
            }),
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
            Some(Ending::Shard(_)) => return Some(Intent::EndShard),
            None => {}
        }
        // A checkpoint needs no time to be safe, and serves as the re-grant; so does what obeys a command.
        if let Some(obey) = &self.obey {
            Some(Intent::Obey(obey.clone()))
        } else if let Some(checkpoint) = &self.checkpoint {
            Some(Intent::Checkpoint(checkpoint.clone()))
        } else if let Some(pending) = &self.prepare {
            Some(Intent::Prepare(pending.clone()))
        } else if lapsed && valid {
            Some(Intent::Regrant)
        } else {
            None
        }
    }

    /// The checkpoint of a release: the largest that was asked for, none if the row has it.
    fn final_checkpoint(&self, asked: Option<&Checkpoint>) -> Option<Checkpoint> {
        let wanted = asked.max(self.checkpoint.as_ref())?;
        (*wanted > self.committed).then(|| wanted.clone())
    }

    // --- answers ------------------------------------------------------------------------------------------------

    /// Takes the answer to a call in; an answer to a call that is not on its way any more says nothing.
    pub(crate) fn answered(&mut self, attempt: u64, response: Response, now: Moment) -> Turn {
        let Some(flight) = self.flight.take_if(|flight| flight.attempt == attempt) else {
            return Turn::Open;
        };
        match response {
            Response::Applied => self.applied(flight),
            Response::Refused(found) => self.refused(&flight, found.as_ref()),
            Response::TransactionRefused(refusals) => {
                self.transaction_refused(&flight, refusals, now)
            }
            Response::Failed {
                error,
                may_be_applied,
            } => {
                if may_be_applied {
                    self.note_unresolved(&flight);
                }
                self.delayed(error, now)
            }
        }
    }

    fn applied(&mut self, flight: Flight) -> Turn {
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
                self.pending.take_if(|pending| !pending.outlasts(&to));
                self.committed = to;
            }
            Intent::Prepare(pending) => self.pending = Some(pending),
            Intent::Obey(obey) => self.note_obeyed(obey),
        }
        self.goes_on(counter, flight.sent)
    }

    fn note_obeyed(&mut self, obey: Obey) {
        self.obeyed.note(&obey);
        if let Some(to) = obey.to {
            self.committed = to.checkpoint;
            self.pending = None;
        }
    }

    fn refused(&mut self, flight: &Flight, found: Option<&Item>) -> Turn {
        let released = matches!(flight.intent, Intent::Release(_))
            || self.unresolved.is_some_and(|u| u.release);
        let given = match (released, self.next_owner()) {
            (false, _) => Given::No,
            (true, None) => Given::Up,
            (true, Some(to)) => Given::To(to),
        };
        let held = &self.held;
        match judge(found, &held.owner, held.counter, given) {
            Verdict::Mine(mine) => self.recovered(flight, *mine),
            Verdict::Released(stored) => {
                self.committed = stored;
                self.held.counter = self.held.counter.saturating_add(1);
                self.released()
            }
            Verdict::Lost(reason) => Turn::Lost(reason),
        }
    }

    /// One of our writes was applied, it is not known when: only the send time of the earliest one counts.
    fn recovered(&mut self, flight: &Flight, mine: Mine) -> Turn {
        let earliest = match (self.unresolved, mutant::is(Mutant::RecoveredConfirmsNow)) {
            (Some(unresolved), false) => unresolved.since,
            _ => flight.sent,
        };
        self.committed = mine.checkpoint;
        self.pending = mine.pending;
        self.obeyed = mine.obeyed;
        let ends = matches!(self.ending, Some(Ending::Shard(_)));
        if ends && self.committed == Checkpoint::ShardEnd {
            self.held.counter = mine.counter;
            return self.ended();
        }
        self.goes_on(mine.counter, earliest)
    }

    fn transaction_refused(
        &mut self,
        flight: &Flight,
        refusals: Vec<Refusal>,
        now: Moment,
    ) -> Turn {
        let Some(Ending::Shard(plan)) = &mut self.ending else {
            return Turn::Open;
        };
        match plan.refused(&flight.parts, refusals) {
            // This attempt changed nothing, but an earlier one may still arrive.
            Reaction::Again => Turn::Open,
            Reaction::ParentChanged(found) => self.refused(flight, found.as_ref()),
            Reaction::Later => {
                let key = self.held.key.clone();
                self.delayed(GrantError::Throttled { key }, now)
            }
        }
    }

    /// The lease is held under a new counter: nothing that was sent before can be applied any more.
    fn goes_on(&mut self, counter: u64, confirmed: Moment) -> Turn {
        self.held.counter = counter;
        self.unresolved = None;
        self.failures = 0;
        self.retry_at = None;
        self.confirmed = self.confirmed.max(confirmed);
        self.settle();
        Turn::Confirmed { confirmed }
    }

    /// Wants nothing any more that is stored by now.
    fn settle(&mut self) {
        if self.checkpoint.as_ref().is_some_and(|c| self.is_stored(c)) {
            self.checkpoint = None;
        }
        if self.prepare.as_ref().is_some_and(|p| self.is_prepared(p)) {
            self.prepare = None;
        }
        let (obeyed, committed) = (&self.obeyed, &self.committed);
        self.obey.take_if(|obey| obeyed.covers(obey, committed));
    }

    fn note_unresolved(&mut self, flight: &Flight) {
        let release = matches!(flight.intent, Intent::Release(_));
        let unresolved = self.unresolved.get_or_insert(Unresolved {
            since: flight.sent,
            release,
        });
        unresolved.release |= release;
    }

    fn delayed(&mut self, error: GrantError, now: Moment) -> Turn {
        let wait = doubled(RETRY_FIRST, RETRY_LONGEST, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.plus(wait));
        Turn::Delayed(error)
    }

    // --- ends ---------------------------------------------------------------------------------------------------

    fn released(&mut self) -> Turn {
        match self.ending.take() {
            Some(Ending::Release { to, .. }) => Turn::Released { to },
            _ => Turn::Released { to: None },
        }
    }

    fn ended(&mut self) -> Turn {
        let Some(Ending::Shard(plan)) = self.ending.take_if(|e| matches!(e, Ending::Shard(_)))
        else {
            return Turn::Open;
        };
        self.committed = Checkpoint::ShardEnd;
        Turn::Ended(plan)
    }
}

#[cfg(feature = "internals")]
impl crate::internals::Moments for HeldCore {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        let sent = self.flight.iter_mut().map(|flight| &mut flight.sent);
        let since = self.unresolved.iter_mut().map(|u| &mut u.since);
        let retry = self.retry_at.iter_mut();
        let moments = sent.chain(since).chain(retry);
        moments.chain([&mut self.confirmed]).for_each(visit);
    }
}

#[cfg(feature = "internals")]
impl HeldCore {
    /// Forgets how often writes failed, so that the next may be tried at any time.
    pub(crate) fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }
}
