//! What processors were told, judged against the table and the stream.

use std::collections::BTreeMap;

use super::tally::Cause;
use super::work::{Grant, State};
use super::{Checker, LEASE};
use crate::simulation::history::{Place, ShardNo, Stop, Stored};
use crate::simulation::practice::GivenUp;
use crate::simulation::world::Process;

/// A process that was paused or cut off so lately may have lapsed because of it, in milliseconds.
const TROUBLE_LASTS: u64 = 60_000;

/// All grants that ever started a processor.
#[derive(Debug, Default)]
pub(super) struct Grants {
    pub(super) all: Vec<Grant>,
    pub(super) open: BTreeMap<(Process, ShardNo), usize>,
    /// Under which grant each handle was given.
    pub(super) of_handles: BTreeMap<(Process, ShardNo, u64), usize>,
    latest: BTreeMap<ShardNo, usize>,
    /// The last grant of each process and shard, over or not.
    last: BTreeMap<(Process, ShardNo), usize>,
}

impl Checker {
    pub(super) fn open_grant(&mut self, process: Process, shard: ShardNo) -> Option<&mut Grant> {
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
        (lane, lanes): (u32, u32),
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
        if self.goes_on(process, shard, lane, place) {
            // The processor of another lane, or a new instance under the same grant, after a panic.
            return;
        }
        self.judge_start(process, shard, epoch, place);
        self.owe_duplicates(shard, place);
        self.started(shard, process);
        self.tally.grants += 1;
        let beside = self
            .open_grant(process, shard)
            .is_some_and(|old| !old.calls.is_empty());
        if beside {
            let text = format!("process {process} runs shard {shard} twice at a time");
            self.violate("P2 order", text);
        }
        let mut grant = Grant::new(process, shard, epoch, lanes, place);
        grant.anywhere = *from == Stored::Start;
        grant.began = self.now;
        grant.idle_since = Some(self.now);
        self.grants.all.push(grant);
        let index = self.grants.all.len() - 1;
        self.grants.open.insert((process, shard), index);
        self.grants.latest.insert(shard, index);
        self.grants.last.insert((process, shard), index);
    }

    /// Whether a processor that begins at `place` goes on under the open grant.
    fn goes_on(&mut self, process: Process, shard: ShardNo, lane: u32, place: Place) -> bool {
        let now = self.now;
        let optional = self.stream.shard(shard).optional;
        let skips = self.practice.given_up == GivenUp::Skipped;
        let Some(&index) = self.grants.open.get(&(process, shard)) else {
            return false;
        };
        let Some(grant) = self.grants.all.get(index) else {
            return false;
        };
        // A lane in a call holds what comes after its last record, too, until the call returns.
        let least = match grant.lanes {
            0..=1 => grant.place_before(now),
            _ => grant.from,
        };
        if grant.calls.contains_key(&lane) || place < least {
            return false;
        }
        let passed_over = match place {
            Place::Start => Some(Vec::new()),
            Place::After(end) => grant.only_failed_before(end, optional),
            Place::End => None,
        };
        let Some(passed_over) = passed_over.filter(|failed| skips || failed.is_empty()) else {
            return false;
        };
        // The worker's word that another lane skipped them comes in this very millisecond, possibly later.
        let passed_over = passed_over.into_iter();
        self.skips
            .extend(passed_over.map(|record| (now, index, record)));
        true
    }

