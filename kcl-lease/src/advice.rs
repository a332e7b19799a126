//! What the leader advises: who should take which lease, and who should hand which over.
//!
//! A pure function over what the leader knows. Advice has no authority: whoever follows it checks everything again under
//! the conditions of its own writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::graph::Readiness;
use crate::hint::Dead;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::liveness::Liveness;
use crate::mutant::{self, Mutant};
use crate::planner::{self, Room, Snapshot};
use crate::roster::{Life, Roster};
use crate::runtime::Moment;
use crate::table::Consistency;
use crate::view::{KnownRow, OwnerFound, View};
use crate::worker_item::PROTOCOL_VERSION;

/// The worker that finishes a shard takes its children at once; the leader steps in after this long.
const CHILDREN_TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// With its third heartbeat a worker has lived for a lease duration, and can judge by itself that another one expired: ages,
/// told ones too, count only since it registered.
const SEASONED_AT: u64 = 3;

/// How often it is looked whether a newcomer can judge by now, while leases wait for it.
const NEWCOMERS_COUNTED_EACH: Duration = Duration::from_secs(1);

/// How often an owner is looked for that has no usable item.
const OWNER_CHECKED_EACH: Duration = Duration::from_secs(5);

/// Everything that the leader's advice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) me: &'a WorkerId,
    pub(crate) now: Moment,
    /// The end of our own last interruption.
    pub(crate) undisturbed_since: Moment,
    pub(crate) view: &'a View,
    pub(crate) liveness: &'a Liveness,
    pub(crate) roster: &'a Roster,
    /// Advice that was given and may still be followed.
    pub(crate) pending: &'a BTreeMap<LeaseKey, Pending>,
    /// Leases that a worker could not work on.
    pub(crate) refused: &'a BTreeMap<LeaseKey, Refusal>,
    /// This worker's own heartbeat.
    pub(crate) heartbeat: u64,
    /// Leases that this worker holds or is about to.
    pub(crate) busy: &'a BTreeSet<LeaseKey>,
    /// How many leases this worker may hold in all; none if it may not take any.
    pub(crate) max_leases: usize,
    /// Streams whose leases are being deleted: nobody is advised to have them.
    pub(crate) removed: &'a BTreeSet<StreamKey>,
}

/// Advice about one lease that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) to: WorkerId,
    /// The owner when the advice was given: once there is another one, the row itself tells.
    pub(crate) from: Option<WorkerId>,
    /// The owner itself has to follow first.
    pub(crate) gives: bool,
    /// Whoever should follow has done so by then.
    pub(crate) until: Moment,
}

/// A worker that gave a lease away because it could not work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) worker: WorkerId,
    /// Until then others come first.
    pub(crate) until: Moment,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// `to` should take the lease, which nobody owns or whose owner expired.
    Take {
        to: WorkerId,
        key: LeaseKey,
        counter: u64,
        dead: Option<Dead>,
    },
    /// `from` should hand the lease over.
    Give {
        from: WorkerId,
        to: WorkerId,
        key: LeaseKey,
        counter: u64,
        newcomer: bool,
    },
}

/// What to advise now, and what to find out for better advice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Advice {
    pub(crate) orders: Vec<Order>,
    /// When somebody expires, or advice should have been followed.
    pub(crate) wake: Option<Moment>,
    /// Owners without a known item: a strongly consistent read tells whether they are gone.
    pub(crate) owners_to_check: BTreeSet<WorkerId>,
    /// Rows to read, strongly consistent.
    pub(crate) rows_to_read: BTreeSet<LeaseKey>,
    /// Advice was not followed as far as the view tells, which may be old.
    pub(crate) scan_wanted: bool,
    /// Streams of which some lease cannot be judged without a new listing of their shards.
    pub(crate) listings_wanted: BTreeSet<StreamKey>,
    /// Leases that nobody can be advised about yet.
    pub(crate) undecided: bool,
}

/// Who has a lease, as the leader sees it.
enum Ownership {
    /// Nobody, or somebody who expired: it can be taken.
    Free(Option<Dead>),
    /// Only this worker has watched the owner, which is of another kind.
    FreeForMe,
    Owned(WorkerId),
    /// Nothing can be said yet.
    Unclear,
}

