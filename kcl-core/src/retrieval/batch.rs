//! The columnar answer: payloads as they came, offsets beside them, nothing allocated per user record.

use std::cmp::Ordering;
use std::fmt;
use std::mem::size_of;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kcl_checkpoint::{Position, SequenceNumber, compare_sequence_numbers};

use super::budget::Reservation;
use super::record::{EncryptionType, RecordRef};

/// What one chunk costs beside its bytes: the handle here and the shared owner behind it.
const CHUNK_OVERHEAD: usize = size_of::<Bytes>() + 64;

/// Stands for the text of a batch where a chunk is named.
pub(super) const TEXT: u32 = u32::MAX;

/// A stretch of one chunk, or of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// One user record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) data_chunk: u32,
    pub(super) key_chunk: u32,
    pub(super) data: Span,
    pub(super) partition_key: Span,
    pub(super) explicit_hash_key: Option<Span>,
    pub(super) source: u32,
    pub(super) sub_sequence_number: u32,
    pub(super) aggregated: bool,
    pub(super) out_of_range: bool,
}

impl Row {
    /// What the service counts of a raw row.
    fn payload_bytes(&self) -> u64 {
        u64::from(self.data.len) + u64::from(self.partition_key.len)
    }
}

/// One Kinesis record, from which one or many user records come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// In the text; digits without leading zeros.
    pub(super) sequence_number: Span,
    pub(super) arrival_millis: Option<i64>,
    pub(super) encryption: Option<EncryptionType>,
    /// The highest sub-sequence number that the record holds, delivered or not.
    pub(super) last_sub_sequence_number: u32,
}

/// The records of one answer, in the order of the shard.
///
/// Payloads, and the keys in aggregated records, stay in the buffers they came in (*chunks*); sequence numbers and the other keys stand together
/// in one text, which is known to be UTF-8. A row of offsets stands for each user record. Made by [`BatchBuilder`](super::BatchBuilder).
///
/// A batch can hold fewer user records than its Kinesis records suggest: an aggregated record may be empty, or its user
/// records may be withheld. What to checkpoint once the whole batch is complete is therefore
/// [`Batch::end_position`], not the position of the last user record.
pub struct Batch {
    pub(super) text: Arc<String>,
    pub(super) chunks: Vec<Bytes>,
    pub(super) sources: Vec<Source>,
    pub(super) rows: Vec<Row>,
    pub(super) payload_bytes: u64,
    pub(super) room: Option<Arc<Reservation>>,
}

