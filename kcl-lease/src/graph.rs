//! The graph of shards: which leases to create from a listing, which can start, which rows can go.
//!
//! The rules are the Java library's (`HierarchicalShardSyncer`, `LeaseCleanupManager`) unless a comment says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use kcl_checkpoint::Checkpoint;

use crate::hash_cover::uncovered;
use crate::key::{HashKeyRange, LeaseKey, ShardId, StreamKey};
use crate::lease::{Lease, NewLease};
use crate::listed_shard::ListedShard;
use crate::mutant::{self, Mutant};
use crate::stream_item::StreamStart;

/// A shard's parents, each once.
pub(crate) fn parents_of(shard: &ListedShard) -> BTreeSet<ShardId> {
    shard.parents().cloned().collect()
}

/// The lease for a shard with this checkpoint.
pub(crate) fn new_lease(shard: &ListedShard, key: LeaseKey, checkpoint: Checkpoint) -> NewLease {
    NewLease {
        key,
        checkpoint,
        parents: parents_of(shard),
        hash_range: Some(shard.hash_range),
    }
}

/// A listing of shards that leases cannot be made from. Listing again later helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// The hash keys of the shards leave holes: the stream is being resharded, or the listing is not complete.
    #[error("the listed shards do not cover all hash keys; list them again")]
    Incomplete,
    /// The listing is for a fresh start, and leases exist by now.
    #[error("leases were created meanwhile; list all shards")]
    LeasesExist,
    /// A shard is open although its child is, too: the listing mixes two states of the stream.
    #[error("shard {child} is listed as open while its parent {parent} is open; list them again")]
    OpenParent {
        /// The child.
        child: ShardId,
        /// Its parent.
        parent: ShardId,
    },
}

/// What a lease starts with when it is the first of its line.
pub(crate) fn start_checkpoint(start: StreamStart) -> Checkpoint {
    match start {
        StreamStart::TrimHorizon => Checkpoint::TrimHorizon,
        StreamStart::Latest { .. } => Checkpoint::Latest,
        StreamStart::AtTimestamp { .. } => Checkpoint::AtTimestamp,
    }
}

/// The leases for an empty table. `listing` is what the service lists for the starting point (`ShardFilter`); of a full
/// listing the oldest shards count, and the children of merges of which one parent is not listed any more.
pub(crate) fn fresh_leases(
    stream: &StreamKey,
    listing: &[ListedShard],
    start: StreamStart,
) -> Result<Vec<NewLease>, ListingError> {
    let listed: BTreeSet<_> = listing.iter().map(|shard| &shard.shard_id).collect();
    let oldest: BTreeMap<_, _> = listing
        .iter()
        .filter(|shard| !shard.parents().any(|p| listed.contains(p)))
        .map(|shard| (&shard.shard_id, shard))
        .collect();
    let open = listing.iter().filter(|shard| shard.open);
    // Of a full listing the oldest shards may leave a hole, where a merge's other parent expired; then the open ones
    // show that nothing is missing.
    if !uncovered(oldest.values().map(|shard| shard.hash_range)).is_empty()
        && !uncovered(open.map(|shard| shard.hash_range)).is_empty()
    {
        return Err(ListingError::Incomplete);
    }
    // The end of one parent makes a merge's child only beside the other parent's row.
    let lacks_parent = |shard: &&ListedShard| {
        !oldest.contains_key(&shard.shard_id) && shard.parents().any(|p| !listed.contains(p))
    };
    let lease = |shard: &ListedShard, checkpoint: Checkpoint| {
        new_lease(shard, stream.lease_key(&shard.shard_id), checkpoint)
    };
    let halves = listing.iter().filter(lacks_parent);
    let halves = halves.map(|shard| lease(shard, Checkpoint::TrimHorizon));
    let first = oldest
        .values()
        .map(|shard| lease(shard, start_checkpoint(start)));
    Ok(first.chain(halves).collect())
}

