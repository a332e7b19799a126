//! The lease table's commits, judged one by one.

use std::collections::{BTreeMap, VecDeque};

use super::validity::Validity;
use super::{Checker, LEASE};
use crate::simulation::history::{Change, LeaseState, Place, ShardNo};
use crate::simulation::world::Process;

/// Observers wait for the lease duration and a margin of 250 ms, on clocks that are wrong by at most 1 %.
const EXPIRES_AFTER: u64 = (LEASE + 250) * 99 / 100;
/// A look at an owner's heartbeat counts for half a lease duration.
const LOOK_COUNTS: u64 = LEASE / 2;

/// The lease table as it is and was.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<ShardNo, RowTruth>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) leader: Option<String>,
    /// When the row of a finished shard was last deleted.
    pub(super) tidied: u64,
}

#[derive(Debug, Default)]
pub(super) struct RowTruth {
    pub(super) state: Option<LeaseState>,
    pub(super) place: Option<Place>,
    /// Who made each version, and what it stored.
    pub(super) versions: BTreeMap<u64, Version>,
    /// The version at which the owner last changed.
    pub(super) switched: u64,
    /// The version at which its reading was last moved.
    pub(super) sought: Option<u64>,
    /// When its owner's last write to it was sent, if that is known.
    pub(super) confirmed: Option<u64>,
    highest: u64,
    pub(super) ended: bool,
    deleted: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) by: Process,
    pub(super) place: Place,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) process: Process,
    /// When its heartbeat moved, the latest first.
    heartbeats: VecDeque<u64>,
    pub(super) validity: Validity,
    pub(super) present: bool,
    gone: Option<u64>,
    /// When its item was deleted by somebody else.
    robbed: Option<u64>,
}

/// Whoever makes a row again that was deleted by hand twice goes by its own date, which may be wrong. A version so far below an
/// earlier one is not reached by writes while anybody holds that one.
const OUT_OF_REACH: u64 = 100_000;

impl Checker {
    /// The process that owns a shard's lease, by the table.
    pub(super) fn owner(&self, shard: ShardNo) -> Option<Process> {
        let row = self.table.rows.get(&shard)?;
        let owner = row.state.as_ref()?.owner.as_deref()?;
        self.session_process(owner)
    }

    pub(super) fn session_process(&self, session: &str) -> Option<Process> {
        self.table.sessions.get(session).map(|s| s.process)
    }

    /// Whether an item of the process was deleted so lately, by somebody else.
    pub(super) fn lost_session(&self, process: Process, lately: u64) -> bool {
        let mut sessions = self.table.sessions.values();
        sessions.any(|session| {
            let gone = session.robbed.is_some_and(|at| at + lately >= self.now);
            session.process == process && gone
        })
    }

    pub(super) fn written(&mut self, by: Process, sent: Option<u64>, change: Change) {
        match change {
            Change::Worker { id, before, after } => {
                self.worker_written(by, sent, &id, before, after);
            }
            Change::Lease {
                shard,
                before,
                after,
            } => match (before, after) {
                (None, Some(after)) => self.row_created(by, sent, shard, after),
                (Some(before), Some(after)) => self.row_changed(by, sent, shard, &before, after),
                (Some(before), None) => self.row_deleted(by, shard, &before),
                (None, None) => {}
            },
            Change::Command {
                shard,
                before,
                after,
            } => self.commanded(by, shard, before.as_deref(), after.map(|item| *item)),
            Change::Leader { leader } => {
                let changed = self.table.leader.is_some() && self.table.leader != leader;
                self.note_if(changed, "another leader");
                self.table.leader = leader;
            }
            Change::Other { key } => {
                if key.starts_with("SessionStream") {
                    self.application_started();
                }
            }
        }
    }

    fn worker_written(
        &mut self,
        by: Process,
        sent: Option<u64>,
        id: &str,
        was: Option<u64>,
        is: Option<u64>,
    ) {
        let now = self.now;
        let session = self.table.sessions.entry(id.to_owned()).or_default();
        if was.is_none() {
            session.process = by;
        }
        session.present = is.is_some();
        match is {
            Some(_) if was != is => {
                if let Some(sent) = sent {
                    session.validity.beat(sent, now);
                }
                session.heartbeats.push_front(now);
                session.heartbeats.truncate(8);
            }
            Some(_) => {}
            None => {
                session.gone = Some(now);
                session.robbed = (session.process != by).then_some(now);
            }
        }
        let heard = session.heartbeats.front().copied();
        if is.is_none() && session.process != by {
            self.note("dead worker's item deleted");
            self.judge_item_deleted(by, id, heard);
        }
    }

