//! What became of each record under one grant.

use std::collections::{BTreeMap, BTreeSet};

use super::tally::Cause;
use crate::simulation::history::{KeyNo, Place, ShardNo};
use crate::simulation::world::Process;

/// One grant of one lease to one process.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) process: Process,
    pub(super) shard: ShardNo,
    pub(super) epoch: u64,
    /// When it began.
    pub(super) began: u64,
    pub(super) lanes: u32,
    /// Where it began.
    pub(super) from: Place,
    /// No record says where it began: nothing is missing before what it finds there.
    pub(super) anywhere: bool,
    /// The records that it touched, by their indexes.
    pub(super) tracks: BTreeMap<u32, Track>,
    /// Those that a failed call left, which come again before any later one.
    pub(super) failed: BTreeSet<u32>,
    /// Everything before is complete under this grant, and when that became so.
    through: u32,
    advances: Vec<(u64, u32)>,
    /// Through where something was delivered.
    pub(super) delivered: u32,
    /// Since when no lane is in a call, if none is.
    pub(super) idle_since: Option<u64>,
    /// What each lane works on.
    pub(super) calls: BTreeMap<u32, Call>,
    /// Handles that may still be answered, and the records of each.
    pub(super) handles: BTreeMap<u64, Vec<u32>>,
    /// The next record of each line that has to be delivered in order: all of them, or those of a key.
    pub(super) lines: BTreeMap<Option<KeyNo>, u32>,
    /// Until when keys are parked; `None`: as long as the grant.
    pub(super) parked: BTreeMap<KeyNo, Option<u64>>,
    /// Why it is over, once it is.
    pub(super) over: Option<Cause>,
    /// When its processor was asked to stop.
    pub(super) asked: Option<u64>,
    /// Its process knows that it is over.
    pub(super) told_over: bool,
    /// Its holder gave it away when it had got so far.
    pub(super) given: Option<Place>,
}

/// A call that runs.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) records: Vec<u32>,
    pub(super) handles: Vec<u64>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    pub(super) state: State,
    pub(super) deliveries: u32,
    pub(super) failures: u32,
    /// The last failure was surely its own.
    pub(super) alone: bool,
    pub(super) failed_at: u64,
    /// It failed after it was deferred, and comes again on its own, at any time.
    pub(super) loose: bool,
    /// It was complete when its call failed, with which it comes again.
    pub(super) dragged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The processor works on it.
    InCall,
    /// Deferred, under this handle.
    Out(u64),
    /// To be delivered again.
    Failed,
    /// Complete.
    Done,
    /// Said to be complete by an answer that is not looked at yet.
    Settling,
    /// Out of retention before it was read.
    Gone,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            state: State::InCall,
            deliveries: 0,
            failures: 0,
            alone: false,
            failed_at: 0,
            loose: false,
            dragged: false,
        }
    }
}

impl Grant {
    pub(super) fn new(
        process: Process,
        shard: ShardNo,
        epoch: u64,
        lanes: u32,
        from: Place,
    ) -> Self {
        let start = match from {
            Place::After(count) => count,
            _ => 0,
        };
        Self {
            process,
            shard,
            epoch,
            began: 0,
            lanes,
            from,
            anywhere: false,
            idle_since: None,
            tracks: BTreeMap::new(),
            failed: BTreeSet::new(),
            through: start,
            advances: Vec::new(),
            delivered: start,
            calls: BTreeMap::new(),
            handles: BTreeMap::new(),
            lines: BTreeMap::new(),
            parked: BTreeMap::new(),
            over: None,
            asked: None,
            told_over: false,
            given: None,
        }
    }

    /// Notes that a call ended, possibly the last one that ran.
    pub(super) fn note_idle(&mut self, now: u64) {
        self.idle_since = self.calls.is_empty().then_some(now);
    }

    /// The index of the first record that is its business.
    pub(super) fn start(&self) -> u32 {
        match self.from {
            Place::After(count) => count,
            _ => 0,
        }
    }

    /// How far it is.
    pub(super) fn place(&self) -> Place {
        self.place_through(self.through)
    }

    /// How far it surely was before a moment.
    pub(super) fn place_before(&self, moment: u64) -> Place {
        let before = self.advances.iter().rev().find(|(at, _)| *at < moment);
        self.place_through(before.map_or(self.start(), |(_, through)| *through))
    }

    fn place_through(&self, through: u32) -> Place {
        match through == self.start() {
            true => self.from,
            false => Place::After(through),
        }
    }

