//! P12: a jump over records that passed out of retention is told before what follows is delivered, with its exact range.
//!
//! Owed is a gap to whoever goes on after a record: a shard whose reading begins at its oldest record jumps over nothing.
//!
//! By enhanced fan-out a worker trusts what it has read within an hour, as retention is a day at least. The stream's clock of a
//! run jumps by a day between two events, so there only the beginning of a grant has to tell.

use std::collections::BTreeSet;

use super::Checker;
use crate::simulation::history::{Place, ShardNo, Stored};
use crate::simulation::world::Process;

/// The last record before a gap and the first one after it, by their indexes.
type Range = (u32, u32);

/// A jump that has to be told: when, by whom, in which shard, over what, and whether that is known exactly.
type Jump = (u64, Process, ShardNo, Range, bool);

/// What was told, and what has to be.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    told: BTreeSet<(Process, ShardNo, Range)>,
    /// When retention last took records.
    pub(super) trimmed: Option<u64>,
    /// Jumps in deliveries of this very millisecond: what a worker tells in it may be heard after them.
    jumped: Vec<Jump>,
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

    /// Deliveries go on after records that are gone. Of several lanes each sees only its own records, and only those that
    /// are gone are known for sure.
    pub(super) fn jumped(&mut self, process: Process, shard: ShardNo, range: Range, exact: bool) {
        let now = self.now;
        let began = self.open_grant(process, shard).map(|grant| grant.began);
        if self.reading.subscribes() && self.gaps.trimmed >= began {
            return;
        }
        self.gaps.jumped.push((now, process, shard, range, exact));
    }

    /// Judges the jumps of earlier milliseconds.
    pub(super) fn judge_jumps(&mut self, now: u64) {
        let due = |jumped: &mut Jump| jumped.0 < now;
        let due: Vec<_> = self.gaps.jumped.extract_if(.., due).collect();
        for (_, process, shard, (last, first), exact) in due {
            let mut told = self.gaps.told.iter();
            let is_told = told.any(|(teller, named, (before, after))| {
                let covers = match exact {
                    true => (*before, *after) == (last, first),
                    false => *before <= last && first <= *after,
                };
                *teller == process && *named == shard && covers
            });
            if !is_told {
                let text = format!(
                    "process {process} goes on in shard {shard} at {first} after {last} and told nobody"
                );
                self.violate("P12 gap told", text);
            }
        }
    }
}
