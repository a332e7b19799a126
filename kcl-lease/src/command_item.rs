//! The item with which operators command the holder of a lease.

use std::fmt;
use std::sync::Arc;

use crate::item::{Item, Value, attribute, entity};
use crate::key::LeaseKey;
use crate::lease::{Lease, read_checkpoint};
use crate::orders::{Orders, Seek, StartPoint};
use crate::row_reader::{RowError, RowReader};
use crate::stop_cause::StopCause;

const PREFIX: &str = "SessionCommand:";

/// The id of a command or a seek: 32 random hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(Arc<str>);

impl CommandId {
    /// A new id.
    #[must_use]
    pub fn generate(rng: &mut fastrand::Rng) -> Self {
        Self(format!("{:032x}", rng.u128(..)).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CommandId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What operators want of the holder of one lease. Absent: that it delivers, as if there had never been a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandItem {
    /// The lease.
    pub lease: LeaseKey,
    /// Tells this command from every other.
    pub command: CommandId,
    /// Nothing of the shard may be delivered.
    pub paused: bool,
    /// Why it is paused, if a worker did that because of a record that could not be processed.
    pub stopped: Option<StopCause>,
    /// Where reading should go on; to be applied once.
    pub seek: Option<Seek>,
}

impl CommandItem {
    /// All that is read of an item, beside its key.
    pub(crate) const ATTRIBUTES: [&str; 10] = [
        attribute::ENTITY_TYPE,
        attribute::COMMAND,
        attribute::PAUSED,
        attribute::SEEK,
        attribute::SEEK_TO,
        attribute::SEEK_TO_SUB,
        attribute::SEEK_TO_MOMENT,
        attribute::STOP_CAUSE,
        attribute::STOPPED_AT,
        attribute::STOPPED_AT_SUB,
    ];

    /// What of it is in force, where the lease's row is this; `None` if nothing is.
    pub(crate) fn in_force(mut self, lease: &Lease) -> Option<Self> {
        self.seek = Orders::of(Some(&self), &lease.obeyed).seek;
        let says_something = self.paused || self.seek.is_some();
        (says_something && !lease.is_finished()).then_some(self)
    }

    /// The key of the item for a lease.
    #[must_use]
    pub fn key_of(lease: &LeaseKey) -> String {
        format!("{PREFIX}{lease}")
    }

    /// Reads an item; `None` if it is no command.
    ///
    /// # Errors
    /// When an attribute is missing, has a wrong type, a wrong value or an absurd size.
    pub fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        let row = RowReader(item);
        if row.optional_text(attribute::ENTITY_TYPE)? != Some(entity::COMMAND) {
            return Ok(None);
        }
        let key = row.text(attribute::KEY)?.strip_prefix(PREFIX);
        let lease = key.filter(|lease| !lease.is_empty()).ok_or_else(|| {
            let problem = format!("is not {PREFIX:?} and the key of a lease");
            row.error(attribute::KEY, problem)
        })?;
        let command = row.text(attribute::COMMAND)?;
        Ok(Some(Self {
            lease: LeaseKey::from(lease),
            command: read_id(row, attribute::COMMAND, command)?,
            paused: row.optional_bool(attribute::PAUSED)?.unwrap_or(false),
            stopped: StopCause::read(row)?,
            seek: read_seek(row)?,
        }))
    }

    /// Reads an item that must be a command: nothing else belongs at its key.
    pub(crate) fn expect_from(item: &Item) -> Result<Self, RowError> {
        let kind = || RowReader(item).error(attribute::ENTITY_TYPE, "is not that of a command");
        Self::from_item(item)?.ok_or_else(kind)
    }

    /// The item as it is stored.
    #[must_use]
    pub fn to_item(&self) -> Item {
        let mut item = Item::from([
            (
                attribute::KEY.to_owned(),
                Value::text(Self::key_of(&self.lease)),
            ),
            (
                attribute::ENTITY_TYPE.to_owned(),
                Value::text(entity::COMMAND),
            ),
            (
                attribute::COMMAND.to_owned(),
                Value::text(self.command.as_str()),
            ),
            (attribute::PAUSED.to_owned(), Value::Bool(self.paused)),
        ]);
        if let Some(cause) = &self.stopped {
            cause.store(&mut item);
        }
        let Some(seek) = &self.seek else {
            return item;
        };
        let to = &seek.to.checkpoint;
        for (name, value) in [
            (attribute::SEEK, Value::text(seek.id.as_str())),
            (attribute::SEEK_TO, Value::text(to.text())),
            (
                attribute::SEEK_TO_SUB,
                Value::number(to.sub_sequence_number()),
            ),
        ] {
            item.insert(name.to_owned(), value);
        }
        if let Some(moment) = seek.to.moment_ms {
            let moment = Value::number(moment);
            item.insert(attribute::SEEK_TO_MOMENT.to_owned(), moment);
        }
        item
    }
}

fn read_id(row: RowReader<'_>, name: &'static str, text: &str) -> Result<CommandId, RowError> {
    let is_id = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match is_id {
        true => Ok(CommandId::from(text)),
        false => Err(row.error(name, "is not 32 hexadecimal digits")),
    }
}

fn read_seek(row: RowReader<'_>) -> Result<Option<Seek>, RowError> {
    let Some(id) = row.optional_text(attribute::SEEK)? else {
        return Ok(None);
    };
    let to = row.text(attribute::SEEK_TO)?;
    let to = StartPoint {
        checkpoint: read_checkpoint(row, attribute::SEEK_TO, to, attribute::SEEK_TO_SUB)?,
        moment_ms: row.optional_number(attribute::SEEK_TO_MOMENT)?,
    };
    if !to.is_fixed() {
        let problem = "is not a sequence number, TRIM_HORIZON, or AT_TIMESTAMP with a moment";
        return Err(row.error(attribute::SEEK_TO, problem));
    }
    Ok(Some(Seek {
        id: read_id(row, attribute::SEEK, id)?,
        to,
    }))
}
