//! How long things take, measured only when nothing else disturbs them.

use std::collections::BTreeMap;

use super::{Checker, LEASE, ProcessState};
use crate::simulation::history::{Event, ShardNo};
use crate::simulation::world::Process;

/// A disturbance is forgotten after this many milliseconds.
const CALM_AFTER: u64 = 30_000;
/// A killed worker's shards start elsewhere within the lease duration, 1.75 s, a poll and the way there.
const TAKEOVER_MAX: u64 = LEASE + 3_500;
/// A lease that is given away in calm times is used again within this time by whoever it was given to.
const HAND_OVER_MAX: u64 = 3_000;
/// The same, if the receiver, or the giver of a lease without one, leaves at that moment: somebody else has to notice.
const LEFT_BEHIND_MAX: u64 = 3_500;
/// Who gave a shard up because a call made no progress, and is alone, leaves it in peace for the lease duration.
const REFUSED_MAX: u64 = LEASE + LEFT_BEHIND_MAX;
/// The children of a shard that ended start within this time.
const BIRTH_MAX: u64 = 1_000;
/// After this time everybody knows that a worker stops, in calm times.
const STOP_KNOWN: u64 = 3_000;
/// After an outage whoever comes back within L/6 keeps its leases for as long as this is watched.
const AFTER_OUTAGE: u64 = LEASE;

/// What is being measured.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// When the last disturbance is over.
    disturbed_until: u64,
    /// The same without resharding.
    shaken_until: u64,
    /// When the last disturbance began, and whether all was calm before it.
    calm_before: (u64, bool),
    /// Shards whose holder was killed: when, and whether all was calm.
    orphans: BTreeMap<ShardNo, Watch>,
    /// Shards that were given away.
    given: BTreeMap<ShardNo, Watch>,
    /// Shards whose parents ended, and by whom the last of them was finished.
    born: BTreeMap<ShardNo, Watch>,
    /// The last outage in calm times: when it ends.
    outage: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    since: u64,
    calm: bool,
    /// Who has it next, if that is decided.
    next: Option<Process>,
    /// Who gave it up because it could not work on it.
    refused_by: Option<Process>,
}

impl Timing {
    fn is_calm(&self, now: u64) -> bool {
        self.disturbed_until + CALM_AFTER < now
    }

    /// Whether all has been calm since then.
    pub(super) fn was_calm_since(&self, since: u64) -> bool {
        self.disturbed_until + CALM_AFTER < since
    }

    pub(super) fn is_stormy(&self, now: u64) -> bool {
        !self.is_calm(now)
    }
}

impl Checker {
    /// Notes what disturbs measurements. A measurement under way is not calm any more.
    pub(super) fn disturbed(&mut self, event: &Event) {
        let until = match event {
            Event::Killed { .. }
            | Event::Paused { .. }
            | Event::CutOff { .. }
            | Event::Closed { .. } => self.now,
            Event::FaultBegan { until, .. } => *until,
            _ => return,
        };
        let timing = &mut self.timing;
        if let Event::FaultBegan { name, until } = event
            && name == "outage"
        {
            self.tally.note("outage");
            let calm = timing.is_calm(self.now) && timing.orphans.is_empty();
            timing.outage = calm.then_some(*until);
        } else if timing
            .outage
            .is_some_and(|end| end + AFTER_OUTAGE > self.now)
        {
            timing.outage = None;
        }
        let measured = timing.orphans.values_mut().chain(timing.given.values_mut());
        measured.for_each(|watch| watch.calm = false);
        if !is_reshard(event) {
            timing
                .born
                .values_mut()
                .for_each(|watch| watch.calm = false);
            timing.shaken_until = timing.shaken_until.max(until);
        }
        timing.calm_before = (self.now, timing.is_calm(self.now));
        timing.disturbed_until = timing.disturbed_until.max(until);
    }

    pub(super) fn await_takeover(&mut self, process: Process) {
        let owned: Vec<ShardNo> = self
            .table
            .rows
            .iter()
            .filter(|(shard, row)| {
                !row.ended
                    && self.owner(**shard) == Some(process)
                    && self.has_open_grant(process, **shard)
            })
            .map(|(shard, _)| *shard)
            .collect();
        let watch = self.watch(None);
        for shard in owned {
            self.timing.orphans.insert(shard, watch);
        }
    }

    /// From when on a takeover is measured: from the kill, unless everybody who saw the holder live has left since (a deploy of
    /// the whole fleet at that moment). Newcomers judge from their own start on.
    fn witnessed(&self, killed: u64, by: Process) -> u64 {
        let stays = |state: &&ProcessState| state.is_alive() && state.stopping.is_none();
        let mut staying = self.processes.values().filter(stays);
        match staying.any(|state| state.started <= killed) {
            true => killed,
            false => self
                .processes
                .get(&by)
                .map_or(killed, |state| state.started),
        }
    }

    /// A measurement that begins now. Without anybody who stays it says nothing.
    fn watch(&self, next: Option<Process>) -> Watch {
        let mut states = self.processes.values();
        let anybody = states.any(|state| state.is_alive() && state.stopping.is_none());
        Watch {
            since: self.now,
            calm: anybody && self.timing.calm_before_now(self.now),
            next,
            refused_by: None,
        }
    }

