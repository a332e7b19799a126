//! The pure decisions of the protocol, for the model in `tests/model`.
//!
//! Thin handles around the types that coordination itself uses; no part of the API.

#![expect(
    clippy::must_use_candidate,
    reason = "they are named like what they stand for, and only tests call them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kcl_checkpoint::Checkpoint;

use crate::command_item::{CommandId, CommandItem};
use crate::grant::{GrantError, GrantState};
use crate::graph::{self, ParentRow, Readiness};
use crate::held_core::{self, HeldCore, Request, Response};
use crate::item::Item;
use crate::key::{LeaseKey, ShardId, WorkerId};
use crate::lease::Lease;
use crate::listed_shard::ListedShard;
use crate::liveness::Liveness;
use crate::orders::{self, Orders, StartPoint};
use crate::runtime::Moment;
use crate::session::{self, Beat};
use crate::shard_end;
use crate::table::{Consistency, Refusal};
use crate::take::{self, Judgement, Situation, Step};
use crate::view::{OwnerCheck, OwnerFound, View};
use crate::worker_item::WorkerItem;
use crate::write::RowWrite;

/// Something that remembers moments.
pub trait Moments {
    /// Shows each moment, to be looked at or changed.
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment));
}

/// The moment `since_start` after a clock began.
pub fn moment(since_start: Duration) -> Moment {
    Moment::at(since_start)
}

/// As `Validity` of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Validity(session::Validity);

impl Validity {
    pub fn new(deadline: Moment, chain_start: Moment) -> Self {
        Self(session::Validity {
            deadline,
            chain_start,
        })
    }

    pub fn chain_start(self) -> Moment {
        self.0.chain_start
    }
}

// --- writes ---------------------------------------------------------------------------------------------------------

/// The item after a write, `None` if its condition does not hold.
pub fn apply(write: &RowWrite, found: Option<&Item>) -> Option<Option<Item>> {
    match crate::apply::apply(write, found) {
        Ok(crate::apply::Effect::Applied(after)) => Some(after),
        Ok(crate::apply::Effect::Refused) | Err(_) => None,
    }
}

/// As [`apply`], for a table that tells a condition that does not hold from a write that does not fit the item.
///
/// # Errors
/// When the item's attributes are not of the types that the write needs.
pub fn try_apply(write: &RowWrite, found: Option<&Item>) -> Result<Option<Option<Item>>, String> {
    Ok(match crate::apply::apply(write, found)? {
        crate::apply::Effect::Applied(after) => Some(after),
        crate::apply::Effect::Refused => None,
    })
}

/// The write that takes or accepts a lease as it was read.
pub fn take_write(lease: &Lease, me: &WorkerId) -> RowWrite {
    take::take_write(lease, me)
}

// --- a held lease ---------------------------------------------------------------------------------------------------

/// A held lease without its channels: what `HeldLease` and `GrantShared` decide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holding {
    core: HeldCore,
    state: GrantState,
    orders: Option<Orders>,
    command: Option<Option<CommandItem>>,
}

/// The answer to a call.
#[derive(Debug)]
pub enum Answer {
    Applied,
    Refused(Option<Item>),
    TransactionRefused(Vec<Refusal>),
    Lost,
}

/// What an answer changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Open,
    Confirmed,
    Delayed,
    Released(Option<WorkerId>),
    Ended,
    Lost,
}

impl Holding {
    pub fn new(lease: &Lease, me: &WorkerId, sent: Moment) -> Self {
        Self {
            state: GrantState::new(lease.counter, sent),
            core: HeldCore::new(lease, me.clone(), sent),
            orders: orders::before_the_first_look(),
            command: None,
        }
    }

    /// The command for the lease was read.
    pub fn saw_command(&mut self, item: Option<&Item>) {
        self.command = Some(item.and_then(|item| CommandItem::from_item(item).ok().flatten()));
        self.show_orders();
    }

    fn show_orders(&mut self) {
        if let (Some(command), true) = (&self.command, self.core.is_obeyed()) {
            self.orders = Some(Orders::of(command.as_ref(), self.core.obeyed()));
        }
    }

