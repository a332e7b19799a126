//! The writes that belong to commands of operators, as data.

use crate::command_item::{CommandId, CommandItem};
use crate::item::{Item, Value, attribute};
use crate::mutant::{self, Mutant};
use crate::orders::{Obey, StartPoint};
use crate::row_write::{Change, Edit, RowWrite, Term};
use crate::write::{Held, held_by, next_counter, progress, update};

/// An operator's command: stores `item`, unless another command came between. `seen` is the command that was read, `None`
/// if there was no item.
#[must_use]
pub fn command(item: &CommandItem, seen: Option<&CommandId>) -> RowWrite {
    RowWrite {
        key: CommandItem::key_of(&item.lease),
        condition: vec![match seen {
            Some(seen) => command_is(seen),
            None => Term::Absent(attribute::KEY),
        }],
        change: Change::Put(item.to_item()),
    }
}

/// An operator's command in the place of an item that nobody could read, if what is read of a command is still the same.
#[must_use]
pub fn replace_unreadable(item: &CommandItem, unreadable: &Item) -> RowWrite {
    let as_it_was = CommandItem::ATTRIBUTES.map(|name| match unreadable.get(name) {
        Some(value) => Term::Equals(name, value.clone()),
        None => Term::Absent(name),
    });
    let exists = Term::Present(attribute::KEY);
    RowWrite {
        key: CommandItem::key_of(&item.lease),
        condition: [exists].into_iter().chain(as_it_was).collect(),
        change: Change::Put(item.to_item()),
    }
}

/// The leader deletes a command, because its lease is over.
#[must_use]
pub fn delete_command(seen: &CommandItem) -> RowWrite {
    RowWrite {
        key: CommandItem::key_of(&seen.lease),
        condition: vec![command_is(&seen.command)],
        change: Change::Delete,
    }
}

/// A holder notes in its row that it obeys a command, and where a seek goes. A pending checkpoint is over with a seek.
#[must_use]
pub(crate) fn obey(held: &Held, obey: &Obey) -> RowWrite {
    let mut edits = vec![next_counter(held.counter)];
    if let Some(command) = &obey.command {
        let command = Value::text(command.as_str());
        edits.push(Edit::Set(attribute::OBEYED_COMMAND, command));
    }
    if let Some(seek) = &obey.seek {
        let seek = Value::text(seek.as_str());
        edits.push(Edit::Set(attribute::OBEYED_SEEK, seek));
    }
    if let Some(to) = &obey.to {
        edits.extend(sought(to));
    }
    let condition = match mutant::is(Mutant::ObeyUnfenced) {
        true => vec![Term::Present(attribute::KEY)],
        false => held_by(held),
    };
    update(held.key.as_str(), condition, edits)
}

fn sought(to: &StartPoint) -> Vec<Edit> {
    let mut edits = vec![
        Edit::Set(attribute::OWNER_SWITCHES, Value::number(0)),
        match to.moment_ms {
            Some(moment) => Edit::Set(attribute::SOUGHT_MOMENT, Value::number(moment)),
            None => Edit::Remove(attribute::SOUGHT_MOMENT),
        },
    ];
    edits.extend(progress(&to.checkpoint, None));
    edits
}

fn command_is(command: &CommandId) -> Term {
    Term::Equals(attribute::COMMAND, Value::text(command.as_str()))
}