impl Batch {
    /// A batch without records.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            text: Arc::default(),
            chunks: Vec::new(),
            sources: Vec::new(),
            rows: Vec::new(),
            payload_bytes: 0,
            room: None,
        }
    }

    /// Drops the first Kinesis record that arrived at `millis` (since 1970) or later, and all that follow. Returns whether
    /// there was one. For a batch as it was fetched.
    pub(crate) fn cut_from(&mut self, millis: i64) -> bool {
        let late = |source: &Source| source.arrival_millis.is_some_and(|at| at >= millis);
        let Some(end) = self.sources.iter().position(late) else {
            return false;
        };
        self.sources.truncate(end);
        self.rows.retain(|row| (row.source as usize) < end);
        true
    }

    /// Parts a raw batch before the Kinesis record with this index. Both parts keep the chunks.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let sources = self.sources.split_off(at.min(self.sources.len()));
        let mut rows = self.rows.split_off(at.min(self.rows.len()));
        for row in &mut rows {
            row.source = row
                .source
                .saturating_sub(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let rest_bytes: u64 = rows.iter().map(Row::payload_bytes).sum();
        self.payload_bytes = self.payload_bytes.saturating_sub(rest_bytes);
        Self {
            text: Arc::clone(&self.text),
            chunks: self.chunks.clone(),
            sources,
            rows,
            payload_bytes: rest_bytes,
            room: self.room.clone(),
        }
    }

    /// User records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no user record. There may still be Kinesis records, see [`Batch::end_position`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Kinesis records that the batch was made of.
    #[must_use]
    pub fn kinesis_records(&self) -> usize {
        self.sources.len()
    }

    /// Bytes that the service counts: the data and partition keys of the Kinesis records.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of memory that the batch keeps: chunks, text and tables of offsets.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(Bytes::len).sum();
        (chunks + self.text.capacity()) as u64 + self.table_bytes()
    }

    /// Bytes of memory that the tables of offsets take.
    pub(super) fn table_bytes(&self) -> u64 {
        let tables = self.rows.capacity() * size_of::<Row>()
            + self.sources.capacity() * size_of::<Source>()
            + self.chunks.capacity() * CHUNK_OVERHEAD;
        tables as u64
    }

    /// The user record with this index.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        let row = self.rows.get(index)?;
        let source = self.sources.get(row.source as usize)?;
        Some(RecordRef {
            batch: self,
            row,
            source,
        })
    }

    /// All user records in order.
    #[must_use]
    pub fn iter(&self) -> Records<'_> {
        self.range(0..self.len())
    }

    /// The user records with these indexes, in order; indexes beyond the end are left out.
    #[must_use]
    pub fn range(&self, rows: Range<usize>) -> Records<'_> {
        let end = rows.end.min(self.len());
        Records {
            batch: self,
            rows: rows.start.min(end)..end,
            picked: None,
        }
    }

    /// The user records with these indexes; indexes beyond the end are left out.
    pub(crate) fn picked<'a>(&'a self, picked: &'a [usize]) -> Records<'a> {
        Records {
            batch: self,
            rows: 0..picked.len(),
            picked: Some(picked),
        }
    }

    /// The place of the first user record.
    #[must_use]
    pub fn first_position(&self) -> Option<Position> {
        Some(self.get(0)?.position())
    }

    /// The place of the last user record.
    #[must_use]
    pub fn last_position(&self) -> Option<Position> {
        Some(self.get(self.len().checked_sub(1)?)?.position())
    }

    /// The sequence number of the first Kinesis record, also if that record has no user record to deliver.
    #[must_use]
    pub fn first_sequence_number(&self) -> Option<SequenceNumber> {
        Some(self.sequence_number(self.sources.first()?))
    }

    /// The place that is reached when everything in the batch is complete: the last Kinesis record with the highest
    /// sub-sequence number in it, also if that record has no user record to deliver. `None` without Kinesis records.
    #[must_use]
    pub fn end_position(&self) -> Option<Position> {
        let last = self.sources.last()?;
        Some(self.position(last, last.last_sub_sequence_number))
    }

    /// The index of the first user record behind `position`; [`Batch::len`] if there is none.
    #[must_use]
    pub fn after(&self, position: &Position) -> usize {
        self.rows
            .partition_point(|row| self.compare(row, position) != Ordering::Greater)
    }

    /// Ties the batch and all slices of it to room in the byte budget, which is given back when the last of them is
    /// dropped.
    pub(super) fn hold(&mut self, room: Arc<Reservation>) {
        for chunk in &mut self.chunks {
            *chunk = Bytes::from_owner(HeldChunk {
                bytes: std::mem::take(chunk),
                _room: Arc::clone(&room),
            });
        }
        self.room = Some(room);
    }

    /// Ties the table of offsets, and the batch, to room of its own.
    pub(super) fn hold_table(&mut self, room: Arc<Reservation>) {
        self.room = Some(room);
    }

    fn compare(&self, row: &Row, position: &Position) -> Ordering {
        let sequence_number = self
            .sources
            .get(row.source as usize)
            .map_or("", |source| self.text(TEXT, source.sequence_number));
        compare_sequence_numbers(sequence_number, position.sequence_number.as_str())
            .then_with(|| u64::from(row.sub_sequence_number).cmp(&position.sub_sequence_number))
    }

    pub(super) fn position(&self, source: &Source, sub_sequence_number: u32) -> Position {
        Position::new(self.sequence_number(source), u64::from(sub_sequence_number))
    }

    #[expect(
        clippy::expect_used,
        reason = "the builder takes only texts that SequenceNumber accepts"
    )]
    fn sequence_number(&self, source: &Source) -> SequenceNumber {
        SequenceNumber::parse(self.text(TEXT, source.sequence_number))
            .expect("a sequence number that was checked when the batch was built")
    }

    #[inline]
    pub(super) fn slice(&self, chunk: u32, span: Span) -> &[u8] {
        self.chunks
            .get(chunk as usize)
            .and_then(|chunk| chunk.get(span.range()))
            .unwrap_or_default()
    }

    pub(super) fn shared_slice(&self, chunk: u32, span: Span) -> Bytes {
        match self.chunks.get(chunk as usize) {
            Some(chunk) if span.range().end <= chunk.len() => chunk.slice(span.range()),
            _ => Bytes::new(),
        }
    }

    /// In a chunk UTF-8 is checked again at each call, some nanoseconds, which keeps the crate free of unsafe code.
    #[inline]
    pub(super) fn text(&self, chunk: u32, span: Span) -> &str {
        if chunk == TEXT {
            return self.text.get(span.range()).unwrap_or_default();
        }
        str::from_utf8(self.slice(chunk, span)).unwrap_or_default()
    }
}

impl Span {
    #[inline]
    pub(super) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::empty()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordRef<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Shows sizes and places only: payloads and keys do not belong in logs.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("kinesis_records", &self.kinesis_records())
            .field("user_records", &self.len())
            .field("resident_bytes", &self.resident_bytes())
            .field("end_position", &self.end_position())
            .finish_non_exhaustive()
    }
}

struct HeldChunk {
    bytes: Bytes,
    _room: Arc<Reservation>,
}

impl AsRef<[u8]> for HeldChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Iterates over user records of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a Batch,
    rows: Range<usize>,
    /// If there are picked rows, `rows` are places in here.
    picked: Option<&'a [usize]>,
}

impl<'a> Records<'a> {
    #[inline]
    fn at(&self, place: usize) -> Option<RecordRef<'a>> {
        match self.picked {
            Some(picked) => self.batch.get(*picked.get(place)?),
            None => self.batch.get(place),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let place = self.rows.next()?;
        self.at(place)
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        let place = self.rows.nth(n)?;
        self.at(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl DoubleEndedIterator for Records<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let place = self.rows.next_back()?;
        self.at(place)
    }
}

impl ExactSizeIterator for Records<'_> {}
