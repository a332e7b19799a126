//! The audit of leases: hash keys that nobody will read, why, and what to do about it.
//!
//! In normal operation there are none: a shard's children get their rows with its end. A hole is a row that was deleted by
//! hand, or a line of shards that passed out of retention before its end was known here. The second is repaired at once,
//! nothing of these shards was read yet. A deleted row is another matter: where its reading stood is known only to
//! workers that saw it. They make it again there; without that knowledge it is not made, because to begin again at the
//! oldest record is a replay that nobody asked for, and to begin anywhere else skips records.

use std::collections::{BTreeMap, BTreeSet};

use kcl_checkpoint::Checkpoint;

use crate::graph::{Leased, ListingError, missing_leases};
use crate::hash_cover::uncovered;
use crate::key::{HashKeyRange, LeaseKey, ShardId, StreamKey};
use crate::lease::{Lease, NewLease};
use crate::listed_shard::ListedShard;
use crate::stream_item::StreamStart;

/// What a reading of the table and a listing of the stream say together.
struct Survey<'a> {
    /// The hash keys that nobody reads or is going to read.
    holes: Vec<HashKeyRange>,
    /// Shards without a row whose ends a lease waits for. A row is made beside those of all parents, and these go only
    /// after their child has begun: these were deleted.
    missed_parents: BTreeSet<&'a ShardId>,
}

/// The hash keys that neither a lease reads nor a shard that gets its lease when its parents end, and those of parents that
/// have no lease although one waits for their end.
pub(crate) fn holes<'a>(
    leases: impl Iterator<Item = &'a Lease>,
    listing: &[ListedShard],
) -> Vec<HashKeyRange> {
    survey(leases, listing).holes
}

fn survey<'a, 'b>(
    leases: impl Iterator<Item = &'a Lease>,
    listing: &'b [ListedShard],
) -> Survey<'b> {
    let listed: BTreeMap<_, _> = listing.iter().map(|s| (&s.shard_id, s)).collect();
    let mut rows = BTreeMap::new();
    let mut read = Vec::new();
    let mut waited_for = BTreeSet::new();
    for lease in leases {
        let shard = lease.key.shard();
        let known = || listed.get(&shard).map(|listed| listed.hash_range);
        if !lease.is_finished() {
            // Rows of older Java releases have no range.
            read.extend(lease.hash_range.or_else(known));
        }
        if lease.checkpoint == Checkpoint::TrimHorizon && !lease.has_begun() {
            waited_for.extend(&lease.parents);
        }
        rows.insert(shard, Leased::of(lease));
    }
    let to_come = to_come(listing, &listed, &rows);
    let is_missed = |shard: &&&ListedShard| {
        let id = &shard.shard_id;
        waited_for.contains(id) && !rows.contains_key(id) && !to_come.contains(id)
    };
    let missed: Vec<_> = listed.values().filter(is_missed).collect();
    let to_come = to_come.iter().filter_map(|shard| listed.get(*shard));
    read.extend(to_come.map(|shard| shard.hash_range));
    let mut holes = uncovered(read);
    holes.extend(missed.iter().map(|shard| shard.hash_range));
    Survey {
        holes,
        missed_parents: missed.into_iter().map(|shard| &shard.shard_id).collect(),
    }
}

/// The shards without a row that get one when their parents end: these have rows, get one themselves, or are gone for
/// good, and at least one of them is not finished.
fn to_come<'a>(
    listing: &'a [ListedShard],
    listed: &BTreeMap<&ShardId, &ListedShard>,
    rows: &BTreeMap<ShardId, Leased>,
) -> BTreeSet<&'a ShardId> {
    let mut to_come = BTreeSet::new();
    loop {
        let before = to_come.len();
        for shard in listing {
            if rows.contains_key(&shard.shard_id) {
                continue;
            }
            let continues = |parent: &ShardId| {
                rows.get(parent) == Some(&Leased::Unfinished) || to_come.contains(parent)
            };
            let settled = |parent: &ShardId| {
                rows.contains_key(parent)
                    || to_come.contains(parent)
                    || !listed.contains_key(parent)
            };
            if shard.parents().any(continues) && shard.parents().all(settled) {
                to_come.insert(&shard.shard_id);
            }
        }
        // The service lists parents before their children, so this is the second round.
        if to_come.len() == before {
            return to_come;
        }
    }
}

