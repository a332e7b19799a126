//! The item that shows that a worker's session is alive.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::item::{Item, Value, attribute, entity};
use crate::key::WorkerId;
use crate::row_reader::{RowError, RowReader};

/// The version of the protocol between workers that this library speaks.
pub const PROTOCOL_VERSION: u64 = 1;

/// No worker may claim a longer lease duration: nobody would take its leases for that long.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker's item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerItem {
    /// The worker's session.
    pub id: WorkerId,
    /// Grows while the session lives.
    pub heartbeat: u64,
    /// The worker gives its leases away to end.
    pub draining: bool,
    /// The worker's lease duration.
    pub duration: Duration,
    /// How many leases it holds.
    pub held_count: u64,
    /// A digest over the keys of these leases.
    pub held_digest: u64,
    /// How many leases it holds at most; `None` for any number.
    pub max_leases: Option<u64>,
    /// Hints for it that it did not consume yet. Anybody may have put anything there.
    pub inbox: BTreeSet<String>,
    /// The version of the protocol that it speaks.
    pub protocol: u64,
}

impl WorkerItem {
    /// The item with which a new session registers.
    #[must_use]
    pub fn new(id: WorkerId, duration: Duration) -> Self {
        Self {
            id,
            heartbeat: 0,
            draining: false,
            duration,
            held_count: 0,
            held_digest: 0,
            max_leases: None,
            inbox: BTreeSet::new(),
            protocol: PROTOCOL_VERSION,
        }
    }

    /// How many leases the worker holds at most.
    pub(crate) fn room(&self) -> usize {
        let room = self.max_leases.unwrap_or(u64::MAX);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Reads an item; `None` if it is no worker's.
    ///
    /// # Errors
    /// When an attribute is missing, has a wrong type, a wrong value or an absurd size.
    pub fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        let row = RowReader(item);
        if row.optional_text(attribute::ENTITY_TYPE)? != Some(entity::WORKER) {
            return Ok(None);
        }
        let duration = Duration::from_millis(row.number(attribute::DURATION)?);
        if duration.is_zero() || duration > MAX_DURATION {
            return Err(row.error(attribute::DURATION, "is not between 1 ms and 24 hours"));
        }
        Ok(Some(Self {
            id: WorkerId::from(row.text(attribute::KEY)?),
            heartbeat: row.number(attribute::HEARTBEAT)?,
            draining: row.optional_bool(attribute::DRAINING)?.unwrap_or(false),
            duration,
            held_count: row.optional_number(attribute::HELD_COUNT)?.unwrap_or(0),
            held_digest: row.optional_digest(attribute::HELD_DIGEST)?.unwrap_or(0),
            max_leases: row.optional_number(attribute::MAX_LEASES)?,
            // Whatever its size: texts that are no hints are taken out like hints.
            inbox: row.any_texts(attribute::INBOX)?.clone(),
            protocol: row.optional_number(attribute::PROTOCOL)?.unwrap_or(1),
        }))
    }

    /// The item as it is stored.
    #[must_use]
    pub fn to_item(&self) -> Item {
        let duration = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        let mut item = Item::from([
            (attribute::KEY.to_owned(), Value::text(self.id.as_str())),
            (
                attribute::ENTITY_TYPE.to_owned(),
                Value::text(entity::WORKER),
            ),
            (
                attribute::HEARTBEAT.to_owned(),
                Value::number(self.heartbeat),
            ),
            (attribute::DRAINING.to_owned(), Value::Bool(self.draining)),
            (attribute::DURATION.to_owned(), Value::number(duration)),
            (
                attribute::HELD_COUNT.to_owned(),
                Value::number(self.held_count),
            ),
            (
                attribute::HELD_DIGEST.to_owned(),
                Value::number(self.held_digest),
            ),
            (attribute::PROTOCOL.to_owned(), Value::number(self.protocol)),
        ]);
        if let Some(max_leases) = self.max_leases {
            item.insert(attribute::MAX_LEASES.to_owned(), Value::number(max_leases));
        }
        if !self.inbox.is_empty() {
            item.insert(attribute::INBOX.to_owned(), Value::Ss(self.inbox.clone()));
        }
        item
    }
}
