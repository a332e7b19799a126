//! Filling a batch, record by record, without copying payloads.

use std::sync::Arc;

use bytes::Bytes;
use kcl_checkpoint::{MAX_DIGITS, compare_sequence_numbers};

use super::batch::{Batch, Row, Source, Span, TEXT};
use super::record::{EncryptionType, Record};

/// About what the sequence number and the key of a record take.
const TEXT_PER_RECORD: usize = 72;

/// One Kinesis record as the service hands it out.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    /// The sequence number: decimal digits.
    pub sequence_number: &'a str,
    /// The partition key.
    pub partition_key: &'a str,
    /// Milliseconds since 1970 at which the record reached the service.
    pub arrival_millis: Option<i64>,
    /// How the record was stored.
    pub encryption_type: Option<EncryptionType>,
}

/// Shows the place only: keys do not belong in logs.
impl std::fmt::Debug for RawRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawRecord")
            .field("sequence_number", &self.sequence_number)
            .finish_non_exhaustive()
    }
}

/// An answer that no batch can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBatch {
    /// A sequence number is not a decimal number of a sane length.
    #[error("record {index} of the answer has no valid sequence number")]
    SequenceNumber {
        /// The record's index in the answer.
        index: usize,
    },
    /// Sequence numbers do not ascend.
    #[error("record {index} of the answer is not behind the record before it")]
    Order {
        /// The record's index in the answer.
        index: usize,
    },
    /// More than 4 GiB in one record or in all keys.
    #[error("the answer is larger than 4 GiB")]
    TooLarge,
}

/// Makes a [`Batch`] from Kinesis records, for implementations of [`ShardSource`](super::ShardSource).
#[derive(Debug)]
pub struct BatchBuilder {
    text: String,
    payloads: Vec<Bytes>,
    sources: Vec<Source>,
    rows: Vec<Row>,
    payload_bytes: u64,
}

impl BatchBuilder {
    /// A builder with room for this many records.
    #[must_use]
    pub fn with_capacity(records: usize) -> Self {
        Self {
            text: String::with_capacity(records * TEXT_PER_RECORD),
            payloads: Vec::with_capacity(records),
            sources: Vec::with_capacity(records),
            rows: Vec::with_capacity(records),
            payload_bytes: 0,
        }
    }

    /// Adds one Kinesis record. `data` is kept as it is, keys and sequence number are copied.
    ///
    /// # Errors
    /// When the sequence number is none or not above the last one, or when offsets do not fit 32 bits. The builder is
    /// then of no more use.
    pub fn push(&mut self, record: RawRecord<'_>, data: Bytes) -> Result<(), InvalidBatch> {
        let row = self.raw_row(&record, data)?;
        self.rows.push(row);
        Ok(())
    }

    /// The batch.
    #[must_use]
    pub fn finish(mut self) -> Batch {
        self.text.shrink_to_fit();
        Batch {
            text: Arc::new(self.text),
            chunks: self.payloads,
            sources: self.sources,
            rows: self.rows,
            payload_bytes: self.payload_bytes,
            room: None,
        }
    }

    fn raw_row(&mut self, record: &RawRecord<'_>, data: Bytes) -> Result<Row, InvalidBatch> {
        let index = self.sources.len();
        let sequence_number =
            checked_digits(record.sequence_number).ok_or(InvalidBatch::SequenceNumber { index })?;
        if self
            .last_sequence_number()
            .is_some_and(|last| compare_sequence_numbers(last, sequence_number).is_ge())
        {
            return Err(InvalidBatch::Order { index });
        }
        let (data_chunk, data) = self.keep(data)?;
        let source = Source {
            sequence_number: self.append(sequence_number)?,
            arrival_millis: record.arrival_millis,
            encryption: record.encryption_type,
            last_sub_sequence_number: 0,
        };
        let partition_key = self.append(record.partition_key)?;
        self.payload_bytes += record.partition_key.len() as u64;
        self.sources.push(source);
        Ok(Row {
            data_chunk,
            key_chunk: TEXT,
            data,
            partition_key,
            explicit_hash_key: None,
            source: u32::try_from(index).map_err(|_| InvalidBatch::TooLarge)?,
            sub_sequence_number: 0,
            aggregated: false,
            out_of_range: false,
        })
    }