/// What the audit looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) stream: &'a StreamKey,
    /// Every row of the stream, by its key.
    pub(crate) rows: &'a BTreeMap<LeaseKey, &'a Lease>,
    /// Unfinished leases as they were last seen, of which some have no row any more.
    pub(crate) gone: &'a BTreeMap<LeaseKey, Lease>,
    /// Everything that the service lists, not older than the rows.
    pub(crate) listing: &'a [ListedShard],
    /// Where the application began.
    pub(crate) start: StreamStart,
    /// Once the rows of the fresh start were all made, a missing one is no leftover of that.
    pub(crate) start_complete: bool,
    /// Deleted rows may be made again although nobody knows where their reading stood.
    pub(crate) replay: bool,
}

/// What to do about a lease that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Its row was never made: make it.
    Create(NewLease),
    /// Its row was deleted: make it again as it was last seen.
    Restore(Box<Lease>),
    /// Its row was deleted, nobody knows where its reading stood, and a replay was asked for: make it.
    Replay(NewLease),
    /// Its row was deleted, and nobody knows where its reading stood.
    Refuse(NewLease),
}

impl Repair {
    pub(crate) fn key(&self) -> &LeaseKey {
        match self {
            Self::Create(lease) | Self::Replay(lease) | Self::Refuse(lease) => &lease.key,
            Self::Restore(last) => &last.key,
        }
    }
}

/// What to do now, and what to look at again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    pub(crate) repairs: Vec<Repair>,
    /// Leases that look deleted. One reading of the table may show one half of a transaction, so this counts when the next
    /// one shows the same.
    pub(crate) suspects: BTreeSet<LeaseKey>,
}

/// Judges what is missing. `suspects` are those of the judgement before.
///
/// # Errors
/// When the listing mixes two states of the stream.
pub(crate) fn judge(
    evidence: Evidence<'_>,
    suspects: &BTreeSet<LeaseKey>,
) -> Result<Verdict, ListingError> {
    let Survey {
        holes,
        missed_parents,
    } = survey(evidence.rows.values().copied(), evidence.listing);
    let mut verdict = Verdict::default();
    let mut leased: BTreeMap<_, _> = evidence
        .rows
        .values()
        .map(|lease| (lease.key.shard(), Leased::of(lease)))
        .collect();
    let passed = evidence.passed();
    // One that was finished and deleted in good order leaves no hole: others read on from it. If a later one leaves a hole
    // there, that one is missed.
    let is_missed = |lease: &&Lease| {
        let range = lease.hash_range.unwrap_or(HashKeyRange::FULL);
        !evidence.rows.contains_key(&lease.key)
            && !passed.contains(&lease.key.shard())
            && holes.iter().any(|hole| hole.overlaps(&range))
    };
    for lease in evidence.gone.values().filter(is_missed) {
        leased.insert(lease.key.shard(), Leased::Unfinished);
        verdict.suspects.insert(lease.key.clone());
        if suspects.contains(&lease.key) {
            verdict
                .repairs
                .push(Repair::Restore(Box::new(lease.clone())));
        }
    }
    let Evidence {
        stream,
        listing,
        start,
        ..
    } = evidence;
    let planned = missing_leases(stream, listing, &leased, &missed_parents, start)?;
    if planned.is_empty() {
        return Ok(verdict);
    }
    let unexplained = uncovered(evidence.broken_off());
    let not_owed = uncovered(evidence.owed());
    let was_never_made = |lease: &NewLease| {
        !evidence.start_complete || evidence.was_never_made(lease, &holes, &unexplained)
    };
    let (never_made, lost): (Vec<_>, Vec<_>) = planned.into_iter().partition(was_never_made);
    verdict
        .repairs
        .extend(never_made.into_iter().map(Repair::Create));
    for lease in lost {
        if holes.is_empty() || !overlaps(&lease, &not_owed) {
            continue;
        }
        verdict.suspects.insert(lease.key.clone());
        if suspects.contains(&lease.key) {
            verdict.repairs.push(match evidence.replay {
                true => Repair::Replay(lease),
                false => Repair::Refuse(lease),
            });
        }
    }
    Ok(verdict)
}

