//! Why a shard is paused though no operator wanted it.

use std::fmt;
use std::sync::Arc;

use kcl_checkpoint::{Checkpoint, Position};

use crate::item::{Item, Value, attribute};
use crate::lease::read_checkpoint;
use crate::row_reader::{RowError, RowReader};

/// Longer texts of errors are cut.
const MAX_ERROR: usize = 1_000;

/// Why a worker stopped the delivery of a shard for all who hold it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StopCause {
    /// The record that could not be processed, or at which reading was to go on; `None` if nothing of the shard was
    /// complete.
    pub position: Option<Position>,
    /// The text of the last error, at most 1,000 bytes.
    pub error: Arc<str>,
}

impl StopCause {
    /// A cause with the text of an error, of which the first 1,000 bytes are kept.
    #[must_use]
    pub fn new(position: Option<Position>, error: &str) -> Self {
        let error = match error.is_empty() {
            // An empty text would not be stored.
            true => "unknown",
            false => &error[..error.floor_char_boundary(MAX_ERROR)],
        };
        Self {
            position,
            error: error.into(),
        }
    }

    pub(crate) fn read(row: RowReader<'_>) -> Result<Option<Self>, RowError> {
        let Some(error) = row.optional_text(attribute::STOP_CAUSE)? else {
            return Ok(None);
        };
        let position = match row.optional_text(attribute::STOPPED_AT)? {
            None => None,
            Some(text) => {
                let at = attribute::STOPPED_AT;
                match read_checkpoint(row, at, text, attribute::STOPPED_AT_SUB)? {
                    Checkpoint::At(position) => Some(position),
                    _ => return Err(row.error(at, "is not a sequence number")),
                }
            }
        };
        Ok(Some(Self::new(position, error)))
    }

    /// Adds the attributes to the item of a command.
    pub(crate) fn store(&self, item: &mut Item) {
        let mut set = |name: &str, value| item.insert(name.to_owned(), value);
        set(attribute::STOP_CAUSE, Value::text(&*self.error));
        if let Some(position) = &self.position {
            let at = Checkpoint::At(position.clone());
            set(attribute::STOPPED_AT, Value::text(at.text()));
            set(
                attribute::STOPPED_AT_SUB,
                Value::number(at.sub_sequence_number()),
            );
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")?;
        if let Some(position) = &self.position {
            write!(f, " at {position}")?;
        }
        write!(f, ": {}", self.error)
    }
}