    /// No checkpoint of this grant may cover more: records that are out of retention before `optional` are passed over.
    pub(super) fn limit(&self, optional: u32) -> u32 {
        (self.through..)
            .find(|index| !self.is_passable(*index, optional))
            .unwrap_or(u32::MAX)
    }

    fn is_passable(&self, index: u32, optional: u32) -> bool {
        match self.tracks.get(&index) {
            Some(track) => matches!(track.state, State::Done | State::Settling | State::Gone),
            None => index < optional,
        }
    }

    /// The failed records before `end`, if nothing else keeps a checkpoint from covering what is before it.
    pub(super) fn only_failed_before(&self, end: u32, optional: u32) -> Option<Vec<u32>> {
        let open = (self.through..end).filter(|index| !self.is_passable(*index, optional));
        let failed = |index| (self.state(index) == Some(State::Failed)).then_some(index);
        open.map(failed).collect()
    }

    /// Whether a record has to be delivered yet, or again, before later ones of its line.
    pub(super) fn is_missing(&self, index: u32, optional: u32) -> bool {
        match self.tracks.get(&index) {
            Some(_) => self.failed.contains(&index),
            None => index >= optional,
        }
    }

    pub(super) fn set(&mut self, index: u32, state: State) {
        let track = self.tracks.entry(index).or_default();
        track.state = state;
        match state {
            State::Failed if !track.loose => self.failed.insert(index),
            _ => self.failed.remove(&index),
        };
    }

    /// Notes that records are complete.
    pub(super) fn complete(&mut self, now: u64, records: impl IntoIterator<Item = u32>) {
        for index in records {
            self.set(index, State::Done);
        }
        let before = self.through;
        let mut index = before;
        while let Some(track) = self.tracks.get(&index) {
            index += 1;
            match track.state {
                State::Done => self.through = index,
                State::Gone => {}
                _ => break,
            }
        }
        if self.through != before {
            self.advances.push((now, self.through));
        }
    }

    /// Notes that records failed together.
    pub(super) fn fail(&mut self, now: u64, records: &[u32], named: Option<u32>, loose: bool) {
        let is_open = |index: &&u32| self.state(**index) != Some(State::Done);
        let open = records.iter().filter(is_open).count();
        for index in records {
            let track = self.tracks.entry(*index).or_default();
            let is_open = track.state != State::Done;
            track.failures += 1;
            track.failed_at = now;
            track.alone = records.len() == 1 || named == Some(*index) || is_open && open == 1;
            track.loose |= loose;
            if is_open {
                self.set(*index, State::Failed);
            }
        }
    }

    /// Whether a record may be given to the processor, or up.
    pub(super) fn is_due(&self, index: u32) -> bool {
        self.tracks
            .get(&index)
            .is_none_or(|track| match track.state {
                State::Failed => true,
                State::Done => track.dragged,
                _ => false,
            })
    }

    /// Notes that a record is given to the processor.
    pub(super) fn deliver(&mut self, index: u32) {
        if self.state(index) != Some(State::Done) {
            self.set(index, State::InCall);
        }
        self.tracks.entry(index).or_default().deliveries += 1;
    }

    /// Notes that records that are complete come again with others, whose call failed.
    pub(super) fn drag(&mut self, records: &[u32]) {
        for index in records {
            if let Some(track) = self.tracks.get_mut(index) {
                track.dragged |= track.state == State::Done;
            }
        }
    }

    /// Whether the processor works on a record, complete or not.
    pub(super) fn is_at_work(&self, index: u32) -> bool {
        let track = self.tracks.get(&index);
        track.is_some_and(|track| track.dragged || track.state == State::InCall)
    }

    pub(super) fn state(&self, index: u32) -> Option<State> {
        self.tracks.get(&index).map(|track| track.state)
    }

    /// How many records are with the processor, or wait for an answer or for what follows from it.
    pub(super) fn in_flight(&self) -> usize {
        let flies = |track: &&Track| match track.state {
            State::InCall | State::Out(_) => true,
            State::Failed => track.loose,
            _ => false,
        };
        self.tracks.values().filter(flies).count()
    }

    /// Whether a key is surely parked.
    pub(super) fn is_parked(&self, key: KeyNo, now: u64) -> bool {
        let until = self.parked.get(&key);
        until.is_some_and(|until| until.is_none_or(|until| now < until))
    }
}
