//! Commands of operators: pause, resume and seek, the holder that obeys, the leader that reminds and tidies up.
//!
//! Reads of the command are consistent and so happen at one moment; a hint may be lost; what the leader tidies up with may
//! arrive at any time later, and so may the operator's first command once more.

use kcl_lease::internals::{self, Care, Wish};
use kcl_lease::item::{Value, attribute};
use kcl_lease::write;
use kcl_lease::write::{Change, Edit, RowWrite};
use kcl_lease::{CommandId, CommandItem, Lease, Orders, StartPoint};

use super::holding::Event;
use super::*;
use crate::intern::NONE;
use crate::table::{checkpoint, records};

/// What an operator may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Pause,
    Resume,
    /// To after so many records.
    Seek(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Commands {
    item: Id,
    issued: u8,
    /// The write of the first command, on its way once more: its answer was lost.
    late: Id,
    /// What the leader tidies up with, on its way.
    tidy: Id,
    /// Ghost: the command with which the pause began that lasts; 0 if none does.
    pause: u8,
    /// Ghost: a holder has reported that it obeys this pause.
    pub(super) reported: bool,
    /// Ghost: how many seeks were applied.
    pub(super) era: u8,
    /// Ghost: which, by their commands.
    applied: u8,
}

fn id(number: u8) -> CommandId {
    CommandId::from(format!("{number:032x}").as_str())
}

fn number(value: &Value) -> u8 {
    let text = match value {
        Value::S(text) => text.as_str(),
        _ => "",
    };
    u8::from_str_radix(text, 16).expect("the id of a command")
}

/// What a write sets an attribute to, as the number of a command.
fn set(write: &RowWrite, name: &str) -> Option<u8> {
    let Change::Update(edits) = &write.change else {
        return None;
    };
    edits.iter().find_map(|edit| match edit {
        Edit::Set(attribute, value) if *attribute == name => Some(number(value)),
        _ => None,
    })
}

impl Untimed {
    pub(super) fn command_actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        let commands = state.commands;
        if commands.issued < self.bounds.commands {
            for command in self.bounds.wishes {
                actions.extend([true, false].map(|hint| Action::Command(*command, hint)));
            }
        }
        if commands.item != NONE {
            let versions = (0..3).filter(|age| Self::version(state, *age) != NONE);
            actions.extend(versions.map(Action::Care));
        }
        if commands.tidy != NONE {
            actions.push(Action::Tidy);
        }
        if commands.late != NONE {
            actions.push(Action::LateCommand);
        }
    }

    fn lease(&self, row: Id) -> Lease {
        self.table.lease(row).expect("a row")
    }

    pub(super) fn command(&mut self, state: &mut State, command: Command, hint: bool) {
        let row = self.lease(state.row);
        let commands = &mut state.commands;
        commands.issued += 1;
        let wish = match command {
            Command::Pause => Wish::Pause,
            Command::Resume => Wish::Resume,
            Command::Seek(to) => Wish::Seek(StartPoint {
                checkpoint: checkpoint(to),
                moment_ms: None,
            }),
        };
        let seen = self.table.items.find(commands.item);
        let write = internals::command_write(seen, &row, wish, id(commands.issued));
        if commands.issued == 1 {
            commands.late = self.table.writes.id(write.clone());
        }
        commands.item = self.table.change(commands.item, write);
        match command {
            Command::Pause if commands.pause == 0 => commands.pause = commands.issued,
            Command::Resume => {
                commands.pause = 0;
                commands.reported = false;
            }
            _ => {}
        }
        if hint {
            self.hint(state);
        }
    }

    /// The owner learns that there is a command.
    fn hint(&mut self, state: &mut State) {
        let owner = self.row(state).owner;
        let workers = state.workers.iter_mut();
        for worker in workers.filter(|worker| worker.held.is_some() && Some(worker.id) == owner) {
            worker.hinted = true;
        }
    }

    pub(super) fn look(&mut self, state: &mut State, worker: usize) {
        let item = state.commands.item;
        let who = &mut state.workers[worker];
        who.hinted = false;
        if let Some(held) = who.held {
            let (holding, _) = self.ask(held.holding, Event::Look(item));
            state.workers[worker].held = Some(Held { holding, ..held });
        }
    }

    /// Whether the holder has something to obey.
    pub(super) fn obeys(&mut self, held: Held, attempt: u8) -> bool {
        let holding = self.holdings.get(held.holding);
        let new = holding.orders().is_some_and(Orders::are_new);
        if !new || holding.is_obeying() {
            return false;
        }
        let (_, outcome) = self.ask(held.holding, Event::Obey(attempt));
        matches!(outcome, Outcome::Calls(_))
    }

    pub(super) fn care(&mut self, state: &mut State, age: u8) {
        let row = self.lease(Self::version(state, age));
        let item = self.table.items.get(state.commands.item);
        match internals::care(item, &row) {
            Care::Nothing => {}
            Care::Remind => self.hint(state),
            Care::Delete => {
                let item = CommandItem::from_item(item).expect("a good item");
                let delete = write::delete_command(&item.expect("a command"));
                state.commands.tidy = self.table.writes.id(delete);
            }
        }
    }

    /// An operator's request arrives once more.
    pub(super) fn late_command(&mut self, state: &mut State) -> u32 {
        let commands = &mut state.commands;
        let write = std::mem::replace(&mut commands.late, NONE);
        if let Some(after) = self.table.apply(write, commands.item) {
            commands.item = after;
        }
        ARRIVED_AGAIN
    }

    pub(super) fn tidy(&mut self, state: &mut State) {
        let commands = &mut state.commands;
        let write = std::mem::replace(&mut commands.tidy, NONE);
        if let Some(after) = self.table.apply(write, commands.item) {
            commands.item = after;
        }
    }

    /// Judges what a write to the row says of commands. Returns whether it is a seek.
    pub(super) fn note_obeyed(&mut self, state: &mut State, write: Id, checkpoint: u8) -> bool {
        let write = self.table.writes.get(write);
        let (command, seek) = (
            set(write, attribute::OBEYED_COMMAND),
            set(write, attribute::OBEYED_SEEK),
        );
        let commands = &mut state.commands;
        if command.is_some_and(|command| commands.pause > 0 && command >= commands.pause) {
            commands.reported = true;
        }
        let Some(seek) = seek else {
            return false;
        };
        if commands.applied >> seek & 1 == 1 {
            state.broken |= C1;
        }
        commands.applied |= 1 << seek;
        commands.era += 1;
        // From here on everything comes again, but what is passed over.
        state.delivered = (1 << checkpoint) - 1;
        state.ghost.start = checkpoint;
        state.ghost.clean = 0;
        true
    }

    /// After a seek the holder reads from another place.
    pub(super) fn begin_anew(&mut self, state: &mut State, worker: usize) -> u32 {
        let era = state.commands.era;
        let Some(held) = state.workers[worker].held.as_mut() else {
            return 0;
        };
        let holding = self.holdings.get(held.holding);
        let paused = if state.commands.reported { PAUSED } else { 0 };
        // A further seek may be known by now: it is obeyed next.
        if held.era == era || holding.is_obeying() || held.change != state.ghost.changes {
            return paused;
        }
        held.era = era;
        held.position = records(holding.committed());
        SOUGHT | paused
    }

    /// Whether the row says that the command was obeyed.
    pub(super) fn is_obeyed(&self, state: &State) -> bool {
        let item = self.table.items.find(state.commands.item);
        let item = item.and_then(|item| CommandItem::from_item(item).expect("a good item"));
        let obeyed = self.lease(state.row).obeyed.command;
        item.is_none_or(|item| Some(item.command) == obeyed)
    }
}
