//! What this worker last read of the lease table, and when.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{self, ParentRow, Readiness};
use crate::key::{LeaseKey, ShardId, StreamKey, WorkerId};
use crate::lease::Lease;
use crate::listed_shard::ListedShard;
use crate::runtime::Moment;
use crate::table::Consistency;

/// A lease row as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KnownRow {
    pub(crate) lease: Lease,
    /// When the answer that carried it was handled.
    pub(crate) read_at: Moment,
    /// The answer reflected every earlier write.
    pub(crate) consistency: Consistency,
    /// When the row was first seen.
    pub(crate) first_seen: Moment,
    /// A write of ours to it was not answered: it must be read again before anything is decided.
    pub(crate) doubtful: bool,
}

/// A strongly consistent read of a worker's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OwnerCheck {
    pub(crate) sent: Moment,
    pub(crate) found: OwnerFound,
}

/// What the read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OwnerFound {
    Nothing,
    Heartbeat(u64),
    /// An item that cannot be read: nothing can be said of its owner.
    Unreadable,
}

/// The last listing of a stream's shards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Listing {
    shards: BTreeSet<ShardId>,
    received: Moment,
}

/// The rows and items that are known, each with the time of its last read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct View {
    rows: BTreeMap<LeaseKey, KnownRow>,
    /// Rows that a strongly consistent read did not find.
    absent: BTreeMap<LeaseKey, Moment>,
    owners: BTreeMap<WorkerId, OwnerCheck>,
    listings: BTreeMap<StreamKey, Listing>,
}

impl View {
    pub(crate) fn rows(&self) -> &BTreeMap<LeaseKey, KnownRow> {
        &self.rows
    }

    pub(crate) fn row(&self, key: &LeaseKey) -> Option<&KnownRow> {
        self.rows.get(key)
    }

    pub(crate) fn has_row(&self, key: &LeaseKey) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn owner(&self, worker: &WorkerId) -> Option<OwnerCheck> {
        self.owners.get(worker).copied()
    }

    /// One row was read, or came as the answer to a write.
    pub(crate) fn saw_row(&mut self, lease: Lease, consistency: Consistency, now: Moment) {
        let key = lease.key.clone();
        self.absent.remove(&key);
        let first_seen = self.rows.get(&key).map_or(now, |known| known.first_seen);
        let known = KnownRow {
            lease,
            read_at: now,
            consistency,
            first_seen,
            doubtful: false,
        };
        self.rows.insert(key, known);
    }

    /// A strongly consistent read or the answer to a write showed that there is no such row.
    pub(crate) fn saw_no_row(&mut self, key: LeaseKey, now: Moment) {
        self.rows.remove(&key);
        self.absent.insert(key, now);
    }

    /// What was known of the row does not count any more.
    pub(crate) fn forget_row(&mut self, key: &LeaseKey) {
        self.rows.remove(key);
    }

    /// The row may have been changed by a write of ours that was not answered.
    pub(crate) fn doubt_row(&mut self, key: &LeaseKey) {
        if let Some(known) = self.rows.get_mut(key) {
            known.doubtful = true;
        }
    }

    /// A whole scan was read, begun at `begun`. What was learned meanwhile from other answers is newer.
    pub(crate) fn saw_scan(
        &mut self,
        leases: Vec<Lease>,
        consistency: Consistency,
        begun: Moment,
        now: Moment,
    ) {
        let scanned: BTreeSet<LeaseKey> = leases.iter().map(|lease| lease.key.clone()).collect();
        self.rows
            .retain(|key, known| known.read_at >= begun || scanned.contains(key));
        for lease in leases {
            let known = self.rows.get(&lease.key);
            let newer = known.is_some_and(|known| known.read_at >= begun || known.doubtful);
            let gone = self.absent.get(&lease.key).is_some_and(|at| *at >= begun);
            if !newer && !gone {
                self.saw_row(lease, consistency, now);
            }
        }
        // Only what rows name as parents is worth remembering.
        let named: BTreeSet<LeaseKey> = self
            .rows
            .values()
            .flat_map(|k| k.lease.parents.iter().map(|p| k.lease.key.relative(p)))
            .collect();
        self.absent.retain(|key, _| named.contains(key));
        let owners: BTreeSet<&WorkerId> = self
            .rows
            .values()
            .filter_map(|k| k.lease.owner.as_ref())
            .collect();
        self.owners.retain(|worker, _| owners.contains(worker));
    }

    pub(crate) fn saw_owner(&mut self, worker: WorkerId, check: OwnerCheck) {
        self.owners.insert(worker, check);
    }

    /// Forgets looks at owners that were sent before this moment.
    pub(crate) fn forget_owners(&mut self, before: Moment) {
        self.owners.retain(|_, check| check.sent >= before);
    }

    pub(crate) fn saw_listing(&mut self, stream: StreamKey, listing: &[ListedShard], now: Moment) {
        let listing = Listing {
            shards: listing.iter().map(|s| s.shard_id.clone()).collect(),
            received: now,
        };
        self.listings.insert(stream, listing);
    }

    /// The application does not read the stream any more.
    pub(crate) fn forget_stream(&mut self, stream: &StreamKey) {
        self.listings.remove(stream);
    }