/// Advises about all leases of the view.
pub(crate) fn advise(situation: &Situation<'_>) -> Advice {
    let mut advice = Advice::default();
    let mut snapshot = Snapshot::default();
    let mut free = BTreeMap::new();
    for (key, known) in situation.view.rows() {
        let removed =
            !situation.removed.is_empty() && situation.removed.contains(&key.stream_key());
        if removed || known.lease.is_finished() || !is_ready(situation, known, &mut advice) {
            continue;
        }
        if let Some(pending) = awaited(situation, known, &mut advice) {
            snapshot.leases.insert(key.clone(), Some(pending));
            continue;
        }
        match ownership(situation, known, &mut advice) {
            Ownership::Owned(owner) => {
                snapshot.leases.insert(key.clone(), Some(owner));
            }
            Ownership::Free(dead) => {
                snapshot.leases.insert(key.clone(), None);
                free.insert(key.clone(), dead);
            }
            Ownership::FreeForMe => {
                let me = situation.me.clone();
                snapshot.leases.insert(key.clone(), Some(me.clone()));
                advice.orders.push(take(&me, known, None));
            }
            Ownership::Unclear => advice.undecided = true,
        }
    }
    // Balance comes a moment later; a newcomer would leave these leases silent until it can judge.
    let expired = free.values().any(is_expired);
    add_rooms(situation, expired, &mut snapshot);
    let settled = is_settled(situation, &snapshot, &mut advice);
    let is_refused = |key: &LeaseKey, to: &WorkerId| {
        let refusal = situation.refused.get(key);
        refusal.is_some_and(|refusal| refusal.worker == *to && situation.now < refusal.until)
    };
    for step in planner::avoid(planner::balance(&snapshot), &snapshot, is_refused) {
        let Some(known) = situation.view.row(&step.key) else {
            continue;
        };
        if let Some(dead) = free.remove(&step.key) {
            advice.orders.push(take(&step.to, known, dead));
        } else if mutant::is(Mutant::NeverRebalance) {
            continue;
        } else if let Some(from) = step
            .from
            .filter(|_| settled && !expired && !situation.pending.contains_key(&step.key))
        {
            advice.orders.push(Order::Give {
                newcomer: situation.roster.is_newcomer(&step.to),
                from,
                to: step.to,
                key: step.key,
                counter: known.lease.counter,
            });
        }
    }
    if expired && !free.is_empty() {
        // Nobody who can take them has room: a newcomer will be able to.
        wake_at(&mut advice, situation.now.plus(NEWCOMERS_COUNTED_EACH));
    }
    advice.undecided |= expired;
    advice
}

/// Whether a lease is free because its owner's heartbeat stood still for too long, not because it has no item.
fn is_expired(dead: &Option<Dead>) -> bool {
    dead.as_ref().is_some_and(|dead| !dead.has_no_item())
}

/// Whether the lease can start; notes what is missing to tell.
fn is_ready(situation: &Situation<'_>, known: &KnownRow, advice: &mut Advice) -> bool {
    if known.doubtful {
        advice.rows_to_read.insert(known.lease.key.clone());
        return false;
    }
    match situation.view.readiness(known) {
        Readiness::Ready => return true,
        Readiness::Waits => {}
        Readiness::NeedsRow(parent) => {
            advice.rows_to_read.insert(parent);
        }
        Readiness::NeedsListing => {
            let stream = known.lease.key.stream_key();
            advice.listings_wanted.insert(stream);
        }
    }
    false
}

/// The worker that was advised to have the lease, while it may still follow.
fn awaited(situation: &Situation<'_>, known: &KnownRow, advice: &mut Advice) -> Option<WorkerId> {
    let pending = situation.pending.get(&known.lease.key)?;
    let lives = |worker: &WorkerId| {
        worker == situation.me || matches!(life(situation, worker), Life::Alive)
    };
    let follows = match (&pending.from, pending.gives) {
        (Some(giver), true) => lives(giver),
        (None, true) => false,
        // A worker that stops takes nothing.
        (_, false) => !situation.roster.stops(&pending.to),
    };
    if known.lease.owner != pending.from || !lives(&pending.to) || !follows {
        return None;
    }
    if situation.now >= pending.until {
        if known.read_at >= pending.until {
            return None;
        }
        advice.scan_wanted = true;
    } else {
        wake_at(advice, pending.until);
    }
    Some(pending.to.clone())
}

fn ownership(situation: &Situation<'_>, known: &KnownRow, advice: &mut Advice) -> Ownership {
    let key = &known.lease.key;
    if situation.busy.contains(key) {
        return Ownership::Owned(situation.me.clone());
    }
    let Some(owner) = &known.lease.owner else {
        return match finisher(situation, known) {
            Some((finisher, until)) => {
                wake_at(advice, until);
                Ownership::Owned(finisher)
            }
            None => Ownership::Free(None),
        };
    };
    if owner == situation.me {
        return Ownership::Owned(owner.clone());
    }
    if !owner.is_session() {
        return foreign(situation, known, owner, advice);
    }
    let (liveness, since) = (situation.liveness, situation.undisturbed_since);
    match life(situation, owner) {
        Life::Expired => {
            let age = liveness.age(owner, since, situation.now);
            Ownership::Free(Some(Dead {
                owner: owner.clone(),
                heartbeat: liveness.heartbeat(owner).unwrap_or(0),
                age: age.unwrap_or_default(),
            }))
        }
        Life::Missing => {
            let check = situation.view.owner(owner);
            if check.map(|check| check.found) == Some(OwnerFound::Nothing) {
                return Ownership::Free(Some(Dead::without_item(owner.clone())));
            }
            // An item that cannot be read says nothing, also when it is read again and again.
            let again = check.map(|check| check.sent.plus(OWNER_CHECKED_EACH));
            match again.filter(|again| situation.now < *again) {
                Some(again) => wake_at(advice, again),
                None => {
                    advice.owners_to_check.insert(owner.clone());
                }
            }
            Ownership::Unclear
        }
        proof @ (Life::Alive | Life::Unproven) => {
            advice.undecided |= proof == Life::Unproven;
            if let Some(expires) = liveness.worker_expires(owner, since) {
                wake_at(advice, expires);
            }
            Ownership::Owned(owner.clone())
        }
    }
}

