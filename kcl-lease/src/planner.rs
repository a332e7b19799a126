//! Who should hold which lease: from a snapshot of the fleet to moves.
//!
//! Balanced within one lease, as far as the workers' limits allow, with as few moves as possible. Leases and workers that
//! are alike are told apart by hashes, so that two workers that plan from about the same snapshot agree about most leases.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::digest;
use crate::key::{LeaseKey, WorkerId};

/// The fleet as far as the plan depends on it. A move that is on its way is entered as done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// Each lease that can be worked on (not finished, its parents are), and its owner.
    pub(crate) leases: BTreeMap<LeaseKey, Option<WorkerId>>,
    /// Each owner that lives, and who else could own leases. An owner that is not here is gone.
    pub(crate) workers: BTreeMap<WorkerId, Room>,
}

/// What a worker can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// At most so many leases.
    pub(crate) max_leases: usize,
    /// It takes part. Otherwise (draining, a Java worker, a version that this one does not know) it gets nothing, and what
    /// it holds stays until it gives it away itself.
    pub(crate) takes: bool,
}

/// One lease that should have another owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Move {
    pub(crate) key: LeaseKey,
    /// The living owner that has to hand the lease over; `None` if it has to be taken.
    pub(crate) from: Option<WorkerId>,
    pub(crate) to: WorkerId,
}

/// The moves that balance the fleet: leases that nobody alive owns first, then those of workers that hold too many.
pub(crate) fn balance(snapshot: &Snapshot) -> Vec<Move> {
    let abandoned =
        |owner: Option<&WorkerId>| owner.is_none_or(|o| !snapshot.workers.contains_key(o));
    let fleet = Fleet::of(snapshot, abandoned, None);
    let held: usize = fleet.takers.iter().map(|taker| taker.held.len()).sum();
    let targets = fleet.pour(held + fleet.free.len(), false, 0);
    let mut wanted = fleet.wanted(&targets);
    let mut moves = fleet.place(&fleet.free, &mut wanted);
    let mut surplus = fleet.surplus(&targets);
    surplus.sort_unstable();
    for (hash, key, from) in surplus {
        let Some(to) = fleet.choose(hash, &mut wanted) else {
            break;
        };
        moves.push(Move {
            key: key.clone(),
            from: Some(from.clone()),
            to: to.clone(),
        });
    }
    moves
}

/// Changes moves that would bring a lease to a worker that `is_refused` says should not have it: a lease that is taken goes to
/// somebody else, if anybody has room; in place of one that is handed over another of the same owner goes.
pub(crate) fn avoid(
    mut moves: Vec<Move>,
    snapshot: &Snapshot,
    is_refused: impl Fn(&LeaseKey, &WorkerId) -> bool,
) -> Vec<Move> {
    for index in 0..moves.len() {
        let Some(step) = moves
            .get(index)
            .filter(|step| is_refused(&step.key, &step.to))
        else {
            continue;
        };
        let better = match &step.from {
            Some(from) => other_lease(&moves, snapshot, from, |key| !is_refused(key, &step.to))
                .map(|key| Move {
                    key,
                    ..step.clone()
                }),
            None => other_taker(&moves, snapshot, |to| !is_refused(&step.key, to))
                .map(|to| Move { to, ..step.clone() }),
        };
        if let (Some(better), Some(step)) = (better, moves.get_mut(index)) {
            *step = better;
        }
    }
    // What a living owner has stays there instead.
    moves.retain(|step| step.from.is_none() || !is_refused(&step.key, &step.to));
    moves
}

/// A lease of `owner` that is not to move.
fn other_lease(
    moves: &[Move],
    snapshot: &Snapshot,
    owner: &WorkerId,
    is_fit: impl Fn(&LeaseKey) -> bool,
) -> Option<LeaseKey> {
    let moving: BTreeSet<&LeaseKey> = moves.iter().map(|step| &step.key).collect();
    let owned = snapshot
        .leases
        .iter()
        .filter(|(_, of)| of.as_ref() == Some(owner));
    let mut keys = owned.map(|(key, _)| key);
    keys.find(|key| !moving.contains(key) && is_fit(key))
        .cloned()
}

/// The worker with the fewest leases after the moves that has room for one more.
fn other_taker(
    moves: &[Move],
    snapshot: &Snapshot,
    is_fit: impl Fn(&WorkerId) -> bool,
) -> Option<WorkerId> {
    let mut held: BTreeMap<&WorkerId, usize> = BTreeMap::new();
    let moved: BTreeMap<&LeaseKey, &WorkerId> =
        moves.iter().map(|step| (&step.key, &step.to)).collect();
    for (key, owner) in &snapshot.leases {
        if let Some(owner) = moved.get(key).copied().or(owner.as_ref()) {
            *held.entry(owner).or_default() += 1;
        }
    }
    let count = |id: &WorkerId| held.get(id).copied().unwrap_or(0);
    let takers = snapshot
        .workers
        .iter()
        .filter(|(id, room)| room.takes && count(id) < room.max_leases && is_fit(id));
    takers.map(|(id, _)| id).min_by_key(|id| count(id)).cloned()
}

