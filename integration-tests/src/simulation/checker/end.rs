//! What must hold at the end, after everything healed.

use std::collections::BTreeMap;

use super::{Checker, LEASE, ProcessState};
use crate::simulation::history::{Place, ShardNo};
use crate::simulation::world::Process;

/// A dead worker's item is deleted after ten lease durations, at the next scan that follows.
const ITEM_MAY_STAY: u64 = 11 * LEASE + 15_000;

/// Scans are ten seconds apart; while rows are deleted with each of them more will be.
const TIDYING_GOES_ON: u64 = 25_000;

impl Checker {
    /// Judges the end of a run.
    pub fn finish(&mut self, now: u64) {
        self.now = now;
        self.judge_jumps(u64::MAX);
        self.judge_skips(u64::MAX);
        let shards: Vec<ShardNo> = self.stream.shards.keys().copied().collect();
        let given_up = self.given_up();
        let read =
            |shard: &&ShardNo| !given_up.contains(*shard) && !self.waits_for_operators(**shard);
        let read: Vec<ShardNo> = shards.iter().filter(read).copied().collect();
        for shard in &read {
            self.judge_delivered(*shard);
            self.judge_held(*shard);
            self.judge_row_left(*shard);
        }
        self.judge_commands_left();
        self.judge_items_left();
        self.judge_deletions_told();
        self.judge_balance();
    }

    /// P1b.
    fn judge_delivered(&mut self, shard: ShardNo) {
        let known = self.stream.shard(shard);
        let (len, optional) = (known.len(), known.optional);
        let records = known.records.iter().enumerate().skip(optional as usize);
        let missing: Vec<usize> = records
            .filter(|(_, record)| !record.complete)
            .map(|(index, _)| index)
            .collect();
        if let Some(first) = missing.first() {
            let text = format!(
                "{} of {len} records of shard {shard} were never processed or given up, the first is {first}",
                missing.len()
            );
            self.violate("P1 at least once", text);
        }
    }

    /// P7: an open shard is worked on, a closed one is finished.
    fn judge_held(&mut self, shard: ShardNo) {
        let known = self.stream.shard(shard);
        let (closed, gone) = (known.closed, known.is_gone());
        let row = self.table.rows.get(&shard);
        let ended = row.is_some_and(|row| row.ended);
        if closed {
            if !ended && !gone {
                self.violate(
                    "P7 owned",
                    format!("the closed shard {shard} is not finished"),
                );
            }
            return;
        }
        let owner = self.owner(shard);
        let state = |process: &Process| self.processes.get(process);
        let lives = |process: &Process| state(process).is_some_and(ProcessState::is_alive);
        match owner.filter(lives) {
            None => {
                let text = format!("the open shard {shard} belongs to {owner:?}");
                self.violate("P7 owned", text);
            }
            Some(owner) if !self.has_open_grant(owner, shard) => {
                let text = format!("process {owner} owns shard {shard} and does nothing for it");
                self.violate("P7 owned", text);
            }
            Some(_) => {}
        }
    }

    /// P9: the row of a finished shard goes once its children moved on and its parents' rows are gone.
    fn judge_row_left(&mut self, shard: ShardNo) {
        let (children, parents) = {
            let known = self.stream.shard(shard);
            (known.children.clone(), known.parents.clone())
        };
        let place = |shard: &ShardNo| self.table.rows.get(shard).and_then(|row| row.place);
        if place(&shard) != Some(Place::End) {
            return;
        }
        let moved = children
            .iter()
            .all(|child| place(child).is_none_or(|place| place != Place::Start));
        // Without its row nobody knows how far a child is.
        let given_up = self.given_up();
        // Nor does a child begin of which another parent is paused.
        let unknown = |child: &ShardNo| {
            let waits = self.waits_for_operators(*child);
            waits || self.was_deleted(*child) || given_up.contains(child)
        };
        let moved = moved && !children.iter().any(unknown);
        let first = parents.iter().all(|parent| place(parent).is_none());
        // Rows go oldest first, a generation with each scan: a long line of them takes its time.
        let under_way = self.table.tidied + TIDYING_GOES_ON > self.now;
        if moved && first && !children.is_empty() && !under_way {
            let text = format!("the row of the finished shard {shard} is still there");
            self.violate("P9 no litter", text);
        }
    }

    fn judge_items_left(&mut self) {
        let now = self.now;
        let left: Vec<String> = self
            .table
            .sessions
            .iter()
            .filter(|(_, session)| session.present)
            .filter(|(_, session)| {
                let process = self.processes.get(&session.process);
                process.is_some_and(|p| !p.is_alive() && p.ended + ITEM_MAY_STAY < now)
            })
            .map(|(id, _)| id.clone())
            .collect();
        if !left.is_empty() {
            self.violate("P9 no litter", format!("items of dead workers: {left:?}"));
        }
    }

    /// P8: nothing was done to anybody for the whole healed phase, so the shards that are not finished are spread evenly.
    fn judge_balance(&mut self) {
        let mut held: BTreeMap<Process, u32> = self
            .processes
            .iter()
            .filter(|(_, state)| state.is_alive())
            .map(|(process, _)| (*process, 0))
            .collect();
        for (shard, row) in &self.table.rows {
            if !row.ended
                && let Some(count) = self.owner(*shard).and_then(|owner| held.get_mut(&owner))
            {
                *count += 1;
            }
        }
        let (most, least) = (held.values().max(), held.values().min());
        if let (Some(most), Some(least)) = (most, least)
            && most - least > 1
        {
            let text = format!("unfinished shards of each live process at the end: {held:?}");
            self.violate("P8 balanced", text);
        }
    }
}
