//! Telling the items of one table apart.

use crate::command_item::CommandItem;
use crate::item::{Item, attribute};
use crate::leader_item::LeaderItem;
use crate::lease::Lease;
use crate::row_reader::{RowError, RowReader};
use crate::stream_item::StreamItem;
use crate::worker_item::WorkerItem;

/// One item of the lease table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A lease.
    Lease(Lease),
    /// A worker's session.
    Worker(WorkerItem),
    /// The leader item.
    Leader(LeaderItem),
    /// A stream's identity and starting point.
    Stream(StreamItem),
    /// What an operator wants of the holder of a lease.
    Command(CommandItem),
    /// An item of another kind, such as those of Java 3.5 workers.
    Foreign {
        /// The kind.
        entity_type: String,
    },
}

impl Row {
    /// Reads any item of the table.
    ///
    /// # Errors
    /// When the item is of a kind that this library knows and cannot be used. It says nothing about other items.
    pub fn from_item(item: &Item) -> Result<Self, RowError> {
        if let Some(lease) = Lease::from_item(item)? {
            return Ok(Self::Lease(lease));
        }
        if let Some(worker) = WorkerItem::from_item(item)? {
            return Ok(Self::Worker(worker));
        }
        if let Some(leader) = LeaderItem::from_item(item)? {
            return Ok(Self::Leader(leader));
        }
        if let Some(stream) = StreamItem::from_item(item)? {
            return Ok(Self::Stream(stream));
        }
        if let Some(command) = CommandItem::from_item(item)? {
            return Ok(Self::Command(command));
        }
        let entity_type = RowReader(item).text(attribute::ENTITY_TYPE)?.to_owned();
        Ok(Self::Foreign { entity_type })
    }
}
