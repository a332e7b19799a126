//! Lease rows that somebody deleted by hand: what is promised then, and what is not.
//!
//! The row is made again where a worker last saw its reading, which is told; what was processed since then comes again. If no
//! worker knows, that is told, and nobody reads the shard. A shard is never skipped, and never finished by this.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, ProcessState};
use crate::simulation::history::{LeaseState, Place, ShardNo};
use crate::simulation::world::{NOBODY, Process};

/// The rows of leases that were deleted by hand.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    rows: BTreeMap<ShardNo, ByHand>,
}

/// The last deletion of one row.
#[derive(Debug)]
struct ByHand {
    /// Who held the lease, under which version at most.
    holder: Option<Process>,
    version: u64,
    /// It was made again, and by whom.
    restored: Option<Process>,
    /// Nothing started from the row that was made again.
    fresh: bool,
    told: bool,
    /// It was told that nobody knows how far it was read.
    unknown: bool,
}

impl Checker {
    /// Takes in that a row was deleted, if it was by hand.
    pub(super) fn deleted_by_hand(
        &mut self,
        by: Process,
        shard: ShardNo,
        row: &LeaseState,
    ) -> bool {
        if by != NOBODY {
            return false;
        }
        let holder = row.owner.as_deref();
        let by_hand = ByHand {
            holder: holder.and_then(|owner| self.session_process(owner)),
            version: row.counter,
            restored: None,
            fresh: true,
            told: false,
            unknown: false,
        };
        self.deleted.rows.insert(shard, by_hand);
        true
    }

    /// A row that was there before was made again: never beyond what is complete.
    pub(super) fn made_again(&mut self, by: Process, shard: ShardNo, row: &LeaseState) {
        let Some(by_hand) = self.deleted.rows.get_mut(&shard) else {
            return;
        };
        by_hand.restored = Some(by);
        self.note("deleted row made again");
        let place = self.stream.place(shard, &row.checkpoint);
        let complete = Place::After(self.stream.shard(shard).complete);
        if place.as_ref().is_ok_and(|place| *place <= complete) {
            return;
        }
        let text = format!(
            "process {by} made the deleted row of shard {shard} again at {place:?}, complete is {complete:?}"
        );
        self.violate("P1 no loss", text);
    }

    /// A worker told that a row was deleted. Who remembers nothing names the oldest shard that is listed.
    pub(super) fn row_deletion_told(&mut self, process: Process, shard: ShardNo, unknown: bool) {
        let line = match unknown {
            true => self.line_of(shard),
            false => BTreeSet::from([shard]),
        };
        let named = |found: &ShardNo| line.contains(found);
        let meant: Vec<ShardNo> = self.deleted.rows.keys().copied().filter(named).collect();
        if meant.is_empty() {
            let text = format!("process {process} says that the row of shard {shard} was deleted");
            self.violate("D1 deleted rows told", text);
        }
        for shard in meant {
            if let Some(by_hand) = self.deleted.rows.get_mut(&shard) {
                by_hand.told = true;
                by_hand.unknown |= unknown;
            }
        }
        self.note_if(unknown, "progress of a deleted row unknown");
    }

    /// The shard and all that came from it.
    fn line_of(&self, shard: ShardNo) -> BTreeSet<ShardNo> {
        self.lines_of(|begins| begins == shard)
    }

    /// The shards that a line begins with, and all that came from them.
    fn lines_of(&self, begins: impl Fn(ShardNo) -> bool) -> BTreeSet<ShardNo> {
        let mut line = BTreeSet::new();
        // Parents have smaller numbers than their children.
        for (shard, known) in &self.stream.shards {
            if begins(*shard) || known.parents.iter().any(|parent| line.contains(parent)) {
                line.insert(*shard);
            }
        }
        line
    }

    /// Whether `process` held a lease when its row was deleted, and goes on under that grant: it does not know yet.
    pub(super) fn works_without_row(&self, process: Process, shard: ShardNo, epoch: u64) -> bool {
        let by_hand = self.deleted.rows.get(&shard);
        by_hand.is_some_and(|row| row.holder == Some(process) && epoch <= row.version)
    }

    /// Whether this is the first start from a row that was made again.
    pub(super) fn starts_from_restored(&mut self, shard: ShardNo) -> bool {
        let by_hand = self.deleted.rows.get_mut(&shard);
        by_hand.is_some_and(|row| row.restored.is_some() && std::mem::take(&mut row.fresh))
    }

    /// Whether a row of the shard was ever deleted by hand.
    pub(super) fn was_deleted(&self, shard: ShardNo) -> bool {
        self.deleted.rows.contains_key(&shard)
    }

    /// The shards that nobody reads because nobody knows how far they, or one that they came from, were read.
    pub(super) fn given_up(&self) -> BTreeSet<ShardNo> {
        let lost = |row: &ByHand| row.unknown && row.restored.is_none();
        self.lines_of(|shard| self.deleted.rows.get(&shard).is_some_and(lost))
    }

    /// At the end every row that was made again was told of, unless whoever made it is gone.
    pub(super) fn judge_deletions_told(&mut self) {
        let alive = |process: &Process| {
            self.processes
                .get(process)
                .is_some_and(ProcessState::is_alive)
        };
        let silent = self.deleted.rows.iter().filter(|(_, row)| {
            let told = row.told || !row.restored.as_ref().is_some_and(alive);
            !told
        });
        let silent: Vec<ShardNo> = silent.map(|(shard, _)| *shard).collect();
        if !silent.is_empty() {
            let text = format!("nobody told that the rows of shards {silent:?} were deleted");
            self.violate("D1 deleted rows told", text);
        }
    }
}
