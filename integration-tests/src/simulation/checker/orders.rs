//! C1 to C5: what operators command is done once, by the holder, and holds while it is in force.
//!
//! The table is the truth here, too: a command counts from the commit that stores it, and what was done about it is in the
//! lease's row.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::Checkpoint;
use kcl_lease::{CommandId, CommandItem, Obeyed, Seek, StartPoint};

use super::tally::Cause;
use super::{Checker, ProcessState};
use crate::simulation::history::{LeaseState, Place, ShardNo, Stored};
use crate::simulation::world::Process;

/// In calm times a command is obeyed within this time by whoever holds the lease and is in no call, in milliseconds: the leader
/// reminds with each scan.
const OBEYED_MAX: u64 = 15_000;

/// What was commanded in a run.
#[derive(Debug, Default)]
pub(super) struct Commands(BTreeMap<ShardNo, Commanded>);

/// What was commanded of the holders of one lease.
#[derive(Debug, Default)]
struct Commanded {
    item: Option<CommandItem>,
    /// Every command that was ever stored.
    all: BTreeMap<CommandId, Known>,
    /// How often one was stored.
    given: usize,
    /// How often the lease was paused so far.
    pauses: u32,
    /// The lease is paused, and its holder has said that nothing is delivered.
    halted: bool,
    /// The last command, and the last seek, that the row named.
    obeyed: usize,
    sought: usize,
}

/// A command that was stored.
#[derive(Debug)]
struct Known {
    /// Its place in the order of all.
    number: usize,
    at: u64,
    /// It belongs to this pause.
    pause: Option<u32>,
    /// A seek that was ordered with it.
    seek: Option<Seek>,
}

impl Commanded {
    fn is_paused(&self) -> bool {
        self.item.as_ref().is_some_and(|item| item.paused)
    }

    /// Where reading is to go on, if nobody applied it yet.
    fn open_seek(&self, obeyed: &Obeyed) -> Option<&Seek> {
        let seek = self.item.as_ref()?.seek.as_ref()?;
        (obeyed.seek.as_ref() != Some(&seek.id)).then_some(seek)
    }
}

impl Checker {
    /// Whether an operator ever commanded anything about a shard.
    pub(super) fn was_commanded(&self, shard: ShardNo) -> bool {
        self.commands
            .0
            .get(&shard)
            .is_some_and(|known| known.given > 0)
    }

    /// A command was stored, or deleted.
    pub(super) fn commanded(
        &mut self,
        by: Process,
        shard: ShardNo,
        before: Option<&CommandItem>,
        after: Option<CommandItem>,
    ) {
        let now = self.now;
        let finished = self.table.rows.get(&shard).is_some_and(|row| row.ended);
        let known = self.commands.0.entry(shard).or_default();
        let is_new = after.as_ref().map(|item| &item.command) != before.map(|item| &item.command);
        let wrong = match (before, &after) {
            (Some(before), None) if !finished => Some(format!("deleted {before:?}")),
            (Some(before), Some(after)) if !is_new && before != after => {
                Some(format!("changed {before:?} to {after:?}"))
            }
            // An operator whose answer was lost may store it again in the place of another's. It comes after that one, then.
            (None, Some(after)) if known.all.contains_key(&after.command) => {
                Some(format!("stored {after:?} once more"))
            }
            _ => None,
        };
        let text = wrong.map(|wrong| format!("process {by} {wrong} for shard {shard}"));
        let was_paused = known.is_paused();
        known.item = after;
        let is_paused = known.is_paused();
        known.pauses += u32::from(is_paused && !was_paused);
        known.halted &= is_paused && was_paused;
        let pauses = known.pauses;
        if let (Some(item), true) = (&known.item, is_new) {
            known.given += 1;
            let command = Known {
                number: known.given,
                at: now,
                pause: is_paused.then_some(pauses),
                seek: item.seek.clone(),
            };
            known.all.insert(item.command.clone(), command);
            self.note("shard commanded");
        }
        if let Some(text) = text {
            self.violate("C4 commands kept", text);
        }
    }