    /// What is ordered, as far as it is known.
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    /// Whether what it obeys is not stored yet.
    pub fn is_obeying(&self) -> bool {
        !self.core.is_obeyed()
    }

    /// Notes that it obeys, or seeks as it was ordered.
    pub fn obey(&mut self) {
        if let Some(orders) = &self.orders {
            self.core.want_obey(orders.obey());
        }
    }

    pub fn counter(&self) -> u64 {
        self.core.held().counter
    }

    pub fn epoch(&self) -> u64 {
        self.state.epoch()
    }

    pub fn committed(&self) -> &Checkpoint {
        self.core.committed()
    }

    pub fn is_current(&self, validity: Validity, now: Moment) -> bool {
        self.state.is_current(validity.0, now)
    }

    pub fn want_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.core.want_checkpoint(checkpoint);
    }

    pub fn want_release(&mut self, checkpoint: Option<Checkpoint>, to: Option<WorkerId>) {
        self.state.begin_release();
        self.core.want_release(checkpoint, to);
    }

    pub fn want_end(&mut self, plan: &ShardEnd) {
        self.core.want_end(plan.0.clone());
    }

    /// Lets the next write be tried at any time.
    pub fn forget_failures(&mut self) {
        self.core.forget_failures();
    }

    /// The next call: one write, or a transaction.
    pub fn next_call(
        &mut self,
        validity: Validity,
        now: Moment,
        attempt: u64,
        row_counter: u64,
    ) -> Option<Call> {
        let core = &mut self.core;
        let call = core.next_call(validity.0, now, attempt, || row_counter)?;
        Some(match call.request {
            Request::Write(write) => Call::Write(write),
            Request::Transact(writes) => Call::Transact(writes),
        })
    }

    pub fn answered(
        &mut self,
        attempt: u64,
        answer: Answer,
        validity: Validity,
        now: Moment,
    ) -> Turn {
        let response = match answer {
            Answer::Applied => Response::Applied,
            Answer::Refused(found) => Response::Refused(found),
            Answer::TransactionRefused(refusals) => Response::TransactionRefused(refusals),
            Answer::Lost => Response::Failed {
                error: GrantError::Unknown {
                    key: self.core.held().key.clone(),
                },
                may_be_applied: true,
            },
        };
        match self.core.answered(attempt, response, now) {
            held_core::Turn::Open => Turn::Open,
            held_core::Turn::Confirmed { confirmed } => {
                let counter = self.core.held().counter;
                self.state
                    .confirm(confirmed, counter, validity.0.chain_start);
                self.show_orders();
                Turn::Confirmed
            }
            held_core::Turn::Delayed(_) => Turn::Delayed,
            held_core::Turn::Released { to } => Turn::Released(to),
            held_core::Turn::Ended(_) => Turn::Ended,
            held_core::Turn::Lost(_) => Turn::Lost,
        }
    }
}

impl Moments for Holding {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        self.core.each_moment(visit);
        self.state.each_moment(visit);
    }
}

/// A call of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    Write(RowWrite),
    Transact(Vec<RowWrite>),
}

// --- commands of operators ------------------------------------------------------------------------------------------

/// What an operator changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Pause,
    Resume,
    Seek(StartPoint),
}

/// The write of an operator who read this item and this row of the lease.
pub fn command_write(seen: Option<&Item>, row: &Lease, wish: Wish, id: CommandId) -> RowWrite {
    let seen = seen.and_then(|item| CommandItem::from_item(item).ok().flatten());
    let change = match wish {
        Wish::Pause => orders::Change::Paused(true),
        Wish::Resume => orders::Change::Paused(false),
        Wish::Seek(to) => orders::Change::Seek(to),
    };
    let item = orders::commanded(&row.key, seen.as_ref(), &row.obeyed, &change, id);
    crate::write::command(&item, seen.as_ref().map(|seen| &seen.command))
}

/// What the leader does about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Care {
    Nothing,
    Remind,
    Delete,
}

