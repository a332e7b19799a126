//! What processors were told, judged against the table and the stream.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tally::Cause;
use super::{Checker, LEASE};
use crate::simulation::history::{Place, ShardNo, Stop, Stored};
use crate::simulation::world::Process;

/// A process that was paused or cut off so lately may have lapsed because of it, in milliseconds.
const TROUBLE_LASTS: u64 = 60_000;

/// All grants that ever started a processor.
#[derive(Debug, Default)]
pub(super) struct Grants {
    all: Vec<Grant>,
    open: BTreeMap<(Process, ShardNo), usize>,
    latest: BTreeMap<ShardNo, usize>,
    /// The last grant of each process and shard, over or not.
    last: BTreeMap<(Process, ShardNo), usize>,
}

/// One grant of one lease to one process.
#[derive(Debug)]
struct Grant {
    process: Process,
    epoch: u64,
    /// Where it began.
    from: Place,
    /// The next batch begins at this index; not known before the first delivery of a grant that begins at the start.
    next: Option<u32>,
    /// Through where something was completed under it.
    complete: Option<u32>,
    delivered: u32,
    in_call: Option<(u32, u32)>,
    /// Why it is over, once it is.
    over: Option<Cause>,
    /// Its holder gave it away.
    given: bool,
}

impl Grant {
    /// How far it is.
    fn place(&self) -> Place {
        self.complete.map_or(self.from, Place::After)
    }
}

impl Checker {
    fn open_grant(&mut self, process: Process, shard: ShardNo) -> Option<&mut Grant> {
        let index = *self.grants.open.get(&(process, shard))?;
        self.grants.all.get_mut(index)
    }

    pub(super) fn has_open_grant(&self, process: Process, shard: ShardNo) -> bool {
        self.grants.open.contains_key(&(process, shard))
    }

    pub(super) fn initialized(
        &mut self,
        process: Process,
        shard: ShardNo,
        epoch: u64,
        from: &Stored,
    ) {
        let place = match self.stream.place(shard, from) {
            Ok(place) => place,
            Err(what) => {
                let text = format!("process {process} starts shard {shard} after {what}");
                return self.violate("P2 order", text);
            }
        };
        let goes_on = self
            .open_grant(process, shard)
            .is_some_and(|grant| !grant.given && grant.place() == place);
        if goes_on {
            // A new instance of the processor under the same grant, after a panic.
            return;
        }
        self.judge_start(process, shard, epoch, place);
        self.owe_duplicates(shard, place);
        self.started(shard, process);
        self.tally.grants += 1;
        let next = match place {
            Place::After(count) => Some(count),
            _ => None,
        };
        let beside = self
            .open_grant(process, shard)
            .is_some_and(|old| old.in_call.is_some());
        if beside {
            let text = format!("process {process} runs shard {shard} twice at a time");
            self.violate("P2 order", text);
        }
        self.grants.all.push(Grant {
            process,
            epoch,
            from: place,
            next,
            complete: None,
            delivered: next.unwrap_or(0),
            in_call: None,
            over: None,
            given: false,
        });
        let index = self.grants.all.len() - 1;
        self.grants.open.insert((process, shard), index);
        self.grants.latest.insert(shard, index);
        self.grants.last.insert((process, shard), index);
    }

