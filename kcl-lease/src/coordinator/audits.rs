//! The audit: looking for leases that are missing, and making their rows again where their progress is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::driver::Driver;
use super::event::{CoordinatorEvent, RowRepair};
use crate::audit::{self, Evidence, Repair};
use crate::grant::LossReason;
use crate::graph::ListingError;
use crate::key::{HashKeyRange, LeaseKey, StreamKey};
use crate::last_seen::LastSeen;
use crate::lease::Lease;
use crate::listed_shard::ListedShard;
use crate::runtime::Moment;
use crate::stream_item::StreamItem;
use crate::write::{self, RowWrite};

/// A lease that cannot be made again is looked for again, and told again, after this long.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// So many readings of the table may fail until what was read before does not count any more.
const READINGS_MISSED_MAX: u32 = 3;

/// What the audit knows.
#[derive(Debug, Default)]
pub(super) struct Audits {
    pub(super) last_seen: LastSeen,
    /// The last listing of all shards.
    listing: Vec<ListedShard>,
    /// The reading of the table that was looked at last.
    looked_at: Option<Moment>,
    /// Leases that looked deleted at the last judgement.
    suspects: BTreeSet<LeaseKey>,
    judged: Option<Moment>,
    /// The reading of the table that this judged.
    judged_reading: Option<Moment>,
    /// When it was last told that a lease cannot be made again.
    told: Option<Moment>,
}

/// A holder may have written its row more often than whoever restores it has seen, but never so often.
const WRITES_UNSEEN_MAX: u64 = 1_000_000;
/// A row that is deleted again before others have seen it is restored from the same memory. The later one has another version all
/// the same, a higher one if dates agree: the date is part of it, modulo this many milliseconds (eleven days).
const DATES: u64 = 1_000_000_000;

impl Driver {
    /// Looks for holes after each reading of the table. What is missing is judged with the listing that is asked for here.
    pub(super) fn audit(&mut self, now: Moment) {
        // Only the leader reads the table often enough to tell what is missing.
        let leads = self.leads() && self.knows_the_table();
        let removed = self.removed_streams(now);
        let audited = self.streams.keys().filter(|key| !removed.contains(key));
        let audited: Vec<StreamKey> = audited.cloned().collect();
        for stream in audited {
            self.look_twice(&stream, now);
            if leads {
                self.look_for_holes(&stream, now);
            }
        }
    }

    fn look_for_holes(&mut self, stream: &StreamKey, now: Moment) {
        let known = self.streams.entry(stream);
        let audits = &mut known.audits;
        if audits.looked_at == self.scanned {
            return;
        }
        audits.looked_at = self.scanned;
        let ages_after = self.options.scan_interval * READINGS_MISSED_MAX;
        let leases = self.view.leases_of(stream);
        audits.last_seen.saw_table(leases.clone(), ages_after, now);
        if !known.syncs.is_done() {
            return;
        }
        let holes = audit::holes(leases, &audits.listing);
        if holes.is_empty() {
            audits.suspects.clear();
        } else if audits
            .told
            .is_none_or(|at| now.since(at) >= TOLD_AGAIN_AFTER)
        {
            tracing::debug!(%stream, ?holes, "no lease reads these hash keys");
            self.ask_for_listing(stream.clone(), now);
        }
    }

    /// What looks deleted is judged a second time, also by a worker that has only just started.
    fn look_twice(&mut self, stream: &StreamKey, now: Moment) {
        let audits = &self.streams.entry(stream).audits;
        let due = |at: Moment| at.plus(self.options.scan_interval) <= now;
        if !audits.suspects.is_empty() && audits.told.is_none() && audits.judged.is_some_and(due) {
            self.ask_for_listing(stream.clone(), now);
        }
    }

    /// What is known of a lease whose grant ended.
    pub(super) fn remember_lease(&mut self, lease: Lease) {
        if let Some(known) = self.streams.get_mut(&lease.key.stream_key()) {
            known.audits.last_seen.remember(lease);
        }
    }

    /// What to make so that no shard of the listing is missing. What cannot be made is told.
    pub(super) fn judge_missing(
        &mut self,
        listing: Vec<ListedShard>,
        stream: &StreamItem,
        now: Moment,
    ) -> Result<Vec<Repair>, ListingError> {
        let known = &stream.stream;
        let audits = &mut self.streams.entry(known).audits;
        // What holders know is newer than any reading.
        let held = self
            .held
            .iter()
            .filter(|(key, _)| key.stream_key() == *known);
        for (_, held) in held {
            audits.last_seen.remember(held.lease());
        }
        let with_key = |lease| (Lease::clone(lease).key, lease);
        let rows: BTreeMap<LeaseKey, &Lease> = self.view.leases_of(known).map(with_key).collect();
        let evidence = Evidence {
            stream: known,
            rows: &rows,
            gone: audits.last_seen.leases(),
            listing: &listing,
            start: stream.start,
            start_complete: stream.leases_made,
            replay: self.options.replay_deleted_leases,
        };
        // One reading does not confirm itself, however many listings come meanwhile.
        let is_next = audits.judged_reading != self.scanned_surely;
        let none = BTreeSet::new();
        let suspects = if is_next { &audits.suspects } else { &none };
        let verdict = audit::judge(evidence, suspects)?;
        audits.judged_reading = self.scanned_surely;
        audits.suspects = verdict.suspects;
        audits.judged = Some(now);
        audits.listing = listing;
        let (refused, repairs): (Vec<_>, Vec<_>) = verdict
            .repairs
            .into_iter()
            .partition(|repair| matches!(repair, Repair::Refuse(_)));
        audits.told = (!refused.is_empty()).then_some(now);
        refused.iter().for_each(|repair| self.tell_repair(repair));
        Ok(repairs)
    }

    /// A row was made because of a judgement.
    pub(super) fn on_repaired(&mut self, repair: &Repair) {
        self.tell_repair(repair);
        if let Repair::Restore(last) = repair
            && self.held.contains_key(&last.key)
        {
            // The grant belongs to the row that was deleted. The new one names its holder again.
            self.on_lost(&last.key, LossReason::RowMissing);
        }
    }

    fn tell_repair(&self, repair: &Repair) {
        let tell = |key: &LeaseKey, hash_keys: Option<HashKeyRange>, repair| {
            self.tell(CoordinatorEvent::LeaseRowDeleted {
                key: key.clone(),
                hash_keys,
                repair,
            });
        };
        match repair {
            Repair::Create(_) => {}
            Repair::Replay(lease) => tell(&lease.key, lease.hash_range, RowRepair::Replayed),
            Repair::Refuse(lease) => {
                tell(&lease.key, lease.hash_range, RowRepair::ProgressUnknown);
            }
            Repair::Restore(last) => {
                let checkpoint = last.checkpoint.clone();
                let repair = RowRepair::Restored { checkpoint };
                tell(&last.key, last.hash_range, repair);
            }
        }
    }
}

/// The write for a repair. `now` is the epoch in milliseconds.
pub(super) fn repair_write(repair: &Repair, now: u64) -> RowWrite {
    match repair {
        Repair::Create(lease) | Repair::Replay(lease) | Repair::Refuse(lease) => {
            write::create_lease(lease, now)
        }
        Repair::Restore(last) => {
            let beyond = WRITES_UNSEEN_MAX + now % DATES;
            let counter = now.max(last.counter).saturating_add(beyond);
            write::restore_lease(last, counter)
        }
    }
}