/// What the leader does about a command that it read together with this row of the lease.
pub fn care(item: &Item, row: &Lease) -> Care {
    let Ok(Some(item)) = CommandItem::from_item(item) else {
        return Care::Nothing;
    };
    match orders::care(&item, row.is_finished(), &row.obeyed) {
        orders::Care::Nothing => Care::Nothing,
        orders::Care::Remind => Care::Remind,
        orders::Care::Delete => Care::Delete,
    }
}

// --- a session ------------------------------------------------------------------------------------------------------

/// As `Session`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session(session::Session);

/// What an answer to a heartbeat means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    Alive,
    Lapsed,
    Over,
}

impl Session {
    pub fn registered(id: WorkerId, duration: Duration, sent: Moment, now: Moment) -> Self {
        Self(session::Session::registered(id, duration, sent, now))
    }

    pub fn id(&self) -> &WorkerId {
        &self.0.id
    }

    pub fn heartbeat(&self) -> u64 {
        self.0.heartbeat()
    }

    pub fn validity(&self) -> Validity {
        Validity(self.0.validity())
    }

    pub fn may_take(&self, now: Moment) -> bool {
        self.0.may_take(now)
    }

    /// Moves moments whose distance from `now` does not matter any more to `long_ago`.
    pub fn forget_the_past(&mut self, now: Moment, long_ago: Moment, takes: bool) {
        self.0.forget_the_past(now, long_ago, takes);
    }

    /// Counts heartbeats from here.
    pub fn count_from(&mut self, heartbeat: u64) {
        self.0.count_from(heartbeat);
    }

    pub fn heartbeat_sent(&mut self, now: Moment) {
        self.0.heartbeat_sent(now);
    }

    pub fn heartbeat_failed(&mut self, now: Moment) {
        self.0.heartbeat_failed(now);
    }

    pub fn heartbeat_applied(&mut self, sent: Moment, now: Moment) -> Pulse {
        pulse(self.0.heartbeat_applied(sent, now))
    }

    pub fn heartbeat_refused(&mut self, found: Option<u64>, now: Moment) -> Pulse {
        pulse(self.0.heartbeat_refused(found, now))
    }
}

fn pulse(beat: Beat) -> Pulse {
    match beat {
        Beat::Alive => Pulse::Alive,
        Beat::Lapsed => Pulse::Lapsed,
        Beat::Over => Pulse::Over,
    }
}

impl Moments for Session {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        self.0.each_moment(visit);
    }
}

// --- what a worker knows of the others ------------------------------------------------------------------------------

/// `View` and `Liveness`, and what is decided from them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Knowledge {
    view: View,
    liveness: Liveness,
}

/// What to do about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    Nothing,
    Take(RowWrite),
    CheckOwner(WorkerId),
    ReadRow(LeaseKey),
}

impl Knowledge {
    pub fn new(duration: Duration, margin: Duration) -> Self {
        Self {
            view: View::default(),
            liveness: Liveness::new(duration, margin),
        }
    }

    pub fn saw_row(&mut self, item: Option<&Item>, consistency: Consistency, now: Moment) {
        if let Some(Ok(Some(lease))) = item.map(Lease::from_item) {
            self.liveness.saw_row(&lease, now);
            self.view.saw_row(lease, consistency, now);
        }
    }

    pub fn doubt_row(&mut self, key: &LeaseKey) {
        self.view.doubt_row(key);
    }

    /// Whatever is done next comes after the reads of all rows.
    pub fn settle_reads(&mut self, long_ago: Moment) {
        self.view.settle_reads(long_ago);
    }

    /// Forgets checks that are too old to count, and when rows were read unless a check was sent before.
    pub fn forget_the_past(&mut self, now: Moment, long_ago: Moment, session: &Session) {
        let counts = session.0.longest_silence();
        self.view.forget_the_past(now, long_ago, counts);
    }

    /// A worker's item was read.
    pub fn saw_worker(&mut self, worker: &WorkerId, item: Option<&Item>, now: Moment) {
        self.look(worker, item, now);
    }

    /// The strongly consistent read of an owner's item, asked for at `sent`.
    pub fn checked_owner(
        &mut self,
        worker: &WorkerId,
        item: Option<&Item>,
        sent: Moment,
        now: Moment,
    ) {
        let found = self.look(worker, item, now);
        self.view
            .saw_owner(worker.clone(), OwnerCheck { sent, found });
    }