    /// P5 (the grant rests on a write of its own), S4 (it starts at what that write left stored), P3.
    fn judge_start(&mut self, process: Process, shard: ShardNo, epoch: u64, place: Place) {
        let row = self.table.rows.get(&shard);
        let version = row.and_then(|row| row.versions.get(&epoch)).copied();
        match version {
            Some(version) if version.by != process => {
                let text = format!(
                    "process {process} starts shard {shard} under version {epoch}, written by process {}",
                    version.by
                );
                self.violate("P5 fenced", text);
            }
            Some(version) if version.place != place => {
                let text = format!(
                    "process {process} starts shard {shard} at {place:?}, its grant says {:?}",
                    version.place
                );
                self.violate("P2 order", text);
            }
            Some(_) => {}
            None => {
                let text = format!("process {process} starts shard {shard} under version {epoch}");
                self.violate("P5 fenced", text);
            }
        }
        if place != Place::Start {
            return;
        }
        let parents = self.stream.shard(shard).parents.clone();
        for parent in parents {
            let ended = self.table.rows.get(&parent).map(|row| row.ended);
            let gone = self.stream.shard(parent).is_gone();
            if ended != Some(true) && !gone {
                let text = format!("shard {shard} starts before its parent {parent} is finished");
                self.violate("P3 parents first", text);
            }
        }
    }

    /// What the grant before delivered beyond `place` will be delivered again, because of how it ended.
    fn owe_duplicates(&mut self, shard: ShardNo, place: Place) {
        let Some(before) = self.grants.latest.get(&shard) else {
            return;
        };
        let Some(grant) = self.grants.all.get(*before) else {
            return;
        };
        let from = match place {
            Place::After(count) => count,
            Place::Start => 0,
            Place::End => return,
        };
        let (to, process) = (grant.delivered, grant.process);
        let got_to = grant.place();
        let over = grant.over;
        let cause = match self.starts_from_restored(shard) {
            true => Cause::RowDeleted,
            false => over.unwrap_or_else(|| self.cause_of_loss(process)),
        };
        let cause = match cause {
            Cause::HandOver if got_to > place => {
                let text = format!(
                    "shard {shard} was given away by process {process} at {got_to:?}, and starts at {place:?}"
                );
                self.violate("P6 clean hand-over", text);
                cause
            }
            // What it was given last, it refused.
            Cause::HandOver => Cause::Retry,
            cause => cause,
        };
        self.owe_again(shard, from..to, cause);
    }

    /// Whoever delivers these records next delivers them again, for this reason.
    fn owe_again(&mut self, shard: ShardNo, range: Range<u32>, cause: Cause) {
        let records = self.stream.shard(shard).records.iter_mut();
        let range = records.take(range.end as usize).skip(range.start as usize);
        range.for_each(|record| record.again = Some(cause));
    }

    fn cause_of_loss(&self, process: Process) -> Cause {
        match self.processes.get(&process) {
            Some(state) if !state.is_alive() => Cause::Crash,
            Some(_) if self.lost_session(process, TROUBLE_LASTS) => Cause::SessionLost,
            Some(state)
                if state
                    .troubled
                    .is_some_and(|at| at + TROUBLE_LASTS > self.now) =>
            {
                Cause::Lapse
            }
            _ if self.timing.is_stormy(self.now) => Cause::Lapse,
            _ => Cause::Unexplained,
        }
    }

    pub(super) fn delivered(&mut self, process: Process, shard: ShardNo, records: &[u32]) {
        let Some(first) = self.judge_batch(process, shard, records) else {
            return;
        };
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let to = first + count;
        self.judge_holder(process, shard);
        self.judge_validity(process, shard);
        let optional = self.stream.shard(shard).optional;
        let Some(grant) = self.open_grant(process, shard) else {
            let text = format!("process {process} delivers shard {shard} without a grant");
            return self.violate("P2 order", text);
        };
        let expected = grant.next.unwrap_or(0);
        let goes_on = grant.complete.is_some() || matches!(grant.from, Place::After(_));
        let retried = grant.delivered;
        grant.next = Some(first.max(expected));
        grant.delivered = grant.delivered.max(to);
        grant.in_call = Some((first, to));
        if first > expected && first > optional || first < expected {
            let text = format!(
                "process {process} delivers shard {shard} from {first} on, expected was {expected}"
            );
            self.violate("P2 order", text);
        } else if first > expected && goes_on {
            self.jumped(process, shard, (expected.saturating_sub(1), first));
        }
        let beside = self.cause_beside(process, shard, first..to);
        self.count(process, shard, first..to, retried, beside);
        // Whose item was deleted by hand goes on until it learns of it, while others begin where it stored.
        if self.owner(shard) != Some(process) && self.lost_session(process, LEASE) {
            self.owe_again(shard, first..to, Cause::SessionLost);
        }
    }