    /// P5 (the grant rests on a write of its own), S4 (it starts at what that write left stored), P3.
    fn judge_start(&mut self, process: Process, shard: ShardNo, epoch: u64, place: Place) {
        let row = self.table.rows.get(&shard);
        let version = row.and_then(|row| row.versions.get(&epoch)).copied();
        // A seek goes on under the same token.
        let sought = row.and_then(|row| row.versions.get(&row.sought.filter(|at| *at > epoch)?));
        let begins = sought.or(version.as_ref()).map(|version| version.place);
        match version {
            Some(version) if version.by != process => {
                let text = format!(
                    "process {process} starts shard {shard} under version {epoch}, written by process {}",
                    version.by
                );
                self.violate("P5 fenced", text);
            }
            Some(_) if begins != Some(place) => {
                let text = format!(
                    "process {process} starts shard {shard} at {place:?}, its grant says {begins:?}"
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
        let got_to = grant.given.unwrap_or(grant.place());
        let over = grant.over;
        let ahead = |index: &u32| grant.state(*index) == Some(State::Done);
        let ahead: Vec<u32> = (from..to).filter(ahead).collect();
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
        if over == Some(Cause::HandOver) {
            self.owe_again(shard, ahead, Cause::Overtaken);
        }
    }

    /// Whoever delivers these records next delivers them again, for this reason.
    pub(super) fn owe_again(
        &mut self,
        shard: ShardNo,
        records: impl IntoIterator<Item = u32>,
        cause: Cause,
    ) {
        let known = &mut self.stream.shard(shard).records;
        for index in records {
            if let Some(record) = known.get_mut(index as usize) {
                record.again = Some(cause);
            }
        }
    }

    pub(super) fn cause_of_loss(&self, process: Process) -> Cause {
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

    /// T1: the lease is the process's at the moment at which a call begins.
    pub(super) fn judge_holder(&mut self, process: Process, shard: ShardNo) {
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

    pub(super) fn stopped(&mut self, process: Process, shard: ShardNo, why: Stop) {
        let (len, closed) = {
            let known = self.stream.shard(shard);
            (known.len(), known.closed)
        };
        let complete = self.stream.shard(shard).complete;
        let now = self.now;
        match why {
            Stop::Ended if complete < len || !closed => {
                let text = format!(
                    "process {process} was told the end of shard {shard}, of {len} records {complete} are complete"
                );
                self.violate("P1 no loss", text);
            }
            Stop::Lost => {
                let cause = self.cause_of_loss(process);
                self.knows_end(process, shard);
                self.close(process, shard, cause);
            }
            Stop::Asked => {
                if let Some(grant) = self.open_grant(process, shard) {
                    grant.asked.get_or_insert(now);
                }
            }
            Stop::Ended => {}
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
        self.knows_end(process, shard);
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

    /// A process says that it gave a lease away. If another one took it at that moment, it cannot tell the difference: its row
    /// says the same. The grant is over all the same.
    pub(super) fn released(&mut self, process: Process, shard: ShardNo) {
        self.knows_end(process, shard);
        let switched = self.table.rows.get(&shard).map_or(0, |row| row.switched);
        let was_taken = self
            .open_grant(process, shard)
            .is_some_and(|grant| grant.epoch < switched);
        if was_taken {
            let cause = self.cause_of_loss(process);
            self.close(process, shard, cause);
        }
    }

    /// A process knows that its lease is over: answers for what it deferred under it change nothing any more.
    pub(super) fn knows_end(&mut self, process: Process, shard: ShardNo) {
        if let Some(index) = self.grants.last.get(&(process, shard))
            && let Some(grant) = self.grants.all.get_mut(*index)
        {
            grant.told_over = true;
        }
    }

    /// Why the last grant is over, if it is.
    fn last_over(&mut self, process: Process, shard: ShardNo) -> Option<&mut Cause> {
        let index = *self.grants.last.get(&(process, shard))?;
        self.grants.all.get_mut(index)?.over.as_mut()
    }

    /// Whatever ended the latest grant of a shard, what follows is because of this.
    pub(super) fn end_latest(&mut self, shard: ShardNo, cause: Cause) {
        if let Some(index) = self.grants.latest.get(&shard)
            && let Some(grant) = self.grants.all.get_mut(*index)
        {
            grant.over = Some(cause);
        }
    }

    pub(super) fn close(&mut self, process: Process, shard: ShardNo, cause: Cause) {
        if let Some(grant) = self.open_grant(process, shard) {
            grant.over.get_or_insert(cause);
        }
        self.grants.open.remove(&(process, shard));
    }

    /// P6: what a holder gives away, by a write that was sent then, is stored to where it got.
    pub(super) fn given_away(
        &mut self,
        process: Process,
        shard: ShardNo,
        next: Option<Process>,
        stored: Place,
        sent: Option<u64>,
    ) {
        self.handed_over(process, shard, next);
        let defers = self.practice.deferred > 0.0;
        let in_trouble = self.cause_of_loss(process) != Cause::Unexplained;
        let now = self.now;
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        // Answers that come while the write is under way are for nobody, and so are those while it waits for the lease to be
        // granted again.
        let until = match (defers, in_trouble, sent) {
            (true, true, _) | (true, _, None) => grant.asked.unwrap_or(0),
            (_, _, Some(sent)) => sent,
            (false, _, None) => now,
        };
        let got_to = grant.place_before(until);
        let in_call: Vec<u32> = grant.calls.keys().copied().collect();
        grant.given = Some(got_to);
        grant.over.get_or_insert(Cause::HandOver);
        let unanswered = !grant.handles.is_empty();
        self.tally.hand_overs += 1;
        self.note("clean hand-over");
        self.note_if(unanswered, "given away without all answers");
        if stored < got_to {
            let text = format!(
                "process {process} gave shard {shard} away at {stored:?}, it was at {got_to:?}"
            );
            self.violate("P6 clean hand-over", text);
        }
        if !in_call.is_empty() {
            let text =
                format!("process {process} gave shard {shard} away while lanes {in_call:?} worked");
            self.violate("P6 clean hand-over", text);
        }
        self.grants.open.remove(&(process, shard));
    }

    /// No checkpoint that a process stores for a shard may cover more, if it holds the lease.
    pub(super) fn limit(&mut self, process: Process, shard: ShardNo) -> Option<u32> {
        let optional = self.stream.shard(shard).optional;
        let grant = self.open_grant(process, shard)?;
        Some(grant.limit(optional))
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