    /// A worker's heartbeat and its age, as this worker would tell others.
    pub fn age(
        &self,
        worker: &WorkerId,
        session: &Session,
        now: Moment,
    ) -> Option<(u64, Duration)> {
        let since = session.0.undisturbed_since();
        let age = self.liveness.age(worker, since, now)?;
        Some((self.liveness.heartbeat(worker)?, age))
    }

    /// Somebody told of a worker's heartbeat and its age.
    pub fn was_told(&mut self, worker: &WorkerId, heartbeat: u64, age: Duration, now: Moment) {
        self.liveness.told_of_worker(worker, heartbeat, age, now);
    }

    fn look(&mut self, worker: &WorkerId, item: Option<&Item>, now: Moment) -> OwnerFound {
        match item.map(WorkerItem::from_item) {
            None => {
                self.liveness.forget_worker(worker);
                OwnerFound::Nothing
            }
            Some(Ok(Some(item))) => {
                self.liveness.saw_worker(&item, now);
                OwnerFound::Heartbeat(item.heartbeat)
            }
            Some(_) => OwnerFound::Unreadable,
        }
    }

    /// What a worker that holds nothing would do about the lease now.
    pub fn advice(&self, session: &Session, key: &LeaseKey, now: Moment) -> Advice {
        let Some(known) = self.view.row(key) else {
            return Advice::ReadRow(key.clone());
        };
        let session = &session.0;
        // It was advised to take the lease, whether or not that makes sense.
        let wanted = BTreeMap::from([(key.clone(), now.plus(session.longest_silence()))]);
        let situation = Situation {
            me: &session.id,
            now,
            undisturbed_since: session.undisturbed_since(),
            check_ages_after: session.longest_silence(),
            view: &self.view,
            liveness: &self.liveness,
            busy: &BTreeSet::new(),
            not_before: &BTreeMap::new(),
            wanted: &wanted,
            room: 1,
        };
        match take::judge(&situation, known) {
            Judgement::Do(Step::Take(_) | Step::Accept(_)) => {
                Advice::Take(take::take_write(&known.lease, situation.me))
            }
            Judgement::Do(Step::CheckOwner(owner)) => Advice::CheckOwner(owner),
            Judgement::Do(Step::ReadRow(key)) => Advice::ReadRow(key),
            _ => Advice::Nothing,
        }
    }
}

impl Moments for Knowledge {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        self.view.each_moment(visit);
        self.liveness.each_moment(visit);
    }
}

// --- shards ---------------------------------------------------------------------------------------------------------

/// As `ShardEnd`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardEnd(shard_end::ShardEnd);

impl ShardEnd {
    /// Plans the end of `parent`; `None` if the children are not its.
    pub fn new(
        parent: &LeaseKey,
        children: Vec<ListedShard>,
        has_row: impl Fn(&LeaseKey) -> bool,
    ) -> Option<Self> {
        shard_end::ShardEnd::new(parent, children, has_row)
            .ok()
            .map(Self)
    }
}

/// Whether a lease can start. `row` is a strongly consistent look, `listed` a listing that is not older than the row.
pub fn can_start(
    lease: &Lease,
    row: impl Fn(&LeaseKey) -> Option<Lease>,
    listed: impl Fn(&ShardId) -> bool,
) -> bool {
    let parent_row = |key: &LeaseKey| match row(key) {
        Some(parent) if parent.is_finished() => ParentRow::Finished,
        Some(_) => ParentRow::Unfinished,
        None => ParentRow::Absent,
    };
    graph::readiness(lease, parent_row, |shard| Some(listed(shard))) == Readiness::Ready
}

/// Whether the row of a finished shard can go.
pub fn is_deletable(
    lease: &Lease,
    rows: &BTreeMap<LeaseKey, Lease>,
    listed: impl Fn(&ShardId) -> bool,
) -> bool {
    let listed = |shard: &ShardId| Some(listed(shard));
    graph::is_deletable(lease, |key| rows.get(key), listed, || rows.values())
}
