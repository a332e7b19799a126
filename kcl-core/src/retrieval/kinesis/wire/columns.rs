//! The tables of a batch whose payloads stand in one buffer, and the text beside it.

use std::sync::Arc;

use bytes::Bytes;
use kcl_checkpoint::MAX_DIGITS;

use super::decode_error::DecodeError;
use crate::retrieval::batch::{Batch, Row, Source, Span, TEXT};
use crate::retrieval::batch_builder::InvalidBatch;
use crate::retrieval::record::EncryptionType;

/// Rows made room for at once: what one call returns at most.
const MOST_ROWS_AT_ONCE: usize = 10_000;

/// One record as offsets: its data into what the answer stays in, its texts into those of its reader. What is absent is empty.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordSpans {
    pub(super) sequence_number: Span,
    pub(super) partition_key: Span,
    pub(super) data: Span,
    pub(super) arrival_millis: Option<i64>,
    pub(super) encryption: Option<EncryptionType>,
}

/// Grows record by record.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// Sequence numbers and keys: UTF-8 is checked once for all of them.
    text: Vec<u8>,
    sources: Vec<Source>,
    rows: Vec<Row>,
    payload_bytes: u64,
}

impl Columns {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes room for this many records like this one, within reason: the number is a guess.
    pub(super) fn reserve(&mut self, records: usize, record: &RecordSpans) {
        let records = records.min(MOST_ROWS_AT_ONCE);
        let texts = [record.sequence_number, record.partition_key];
        let text: usize = texts.iter().map(|span| span.range().len()).sum();
        self.sources.reserve_exact(records);
        self.rows.reserve_exact(records);
        // Keys differ a little in length.
        self.text.reserve_exact(records * (text + 4));
    }

    /// Adds a record whose sequence number and key stand in `texts`.
    #[inline]
    pub(super) fn push(&mut self, texts: &[u8], record: &RecordSpans) -> Result<(), InvalidBatch> {
        let index = self.sources.len();
        let sequence_number =
            digits(texts, record.sequence_number).ok_or(InvalidBatch::SequenceNumber { index })?;
        let sequence_number = texts.get(sequence_number.range()).unwrap_or_default();
        if !self.ascends(sequence_number) {
            return Err(InvalidBatch::Order { index });
        }
        let sequence_number = self.append(sequence_number)?;
        let key = texts.get(record.partition_key.range()).unwrap_or_default();
        let partition_key = self.append(key)?;
        self.sources.push(Source {
            sequence_number,
            arrival_millis: record.arrival_millis,
            encryption: record.encryption,
            last_sub_sequence_number: 0,
        });
        self.rows.push(Row {
            data_chunk: 0,
            key_chunk: TEXT,
            data: record.data,
            partition_key,
            explicit_hash_key: None,
            source: u32::try_from(index).map_err(|_| InvalidBatch::TooLarge)?,
            sub_sequence_number: 0,
            aggregated: false,
            out_of_range: false,
        });
        self.payload_bytes += u64::from(record.data.len) + u64::from(record.partition_key.len);
        Ok(())
    }

    /// The batch. `buffer` is what the offsets of payloads point into.
    pub(super) fn finish(self, buffer: Bytes) -> Result<Batch, DecodeError> {
        if self.rows.is_empty() {
            // An answer without records keeps no memory.
            return Ok(Batch::empty());
        }
        let text = String::from_utf8(tight(self.text)).map_err(|_| DecodeError::NotUtf8)?;
        Ok(Batch {
            text: Arc::new(text),
            chunks: vec![buffer],
            sources: tight(self.sources),
            rows: tight(self.rows),
            payload_bytes: self.payload_bytes,
            room: None,
        })
    }

    #[inline]
    fn append(&mut self, text: &[u8]) -> Result<Span, InvalidBatch> {
        let start = u32::try_from(self.text.len()).map_err(|_| InvalidBatch::TooLarge)?;
        let len = u32::try_from(text.len()).map_err(|_| InvalidBatch::TooLarge)?;
        self.text.extend_from_slice(text);
        Ok(Span { start, len })
    }

    fn ascends(&self, next: &[u8]) -> bool {
        let last = self.sources.last().map(|last| last.sequence_number);
        let last = last.and_then(|span| self.text.get(span.range()));
        // Without leading zeros the longer number is the larger one.
        last.is_none_or(|last| (last.len(), last) < (next.len(), next))
    }
}

/// Gives back what the guess was too high by, or growing: batches stay.
fn tight<T>(mut table: Vec<T>) -> Vec<T> {
    if table.capacity() - table.len() > table.len() / 8 {
        table.shrink_to_fit();
    }
    table
}

/// The digits without leading zeros, if they are a sequence number.
fn digits(texts: &[u8], span: Span) -> Option<Span> {
    let text = texts.get(span.range())?;
    // All of them are looked at, which the compiler does many at a time; stopping at the first wrong one would not be.
    let all_digits = text
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_digit());
    if text.is_empty() || text.len() > MAX_DIGITS || !all_digits {
        return None;
    }
    let zeros = text.iter().take_while(|digit| **digit == b'0').count();
    let zeros = u32::try_from(zeros.min(text.len() - 1)).ok()?;
    Some(Span {
        start: span.start + zeros,
        len: span.len - zeros,
    })
}

pub(super) fn encryption_named(name: &[u8]) -> EncryptionType {
    match name {
        b"NONE" => EncryptionType::None,
        b"KMS" => EncryptionType::Kms,
        _ => EncryptionType::Other,
    }
}
