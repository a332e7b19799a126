//! F1 and F2: records that were given up went where the policy says, by its rules, and in order.

use super::Checker;
use super::work::State;
use crate::simulation::history::{Place, ShardNo, Stored};
use crate::simulation::practice::GivenUp;
use crate::simulation::world::Process;

impl Checker {
    /// The dead-letter sink was offered a record.
    pub(super) fn letter(
        &mut self,
        process: Process,
        shard: ShardNo,
        sequence: &str,
        attempts: u32,
        parked: bool,
        accepted: bool,
    ) {
        if !self.practice.has_sink() {
            let text = format!("process {process} sends a letter of shard {shard}, unasked");
            return self.violate("F1 given up by the rules", text);
        }
        let Some(index) = self.record_at(shard, sequence) else {
            let text = format!("process {process} sends {sequence} of shard {shard} to the sink");
            return self.violate("F1 given up by the rules", text);
        };
        if !accepted {
            return self.note("letter refused");
        }
        self.note("letter accepted");
        self.left_to_the_policy(process, shard, index, attempts, parked);
    }

    /// A worker told that it passed over a record.
    pub(super) fn skipped(
        &mut self,
        process: Process,
        shard: ShardNo,
        sequence: &str,
        attempts: u32,
    ) {
        self.note("record skipped");
        match self.record_at(shard, sequence) {
            Some(index) if self.practice.given_up == GivenUp::Skipped => {
                self.left_to_the_policy(process, shard, index, attempts, false);
            }
            _ => {
                let text = format!("process {process} skips {sequence} of shard {shard}");
                self.violate("F1 given up by the rules", text);
            }
        }
    }

    fn record_at(&self, shard: ShardNo, sequence: &str) -> Option<u32> {
        match self
            .stream
            .place(shard, &Stored::Through(sequence.to_owned()))
        {
            Ok(Place::After(count)) => Some(count - 1),
            _ => None,
        }
    }

    /// A record counts as complete from now on, although nobody processed it: after so many attempts, or because its key is
    /// parked. Only the worker knows which, once the key is parked: a deferred record that failed often enough by the counts
    /// here may have attempts left by the worker's, which began anew when it was deferred.
    fn left_to_the_policy(
        &mut self,
        process: Process,
        shard: ShardNo,
        index: u32,
        attempts: u32,
        parked: bool,
    ) {
        let now = self.now;
        let key = self.key_of(shard, index);
        let known = self.stream.shard(shard);
        let (optional, of_key) = (known.optional, known.of_key(key, index).to_vec());
        known.complete([index]);
        let (least, searched) = (self.practice.attempts, self.practice.bisect);
        let parks = match self.practice.given_up {
            GivenUp::Parked(time) => Some(time),
            _ => None,
        };
        let Some(grant) = self.open_grant(process, shard) else {
            return;
        };
        let track = grant.tracks.get(&index).copied();
        let was_parked = grant.parked.contains_key(&key);
        let earlier = of_key
            .iter()
            .filter(|other| (grant.start()..index).contains(other));
        let missing = earlier
            .copied()
            .find(|other| grant.is_missing(*other, optional));
        let deliveries = track.map_or(0, |track| track.deliveries);
        let failures = track.map_or(0, |track| track.failures);
        let by_rules = failures >= least && (!searched || track.is_some_and(|track| track.alone));
        // It came again with others, and goes with them: their failures count, of which not all are its own.
        let was_complete = track.is_some_and(|track| track.state == State::Done);
        let at_rest = grant.is_due(index);
        grant.complete(now, [index]);
        if let (Some(time), false) = (parks, parked) {
            let failed_at = track.map_or(now, |track| track.failed_at);
            let until =
                time.map(|time| failed_at + u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            grant.parked.insert(key, until);
        }
        let what = format!(
            "record {index} of shard {shard}, delivered {deliveries} times by process {process}"
        );
        if parked && !was_parked {
            let text = format!("{what}, is sent because its key {key} is parked, which is not");
            self.violate("F1 given up by the rules", text);
        }
        if !parked && !by_rules && !was_complete {
            let text = format!("{what}, is given up after {failures} failures: {track:?}");
            self.violate("F1 given up by the rules", text);
        }
        if !at_rest {
            let text = format!("{what}, is given up while it is {track:?}");
            self.violate("F1 given up by the rules", text);
        }
        if attempts != deliveries {
            let text = format!("{what}, is said to have been tried {attempts} times");
            self.violate("F1 given up by the rules", text);
        }
        if let Some(missing) = missing {
            let text = format!("{what}, is given up before record {missing} of the same key");
            self.violate("F2 parked keys", text);
        }
        self.note_if(parks.is_some() && !was_parked, "key parked");
        self.note_if(parked && was_parked, "later record of a parked key sent");
        self.note_if(
            by_rules && searched && deliveries > least + 1,
            "failing record searched for",
        );
    }
}
