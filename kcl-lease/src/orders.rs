//! Orders: what operators want of the holder of a lease, and what holders did about it.
//!
//! A command is an item of its own ([`CommandItem`]); only operators and the leader write it. What was done about it is in
//! the lease's row, written by the holder under the condition of all its writes: so a seek is applied exactly once, whoever
//! dies when, and a report that a lease is paused is never that of a worker that is not its holder any more.

use kcl_checkpoint::{Checkpoint, Position};

use crate::command_item::{CommandId, CommandItem};
use crate::item::{Item, Value, attribute};
use crate::key::LeaseKey;
use crate::mutant::{self, Mutant};
use crate::row_reader::{RowError, RowReader};
use crate::stop_cause::StopCause;

/// Where reading of a shard goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StartPoint {
    /// Everything up to here is complete, or passed over.
    pub checkpoint: Checkpoint,
    /// The moment that AT_TIMESTAMP speaks of, epoch milliseconds; without it that is the time at which the application
    /// began.
    pub moment_ms: Option<u64>,
}

impl StartPoint {
    /// The oldest record that there is.
    #[must_use]
    pub fn oldest() -> Self {
        Self {
            checkpoint: Checkpoint::TrimHorizon,
            moment_ms: None,
        }
    }

    /// The first record that arrived at this moment or later, epoch milliseconds.
    #[must_use]
    pub fn at_time(moment_ms: u64) -> Self {
        Self {
            checkpoint: Checkpoint::AtTimestamp,
            moment_ms: Some(moment_ms),
        }
    }

    /// The record after this position.
    #[must_use]
    pub fn after(position: Position) -> Self {
        Self {
            checkpoint: Checkpoint::At(position),
            moment_ms: None,
        }
    }

    /// Whether a seek may go there: to a place that means the same whenever it is looked at.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        match self.checkpoint {
            Checkpoint::TrimHorizon | Checkpoint::At(_) => true,
            Checkpoint::AtTimestamp => self.moment_ms.is_some(),
            Checkpoint::Latest | Checkpoint::ShardEnd => false,
        }
    }
}

/// An ordered change of the place where reading goes on, applied once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seek {
    /// Tells it from every other seek.
    pub id: CommandId,
    /// Where reading goes on.
    pub to: StartPoint,
}

/// What holders of a lease did about commands, as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Obeyed {
    /// The command that was obeyed last.
    pub command: Option<CommandId>,
    /// The ordered seek that was applied last.
    pub seek: Option<CommandId>,
    /// The moment of the last seek, ordered or the holder's own, epoch milliseconds: what a checkpoint AT_TIMESTAMP means.
    pub moment_ms: Option<u64>,
}

impl Obeyed {
    pub(crate) fn read(row: RowReader<'_>) -> Result<Self, RowError> {
        let id = |attribute| Ok(row.optional_text(attribute)?.map(CommandId::from));
        Ok(Self {
            command: id(attribute::OBEYED_COMMAND)?,
            seek: id(attribute::OBEYED_SEEK)?,
            moment_ms: row.optional_number(attribute::SOUGHT_MOMENT)?,
        })
    }

    /// Adds the attributes to the item of a row.
    pub(crate) fn store(&self, item: &mut Item) {
        for (name, id) in [
            (attribute::OBEYED_COMMAND, &self.command),
            (attribute::OBEYED_SEEK, &self.seek),
        ] {
            if let Some(id) = id {
                item.insert(name.to_owned(), Value::text(id.as_str()));
            }
        }
        if let Some(moment) = self.moment_ms {
            let moment = Value::number(moment);
            item.insert(attribute::SOUGHT_MOMENT.to_owned(), moment);
        }
    }

    /// Where reading goes on for this checkpoint of the same row.
    #[must_use]
    pub fn start_at(&self, checkpoint: &Checkpoint) -> StartPoint {
        StartPoint {
            checkpoint: checkpoint.clone(),
            moment_ms: self
                .moment_ms
                .filter(|_| *checkpoint == Checkpoint::AtTimestamp),
        }
    }

    /// Whether a seek that was ordered was applied. Only the last one is known: a later one replaced it.
    fn has_sought(&self, seek: &CommandId) -> bool {
        self.seek.as_ref() == Some(seek) && !mutant::is(Mutant::SeekAgain)
    }

    /// Whether a row with this checkpoint says everything of `obey`.
    pub(crate) fn covers(&self, obey: &Obey, checkpoint: &Checkpoint) -> bool {
        let command = obey.command.is_none() || obey.command == self.command;
        let sought = match (&obey.seek, &obey.to) {
            (Some(seek), _) => self.has_sought(seek),
            // Nothing is delivered while it may be applied, so that one that was applied is the same applied again.
            (None, Some(to)) => self.start_at(checkpoint) == *to,
            (None, None) => true,
        };
        command && sought
    }

    /// After this was written.
    pub(crate) fn note(&mut self, obey: &Obey) {
        if let Some(command) = &obey.command {
            self.command = Some(command.clone());
        }
        if let Some(seek) = &obey.seek {
            self.seek = Some(seek.clone());
        }
        if let Some(to) = &obey.to {
            self.moment_ms = to.moment_ms;
        }
    }
}

