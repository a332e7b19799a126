//! Calls of processors, and answers for what they deferred: each record in order, none too many, none twice.

use super::tally::Cause;
use super::work::{Call, Grant, State};
use super::{Checker, LEASE};
use crate::simulation::history::{Answer, KeyNo, Reply, ShardNo};
use crate::simulation::practice::GivenUp;
use crate::simulation::world::Process;

impl Checker {
    pub(super) fn delivered(
        &mut self,
        process: Process,
        shard: ShardNo,
        lane: u32,
        records: &[u32],
    ) {
        let Some(batch) = self.judge_batch(process, shard, records) else {
            return;
        };
        self.judge_holder(process, shard);
        self.judge_validity(process, shard);
        self.judge_paused(process, shard);
        self.judge_lane(process, shard, lane, &batch);
        if !self.has_open_grant(process, shard) {
            let text = format!("process {process} delivers shard {shard} without a grant");
            return self.violate("P2 order", text);
        }
        self.judge_records(process, shard, lane, &batch);
        self.begin_call(process, shard, lane, &batch);
        self.judge_order(process, shard, &batch);
        self.judge_in_flight(process, shard);
        self.count(process, shard, &batch);
        // Whose item was deleted by hand goes on until it learns of it, while others begin where it stored.
        if self.owner(shard) != Some(process) && self.lost_session(process, LEASE) {
            self.owe_again(shard, batch, Cause::SessionLost);
        }
    }

    /// Returns the indexes of the records, if all are of this shard and in order.
    fn judge_batch(
        &mut self,
        process: Process,
        shard: ShardNo,
        records: &[u32],
    ) -> Option<Vec<u32>> {
        let place = |number: &u32| self.stream.numbers.get(*number as usize).copied();
        let places: Option<Vec<_>> = records.iter().map(place).collect();
        let places = places.unwrap_or_default();
        let is_good = places.iter().all(|(found, _)| *found == shard) && places.is_sorted();
        let batch: Vec<u32> = places.iter().map(|(_, index)| *index).collect();
        if is_good && !batch.is_empty() {
            return Some(batch);
        }
        let text = format!("process {process} delivers to shard {shard} the records {places:?}");
        self.violate("P2 order", text);
        None
    }

    /// L1: as long as a process lives, the records of a key go to the same lane.
    fn judge_lane(&mut self, process: Process, shard: ShardNo, lane: u32, batch: &[u32]) {
        for index in batch {
            let key = self.key_of(shard, *index);
            let before = *self.key_lanes.entry((process, key)).or_insert(lane);
            if before != lane {
                let text = format!(
                    "process {process} delivers record {index} of shard {shard} and key {key} to lane {lane}, earlier ones went to {before}"
                );
                return self.violate("L1 a key stays in its lane", text);
            }
        }
    }

    /// What is complete, out, or parked is not delivered.
    fn judge_records(&mut self, process: Process, shard: ShardNo, lane: u32, batch: &[u32]) {
        let now = self.now;
        let keys: Vec<KeyNo> = batch
            .iter()
            .map(|index| self.key_of(shard, *index))
            .collect();
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let beside = grant.calls.contains_key(&lane);
        let others = !beside && !grant.calls.is_empty();
        let early = batch.iter().find(|index| **index < grant.start());
        let not_due = batch.iter().find(|index| !grant.is_due(**index));
        let wrong = early.or(not_due);
        let wrong = wrong.map(|index| (*index, grant.state(*index)));
        let mut of_keys = batch.iter().zip(keys);
        let parked = of_keys.find(|(_, key)| grant.is_parked(*key, now));
        self.note_if(others, "lanes in calls at the same time");
        if beside {
            let text =
                format!("process {process} calls lane {lane} of shard {shard} during a call");
            self.violate("P2 order", text);
        }
        if let Some((index, state)) = wrong {
            let text = format!(
                "process {process} delivers record {index} of shard {shard}, which is {state:?} under its grant"
            );
            self.violate("P2 order", text);
        }
        if let Some((index, key)) = parked {
            let text = format!(
                "process {process} delivers record {index} of shard {shard}, whose key {key} is parked"
            );
            self.violate("F2 parked keys", text);
        }
    }

