//! How lease rows looked when they were last read, for those that are deleted by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hash_cover::uncovered;
use crate::key::{HashKeyRange, LeaseKey, ShardId};
use crate::lease::Lease;
use crate::runtime::Moment;

/// Unfinished leases as they were last read, also those that have no row any more and that nobody reads.
#[derive(Debug, Default)]
pub(crate) struct LastSeen {
    leases: BTreeMap<LeaseKey, Lease>,
    read_at: Option<Moment>,
}

impl LastSeen {
    pub(crate) fn leases(&self) -> &BTreeMap<LeaseKey, Lease> {
        &self.leases
    }

    /// Notes what the holder of a lease knows of it, unless newer is known.
    pub(crate) fn remember(&mut self, lease: Lease) {
        let known = self.leases.get(&lease.key);
        let newer = known.is_none_or(|known| known.counter <= lease.counter);
        if newer && !lease.is_finished() {
            self.leases.insert(lease.key.clone(), lease);
        }
    }

    /// Notes a reading of the whole table. An earlier one that is older than `ages_after` does not count any more: who
    /// knows how far reading went since then.
    pub(crate) fn saw_table<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Lease> + Clone,
        ages_after: Duration,
        now: Moment,
    ) {
        if self.read_at.is_some_and(|at| now.since(at) > ages_after) {
            self.leases.clear();
        }
        self.read_at = Some(now);
        let keys: BTreeSet<&LeaseKey> = rows.clone().map(|lease| &lease.key).collect();
        let unfinished = rows.filter(|lease| !lease.is_finished());
        let waited_for: BTreeSet<&ShardId> = unfinished.clone().flat_map(|l| &l.parents).collect();
        let unread = uncovered(unfinished.clone().filter_map(|lease| lease.hash_range));
        // What was finished and deleted in good order is read on by others.
        self.leases.retain(|key, lease| {
            let range = lease.hash_range.unwrap_or(HashKeyRange::FULL);
            let is_unread = unread.iter().any(|hole| hole.overlaps(&range));
            !keys.contains(key) && (is_unread || waited_for.contains(&key.shard()))
        });
        self.leases
            .extend(unfinished.map(|lease| (lease.key.clone(), lease.clone())));
    }
}

#[cfg(test)]
mod tests {
    use kcl_checkpoint::Checkpoint;

    use super::*;
    use crate::runtime::Runtime;
    use crate::test_support::{at, lease};

    const AGES: Duration = Duration::from_secs(60);

    fn half(name: &str, upper: bool, checkpoint: Checkpoint) -> Lease {
        let middle = u128::MAX / 2;
        let (start, end) = if upper {
            (middle + 1, u128::MAX)
        } else {
            (0, middle)
        };
        Lease {
            hash_range: Some(HashKeyRange { start, end }),
            checkpoint,
            ..lease(name)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_vanishes_is_remembered_while_nobody_reads_on() {
        let now = Runtime::virtual_time(0).now();
        let (a, b) = (half("a", false, at(5)), half("b", true, at(6)));
        let mut seen = LastSeen::default();
        seen.saw_table([&a, &b].into_iter(), AGES, now);
        seen.saw_table([&b].into_iter(), AGES, now);
        assert_eq!(seen.leases()[&a.key].checkpoint, at(5));
        // It was finished and deleted: its child reads on.
        let child = half("c", false, Checkpoint::TrimHorizon);
        seen.saw_table([&b, &child].into_iter(), AGES, now);
        assert_eq!(seen.leases().len(), 2);
        assert!(!seen.leases().contains_key(&a.key));
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_whose_end_another_lease_waits_for_is_remembered() {
        let now = Runtime::virtual_time(0).now();
        let a = half("a", false, at(5));
        let merged = Lease {
            hash_range: Some(HashKeyRange::FULL),
            parents: ["a".into(), "b".into()].into(),
            ..lease("m")
        };
        let mut seen = LastSeen::default();
        seen.saw_table([&a, &merged].into_iter(), AGES, now);
        seen.saw_table([&merged].into_iter(), AGES, now);
        assert!(seen.leases().contains_key(&a.key));
    }

    #[tokio::test(start_paused = true)]
    async fn finished_rows_and_old_readings_do_not_count() {
        let now = Runtime::virtual_time(0).now();
        let (a, ended) = (
            half("a", false, at(5)),
            half("b", true, Checkpoint::ShardEnd),
        );
        let mut seen = LastSeen::default();
        seen.remember(ended.clone());
        seen.saw_table([&a, &ended].into_iter(), AGES, now);
        assert_eq!(seen.leases().len(), 1);
        seen.saw_table([].into_iter(), AGES, now.plus(AGES * 2));
        assert!(seen.leases().is_empty());
    }
}