    /// Returns the index of the first record, if all are of this shard and follow one another.
    fn judge_batch(&mut self, process: Process, shard: ShardNo, records: &[u32]) -> Option<u32> {
        let place = |number: &u32| self.stream.numbers.get(*number as usize).copied();
        let places: Vec<_> = records.iter().map(place).collect();
        let (_, first) = (*places.first()?)?;
        let wanted = (first..).map(|index| Some((shard, index)));
        if places.iter().copied().eq(wanted.take(places.len())) {
            return Some(first);
        }
        let text = format!("process {process} delivers to shard {shard} the records {places:?}");
        self.violate("P2 order", text);
        None
    }

    /// T1: the lease is the process's at the moment at which a call begins.
    fn judge_holder(&mut self, process: Process, shard: ShardNo) {
        let owner = self.owner(shard);
        let switched = self.table.rows.get(&shard).map_or(0, |row| row.switched);
        let epoch = self
            .open_grant(process, shard)
            .map_or(0, |grant| grant.epoch);
        // Whose item was deleted by hand learns of it at its next heartbeat, and others take at once.
        let robbed = self.lost_session(process, LEASE);
        let excused = robbed || self.works_without_row(process, shard, epoch);
        if (owner != Some(process) || switched > epoch) && !excused {
            let text = format!(
                "process {process} delivers shard {shard} under version {epoch}, the row belongs to {owner:?} since version {switched}"
            );
            self.violate("T1 no delivery after a take", text);
        }
    }

    /// Why two processes deliver the same records in turns: who was robbed of his session goes on until he learns of it.
    fn cause_beside(&mut self, process: Process, shard: ShardNo, range: Range<u32>) -> Cause {
        if self.was_deleted(shard) {
            return Cause::RowDeleted;
        }
        if self.owner(shard) != Some(process) {
            return self.cause_of_loss(process);
        }
        let records = self.stream.shard(shard).records.iter();
        let batch = records.take(range.end as usize).skip(range.start as usize);
        let mut others = batch.filter_map(|record| record.delivered_by);
        match others.find(|other| *other != process) {
            Some(other) => self.cause_of_loss(other),
            None => Cause::Unexplained,
        }
    }

    /// Counts a delivery. `beside` is why records come again that nobody owes.
    fn count(
        &mut self,
        process: Process,
        shard: ShardNo,
        range: Range<u32>,
        retried: u32,
        beside: Cause,
    ) {
        let mut unexplained = 0;
        let records = &mut self.stream.shard(shard).records;
        let batch = records.iter_mut().take(range.end as usize).enumerate();
        for (index, record) in batch.skip(range.start as usize) {
            self.tally.delivered += 1;
            if record.delivered_by.is_some() {
                let cause = match record.again.take() {
                    Some(cause) => cause,
                    None if index < retried as usize => Cause::Retry,
                    None => beside,
                };
                *self.tally.duplicates.entry(cause).or_default() += 1;
                unexplained += u32::from(cause == Cause::Unexplained);
            }
            record.delivered_by = Some(process);
        }
        if unexplained > 0 {
            let text = format!(
                "process {process} delivers {unexplained} records of shard {shard} again, for no reason"
            );
            self.violate("P11 duplicates have a cause", text);
        }
    }

    pub(super) fn completed(&mut self, process: Process, shard: ShardNo) {
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let Some((from, to)) = grant.in_call.take() else {
            return;
        };
        grant.next = Some(to);
        grant.complete = Some(to);
        self.stream.shard(shard).complete(from, to);
    }

    pub(super) fn failed(&mut self, process: Process, shard: ShardNo, panicked: bool) {
        if let Some(grant) = self.open_grant(process, shard) {
            grant.in_call = None;
        }
        self.note_if(panicked, "processor panicked");
    }