/// What a table that is not empty says of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leased {
    /// Its row says that it was processed to its end.
    Finished,
    /// It has a row.
    Unfinished,
}

impl Leased {
    pub(crate) fn of(lease: &Lease) -> Self {
        match lease.is_finished() {
            true => Self::Finished,
            false => Self::Unfinished,
        }
    }
}

/// The leases that a table with rows lacks. `listing` is everything that the service lists, `waited_for` are closed shards
/// without a row whose ends others wait for.
///
/// For each of these and each open shard without a row the walk goes back through its ancestors. What descends from a
/// leased shard gets its row when its parents end; else the oldest listed ancestors get one.
pub(crate) fn missing_leases(
    stream: &StreamKey,
    listing: &[ListedShard],
    rows: &BTreeMap<ShardId, Leased>,
    waited_for: &BTreeSet<&ShardId>,
    start: StreamStart,
) -> Result<Vec<NewLease>, ListingError> {
    let by_id: BTreeMap<_, _> = listing.iter().map(|s| (&s.shard_id, s)).collect();
    for shard in listing.iter().filter(|shard| shard.open) {
        let open_parent = |p: &ShardId| by_id.get(p).is_some_and(|parent| parent.open);
        if let Some(parent) = shard.parents().find(|p| open_parent(p)) {
            return Err(ListingError::OpenParent {
                child: shard.shard_id.clone(),
                parent: parent.clone(),
            });
        }
    }
    let is_wanted = |shard: &&ListedShard| shard.open || waited_for.contains(&shard.shard_id);
    let wanted: BTreeSet<_> = listing
        .iter()
        .filter(is_wanted)
        .map(|s| &s.shard_id)
        .collect();
    let mut walk = Walk {
        by_id: &by_id,
        rows,
        wanted: &wanted,
        start,
        descends: BTreeSet::new(),
        oldest: BTreeSet::new(),
        create: BTreeMap::new(),
    };
    for shard in parents_first(listing, &by_id, rows, &wanted) {
        walk.visit(shard);
    }
    let lease = |(shard, checkpoint): (&ShardId, Checkpoint)| {
        let listed = by_id.get(shard)?;
        Some(new_lease(listed, stream.lease_key(shard), checkpoint))
    };
    Ok(walk.create.into_iter().filter_map(lease).collect())
}

/// The shards without a row that wanted ones without a row descend from, and these, each after its parents.
///
/// Shards that are their own ancestors (the service never lists that) are left out.
fn parents_first<'a>(
    listing: &'a [ListedShard],
    by_id: &BTreeMap<&'a ShardId, &'a ListedShard>,
    rows: &BTreeMap<ShardId, Leased>,
    wanted: &BTreeSet<&ShardId>,
) -> Vec<&'a ListedShard> {
    let parents_without_row = |shard: &ListedShard| -> Vec<&'a ListedShard> {
        let listed = shard.parents().filter_map(|p| by_id.get(p).copied());
        listed.filter(|p| !rows.contains_key(&p.shard_id)).collect()
    };
    let mut wanted_first: Vec<&ListedShard> = listing
        .iter()
        .filter(|shard| wanted.contains(&shard.shard_id) && !rows.contains_key(&shard.shard_id))
        .collect();
    wanted_first.sort_by(|a, b| b.shard_id.cmp(&a.shard_id));
    let mut visited = BTreeSet::new();
    let mut done = Vec::new();
    // Each shard is met twice: before its parents and after them.
    let mut stack: Vec<_> = wanted_first
        .into_iter()
        .map(|shard| (shard, false))
        .collect();
    while let Some((shard, after_parents)) = stack.pop() {
        if after_parents {
            done.push(shard);
        } else if visited.insert(&shard.shard_id) {
            stack.push((shard, true));
            let parents = parents_without_row(shard);
            stack.extend(parents.into_iter().map(|parent| (parent, false)));
        }
    }
    done
}