    fn begin_call(&mut self, process: Process, shard: ShardNo, lane: u32, batch: &[u32]) {
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        batch.iter().for_each(|index| grant.deliver(*index));
        let call = Call {
            records: batch.to_vec(),
            handles: Vec::new(),
        };
        grant.calls.insert(lane, call);
        grant.idle_since = None;
        let end = batch.last().map_or(0, |last| last + 1);
        grant.delivered = grant.delivered.max(end);
    }

    /// P2: in one lane all records come in order without gaps; in several those of each key do.
    fn judge_order(&mut self, process: Process, shard: ShardNo, batch: &[u32]) {
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        match grant.lanes {
            0..=1 => {
                let line: Vec<u32> = match batch.last() {
                    Some(last) => (grant.start()..=*last).collect(),
                    None => return,
                };
                self.judge_line(process, shard, None, &line);
            }
            _ => {
                for index in batch {
                    let key = self.key_of(shard, *index);
                    let line = self.stream.shard(shard).of_key(key, *index).to_vec();
                    self.judge_line(process, shard, Some(key), &line);
                }
            }
        }
    }

    /// Judges the records of a line up to one that is delivered.
    fn judge_line(&mut self, process: Process, shard: ShardNo, name: Option<KeyNo>, line: &[u32]) {
        let now = self.now;
        let skips = self.practice.given_up == GivenUp::Skipped;
        let optional = self.stream.shard(shard).optional;
        let Some(&index) = self.grants.open.get(&(process, shard)) else {
            return;
        };
        let Some(grant) = self.grants.all.get_mut(index) else {
            return;
        };
        let next = grant.lines.get(&name).copied().unwrap_or(grant.start());
        let begins = grant.start();
        let failed = |record: &&u32| **record >= begins && grant.failed.contains(*record);
        let failed: Vec<u32> = line.iter().filter(failed).copied().collect();
        let untouched = |record: &&u32| **record >= next && !grant.tracks.contains_key(*record);
        let untouched: Vec<u32> = line.iter().filter(untouched).copied().collect();
        for record in &untouched {
            grant.set(*record, State::Gone);
        }
        if let Some(last) = line.last() {
            grant.lines.insert(name, (*last).max(next));
        }
        for record in failed {
            match skips {
                // The worker's word comes in this very millisecond, possibly later.
                true => self.skips.push((now, index, record)),
                false => {
                    let text = format!(
                        "process {process} goes on in shard {shard} after record {record}, which failed"
                    );
                    self.violate("P2 order", text);
                }
            }
        }
        if let Some(record) = untouched.iter().find(|record| **record >= optional) {
            let text =
                format!("process {process} goes on in shard {shard} without record {record}");
            self.violate("P2 order", text);
        }
        self.judge_jump(process, shard, index, &untouched);
    }

    /// Jumps over records that are out of retention were told.
    fn judge_jump(&mut self, process: Process, shard: ShardNo, grant: usize, gone: &[u32]) {
        let Some(grant) = self.grants.all.get(grant) else {
            return;
        };
        let (begins, goes_on) = (grant.start(), !grant.anywhere);
        let one_lane = grant.lanes <= 1;
        let touched = |index: u32| grant.state(index).is_some_and(|state| state != State::Gone);
        let earlier = (begins..).take_while(|index| Some(index) != gone.first());
        // Who begins at a shard's oldest record jumps over nothing.
        let goes_on = goes_on || earlier.into_iter().any(touched);
        let runs = gone.chunk_by(|a, b| a + 1 == *b);
        let runs = runs.filter_map(|run| Some((*run.first()?, *run.last()?)));
        let runs: Vec<(u32, u32)> = runs.filter(|_| goes_on).collect();
        for (first, last) in runs {
            let range = (first.saturating_sub(1), last + 1);
            self.jumped(process, shard, range, one_lane);
        }
    }

    /// A2: so many records of a shard are in flight at most.
    fn judge_in_flight(&mut self, process: Process, shard: ShardNo) {
        let most = self.practice.max_in_flight;
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let in_flight = grant.in_flight();
        self.note_if(in_flight == most, "as much in flight as allowed");
        if in_flight > most {
            let text = format!(
                "process {process} has {in_flight} records of shard {shard} in flight, {most} are allowed"
            );
            self.violate("A2 in flight", text);
        }
    }

