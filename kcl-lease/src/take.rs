//! Which of the leases that this worker was advised to have it takes or accepts now, and what has to be read before.
//!
//! A lease is taken from an expired owner in three steps, in this order: its row is read, then its owner's heartbeat
//! (strongly consistent), then it is taken under exactly the counter and owner that were read. Reading the row after the
//! heartbeat would rob a holder that has just come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::graph::Readiness;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::lease::Lease;
use crate::liveness::Liveness;
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;
use crate::table::Consistency;
use crate::view::{KnownRow, OwnerFound, View};
use crate::write::{self, Held, RowWrite};

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) me: &'a WorkerId,
    pub(crate) now: Moment,
    /// The end of our own last interruption.
    pub(crate) undisturbed_since: Moment,
    /// An owner's check older than this is made again.
    pub(crate) check_ages_after: Duration,
    pub(crate) view: &'a View,
    pub(crate) liveness: &'a Liveness,
    /// Leases held, or with a write on its way.
    pub(crate) busy: &'a BTreeSet<LeaseKey>,
    /// Leases that are not tried again before this moment.
    pub(crate) not_before: &'a BTreeMap<LeaseKey, Moment>,
    /// Leases that this worker was advised to take, until when.
    pub(crate) wanted: &'a BTreeMap<LeaseKey, Moment>,
    /// How many more leases this worker may hold.
    pub(crate) room: usize,
}

/// One thing to do for a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The row names this worker: confirm that under the row's counter.
    Accept(LeaseKey),
    /// Nobody owns the lease, or its owner expired: take it under the row's counter and owner.
    Take(LeaseKey),
    /// Read the owner's item, strongly consistent.
    CheckOwner(WorkerId),
    /// Read the row, strongly consistent.
    ReadRow(LeaseKey),
}

/// What to do now and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// In the order in which to begin.
    pub(crate) steps: Vec<Step>,
    /// When something expires or may be tried again.
    pub(crate) wake: Option<Moment>,
    /// Streams of which some lease cannot be judged without a new listing of their shards.
    pub(crate) listings_wanted: BTreeSet<StreamKey>,
}

/// What to do about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing.
    Leave,
    /// Nothing before this moment.
    Wait(Moment),
    /// A listing of shards is needed.
    NeedsListing,
    /// This.
    Do(Step),
}

/// Plans for all leases of the view.
pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut room = situation.room;
    let mut takes = Vec::new();
    let mut reads = BTreeSet::new();
    let mut wake_at = |moment: Moment| {
        plan.wake = Some(plan.wake.map_or(moment, |wake| wake.min(moment)));
    };
    for known in situation.view.rows().values() {
        match judge(situation, known) {
            Judgement::Leave => {}
            Judgement::Wait(until) => wake_at(until),
            Judgement::NeedsListing => {
                let stream = known.lease.key.stream_key();
                plan.listings_wanted.insert(stream);
            }
            Judgement::Do(step @ (Step::CheckOwner(_) | Step::ReadRow(_))) => {
                reads.insert(step);
            }
            Judgement::Do(step @ Step::Accept(_)) => takes.push((0, step)),
            Judgement::Do(Step::Take(key)) => {
                takes.push((1 + spread(situation.me, &key), Step::Take(key)));
            }
        }
    }
    takes.sort_unstable();
    // What a row grants by naming us is ours to hold, however many there are.
    takes.retain(|(_, step)| match step {
        Step::Accept(_) => true,
        _ if room == 0 => false,
        _ => {
            room -= 1;
            true
        }
    });
    plan.steps.extend(reads);
    plan.steps.extend(takes.into_iter().map(|(_, step)| step));
    plan
}

/// Judges one lease.
pub(crate) fn judge(situation: &Situation<'_>, known: &KnownRow) -> Judgement {
    let lease = &known.lease;
    let mine = lease.owner.as_ref() == Some(situation.me);
    let advised = |until: &Moment| situation.room > 0 && situation.now < *until;
    let wanted = mine || situation.wanted.get(&lease.key).is_some_and(advised);
    if lease.is_finished() || situation.busy.contains(&lease.key) || !wanted {
        return Judgement::Leave;
    }
    if let Some(until) = situation.not_before.get(&lease.key)
        && situation.now < *until
    {
        return Judgement::Wait(*until);
    }
    if known.doubtful {
        return Judgement::Do(Step::ReadRow(lease.key.clone()));
    }
    let readiness = match mine {
        // Whoever wrote that it is ours had it.
        true => Readiness::Ready,
        false => situation.view.readiness(known),
    };
    match readiness {
        Readiness::Ready => {}
        Readiness::Waits => return Judgement::Leave,
        Readiness::NeedsRow(parent) => return Judgement::Do(Step::ReadRow(parent)),
        Readiness::NeedsListing => return Judgement::NeedsListing,
    }
    match &lease.owner {
        None => Judgement::Do(Step::Take(lease.key.clone())),
        Some(_) if mine && mutant::is(Mutant::NeverAccept) => Judgement::Leave,
        Some(_) if mine => Judgement::Do(Step::Accept(lease.key.clone())),
        Some(owner) => judge_owned(situation, known, owner),
    }
}

