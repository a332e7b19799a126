//! R1: no shard falls silent. In calm times a record reaches the processor soon after it is put, if its shard has a holder who
//! has nothing else to do there. What befalls subscriptions is no excuse: a dead one has to be noticed.

use std::collections::VecDeque;

use super::work::Grant;
use super::{Checker, ProcessState};
use crate::simulation::history::ShardNo;

/// A dead subscription is given up ten seconds after its last event; the rest is for the next one.
const DELIVERED_MAX: u64 = 15_000;

/// Records whose delivery is due, in the order in which they were put.
#[derive(Debug, Default)]
pub(super) struct Arrivals(VecDeque<Awaited>);

#[derive(Debug)]
struct Awaited {
    since: u64,
    shard: ShardNo,
    index: u32,
    /// The number of its holder's grant.
    grant: usize,
}

impl Checker {
    /// A record was put: its delivery is due if its holder is at leisure.
    pub(super) fn await_arrival(&mut self, shard: ShardNo, index: u32) {
        let holder = self.owner(shard);
        let grant = holder.and_then(|holder| self.grants.open.get(&(holder, shard)));
        let Some(grant) = grant.copied() else {
            return;
        };
        let awaited = Awaited {
            since: self.now,
            shard,
            index,
            grant,
        };
        if self.is_due(&awaited) {
            self.arrivals.0.push_back(awaited);
        }
    }

    /// Records are delivered.
    pub(super) fn arrived(&mut self, records: &[u32]) {
        for number in records {
            let place = usize::try_from(*number)
                .ok()
                .and_then(|number| self.stream.numbers.get(number));
            let is_it = |awaited: &&Awaited| place == Some(&(awaited.shard, awaited.index));
            if let Some(awaited) = self.arrivals.0.iter().find(is_it)
                && self.is_due(awaited)
            {
                let took = self.now - awaited.since;
                self.tally.arrivals.push(took);
            }
        }
    }

    /// Judges the records that were put too long ago.
    pub(super) fn judge_arrivals(&mut self) {
        let now = self.now;
        let is_late = |first: &mut Awaited| first.since + DELIVERED_MAX < now;
        while let Some(late) = self.arrivals.0.pop_front_if(is_late) {
            if self.is_due(&late) {
                let text = format!(
                    "record {} of shard {} was put {} ms ago, and its holder has nothing else to do there",
                    late.index,
                    late.shard,
                    now - late.since
                );
                self.violate("R1 prompt delivery", text);
            }
        }
    }

    /// Whether a record was not delivered yet and nothing excuses it.
    fn is_due(&self, record: &Awaited) -> bool {
        let since = record.since;
        let Some(grant) = self.grants.all.get(record.grant) else {
            return false;
        };
        let stays = |state: &ProcessState| {
            state.is_alive() && state.stopping.is_none() && !state.paused && !state.cut
        };
        let stays = self.processes.get(&grant.process).is_some_and(stays);
        let optional = self
            .stream
            .shards
            .get(&record.shard)
            .map(|shard| shard.optional);
        // Big records of other shards may take all the memory there is.
        let has_room = self.memory.is_empty();
        stays
            && has_room
            && is_at_leisure(grant, record, optional.unwrap_or_default())
            && !self.was_commanded(record.shard)
            && self.timing.was_calm_since(since)
    }
}

/// Whether nothing ran or waited under a grant since the record was put, which has not been delivered.
fn is_at_leisure(grant: &Grant, record: &Awaited, optional: u32) -> bool {
    let idle = grant.idle_since.is_some_and(|idle| idle <= record.since);
    idle && grant.over.is_none()
        && grant.asked.is_none()
        && grant.failed.is_empty()
        && grant.handles.is_empty()
        && grant.parked.is_empty()
        && record.index >= optional
        && !grant.tracks.contains_key(&record.index)
        && grant.limit(optional) >= record.index
}