    pub(super) fn deferred(
        &mut self,
        process: Process,
        shard: ShardNo,
        lane: u32,
        handle: u64,
        records: &[u32],
    ) {
        let records = self.indexes(records);
        let Some(index) = self.grants.open.get(&(process, shard)) else {
            return;
        };
        let of_handles = &mut self.grants.of_handles;
        of_handles.insert((process, shard, handle), *index);
        let Some(grant) = self.grants.all.get_mut(*index) else {
            return;
        };
        let mut records = records;
        // What is complete cannot be deferred: its handle is refused.
        records.retain(|index| grant.state(*index) == Some(State::InCall));
        if records.is_empty() {
            return;
        }
        for index in &records {
            grant.set(*index, State::Out(handle));
        }
        grant.handles.insert(handle, records);
        grant.calls.entry(lane).or_default().handles.push(handle);
    }

    pub(super) fn completed(&mut self, process: Process, shard: ShardNo, lane: u32) {
        let now = self.now;
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let Some(call) = grant.calls.remove(&lane) else {
            return;
        };
        grant.note_idle(now);
        let in_call = |index: &u32| grant.state(*index) == Some(State::InCall);
        let done: Vec<u32> = call.records.into_iter().filter(in_call).collect();
        grant.complete(now, done.iter().copied());
        self.stream.shard(shard).complete(done);
    }

    pub(super) fn failed(
        &mut self,
        process: Process,
        shard: ShardNo,
        lane: u32,
        panicked: bool,
        named: Option<u32>,
    ) {
        let now = self.now;
        self.note_if(panicked, "processor panicked");
        let named = named.and_then(|number| self.index(number));
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let Some(call) = grant.calls.remove(&lane) else {
            return;
        };
        grant.note_idle(now);
        let mut took_back = false;
        for handle in call.handles {
            // Whose records are complete was answered; the others are void now, answered or not.
            grant.handles.remove(&handle);
        }
        for index in &call.records {
            if matches!(
                grant.state(*index),
                Some(State::Out(_) | State::Failed | State::Settling)
            ) {
                took_back = true;
                grant.set(*index, State::InCall);
            }
        }
        let named = named.filter(|_| !took_back);
        grant.drag(&call.records);
        let open: Vec<u32> = call
            .records
            .into_iter()
            .filter(|index| grant.is_at_work(*index))
            .collect();
        let first_bad = named.unwrap_or(0);
        let (good, bad): (Vec<u32>, Vec<u32>) =
            open.into_iter().partition(|index| *index < first_bad);
        grant.complete(now, good.iter().copied());
        grant.fail(now, &bad, named, false);
        self.stream.shard(shard).complete(good);
        self.note_if(named.is_some(), "failed record named");
        self.note_if(took_back, "deferred records taken back");
    }

    pub(super) fn answered(
        &mut self,
        process: Process,
        shard: ShardNo,
        handle: u64,
        answer: Answer,
        reply: Reply,
    ) {
        let now = self.now;
        let is_to_move = self.is_to_move(shard);
        let named = match answer {
            Answer::Failed(Some(number)) => self.index(number),
            _ => None,
        };
        let Some(&index) = self.grants.of_handles.get(&(process, shard, handle)) else {
            return;
        };
        let Some(grant) = self.grants.all.get_mut(index) else {
            return;
        };
        let known = grant.handles.remove(&handle);
        let text = format!(
            "process {process} answered {answer:?} for records {known:?} of shard {shard}, it was told {reply:?}"
        );
        let is_over = grant.over.is_some();
        let wrong = match reply {
            Reply::Taken => known.is_none() || grant.told_over,
            Reply::Over => known.is_some() && !is_over && !is_to_move,
            Reply::NotInCall => true,
            Reply::LeaseLost | Reply::Unheard => false,
        };
        let Some(records) = known.filter(|_| matches!(reply, Reply::Taken | Reply::Unheard)) else {
            self.note_if(
                reply == Reply::LeaseLost,
                "answered after the lease was lost",
            );
            self.note_if(reply == Reply::Over, "answered after the call failed");
            if wrong {
                self.violate("A1 answers", text);
            }
            return;
        };
        let late = records.first().is_some_and(|first| {
            let earlier = grant.tracks.range(..first).rev().take(64);
            earlier
                .into_iter()
                .any(|(_, track)| matches!(track.state, State::Out(_)))
        });
        let (good, bad) = judged(grant, now, &records, answer, named);
        self.stream.shard(shard).complete(good);
        self.note_if(late, "answered out of order");
        self.note_if(bad, "answered that records failed");
        self.note_if(answer == Answer::Dropped, "handle dropped");
        if wrong {
            self.violate("A1 answers", text);
        }
    }