    /// What a write to a lease's row says of commands. Returns where reading was moved to by it.
    pub(super) fn judge_obeyed(
        &mut self,
        by: Process,
        shard: ShardNo,
        before: &LeaseState,
        after: &LeaseState,
    ) -> bool {
        let (was, is) = (&before.obeyed, &after.obeyed);
        if was == is {
            return false;
        }
        if before.owner != after.owner {
            let text = format!("shard {shard} changed hands and says {is:?}, it said {was:?}");
            self.violate("C1 commands of the holder", text);
        }
        if was.command != is.command {
            self.judge_command(by, shard, is.command.as_ref());
        }
        if was.seek == is.seek {
            return false;
        }
        self.judge_seek(by, shard, after);
        true
    }

    fn judge_command(&mut self, by: Process, shard: ShardNo, command: Option<&CommandId>) {
        let now = self.now;
        let excused = self.was_deleted(shard);
        let in_call = self
            .open_grant(by, shard)
            .map(|grant| (!grant.calls.is_empty(), grant.idle_since));
        let known = self.commands.0.entry(shard).or_default();
        let obeyed = known.obeyed;
        let paused = known.is_paused().then_some(known.pauses);
        let Some(found) = command.and_then(|command| known.all.get(command)) else {
            let text =
                format!("process {by} obeys {command:?} for shard {shard}, which nobody gave");
            return self.violate("C1 commands once", text);
        };
        let (number, at, pauses) = (found.number, found.at, found.pause.is_some());
        let halts = pauses && found.pause == paused;
        known.halted |= halts;
        known.obeyed = number;
        self.note_if(pauses, "pause obeyed");
        if number <= obeyed && !excused {
            let text = format!(
                "process {by} obeys command {number} for shard {shard}, after command {obeyed}"
            );
            self.violate("C1 commands once", text);
        }
        if let (true, Some((true, _))) = (halts, in_call) {
            let text = format!("process {by} says that shard {shard} is paused, during a call");
            self.violate("C3 paused", text);
        }
        let since = in_call
            .and_then(|(_, since)| since)
            .map(|since| since.max(at));
        if let Some(took) = since.map(|since| now.saturating_sub(since))
            && took > OBEYED_MAX
            && self.timing.was_calm_since(now - took)
        {
            let text = format!("process {by} obeyed a command for shard {shard} after {took} ms");
            self.violate("C5 obeyed in time", text);
        }
    }

    /// A seek is applied: what it passes over counts as complete, and what it goes back to as new.
    fn judge_seek(&mut self, by: Process, shard: ShardNo, after: &LeaseState) {
        let excused = self.was_deleted(shard);
        let known = self.commands.0.entry(shard).or_default();
        // A seek has the id of the command with which it was given.
        let given = after.obeyed.seek.as_ref().and_then(|id| known.all.get(id));
        let ordered = given.and_then(|given| Some((given.number, given.seek.clone()?)));
        let sought = known.sought;
        let Some((number, seek)) = ordered else {
            let text = format!("process {by} moves shard {shard} by {:?}", after.obeyed);
            return self.violate("C2 seeks once", text);
        };
        known.sought = number;
        if number <= sought && !excused {
            let text =
                format!("process {by} applies seek {number} to shard {shard}, after seek {sought}");
            self.violate("C2 seeks once", text);
        }
        let at = &seek.to;
        if Stored::from(&at.checkpoint) != after.checkpoint
            || at.moment_ms != after.obeyed.moment_ms
        {
            let text = format!("process {by} moves shard {shard} to {after:?}, not to {at:?}");
            self.violate("C2 seeks once", text);
        }
        self.moves(by, shard, at);
    }