/// What a holder writes to its row because of a command, or because it seeks by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Obey {
    /// The command that is obeyed with it.
    pub(crate) command: Option<CommandId>,
    /// The seek that was ordered. A holder's own seek has no id: that of an ordered one must stay in the row, or the order
    /// would be carried out again.
    pub(crate) seek: Option<CommandId>,
    /// Where reading goes on from now.
    pub(crate) to: Option<StartPoint>,
}

impl Obey {
    /// Whether it moves reading without an order.
    pub(crate) fn is_own_seek(&self) -> bool {
        self.to.is_some() && self.seek.is_none()
    }
}

/// What operators want of the holder of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Orders {
    /// Nothing of the shard may be delivered.
    pub paused: bool,
    /// Why it is paused, if a worker did that because of a record that could not be processed.
    pub stopped: Option<StopCause>,
    /// A seek that was not applied yet: nothing may be delivered before it is.
    pub seek: Option<Seek>,
    /// The command that says so, unless the row says that it was obeyed.
    pub command: Option<CommandId>,
}

impl Orders {
    /// What `item` orders, where the row says `obeyed`.
    pub(crate) fn of(item: Option<&CommandItem>, obeyed: &Obeyed) -> Self {
        let Some(item) = item else {
            return Self::default();
        };
        let open = |seek: &Seek| !obeyed.has_sought(&seek.id);
        let seek = item.seek.clone().filter(open);
        let is_new = obeyed.command.as_ref() != Some(&item.command);
        Self {
            paused: item.paused,
            stopped: item.stopped.clone().filter(|_| item.paused),
            command: (is_new || seek.is_some()).then(|| item.command.clone()),
            seek,
        }
    }

    /// Whether records may be delivered.
    #[must_use]
    pub fn allow_delivery(&self) -> bool {
        !self.paused && self.seek.is_none()
    }

    /// Whether the holder has something to write about them: that it obeys.
    #[must_use]
    pub fn are_new(&self) -> bool {
        self.command.is_some() || self.seek.is_some()
    }

    pub(crate) fn obey(&self) -> Obey {
        Obey {
            command: self.command.clone(),
            seek: self.seek.as_ref().map(|seek| seek.id.clone()),
            to: self.seek.as_ref().map(|seek| seek.to.clone()),
        }
    }
}

/// What an operator changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Whether the lease is paused.
    Paused(bool),
    /// The lease is paused for this cause.
    Stopped(StopCause),
    /// Where reading goes on.
    Seek(StartPoint),
}

impl Change {
    /// Whether it means something for one shard only: every position belongs to one.
    pub(crate) fn is_for_one_shard(&self) -> bool {
        matches!(self, Self::Seek(to) if matches!(to.checkpoint, Checkpoint::At(_)))
    }
}

/// The command that an operator puts in the place of the one that was `seen`, for a lease whose row says `obeyed`. A seek
/// that nobody applied yet stays, unless another one replaces it.
pub(crate) fn commanded(
    lease: &LeaseKey,
    seen: Option<&CommandItem>,
    obeyed: &Obeyed,
    change: &Change,
    command: CommandId,
) -> CommandItem {
    let open = |seek: &Seek| !obeyed.has_sought(&seek.id);
    let kept = || seen.and_then(|item| item.seek.clone()).filter(open);
    let was_paused = seen.is_some_and(|item| item.paused);
    let cause = || seen.and_then(|item| item.stopped.clone());
    let (paused, stopped, seek) = match change {
        Change::Paused(true) => (true, cause(), kept()),
        Change::Paused(false) => (false, None, kept()),
        Change::Stopped(cause) => (true, Some(cause.clone()), kept()),
        Change::Seek(to) => {
            let (id, to) = (command.clone(), to.clone());
            (was_paused, cause(), Some(Seek { id, to }))
        }
    };
    CommandItem {
        lease: lease.clone(),
        command,
        paused,
        stopped,
        seek,
    }
}

/// What counts as the command that was seen where nobody could read it: nothing was delivered, as if it were a pause.
pub(crate) fn unreadable(lease: &LeaseKey, id: CommandId) -> CommandItem {
    CommandItem {
        lease: lease.clone(),
        command: id,
        paused: true,
        stopped: None,
        seek: None,
    }
}

/// What a holder knows of its orders before it has looked.
pub(crate) fn before_the_first_look() -> Option<Orders> {
    mutant::is(Mutant::DeliverBeforeOrders).then(Orders::default)
}

/// What the leader does about a command that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// Nothing: it was obeyed, or will be read by whoever takes the lease.
    Nothing,
    /// The holder is told again: it may not know of it.
    Remind,
    /// The item is deleted: nobody obeys it any more.
    Delete,
}

/// What the leader does about `item`, whose lease is finished or not and says `obeyed`.
///
/// An item stays as long as its lease does, also when it says nothing more: were it deleted, a repeated request to store a
/// command where there was none could land after that, and the command would be obeyed again.
pub(crate) fn care(item: &CommandItem, finished: bool, obeyed: &Obeyed) -> Care {
    let is_obeyed = obeyed.command.as_ref() == Some(&item.command);
    match (finished, is_obeyed) {
        (true, _) => Care::Delete,
        (false, true) if mutant::is(Mutant::TidyObeyed) => Care::Delete,
        (false, true) => Care::Nothing,
        (false, false) if mutant::is(Mutant::NeverRemind) => Care::Nothing,
        (false, false) => Care::Remind,
    }
}