    fn row_created(&mut self, by: Process, sent: Option<u64>, shard: ShardNo, after: LeaseState) {
        let row = self.table.rows.entry(shard).or_default();
        let (again, ended, highest) = (row.deleted, row.ended, row.highest);
        if again && ended {
            let text = format!("the row of the finished shard {shard} came back");
            self.violate("P9 no resurrection", text);
        }
        let far_below = highest.saturating_sub(after.counter) >= OUT_OF_REACH;
        let excused = far_below && self.was_deleted(shard);
        if again && after.counter <= highest && !excused {
            let text = format!(
                "the new row of shard {shard} has version {}, an earlier one had {highest}",
                after.counter
            );
            self.violate("P5 fenced", text);
        }
        if again {
            self.made_again(by, shard, &after);
        }
        self.store(by, sent, shard, after, true);
    }

    fn row_changed(
        &mut self,
        by: Process,
        sent: Option<u64>,
        shard: ShardNo,
        before: &LeaseState,
        after: LeaseState,
    ) {
        if after.counter != before.counter + 1 {
            let text = format!(
                "process {by} changed the version of shard {shard} from {} to {}",
                before.counter, after.counter
            );
            self.violate("P5 fenced", text);
        }
        let holder = before
            .owner
            .as_deref()
            .and_then(|o| self.session_process(o));
        let sought = self.judge_obeyed(by, shard, before, &after);
        if sought {
            self.table.rows.entry(shard).or_default().sought = Some(after.counter);
        }
        if before.checkpoint != after.checkpoint && !sought {
            self.judge_progress(by, shard, before, &after);
            if holder != Some(by) {
                let text =
                    format!("process {by} stored progress of shard {shard}, held by {holder:?}");
                self.violate("P5 fenced", text);
            }
        }
        let switched = before.owner != after.owner;
        if switched {
            self.judge_switch(by, sent, shard, before, &after, holder);
        } else if holder == Some(by) {
            let regrant = before.checkpoint == after.checkpoint && self.has_open_grant(by, shard);
            self.note_if(regrant, "lapse survived");
        } else {
            let text = format!("process {by} wrote to shard {shard}, held by {holder:?}");
            self.violate("P5 fenced", text);
        }
        self.store(by, sent, shard, after, switched);
    }

    /// P1a and P4.
    fn judge_progress(
        &mut self,
        by: Process,
        shard: ShardNo,
        before: &LeaseState,
        after: &LeaseState,
    ) {
        let place = |state: &LeaseState| self.stream.place(shard, &state.checkpoint);
        let (was, is) = match (place(before), place(after)) {
            (Ok(was), Ok(is)) => (was, is),
            (Err(what), _) | (_, Err(what)) => {
                let text = format!("process {by} stored as progress of shard {shard} {what}");
                return self.violate("P1 no loss", text);
            }
        };
        if is < was {
            let text = format!("shard {shard} went back from {was:?} to {is:?} by process {by}");
            self.violate("P4 monotonic", text);
        }
        let known = self.stream.shard(shard);
        let covered = match is {
            Place::Start => 0,
            Place::After(count) => count,
            Place::End => known.len(),
        };
        let (complete, open) = (known.complete, is == Place::End && !known.closed);
        // Who lost the row by hand goes on from where he was.
        let own = self.limit(by, shard).filter(|_| !self.was_deleted(shard));
        let complete = complete.min(own.unwrap_or(complete));
        if covered > complete {
            let text = format!(
                "shard {shard} is stored through {covered} by process {by}, but complete only through {complete}"
            );
            self.violate("P1 no loss", text);
        }
        if open {
            self.violate(
                "P1 no loss",
                format!("the open shard {shard} was finished by process {by}"),
            );
        }
        if is == Place::End {
            self.table.rows.entry(shard).or_default().ended = true;
            self.children_freed(shard, by);
            let paused = self.processes.values().any(|p| p.paused && p.is_alive());
            self.note_if(paused, "parent finished while a worker is paused");
        }
    }