    /// All leases.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> + Clone {
        self.rows.values().map(|known| &known.lease)
    }

    /// The rows of one stream.
    pub(crate) fn rows_of(&self, stream: &StreamKey) -> impl Iterator<Item = &KnownRow> + Clone {
        // Keys of one stream among several begin alike, so they stand together.
        let prefix = stream.as_str().map(|stream| format!("{stream}:"));
        let first = LeaseKey::new(prefix.clone().unwrap_or_default());
        let rows = self.rows.range(first..);
        let is_of = move |key: &LeaseKey| match &prefix {
            Some(prefix) => key.as_str().starts_with(prefix.as_str()),
            None => true,
        };
        let rows = rows.take_while(move |(key, _)| is_of(key));
        rows.map(|(_, known)| known)
    }

    /// The leases of one stream.
    pub(crate) fn leases_of(&self, stream: &StreamKey) -> impl Iterator<Item = &Lease> + Clone {
        self.rows_of(stream).map(|known| &known.lease)
    }

    /// Whether the lease can start as far as is known.
    pub(crate) fn readiness(&self, known: &KnownRow) -> Readiness {
        let parent_row = |key: &LeaseKey| match (self.rows.get(key), self.absent.get(key)) {
            (Some(parent), _) if parent.lease.is_finished() => ParentRow::Finished,
            // It may have been finished since: rows never leave that state, but they come to it.
            (Some(parent), _) if parent.read_at < known.read_at => ParentRow::Unknown,
            (Some(_), _) => ParentRow::Unfinished,
            (None, Some(_)) => ParentRow::Absent,
            (None, None) => ParentRow::Unknown,
        };
        graph::readiness(&known.lease, parent_row, |s| self.listed(known, s))
    }

    /// Whether the row can be deleted as far as is known.
    pub(crate) fn is_deletable(&self, known: &KnownRow) -> bool {
        let row = |key: &LeaseKey| self.rows.get(key).map(|known| &known.lease);
        let listed = |shard: &ShardId| self.listed(known, shard);
        let stream = known.lease.key.stream_key();
        graph::is_deletable(&known.lease, row, listed, || self.leases_of(&stream))
    }

    /// Whether a listing that is not older than the row lists `shard`; `None` if there is none.
    fn listed(&self, known: &KnownRow, shard: &ShardId) -> Option<bool> {
        let listing = self.listings.get(&known.lease.key.stream_key())?;
        let current = listing.received >= known.first_seen
            || listing.shards.contains(&known.lease.key.shard());
        current.then(|| listing.shards.contains(shard))
    }
}

#[cfg(feature = "internals")]
impl crate::internals::Moments for View {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        let listing = self
            .listings
            .values_mut()
            .map(|listing| &mut listing.received);
        let owners = self.owners.values_mut().map(|check| &mut check.sent);
        let rows = self.rows.values_mut();
        let rows = rows.flat_map(|row| [&mut row.read_at, &mut row.first_seen]);
        let others = listing.chain(owners).chain(self.absent.values_mut());
        others.chain(rows).for_each(visit);
    }
}

#[cfg(feature = "internals")]
impl View {
    /// Whatever is done next comes after the reads of all rows.
    pub(crate) fn settle_reads(&mut self, long_ago: Moment) {
        self.rows.values_mut().for_each(|k| k.read_at = long_ago);
    }

    /// Forgets checks older than `counts`, and when rows were read unless a check was sent before.
    pub(crate) fn forget_the_past(
        &mut self,
        now: Moment,
        long_ago: Moment,
        counts: std::time::Duration,
    ) {
        let checks = &mut self.owners;
        checks.retain(|_, check| now.since(check.sent) <= counts);
        for known in self.rows.values_mut() {
            known.first_seen = long_ago;
            if checks.values().all(|check| check.sent >= known.read_at) {
                known.read_at = long_ago;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kcl_checkpoint::Checkpoint;

    use super::*;
    use crate::key::HashKeyRange;
    use crate::runtime::Runtime;
    use crate::test_support::lease;

    #[tokio::test(start_paused = true)]
    async fn what_another_stream_reads_does_not_make_up_for_what_follows_a_finished_shard() {
        let now = Runtime::virtual_time(0).now();
        let [ours, other] = ["a", "b"].map(|name| StreamKey::new("1", name, 1));
        let (ended, child) = (ShardId::from("s"), ShardId::from("t"));
        let row = |stream: &StreamKey, shard: &ShardId, checkpoint| Lease {
            key: stream.lease_key(shard),
            hash_range: Some(HashKeyRange::FULL),
            checkpoint,
            ..lease("any")
        };
        let mut view = View::default();
        let finished = row(&ours, &ended, Checkpoint::ShardEnd);
        view.saw_row(finished.clone(), Consistency::Strong, now);
        view.saw_row(
            row(&other, &child, Checkpoint::TrimHorizon),
            Consistency::Strong,
            now,
        );
        // It has passed out of retention.
        view.saw_listing(ours.clone(), &[], now);
        assert!(!view.is_deletable(&view.rows[&finished.key]));
        view.saw_row(
            row(&ours, &child, Checkpoint::TrimHorizon),
            Consistency::Strong,
            now,
        );
        assert!(view.is_deletable(&view.rows[&finished.key]));
    }
}
