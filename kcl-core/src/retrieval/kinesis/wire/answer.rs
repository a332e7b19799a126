//! What an answer says, whatever it is written in.

use std::time::Duration;

use bytes::Bytes;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};

use super::columns::{Columns, RecordSpans};
use super::decode_error::DecodeError;
use crate::retrieval::batch::Batch;

/// An answer of `GetRecords`, or an event of `SubscribeToShard`.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The records, as they were put.
    pub(crate) batch: Batch,
    /// The next iterator, or the sequence number to go on after. `None` at the end of a closed shard.
    pub(crate) next: Option<String>,
    /// How far the answer's end lies behind the tip.
    pub(crate) behind: Option<Duration>,
    /// The shards that take over.
    pub(crate) children: Vec<ListedShard>,
}

/// A place in an answer that is being read, in JSON or CBOR. `null` counts as absent everywhere.
pub(super) trait Reader {
    /// Calls `member` at the value of each member, which it must read. False for `null`.
    fn object(
        &mut self,
        member: &mut impl FnMut(&mut Self, &[u8]) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError>;

    /// Calls `item` at each item, which it must read. False for `null`.
    fn array(
        &mut self,
        item: &mut impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError>;

    /// Whether a text comes next.
    fn is_string(&mut self) -> bool;

    fn string(&mut self) -> Result<Option<String>, DecodeError>;

    fn integer(&mut self) -> Result<Option<i64>, DecodeError>;

    /// Passes over any value.
    fn skip(&mut self) -> Result<(), DecodeError>;

    /// One record; the spans of its sequence number and its key are places in [`texts`](Self::texts).
    fn record(&mut self) -> Result<RecordSpans, DecodeError>;

    /// Until the next record is read.
    fn texts(&self) -> &[u8];

    /// So many records like this one may follow.
    fn more_like(&mut self, _record: &RecordSpans, _records: usize) {}

    /// Bytes that are not read yet.
    fn left(&self) -> usize;

    /// Checks that nothing follows.
    fn end(&mut self) -> Result<(), DecodeError>;
}

/// An answer whose buffer is still with its reader.
#[derive(Debug, Default)]
pub(super) struct Unbound {
    columns: Columns,
    next: Option<String>,
    behind_millis: Option<i64>,
    children: Vec<ListedShard>,
}

impl Unbound {
    pub(super) fn bind(self, buffer: Bytes) -> Result<Answer, DecodeError> {
        let behind = self.behind_millis;
        Ok(Answer {
            batch: self.columns.finish(buffer)?,
            next: self.next,
            behind: behind.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
            children: self.children,
        })
    }
}

/// Reads a whole answer.
pub(super) fn read<R: Reader>(reader: &mut R) -> Result<Unbound, DecodeError> {
    let mut answer = Unbound::default();
    let mut has_records = false;
    reader.object(&mut |reader, name| {
        match name {
            b"Records" => {
                has_records = true;
                answer.columns = records(reader)?;
            }
            b"NextShardIterator" | b"ContinuationSequenceNumber" => {
                answer.next = reader.string()?;
            }
            b"MillisBehindLatest" => answer.behind_millis = reader.integer()?,
            b"ChildShards" => answer.children = children(reader)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    if has_records {
        Ok(answer)
    } else {
        Err(DecodeError::NoRecords)
    }
}

fn records<R: Reader>(reader: &mut R) -> Result<Columns, DecodeError> {
    let mut columns = Columns::default();
    reader.array(&mut |reader| {
        let left_before = reader.left();
        let record = reader.record()?;
        if columns.is_empty() {
            // Records of one answer are alike.
            let each = (left_before - reader.left()).max(1);
            let follow = reader.left() / each;
            columns.reserve(follow + 1, &record);
            reader.more_like(&record, follow);
        }
        columns.push(reader.texts(), &record)?;
        Ok(())
    })?;
    Ok(columns)
}

fn children<R: Reader>(reader: &mut R) -> Result<Vec<ListedShard>, DecodeError> {
    let mut children = Vec::new();
    reader.array(&mut |reader| {
        children.push(child(reader)?);
        Ok(())
    })?;
    Ok(children)
}

/// A shard that a finished parent names. Whether it is still open is not said; it was when its parent closed.
fn child<R: Reader>(reader: &mut R) -> Result<ListedShard, DecodeError> {
    let (mut shard_id, mut parents) = (None, [None, None]);
    let (mut first, mut last) = (None, None);
    reader.object(&mut |reader, name| {
        match name {
            b"ShardId" => shard_id = reader.string()?,
            b"ParentShards" => parents = two_parents(reader)?,
            b"HashKeyRange" => {
                reader.object(&mut |reader, name| {
                    match name {
                        b"StartingHashKey" => first = reader.string()?,
                        b"EndingHashKey" => last = reader.string()?,
                        _ => reader.skip()?,
                    }
                    Ok(())
                })?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let [parent, adjacent_parent] = parents;
    Ok(ListedShard {
        shard_id: ShardId::from(shard_id.ok_or(DecodeError::NamelessChild)?.as_str()),
        parent,
        adjacent_parent,
        hash_range: HashKeyRange::parse(
            first.as_deref().unwrap_or_default(),
            last.as_deref().unwrap_or_default(),
        )?,
        open: true,
    })
}

/// A shard comes from one or two others.
fn two_parents<R: Reader>(reader: &mut R) -> Result<[Option<ShardId>; 2], DecodeError> {
    let mut parents = [None, None];
    let mut places = parents.iter_mut();
    reader.array(&mut |reader| {
        let id = reader.string()?;
        if let Some(place) = places.next() {
            *place = id.map(|id| ShardId::from(id.as_str()));
        }
        Ok(())
    })?;
    Ok(parents)
}