/// The worker that finished a parent of the lease, and until when the lease is left to it: it takes the children itself.
fn finisher(situation: &Situation<'_>, known: &KnownRow) -> Option<(WorkerId, Moment)> {
    let until = known.first_seen.plus(CHILDREN_TAKEN_WITHIN);
    let key = &known.lease.key;
    let rows = known
        .lease
        .parents
        .iter()
        .map(|parent| key.relative(parent));
    let owners = rows.filter_map(|row| situation.view.row(&row)?.lease.owner.clone());
    let mut living = owners.filter(|owner| life(situation, owner) == Life::Alive);
    living
        .next()
        .filter(|_| situation.now < until)
        .map(|owner| (owner, until))
}

/// The owner has no heartbeat of ours: the row's counter shows that it lives.
fn foreign(
    situation: &Situation<'_>,
    known: &KnownRow,
    owner: &WorkerId,
    advice: &mut Advice,
) -> Ownership {
    let key = &known.lease.key;
    let expires = situation
        .liveness
        .row_expires(key, situation.undisturbed_since);
    let Some(expires) = expires else {
        advice.rows_to_read.insert(key.clone());
        return Ownership::Unclear;
    };
    if situation.now < expires {
        advice.undecided = true;
        wake_at(advice, expires);
        return Ownership::Owned(owner.clone());
    }
    if known.consistency == Consistency::Strong && known.read_at >= expires {
        return Ownership::FreeForMe;
    }
    advice.rows_to_read.insert(key.clone());
    Ownership::Unclear
}

/// Notes how much room each living worker has; an owner that takes no leases has none.
fn add_rooms(situation: &Situation<'_>, only_seasoned: bool, snapshot: &mut Snapshot) {
    for item in situation.roster.items() {
        let life = life(situation, &item.id);
        if life == Life::Expired {
            continue;
        }
        // Who is as old as this worker judges as it does.
        let seasoned = item.heartbeat >= SEASONED_AT || item.heartbeat + 1 >= situation.heartbeat;
        let too_new = only_seasoned && !seasoned;
        let stops = item.draining && !mutant::is(Mutant::GiveToDraining);
        let takes = life == Life::Alive && !too_new && !stops && item.protocol <= PROTOCOL_VERSION;
        let room = Room {
            max_leases: item.room(),
            takes,
        };
        snapshot.workers.insert(item.id.clone(), room);
    }
    let mine = Room {
        max_leases: situation.max_leases,
        takes: situation.max_leases > 0,
    };
    snapshot.workers.insert(situation.me.clone(), mine);
    let nothing = Room {
        max_leases: 0,
        takes: false,
    };
    for owner in snapshot.leases.values().flatten() {
        snapshot.workers.entry(owner.clone()).or_insert(nothing);
    }
}

fn life(situation: &Situation<'_>, worker: &WorkerId) -> Life {
    let (liveness, since) = (situation.liveness, situation.undisturbed_since);
    situation
        .roster
        .life(worker, liveness, since, situation.now)
}

/// Leases of living owners move only when every worker either lives or does not: else they might move back soon.
fn is_settled(situation: &Situation<'_>, snapshot: &Snapshot, advice: &mut Advice) -> bool {
    let unproven = |worker: &&WorkerId| life(situation, worker) == Life::Unproven;
    let waits_for: Vec<&WorkerId> = snapshot.workers.keys().filter(unproven).collect();
    for worker in &waits_for {
        let expires = situation
            .liveness
            .worker_expires(worker, situation.undisturbed_since);
        if let Some(expires) = expires {
            wake_at(advice, expires);
        }
    }
    waits_for.is_empty()
}

fn take(to: &WorkerId, known: &KnownRow, dead: Option<Dead>) -> Order {
    Order::Take {
        to: to.clone(),
        key: known.lease.key.clone(),
        counter: known.lease.counter,
        dead,
    }
}

fn wake_at(advice: &mut Advice, moment: Moment) {
    advice.wake = Some(advice.wake.map_or(moment, |wake| wake.min(moment)));
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