    fn keep(&mut self, data: Bytes) -> Result<(u32, Span), InvalidBatch> {
        let chunk = u32::try_from(self.payloads.len()).map_err(|_| InvalidBatch::TooLarge)?;
        let len = u32::try_from(data.len()).map_err(|_| InvalidBatch::TooLarge)?;
        self.payload_bytes += u64::from(len);
        self.payloads.push(data);
        Ok((chunk, Span { start: 0, len }))
    }

    fn append(&mut self, text: &str) -> Result<Span, InvalidBatch> {
        let start = u32::try_from(self.text.len()).map_err(|_| InvalidBatch::TooLarge)?;
        let len = u32::try_from(text.len()).map_err(|_| InvalidBatch::TooLarge)?;
        self.text.push_str(text);
        Ok(Span { start, len })
    }

    fn last_sequence_number(&self) -> Option<&str> {
        let span = self.sources.last()?.sequence_number;
        self.text.get(span.range())
    }
}

impl Batch {
    /// A batch of ready user records, to test processors with. Records with the same sequence number count as one
    /// aggregated record.
    ///
    /// # Errors
    /// When positions do not ascend, or offsets do not fit 32 bits.
    pub fn from_records<'a>(
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<Self, InvalidBatch> {
        let mut builder = BatchBuilder::with_capacity(0);
        for record in records {
            builder.push_user_record(record)?;
        }
        Ok(builder.finish())
    }
}

impl BatchBuilder {
    fn push_user_record(&mut self, record: &Record) -> Result<(), InvalidBatch> {
        let index = self.rows.len();
        let sub_sequence_number =
            u32::try_from(record.sub_sequence_number).map_err(|_| InvalidBatch::TooLarge)?;
        let raw = RawRecord {
            sequence_number: record.sequence_number.as_str(),
            partition_key: &record.partition_key,
            arrival_millis: record.approximate_arrival.and_then(millis_since_1970),
            encryption_type: record.encryption_type,
        };
        let mut row = match self.rows.last() {
            Some(last) if self.last_sequence_number() == Some(raw.sequence_number) => {
                if last.sub_sequence_number >= sub_sequence_number {
                    return Err(InvalidBatch::Order { index });
                }
                self.row_of_same_source(*last, record)?
            }
            _ => self.raw_row(&raw, record.data.clone())?,
        };
        row.sub_sequence_number = sub_sequence_number;
        row.aggregated = record.aggregated;
        row.out_of_range = record.out_of_range;
        row.explicit_hash_key = record
            .explicit_hash_key
            .as_deref()
            .map(|key| self.append(key))
            .transpose()?;
        if let Some(source) = self.sources.last_mut() {
            source.last_sub_sequence_number = sub_sequence_number;
        }
        self.rows.push(row);
        Ok(())
    }

    fn row_of_same_source(&mut self, last: Row, record: &Record) -> Result<Row, InvalidBatch> {
        let (data_chunk, data) = self.keep(record.data.clone())?;
        let partition_key = self.append(&record.partition_key)?;
        Ok(Row {
            data_chunk,
            data,
            partition_key,
            ..last
        })
    }
}

/// The digits without leading zeros, if `text` is a sequence number.
fn checked_digits(text: &str) -> Option<&str> {
    if text.is_empty() || text.len() > MAX_DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    Some(if digits.is_empty() { "0" } else { digits })
}

fn millis_since_1970(time: std::time::SystemTime) -> Option<i64> {
    match time.duration_since(std::time::SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok(),
        Err(before) => i64::try_from(before.duration().as_millis())
            .ok()
            .map(|ms| -ms),
    }
}