fn overlaps(lease: &NewLease, holes: &[HashKeyRange]) -> bool {
    let range = lease.hash_range.unwrap_or(HashKeyRange::FULL);
    holes.iter().any(|hole| hole.overlaps(&range))
}

impl Evidence<'_> {
    /// The shards before those whose reading has begun: their own leases had ended by then.
    fn passed(&self) -> BTreeSet<ShardId> {
        let listed: BTreeMap<_, _> = self.listing.iter().map(|s| (&s.shard_id, s)).collect();
        let leases = self.rows.values().copied().chain(self.gone.values());
        let begun = leases
            .filter(|lease| matches!(lease.checkpoint, Checkpoint::At(_) | Checkpoint::ShardEnd));
        let mut ahead: Vec<ShardId> = begun.map(|lease| lease.key.shard()).collect();
        let mut passed = BTreeSet::new();
        while let Some(shard) = ahead.pop() {
            let parents = listed.get(&shard).into_iter().flat_map(|s| s.parents());
            for parent in parents {
                if passed.insert(parent.clone()) {
                    ahead.push(parent.clone());
                }
            }
        }
        passed
    }

    /// Whether a row that is missed never was there, though the fresh start is complete: a parent's end did not make it.
    /// `unexplained` are the hash keys of which no line was broken off.
    fn was_never_made(
        &self,
        lease: &NewLease,
        holes: &[HashKeyRange],
        unexplained: &[HashKeyRange],
    ) -> bool {
        if !overlaps(lease, holes) {
            return false;
        }
        let shard = lease.key.shard();
        let rows = lease
            .parents
            .iter()
            .filter_map(|parent| self.rows.get(&lease.key.relative(parent)));
        let mut ended = rows.filter(|parent| parent.is_finished()).peekable();
        if ended.peek().is_some() {
            // An end names the children that have a row with it.
            return !ended.any(|parent| parent.children.contains(&shard));
        }
        let range = lease.hash_range.unwrap_or(HashKeyRange::FULL);
        let mut missing = holes.iter().filter_map(|hole| hole.intersection(&range));
        missing.all(|part| !unexplained.iter().any(|other| other.overlaps(&part)))
    }

    /// The hash keys of shards that passed out of retention before their leases ended: what follows them gets its row then.
    fn owed(&self) -> Vec<HashKeyRange> {
        let listed: BTreeSet<_> = self.listing.iter().map(|s| &s.shard_id).collect();
        let is_owed =
            |lease: &&&Lease| !lease.is_finished() && !listed.contains(&lease.key.shard());
        let owed = self.rows.values().filter(is_owed);
        owed.filter_map(|lease| lease.hash_range).collect()
    }

    /// The hash keys of shards that ended, and whose known children did not take them over: those between had passed out
    /// of retention.
    fn broken_off(&self) -> Vec<HashKeyRange> {
        let listed = self.listing.iter().map(|s| (&s.shard_id, s.hash_range));
        let listed: BTreeMap<_, _> = listed.collect();
        let range_of = |key: LeaseKey| {
            let row = self.rows.get(&key).and_then(|lease| lease.hash_range);
            row.or_else(|| listed.get(&key.shard()).copied())
        };
        let mut broken_off = Vec::new();
        for lease in self.rows.values().filter(|lease| lease.is_finished()) {
            let own = lease.hash_range.unwrap_or(HashKeyRange::FULL);
            let shard = lease.key.shard();
            // An end names only children that got rows. One that waits for its other parent is there all the same.
            let follows = |s: &&ListedShard| s.parents().any(|parent| *parent == shard);
            let follow = self.listing.iter().filter(follows).map(|s| &s.shard_id);
            let children: BTreeSet<&ShardId> = lease.children.iter().chain(follow).collect();
            let children: Option<Vec<_>> = children
                .into_iter()
                .map(|child| range_of(lease.key.relative(child)))
                .collect();
            let left_out = children.map(uncovered).unwrap_or_default();
            broken_off.extend(left_out.iter().filter_map(|part| part.intersection(&own)));
        }
        broken_off
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