struct Walk<'a> {
    by_id: &'a BTreeMap<&'a ShardId, &'a ListedShard>,
    rows: &'a BTreeMap<ShardId, Leased>,
    /// Shards that need a lease, or an ancestor that has one.
    wanted: &'a BTreeSet<&'a ShardId>,
    start: StreamStart,
    /// Shards without a row that descend from a leased shard, or from one that is to be leased.
    descends: BTreeSet<&'a ShardId>,
    /// Shards that could be the oldest of their line.
    oldest: BTreeSet<&'a ShardId>,
    create: BTreeMap<&'a ShardId, Checkpoint>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, shard: &'a ListedShard) {
        let parents: Vec<&'a ListedShard> = shard
            .parents()
            .filter_map(|parent| self.by_id.get(parent).copied())
            .collect();
        // A shard whose parents all ended gets its row from the last one's end, unless that was stopped half-way or a
        // merge's other parent is gone for good. The Java library leaves a hole in the second case.
        if self.is_orphan(shard) {
            self.descends.insert(&shard.shard_id);
            self.create.insert(&shard.shard_id, Checkpoint::TrimHorizon);
            return;
        }
        let continued: BTreeSet<&ShardId> = parents
            .iter()
            .map(|parent| &parent.shard_id)
            .filter(|id| {
                self.rows.contains_key(*id)
                    || self.descends.contains(id)
                    || self.oldest.contains(id)
            })
            .collect();
        let leased_parent = shard.parents().any(|p| self.rows.contains_key(p));
        if !continued.is_empty() || leased_parent {
            self.descends.insert(&shard.shard_id);
            for parent in parents {
                self.complete(&parent.shard_id, continued.contains(&parent.shard_id));
            }
        } else if self.wanted.contains(&shard.shard_id) {
            self.create
                .insert(&shard.shard_id, start_checkpoint(self.start));
        } else {
            self.oldest.insert(&shard.shard_id);
        }
    }

    /// Makes a row for a parent that has none, if its child needs it to cover its whole range.
    fn complete(&mut self, parent: &'a ShardId, continued: bool) {
        let needed = self.oldest.contains(parent) || !continued;
        if self.rows.contains_key(parent) || !needed {
            return;
        }
        // LATEST is a stored moment here, so older shards are read from that moment like with AT_TIMESTAMP: one that was
        // closed after it may hold records that nobody has read.
        let from_configured = !continued || self.start != StreamStart::TrimHorizon;
        let checkpoint = match from_configured {
            true => start_checkpoint(self.start),
            false => Checkpoint::TrimHorizon,
        };
        self.create.entry(parent).or_insert(checkpoint);
    }

    /// Whether each parent ended or is gone, and at least one was processed here.
    fn is_orphan(&self, shard: &ListedShard) -> bool {
        let done = |p: &ShardId| match self.rows.get(p) {
            Some(leased) => *leased == Leased::Finished,
            None => !self.by_id.contains_key(p),
        };
        shard.parents().all(done) && shard.parents().any(|p| self.rows.contains_key(p))
    }
}

/// What is known of a parent's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentRow {
    /// It says SHARD_END. Rows never leave that state.
    Finished,
    /// It says something else.
    Unfinished,
    /// A strongly consistent read found none.
    Absent,
    /// No read that would prove anything found it.
    Unknown,
}

/// Whether a lease can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It can.
    Ready,
    /// A parent is not finished.
    Waits,
    /// A strongly consistent read of this row is needed first.
    NeedsRow(LeaseKey),
    /// A listing is needed that is not older than the row.
    NeedsListing,
}