    fn moves(&mut self, by: Process, shard: ShardNo, to: &StartPoint) {
        let truth = self.stream.shard(shard);
        let from = truth.complete;
        let begins = match (&to.checkpoint, to.moment_ms) {
            (Checkpoint::AtTimestamp, Some(moment)) => truth.first_at(moment),
            _ => 0,
        };
        truth.begins = begins;
        let place = self.stream.place(shard, &Stored::from(&to.checkpoint));
        let place = match place {
            Ok(Place::After(count)) => count,
            _ => 0,
        };
        self.stream.shard(shard).seek(place);
        self.note_if(place < from, "shard moved back");
        self.note_if(place > from, "shard moved ahead");
        self.note_if(
            self.commands
                .0
                .get(&shard)
                .is_some_and(Commanded::is_paused),
            "paused shard moved",
        );
        let beside = self
            .open_grant(by, shard)
            .is_some_and(|grant| !grant.calls.is_empty());
        if beside {
            let text = format!("process {by} moves shard {shard} during a call");
            self.violate("C2 seeks once", text);
        }
        self.sought(by, shard, place);
    }

    /// C3: after its holder said so, nothing of a paused shard is delivered.
    pub(super) fn judge_paused(&mut self, process: Process, shard: ShardNo) {
        let known = self.commands.0.get(&shard);
        // A worker whose item was deleted by hand is replaced at once, and delivers until it learns of it.
        let mut sessions = self.table.sessions.values();
        let robbed = sessions.any(|session| session.process == process && !session.present);
        if known.is_some_and(|known| known.halted) && !robbed {
            let text = format!("process {process} delivers shard {shard}, which is paused");
            self.violate("C3 paused", text);
        }
    }

    /// Whether an order to read elsewhere waits to be applied: deferred records are dropped for it.
    pub(super) fn is_to_move(&self, shard: ShardNo) -> bool {
        let row = self.table.rows.get(&shard);
        let obeyed = row.and_then(|row| row.state.as_ref()).map(|s| &s.obeyed);
        let known = self.commands.0.get(&shard);
        let open = known.zip(obeyed);
        open.is_some_and(|(known, obeyed)| known.open_seek(obeyed).is_some())
    }

    /// Whether operators want that nothing of the shard, or of one that it came from, is delivered.
    pub(super) fn waits_for_operators(&self, shard: ShardNo) -> bool {
        let paused = |shard: &ShardNo| self.commands.0.get(shard).is_some_and(Commanded::is_paused);
        // Each once: after many splits and merges there are very many ways to the same ancestor.
        let mut seen = BTreeSet::from([shard]);
        let mut next = vec![shard];
        while let Some(shard) = next.pop() {
            if paused(&shard) {
                return true;
            }
            let known = self.stream.shards.get(&shard);
            let parents = known.into_iter().flat_map(|known| &known.parents);
            next.extend(parents.filter(|parent| seen.insert(**parent)));
        }
        false
    }

    /// C5: at the end every command was obeyed, if anybody holds the lease.
    pub(super) fn judge_commands_left(&mut self) {
        let lives = |process: Process| {
            let state = self.processes.get(&process);
            state.is_some_and(ProcessState::is_alive)
        };
        let mut left = Vec::new();
        for (shard, known) in &self.commands.0 {
            let row = self.table.rows.get(shard);
            let state = row
                .filter(|row| !row.ended)
                .and_then(|row| row.state.as_ref());
            let (Some(item), Some(state)) = (&known.item, state) else {
                continue;
            };
            let held = self.owner(*shard).is_some_and(lives);
            if held && state.obeyed.command.as_ref() != Some(&item.command) {
                left.push(format!("{item:?}, the row says {:?}", state.obeyed));
            }
        }
        for what in left {
            self.violate("C5 obeyed in time", format!("nobody obeyed {what}"));
        }
    }

    /// The grant of a holder that moved its reading is over. Who began nothing yet moves away from where the grant before
    /// ended.
    fn sought(&mut self, by: Process, shard: ShardNo, place: u32) {
        self.end_latest(shard, Cause::Sought);
        let len = self.stream.shard(shard).len();
        self.owe_again(shard, place..len, Cause::Sought);
        self.close(by, shard, Cause::Sought);
    }
}