    pub(super) fn stopped(&mut self, process: Process, shard: ShardNo, why: Stop) {
        let (len, closed) = {
            let known = self.stream.shard(shard);
            (known.len(), known.closed)
        };
        let complete = self.stream.shard(shard).complete;
        match why {
            Stop::Ended if complete < len || !closed => {
                let text = format!(
                    "process {process} was told the end of shard {shard}, of {len} records {complete} are complete"
                );
                self.violate("P1 no loss", text);
            }
            Stop::Lost => {
                let cause = self.cause_of_loss(process);
                self.close(process, shard, cause);
            }
            Stop::Ended | Stop::Asked => {}
        }
    }

    pub(super) fn lease_lost(&mut self, process: Process, shard: ShardNo, reason: &'static str) {
        // The processor may have heard of it first.
        let last = self.grants.last.get(&(process, shard));
        let epoch = last.and_then(|index| self.grants.all.get(*index));
        let epoch = epoch.map(|grant| grant.epoch);
        let cause = match reason {
            "session over" => Cause::SessionLost,
            _ => self.cause_of_loss(process),
        };
        self.note_if(reason == "session over", "session lost");
        if let Some(over) = self.last_over(process, shard)
            && *over == Cause::Unexplained
        {
            *over = cause;
        }
        let Some(row) = self.table.rows.get(&shard) else {
            return;
        };
        let foreign = epoch.is_none_or(|epoch| {
            row.versions
                .range(epoch..)
                .any(|(_, version)| version.by != process)
        });
        if reason == "taken" && !foreign && !self.was_deleted(shard) {
            self.tally.false_losses += 1;
            let text = format!("process {process} dropped shard {shard}, which was still its own");
            self.violate("no false loss", text);
        }
        self.close(process, shard, cause);
    }

    /// Why the last grant is over, if it is.
    fn last_over(&mut self, process: Process, shard: ShardNo) -> Option<&mut Cause> {
        let index = *self.grants.last.get(&(process, shard))?;
        self.grants.all.get_mut(index)?.over.as_mut()
    }

    fn close(&mut self, process: Process, shard: ShardNo, cause: Cause) {
        if let Some(grant) = self.open_grant(process, shard) {
            grant.over.get_or_insert(cause);
        }
        self.grants.open.remove(&(process, shard));
    }

    /// P6: what a holder gives away is stored to where it got.
    pub(super) fn given_away(
        &mut self,
        process: Process,
        shard: ShardNo,
        next: Option<Process>,
        stored: Place,
    ) {
        self.handed_over(shard, next);
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let (got_to, in_call) = (grant.place(), grant.in_call);
        grant.given = true;
        grant.over.get_or_insert(Cause::HandOver);
        self.tally.hand_overs += 1;
        self.note("clean hand-over");
        if stored < got_to {
            let text = format!(
                "process {process} gave shard {shard} away at {stored:?}, it was at {got_to:?}"
            );
            self.violate("P6 clean hand-over", text);
        }
        if let Some(batch) = in_call {
            let text =
                format!("process {process} gave shard {shard} away while it worked on {batch:?}");
            self.violate("P6 clean hand-over", text);
        }
        self.grants.open.remove(&(process, shard));
    }

    /// The shards of which a process has an open grant.
    pub(super) fn open_shards(&self, process: Process) -> Vec<ShardNo> {
        let open = self.grants.open.keys();
        let own = open.filter(|(holder, _)| *holder == process);
        own.map(|(_, shard)| *shard).collect()
    }

    pub(super) fn end_grants(&mut self, process: Process, cause: Cause) {
        for shard in self.open_shards(process) {
            // What was not released is delivered again.
            let cause = match cause {
                Cause::HandOver => Cause::Crash,
                cause => cause,
            };
            self.close(process, shard, cause);
        }
    }
}