/// Where the leases of a worker that stops should go. Leases for which nobody has room are left out.
pub(crate) fn drain(snapshot: &Snapshot, me: &WorkerId) -> BTreeMap<LeaseKey, WorkerId> {
    let fleet = Fleet::of(snapshot, |owner| owner == Some(me), Some(me));
    let held: usize = fleet.takers.iter().map(|taker| taker.held.len()).sum();
    // Workers that stop at the same time should not all begin with the same one.
    let salt = digest::of(&[me.as_str()]);
    let targets = fleet.pour(held + fleet.free.len(), true, salt);
    let moves = fleet.place(&fleet.free, &mut fleet.wanted(&targets));
    moves.into_iter().map(|m| (m.key, m.to)).collect()
}

/// A worker that takes part.
struct Taker<'a> {
    id: &'a WorkerId,
    hash: u64,
    max: usize,
    held: Vec<&'a LeaseKey>,
}

/// The workers that take part, and the leases that are to be placed.
struct Fleet<'a> {
    takers: Vec<Taker<'a>>,
    free: Vec<&'a LeaseKey>,
}

impl<'a> Fleet<'a> {
    fn of(
        snapshot: &'a Snapshot,
        is_free: impl Fn(Option<&WorkerId>) -> bool,
        without: Option<&WorkerId>,
    ) -> Self {
        let takes = |(id, room): &(&WorkerId, &Room)| room.takes && without != Some(*id);
        let takers: Vec<_> = snapshot
            .workers
            .iter()
            .filter(takes)
            .map(|(id, room)| Taker {
                id,
                hash: digest::of(&[id.as_str()]),
                max: room.max_leases,
                held: Vec::new(),
            })
            .collect();
        let mut fleet = Self {
            takers,
            free: Vec::new(),
        };
        for (key, owner) in &snapshot.leases {
            let owner = owner.as_ref();
            if is_free(owner) {
                fleet.free.push(key);
            } else if let Some(owner) = owner {
                let found = fleet.takers.binary_search_by(|taker| taker.id.cmp(owner));
                let taker = found.ok().and_then(|index| fleet.takers.get_mut(index));
                if let Some(taker) = taker {
                    taker.held.push(key);
                }
            }
        }
        fleet
    }

    /// How many of `amount` leases each taker should hold: like water that is poured over them, each with a ceiling, and
    /// with what it holds as the floor if nobody `keeps` less than that. Of two on the same level, the one that already
    /// holds more gets the odd lease.
    fn pour(&self, amount: usize, keeps: bool, salt: u64) -> Vec<usize> {
        let limits = |taker: &Taker<'_>| {
            let floor = if keeps { taker.held.len() } else { 0 };
            (floor, taker.max.min(amount).max(floor))
        };
        let at_level = |level: usize| {
            self.takers.iter().map(move |taker| {
                let (floor, ceiling) = limits(taker);
                level.clamp(floor, ceiling)
            })
        };
        // The highest level that `amount` reaches.
        let (mut level, mut above) = (0, amount + 1);
        while level + 1 < above {
            let middle = level + (above - level) / 2;
            match at_level(middle).sum::<usize>() <= amount {
                true => level = middle,
                false => above = middle,
            }
        }
        let mut targets: Vec<usize> = at_level(level).collect();
        let rest = amount.saturating_sub(targets.iter().sum());
        let mut odd: Vec<_> = self
            .takers
            .iter()
            .zip(&mut targets)
            .filter(|(taker, _)| {
                let (floor, ceiling) = limits(taker);
                floor <= level && level < ceiling
            })
            .collect();
        odd.sort_by_key(|(taker, _)| {
            let holds_it = taker.held.len() > level;
            (Reverse(holds_it), digest::pair(taker.hash, salt), taker.id)
        });
        for (_, target) in odd.into_iter().take(rest) {
            *target += 1;
        }
        targets
    }

    /// How many leases each taker lacks.
    fn wanted(&self, targets: &[usize]) -> Vec<usize> {
        self.takers
            .iter()
            .zip(targets)
            .map(|(taker, target)| target.saturating_sub(taker.held.len()))
            .collect()
    }

    /// The leases that takers hold in excess of their targets, each with its hash and holder.
    fn surplus(&self, targets: &[usize]) -> Vec<(u64, &'a LeaseKey, &'a WorkerId)> {
        let mut surplus = Vec::new();
        for (taker, target) in self.takers.iter().zip(targets) {
            let excess = taker.held.len().saturating_sub(*target);
            if excess == 0 {
                continue;
            }
            let hashed = |key: &&'a LeaseKey| (digest::of(&[key.as_str()]), *key, taker.id);
            let mut held: Vec<_> = taker.held.iter().map(hashed).collect();
            held.sort_unstable();
            surplus.extend(held.into_iter().take(excess));
        }
        surplus
    }

    /// Places leases that nobody holds, as far as they are wanted.
    fn place(&self, keys: &[&LeaseKey], wanted: &mut [usize]) -> Vec<Move> {
        let place = |key: &&LeaseKey| {
            let to = self.choose(digest::of(&[key.as_str()]), wanted)?;
            Some(Move {
                key: (*key).clone(),
                from: None,
                to: to.clone(),
            })
        };
        keys.iter().map_while(place).collect()
    }

    /// The taker for one more lease: of those that want one, the one that ranks highest for this lease.
    fn choose(&self, key_hash: u64, wanted: &mut [usize]) -> Option<&'a WorkerId> {
        let (taker, wanted) = self
            .takers
            .iter()
            .zip(wanted)
            .filter(|(_, wanted)| **wanted > 0)
            .max_by_key(|(taker, _)| (digest::pair(taker.hash, key_hash), taker.id))?;
        *wanted -= 1;
        Some(taker.id)
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