    /// Counts a delivery.
    fn count(&mut self, process: Process, shard: ShardNo, batch: &[u32]) {
        let beside = self.cause_beside(process, shard, batch);
        let mut unexplained = 0;
        for index in batch {
            let grant = self.open_grant(process, shard);
            let track = grant.and_then(|grant| grant.tracks.get(index));
            let retried = track.is_some_and(|track| track.deliveries > 1);
            let Some(record) = self.stream.shard(shard).records.get_mut(*index as usize) else {
                continue;
            };
            self.tally.delivered += 1;
            let again = record.again.take();
            if record.delivered_by.is_some() {
                let cause = match again {
                    Some(cause) => cause,
                    None if retried => Cause::Retry,
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

    /// Why two processes deliver the same records in turns: who was robbed of his session goes on until he learns of it.
    fn cause_beside(&mut self, process: Process, shard: ShardNo, batch: &[u32]) -> Cause {
        if self.was_deleted(shard) {
            return Cause::RowDeleted;
        }
        if self.owner(shard) != Some(process) {
            return self.cause_of_loss(process);
        }
        let records = &self.stream.shard(shard).records;
        let mut others = batch
            .iter()
            .filter_map(|index| records.get(*index as usize)?.delivered_by);
        match others.find(|other| *other != process) {
            Some(other) => self.cause_of_loss(other),
            None => Cause::Unexplained,
        }
    }

    /// Judges what was passed over in earlier milliseconds: the worker told that it was skipped.
    pub(super) fn judge_skips(&mut self, now: u64) {
        let due = |skip: &mut (u64, usize, u32)| skip.0 < now;
        let due: Vec<_> = self.skips.extract_if(.., due).collect();
        for (_, grant, record) in due {
            let Some(grant) = self.grants.all.get(grant) else {
                continue;
            };
            if grant.state(record) == Some(State::Failed) {
                let (process, shard) = (grant.process, grant.shard);
                let text = format!(
                    "process {process} goes on in shard {shard} after record {record}, which failed, and told nobody"
                );
                self.violate("P2 order", text);
            }
        }
    }

    pub(super) fn key_of(&mut self, shard: ShardNo, index: u32) -> KeyNo {
        let record = self.stream.shard(shard).records.get(index as usize);
        record.map_or(KeyNo::MAX, |record| record.key)
    }

    fn index(&self, number: u32) -> Option<u32> {
        self.stream
            .numbers
            .get(number as usize)
            .map(|(_, index)| *index)
    }

    fn indexes(&self, numbers: &[u32]) -> Vec<u32> {
        numbers
            .iter()
            .filter_map(|number| self.index(*number))
            .collect()
    }
}

/// Takes in an answer that counts. Returns what is complete by it, and whether something failed.
fn judged(
    grant: &mut Grant,
    now: u64,
    records: &[u32],
    answer: Answer,
    named: Option<u32>,
) -> (Vec<u32>, bool) {
    match answer {
        Answer::Done => {
            grant.complete(now, records.iter().copied());
            (records.to_vec(), false)
        }
        Answer::Failed(_) | Answer::Dropped => {
            let first_bad = named.unwrap_or(0);
            let (good, bad): (Vec<u32>, Vec<u32>) =
                records.iter().partition(|index| **index < first_bad);
            for index in &good {
                grant.set(*index, State::Settling);
            }
            grant.fail(now, &bad, named, true);
            (good, true)
        }
    }
}