    fn judge_switch(
        &mut self,
        by: Process,
        sent: Option<u64>,
        shard: ShardNo,
        before: &LeaseState,
        after: &LeaseState,
        holder: Option<Process>,
    ) {
        let next = after.owner.as_deref().and_then(|o| self.session_process(o));
        match (&before.owner, holder) {
            // Given away by its holder, possibly to an earlier or later session of its own process.
            (Some(_), Some(holder)) if holder == by && next != Some(by) => {
                let place = self.stream.place(shard, &after.checkpoint);
                self.given_away(by, shard, next, place.unwrap_or(Place::Start), sent);
            }
            (Some(session), _) => {
                self.judge_take(by, sent, shard, session);
                if next != Some(by) {
                    let text = format!("process {by} gave shard {shard}, not its own, to {next:?}");
                    self.violate("P5 fenced", text);
                }
            }
            (None, _) if next != Some(by) => {
                let text = format!("process {by} gave the free shard {shard} to {next:?}");
                self.violate("P5 fenced", text);
            }
            (None, _) => {}
        }
    }

    /// T2: the owner's heartbeat stood still for long enough when the taker looked.
    fn judge_take(&mut self, by: Process, sent: Option<u64>, shard: ShardNo, session: &str) {
        self.note("expired lease taken");
        // When a request was sent is not known of those that go past the world.
        let Some(sent) = sent else {
            return;
        };
        let Some(owner) = self.table.sessions.get(session) else {
            return;
        };
        if owner.gone.is_some() {
            return;
        }
        let before_sent = owner.heartbeats.iter().copied().filter(|at| *at <= sent);
        let mut until = sent;
        let mut stood_still = false;
        for moved in before_sent {
            stood_still |= until - moved >= EXPIRES_AFTER;
            if moved + LOOK_COUNTS < sent {
                break;
            }
            until = moved;
        }
        let text = format!(
            "process {by} took shard {shard} from process {}, whose heartbeat moved at {:?}",
            owner.process, owner.heartbeats
        );
        if !stood_still {
            self.violate("T2 no live holder robbed", text);
        }
        self.moved(shard, session);
    }

    fn row_deleted(&mut self, by: Process, shard: ShardNo, before: &LeaseState) {
        if self.deleted_by_hand(by, shard, before) {
            return self.forget_row(shard);
        }
        let place = self.stream.place(shard, &before.checkpoint);
        if place != Ok(Place::End) {
            let text = format!("the row of the unfinished shard {shard} was deleted");
            self.violate("P9 no early deletion", text);
        }
        let children = self.stream.shard(shard).children.clone();
        for child in children {
            let moved = self.table.rows.get(&child).is_some_and(|row| {
                let moved = row.place.is_some_and(|place| place != Place::Start);
                row.deleted || moved || row.sought.is_some()
            });
            // What the service forgot is nobody's parent any more.
            if !moved && !self.stream.shard(shard).is_gone() {
                let text = format!("the row of shard {shard} was deleted before {child} moved on");
                self.violate("P9 no early deletion", text);
            }
        }
        self.note("finished row deleted");
        self.table.tidied = self.now;
        self.forget_row(shard);
    }

    fn forget_row(&mut self, shard: ShardNo) {
        let row = self.table.rows.entry(shard).or_default();
        row.deleted = true;
        row.state = None;
        row.place = None;
    }

    fn store(
        &mut self,
        by: Process,
        sent: Option<u64>,
        shard: ShardNo,
        state: LeaseState,
        switched: bool,
    ) {
        let place = self.stream.place(shard, &state.checkpoint);
        let place = place.unwrap_or(Place::Start);
        let row = self.table.rows.entry(shard).or_default();
        row.confirmed = sent;
        row.highest = row.highest.max(state.counter);
        row.versions.insert(state.counter, Version { by, place });
        if switched {
            row.switched = state.counter;
        }
        row.place = Some(place);
        row.deleted = false;
        row.state = Some(state);
    }

    pub(super) fn refused(&mut self, by: Process, key: &str) {
        let shard = crate::simulation::history::shard_number(key);
        let Some(row) = self.table.rows.get(&shard) else {
            return;
        };
        let Some(state) = &row.state else {
            return;
        };
        let own = row.versions.get(&state.counter).is_some_and(|v| v.by == by);
        let holder = self.owner(shard);
        self.note_if(own && holder == Some(by), "lost answer recovered");
        self.note_if(holder.is_some_and(|h| h != by), "fenced write refused");
    }
}