    pub(super) fn handed_over(&mut self, giver: Process, shard: ShardNo, next: Option<Process>) {
        let stopping = next
            .and_then(|next| self.processes.get(&next))
            .and_then(|state| state.stopping);
        if let (Some(since), Some(next)) = (stopping, next)
            && since + STOP_KNOWN < self.now
            && !self.timing.is_stormy(self.now)
        {
            let text = format!("shard {shard} was given to process {next}, which stops");
            self.violate("P6 clean hand-over", text);
        }
        let stays = |state: &ProcessState| state.is_alive() && state.stopping.is_none();
        let refuses = self.practice.stall_timeout.is_some()
            && next.is_none()
            && self.processes.get(&giver).is_some_and(stays);
        let watch = Watch {
            refused_by: refuses.then_some(giver),
            ..self.watch(next)
        };
        self.timing.given.insert(shard, watch);
    }

    /// Who says that it released everything has nothing left.
    pub(super) fn judge_farewell(&mut self, process: Process) {
        let ended = |shard: &ShardNo| self.table.rows.get(shard).is_some_and(|row| row.ended);
        let mut left = self.open_shards(process);
        left.retain(|shard| self.owner(*shard) == Some(process) && !ended(shard));
        if !left.is_empty() && !self.timing.is_stormy(self.now) {
            let text = format!("process {process} left with the shards {left:?}");
            self.violate("P6 clean hand-over", text);
        }
    }

    /// A shard's end is stored: its children that have no other unfinished parent can start.
    pub(super) fn children_freed(&mut self, shard: ShardNo, by: Process) {
        let ended = |parent: &ShardNo| self.table.rows.get(parent).is_none_or(|row| row.ended);
        let known = &self.stream.shards;
        let children = known.get(&shard).map(|known| known.children.clone());
        let mut free = children.unwrap_or_default();
        free.retain(|child| {
            known
                .get(child)
                .is_some_and(|c| c.parents.iter().all(ended))
        });
        let calm = self.timing.shaken_until + CALM_AFTER < self.now;
        let watch = Watch {
            calm,
            ..self.watch(Some(by))
        };
        for child in free {
            self.timing.born.insert(child, watch);
        }
    }

    /// A shard starts under a new grant.
    pub(super) fn started(&mut self, shard: ShardNo, process: Process) {
        if let Some(watch) = self.timing.born.remove(&shard)
            && watch.calm
        {
            let took = self.now - watch.since;
            self.tally.births.push(took);
            let finisher = watch.next.and_then(|next| self.processes.get(&next));
            let stays = finisher.is_some_and(|state| state.is_alive() && state.stopping.is_none());
            let most = if stays { BIRTH_MAX } else { LEFT_BEHIND_MAX };
            if took > most {
                let text = format!("shard {shard} started {took} ms after its parents ended");
                self.violate("P7 children", text);
            }
        }
        if let Some(watch) = self.timing.orphans.remove(&shard)
            && watch.calm
        {
            let took = self.now - self.witnessed(watch.since, process);
            self.tally.takeovers.push(took);
            if took > TAKEOVER_MAX {
                let text = format!(
                    "shard {shard} started at process {process} {took} ms after its holder was killed"
                );
                self.violate("P7 takeover", text);
            }
        }
        if let Some(watch) = self.timing.given.remove(&shard)
            && watch.calm
        {
            let took = self.now - watch.since;
            self.tally.pauses.push(took);
            let most = if watch.next == Some(process) {
                HAND_OVER_MAX
            } else if watch.refused_by == Some(process) && self.was_alone(process, watch.since) {
                REFUSED_MAX
            } else {
                LEFT_BEHIND_MAX
            };
            if took > most {
                let text = format!("shard {shard} started {took} ms after it was given away");
                self.violate("P7 hand-over", text);
            }
        }
    }

    /// Whether nobody else has been there since then, and stays.
    fn was_alone(&self, process: Process, since: u64) -> bool {
        let others = self.processes.iter().filter(|(id, _)| **id != process);
        let mut others = others.map(|(_, state)| state);
        !others.any(|state| state.is_alive() && state.stopping.is_none() && state.started <= since)
    }

    /// A lease was taken from `session`.
    pub(super) fn moved(&mut self, shard: ShardNo, session: &str) {
        let lives = self
            .session_process(session)
            .and_then(|process| self.processes.get(&process))
            .is_some_and(ProcessState::is_alive);
        let after_outage = self
            .timing
            .outage
            .is_some_and(|end| (end..end + AFTER_OUTAGE).contains(&self.now));
        if lives && after_outage {
            let text = format!("shard {shard} was taken from {session}, which lives");
            self.violate("A6 nothing moves after an outage", text);
        }
    }
}

impl Timing {
    /// Whether all was calm before what happens at this very moment.
    fn calm_before_now(&self, now: u64) -> bool {
        self.calm_before == (now, true) || self.is_calm(now)
    }
}

fn is_reshard(event: &Event) -> bool {
    match event {
        Event::Closed { .. } => true,
        Event::FaultBegan { name, .. } => matches!(name.as_str(), "split" | "merge"),
        _ => false,
    }
}
