//! The lease row: reading any row of the Java library or of ours, and making new ones.

use std::collections::BTreeSet;

use kcl_checkpoint::Checkpoint;

use crate::item::{Item, Value, attribute, entity};
use crate::key::{HashKeyRange, LeaseKey, ShardId, WorkerId};
use crate::orders::{Obeyed, StartPoint};
use crate::row_reader::{RowError, RowReader};

/// A lease row as it was read.
///
/// Attributes that this library does not know stay in the table: changes name single attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The row's key.
    pub key: LeaseKey,
    /// The owner, if there is one.
    pub owner: Option<WorkerId>,
    /// The row's version.
    pub counter: u64,
    /// The stored progress.
    pub checkpoint: Checkpoint,
    /// Changes of owner since the last checkpoint. For information only.
    pub owner_switches: u64,
    /// The shards from which this one came.
    pub parents: BTreeSet<ShardId>,
    /// The shards that follow this one, known once it ended.
    pub children: BTreeSet<ShardId>,
    /// The hash keys of the shard, if known.
    pub hash_range: Option<HashKeyRange>,
    /// The first phase of a two-phase checkpoint.
    pub pending: Option<PendingCheckpoint>,
    /// The worker that still processes the lease while a Java worker hands it over.
    pub checkpoint_owner: Option<WorkerId>,
    /// What holders did about commands of operators.
    pub obeyed: Obeyed,
}

/// The first phase of a two-phase checkpoint: what the application is about to commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingCheckpoint {
    /// The checkpoint that will be committed.
    pub checkpoint: Checkpoint,
    /// Opaque bytes of the application.
    pub state: Option<Vec<u8>>,
}

impl PendingCheckpoint {
    /// Whether it stays in force when this checkpoint is stored: only one at or past it ends it.
    #[must_use]
    pub fn outlasts(&self, stored: &Checkpoint) -> bool {
        self.checkpoint > *stored
    }
}

impl Lease {
    /// True once the shard was processed to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }

    /// True if somebody has worked on the lease: its parents were done then. A seek moves the checkpoint back to where a
    /// lease may start, but not to the time before its parents ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.checkpoint.is_start() || self.obeyed.seek.is_some() || self.obeyed.moment_ms.is_some()
    }

    /// Where reading goes on.
    #[must_use]
    pub fn start(&self) -> StartPoint {
        self.obeyed.start_at(&self.checkpoint)
    }

    /// Reads a row; `None` if the item is no lease.
    ///
    /// The rules are the Java library's (`DynamoDBLeaseSerializer.fromDynamoRecord`): an item without `entityType` is
    /// a lease, a pending checkpoint or a hash range counts only if its texts are not empty.
    ///
    /// # Errors
    /// When the item claims to be a lease and a mandatory attribute is missing, or any attribute that is read has a
    /// wrong type, a wrong value or an absurd size.
    pub fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        let row = RowReader(item);
        if row
            .optional_text(attribute::ENTITY_TYPE)?
            .is_some_and(|kind| kind != entity::LEASE)
        {
            return Ok(None);
        }
        Ok(Some(Self {
            key: LeaseKey::from(row.text(attribute::KEY)?),
            owner: row.optional_text(attribute::OWNER)?.map(WorkerId::from),
            counter: row.number(attribute::COUNTER)?,
            checkpoint: read_checkpoint(
                row,
                attribute::CHECKPOINT,
                row.text(attribute::CHECKPOINT)?,
                attribute::CHECKPOINT_SUB,
            )?,
            owner_switches: row.number(attribute::OWNER_SWITCHES)?,
            parents: read_shards(row, attribute::PARENTS)?,
            children: read_shards(row, attribute::CHILDREN)?,
            hash_range: read_hash_range(row)?,
            pending: read_pending(row)?,
            checkpoint_owner: row
                .optional_text(attribute::CHECKPOINT_OWNER)?
                .map(WorkerId::from),
            obeyed: Obeyed::read(row)?,
        }))
    }
}

pub(crate) fn read_checkpoint(
    row: RowReader<'_>,
    attribute: &'static str,
    text: &str,
    sub_attribute: &'static str,
) -> Result<Checkpoint, RowError> {
    let sub = row.optional_number(sub_attribute)?.unwrap_or(0);
    Checkpoint::from_attributes(text, sub).map_err(|error| {
        row.error(
            attribute,
            format!("is neither a sequence number nor a sentinel ({error})"),
        )
    })
}

fn read_pending(row: RowReader<'_>) -> Result<Option<PendingCheckpoint>, RowError> {
    let Some(text) = row.optional_text(attribute::PENDING)? else {
        return Ok(None);
    };
    Ok(Some(PendingCheckpoint {
        checkpoint: read_checkpoint(row, attribute::PENDING, text, attribute::PENDING_SUB)?,
        state: row
            .optional_bytes(attribute::PENDING_STATE)?
            .map(<[u8]>::to_vec),
    }))
}

fn read_hash_range(row: RowReader<'_>) -> Result<Option<HashKeyRange>, RowError> {
    let start = row.optional_text(attribute::HASH_START)?;
    let end = row.optional_text(attribute::HASH_END)?;
    let (Some(start), Some(end)) = (start, end) else {
        return Ok(None);
    };
    HashKeyRange::parse(start, end)
        .map(Some)
        .map_err(|error| row.error(attribute::HASH_START, format!("is not usable: {error}")))
}

fn read_shards(row: RowReader<'_>, attribute: &'static str) -> Result<BTreeSet<ShardId>, RowError> {
    let texts = row.texts(attribute)?;
    Ok(texts.iter().map(|t| ShardId::from(t.as_str())).collect())
}

/// What a new lease row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLease {
    /// The row's key.
    pub key: LeaseKey,
    /// Where reading begins.
    pub checkpoint: Checkpoint,
    /// The shards from which this one came.
    pub parents: BTreeSet<ShardId>,
    /// The hash keys of the shard, if known.
    pub hash_range: Option<HashKeyRange>,
}

/// The item of a new, unowned lease as the Java library's `createLeaseIfNotExists` puts it, but for the counter.
///
/// Ours starts at `counter`, the epoch milliseconds, so that a row that is deleted and made again never repeats a
/// counter that was seen before.
#[must_use]
pub fn new_lease_item(lease: &NewLease, counter: u64) -> Item {
    let mut item = Item::new();
    let mut set = |name: &str, value: Value| {
        item.insert(name.to_owned(), value);
    };
    set(attribute::KEY, Value::text(lease.key.as_str()));
    set(attribute::ENTITY_TYPE, Value::text(entity::LEASE));
    set(attribute::COUNTER, Value::number(counter));
    set(attribute::OWNER_SWITCHES, Value::number(0));
    set(attribute::CHECKPOINT, Value::text(lease.checkpoint.text()));
    let sub = lease.checkpoint.sub_sequence_number();
    set(attribute::CHECKPOINT_SUB, Value::number(sub));
    if !lease.parents.is_empty() {
        set(attribute::PARENTS, Value::texts(&lease.parents));
    }
    if let Some(range) = lease.hash_range {
        set(attribute::HASH_START, Value::text(range.start.to_string()));
        set(attribute::HASH_END, Value::text(range.end.to_string()));
    }
    if let Some(stream) = lease.key.stream() {
        set(attribute::STREAM_NAME, Value::text(stream));
        set(attribute::SHARD_ID, Value::text(lease.key.shard().as_str()));
    }
    item
}