/// Somebody else owns the lease: whether it can be taken from him.
pub(crate) fn judge_owned(
    situation: &Situation<'_>,
    known: &KnownRow,
    owner: &WorkerId,
) -> Judgement {
    match owner.is_session() {
        true => judge_owner(situation, known, owner),
        false => judge_foreign(situation, known),
    }
}

/// The owner has a heartbeat, if it lives.
fn judge_owner(situation: &Situation<'_>, known: &KnownRow, owner: &WorkerId) -> Judgement {
    if mutant::is(Mutant::NeverTakeExpired) {
        return Judgement::Leave;
    }
    let take = Judgement::Do(Step::Take(known.lease.key.clone()));
    let check = situation.view.owner(owner).filter(|check| {
        (check.sent >= known.read_at || mutant::is(Mutant::RowAfterHeartbeat))
            && situation.now.since(check.sent) <= situation.check_ages_after
    });
    // Registration comes before every other write of a session, so an owner without an item is gone.
    if check.is_some_and(|check| check.found == OwnerFound::Nothing) {
        return take;
    }
    let expires = situation
        .liveness
        .worker_expires(owner, situation.undisturbed_since);
    if let Some(expires) = expires.filter(|expires| situation.now < *expires) {
        return Judgement::Wait(expires);
    }
    // An age may have grown by what others told: a look from before the owner counted as expired shows nothing, it may
    // have come back since.
    let check = check.filter(|check| {
        let late_enough = expires.is_none_or(|expires| check.sent >= expires);
        late_enough || mutant::is(Mutant::CheckBeforeExpiry)
    });
    if mutant::is(Mutant::TakeWithoutOwnerCheck) && situation.liveness.heartbeat(owner).is_some() {
        return take;
    }
    match check.map(|check| (check, check.found)) {
        None => Judgement::Do(Step::CheckOwner(owner.clone())),
        Some((_, OwnerFound::Heartbeat(found)))
            if situation.liveness.heartbeat(owner) == Some(found) =>
        {
            take
        }
        // Unreadable, or smaller than seen before: look again when the check has aged.
        Some((check, _)) => {
            let aged = check.sent.plus(situation.check_ages_after);
            Judgement::Wait(aged.plus(Duration::from_millis(1)))
        }
    }
}

/// The owner has no heartbeat of ours (Java): its counter shows that it lives, the last look strongly consistent.
fn judge_foreign(situation: &Situation<'_>, known: &KnownRow) -> Judgement {
    let key = &known.lease.key;
    let Some(expires) = situation
        .liveness
        .row_expires(key, situation.undisturbed_since)
    else {
        return Judgement::Do(Step::ReadRow(key.clone()));
    };
    if situation.now < expires {
        return Judgement::Wait(expires);
    }
    let looked = known.consistency == Consistency::Strong && known.read_at >= expires;
    match looked {
        true => Judgement::Do(Step::Take(key.clone())),
        false => Judgement::Do(Step::ReadRow(key.clone())),
    }
}

/// The write that takes or accepts a lease as it was read.
pub(crate) fn take_write(lease: &Lease, me: &WorkerId) -> RowWrite {
    let Some(owner) = &lease.owner else {
        return write::take_unowned(&lease.key, lease.counter, me);
    };
    let seen = Held {
        key: lease.key.clone(),
        counter: lease.counter,
        owner: owner.clone(),
    };
    match owner == me {
        true => write::accept(&seen),
        false => write::take_owned(&seen, me),
    }
}

/// An order of leases that differs from worker to worker, so that workers that start together do not all try the same
/// leases first.
fn spread(me: &WorkerId, key: &LeaseKey) -> u64 {
    crate::digest::of(&[me.as_str(), key.as_str()]) >> 1
}

#[cfg(test)]
#[path = "take_tests.rs"]
mod tests;
