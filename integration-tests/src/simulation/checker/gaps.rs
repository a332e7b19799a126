//! P12: a jump over records that passed out of retention is told before what follows is delivered, with its exact range.
//!
//! Owed is a gap to whoever goes on after a record: a shard whose reading begins at its oldest record jumps over nothing.

use std::collections::BTreeSet;

use super::Checker;
use crate::simulation::history::{Place, ShardNo, Stored};
use crate::simulation::world::Process;

/// The last record before a gap and the first one after it, by their indexes.
type Range = (u32, u32);

/// What was told, and what has to be.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    told: BTreeSet<(Process, ShardNo, Range)>,
    /// Jumps in deliveries of this very millisecond: what a worker tells in it may be heard after them.
    jumped: Vec<(u64, Process, ShardNo, Range)>,
}

impl Checker {
    /// A worker told of a gap.
    pub(super) fn gap_told(&mut self, process: Process, shard: ShardNo, from: &str, to: &str) {
        self.note("gap told");
        let index = |sequence: &str| {
            let stored = Stored::Through(sequence.to_owned());
            match self.stream.place(shard, &stored) {
                Ok(Place::After(count)) => Some(count - 1),
                _ => None,
            }
        };
        let (Some(last), Some(first)) = (index(from), index(to)) else {
            let text =
                format!("process {process} told of a gap in shard {shard} from {from} to {to}");
            return self.violate("P12 gap told", text);
        };
        let gone = self.stream.shard(shard).optional;
        if last >= first || first > gone {
            let text = format!(
                "process {process} told of a gap in shard {shard} between {last} and {first}, gone may be what is before {gone}"
            );
            self.violate("P12 gap told", text);
        }
        self.gaps.told.insert((process, shard, (last, first)));
    }

    /// A delivery goes on at `first` where `last` was the one before.
    pub(super) fn jumped(&mut self, process: Process, shard: ShardNo, range: Range) {
        let now = self.now;
        self.gaps.jumped.push((now, process, shard, range));
    }

    /// Judges the jumps of earlier milliseconds.
    pub(super) fn judge_jumps(&mut self, now: u64) {
        let due = |jumped: &mut (u64, Process, ShardNo, Range)| jumped.0 < now;
        let due: Vec<_> = self.gaps.jumped.extract_if(.., due).collect();
        for (_, process, shard, (last, first)) in due {
            if !self.gaps.told.contains(&(process, shard, (last, first))) {
                let text = format!(
                    "process {process} goes on in shard {shard} at {first} after {last} and told nobody"
                );
                self.violate("P12 gap told", text);
            }
        }
    }
}