/// Whether a lease can start: each parent ended. `parent_row` looks rows up; `listed` says whether a listing that is not
/// older than the lease's row lists a shard, `None` if there is no such listing.
pub(crate) fn readiness(
    lease: &Lease,
    parent_row: impl Fn(&LeaseKey) -> ParentRow,
    listed: impl Fn(&ShardId) -> Option<bool>,
) -> Readiness {
    if lease.has_begun() || mutant::is(Mutant::ChildBeforeParents) {
        return Readiness::Ready;
    }
    // Children made at a shard's end start at TRIM_HORIZON, so these two are the first of their line: a parent without
    // a row never gets one.
    let first_of_line = matches!(
        lease.checkpoint,
        Checkpoint::Latest | Checkpoint::AtTimestamp
    );
    let mut needs = Readiness::Ready;
    for parent in &lease.parents {
        let key = lease.key.relative(parent);
        match parent_row(&key) {
            ParentRow::Finished => {}
            ParentRow::Unfinished => return Readiness::Waits,
            ParentRow::Unknown => needs = Readiness::NeedsRow(key),
            ParentRow::Absent if first_of_line || mutant::is(Mutant::AbsentParentIsDone) => {}
            ParentRow::Absent => match listed(parent) {
                Some(false) => {}
                // Still listed: its row may be on its way, or it passes out of retention. The next listing tells.
                Some(true) | None if needs == Readiness::Ready => needs = Readiness::NeedsListing,
                Some(true) | None => {}
            },
        }
    }
    needs
}

/// Whether the row of a finished shard can go: its children went on from it, and its own parents' rows are gone (a child
/// row that was never made cannot be told from one that was deleted, so the oldest go first). `row` looks a row up,
/// `leases` are all there are of the stream.
pub(crate) fn is_deletable<'a, I: Iterator<Item = &'a Lease>>(
    lease: &Lease,
    row: impl Fn(&LeaseKey) -> Option<&'a Lease>,
    listed: impl Fn(&ShardId) -> Option<bool>,
    leases: impl Fn() -> I,
) -> bool {
    let child_moved_on =
        |child: &ShardId| row(&lease.key.relative(child)).is_some_and(has_moved_on);
    let followed = match lease.children.is_empty() {
        // Its children had no row or were not known when it ended. Until they are read this row is what shows that they
        // were not read before.
        true => {
            let unlisted = listed(&lease.key.shard()) == Some(false);
            let read_on = || {
                lease
                    .hash_range
                    .is_none_or(|range| is_read_on(leases(), range))
            };
            unlisted && read_on() || has_heirs(lease, leases())
        }
        false => lease.children.iter().all(child_moved_on),
    };
    let parents_gone = lease
        .parents
        .iter()
        .all(|parent| row(&lease.key.relative(parent)).is_none());
    if mutant::is(Mutant::NeverDeleteFinished) {
        return false;
    }
    lease.is_finished() && (followed || mutant::is(Mutant::DeleteFinishedEarly)) && parents_gone
}

fn has_moved_on(child: &Lease) -> bool {
    child.has_begun()
}

/// Whether rows that name this one as a parent went on with all of its hash keys: of a merge the parent that ends first
/// cannot name the child, which has no row yet.
fn has_heirs<'a>(lease: &Lease, leases: impl Iterator<Item = &'a Lease>) -> bool {
    let Some(range) = lease.hash_range else {
        return false;
    };
    let shard = lease.key.shard();
    let names =
        |other: &&Lease| other.parents.contains(&shard) && other.key.relative(&shard) == lease.key;
    let heirs: Vec<&Lease> = leases.filter(names).collect();
    let covered = heirs.iter().filter_map(|heir| heir.hash_range);
    let left_out = uncovered(covered).iter().any(|hole| hole.overlaps(&range));
    !left_out && heirs.into_iter().all(has_moved_on)
}

/// Whether unfinished leases cover these hash keys.
fn is_read_on<'a>(leases: impl Iterator<Item = &'a Lease>, range: HashKeyRange) -> bool {
    let unfinished = leases.filter(|lease| !lease.is_finished());
    let holes = uncovered(unfinished.filter_map(|lease| lease.hash_range));
    !holes.iter().any(|hole| hole.overlaps(&range))
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
