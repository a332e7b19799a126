//! One user record: a view into a batch, and an owned copy.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kcl_checkpoint::{Position, SequenceNumber};

use super::batch::{Batch, Row, Source, TEXT};

/// How the service stored a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncryptionType {
    /// Not encrypted.
    None,
    /// Encrypted with a KMS key; the service decrypted it for this answer.
    Kms,
    /// A kind that this version does not know.
    Other,
}

/// A view of one user record inside a [`Batch`]. Cheap to copy; nothing is copied or allocated by looking at it.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    pub(super) batch: &'a Batch,
    pub(super) row: &'a Row,
    pub(super) source: &'a Source,
}

impl<'a> RecordRef<'a> {
    /// The payload.
    #[must_use]
    #[inline]
    pub fn data(self) -> &'a [u8] {
        self.batch.slice(self.row.data_chunk, self.row.data)
    }

    /// The payload as a counted slice that may outlive the batch.
    ///
    /// Nothing is copied, so the slice keeps the answer's memory, and its share of the byte budget, until it is dropped.
    /// To keep few records for long, copy them with [`RecordRef::to_owned`].
    #[must_use]
    pub fn data_bytes(self) -> Bytes {
        self.batch.shared_slice(self.row.data_chunk, self.row.data)
    }

    /// The partition key that the producer gave.
    #[must_use]
    #[inline]
    pub fn partition_key(self) -> &'a str {
        self.batch.text(self.row.key_chunk, self.row.partition_key)
    }

    /// The explicit hash key that the producer gave. Known only for records that came in an aggregated record.
    #[must_use]
    pub fn explicit_hash_key(self) -> Option<&'a str> {
        let span = self.row.explicit_hash_key?;
        Some(self.batch.text(self.row.key_chunk, span))
    }

    /// The sequence number of the Kinesis record; user records of one aggregated record share it.
    #[must_use]
    #[inline]
    pub fn sequence_number(self) -> &'a str {
        self.batch.text(TEXT, self.source.sequence_number)
    }

    /// The index in the aggregated record, from 0; 0 if the record is not aggregated.
    #[must_use]
    #[inline]
    pub fn sub_sequence_number(self) -> u64 {
        u64::from(self.row.sub_sequence_number)
    }

    /// The place in the shard, to checkpoint at. Allocates; meant for once in a while, not for every record.
    #[must_use]
    pub fn position(self) -> Position {
        self.batch
            .position(self.source, self.row.sub_sequence_number)
    }

    /// When the record reached the service, to the millisecond, as far as the service knows.
    #[must_use]
    pub fn approximate_arrival(self) -> Option<SystemTime> {
        let millis = self.source.arrival_millis?;
        let distance = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }

    /// How the record was stored, if the service said so.
    #[must_use]
    pub fn encryption_type(self) -> Option<EncryptionType> {
        self.source.encryption
    }

    /// Whether the record came in an aggregated record.
    #[must_use]
    pub fn is_aggregated(self) -> bool {
        self.row.aggregated
    }

    /// Whether the record's hash key lies outside the shard it was read from, which only happens in aggregated records
    /// that were packed before a reshard.
    #[must_use]
    pub fn is_out_of_range(self) -> bool {
        self.row.out_of_range
    }

    /// Whether the record is in this very batch.
    pub(crate) fn is_of(self, batch: &Batch) -> bool {
        std::ptr::eq(self.batch, batch)
    }

    /// A full copy that shares nothing with the batch.
    #[must_use]
    pub fn to_owned(self) -> Record {
        let position = self.position();
        Record {
            data: Bytes::copy_from_slice(self.data()),
            partition_key: String::from(self.partition_key()),
            explicit_hash_key: self.explicit_hash_key().map(String::from),
            sequence_number: position.sequence_number,
            sub_sequence_number: position.sub_sequence_number,
            approximate_arrival: self.approximate_arrival(),
            encryption_type: self.encryption_type(),
            aggregated: self.is_aggregated(),
            out_of_range: self.is_out_of_range(),
        }
    }
}

/// Shows the place and the size only: payloads and keys do not belong in logs.
impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef")
            .field("sequence_number", &self.sequence_number())
            .field("sub_sequence_number", &self.row.sub_sequence_number)
            .field("bytes", &self.row.data.len)
            .finish_non_exhaustive()
    }
}

/// One user record with memory of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The payload.
    pub data: Bytes,
    /// The partition key.
    pub partition_key: String,
    /// The explicit hash key, known only for records that came in an aggregated record.
    pub explicit_hash_key: Option<String>,
    /// The sequence number of the Kinesis record.
    pub sequence_number: SequenceNumber,
    /// The index in the aggregated record, from 0.
    pub sub_sequence_number: u64,
    /// When the record reached the service.
    pub approximate_arrival: Option<SystemTime>,
    /// How the record was stored.
    pub encryption_type: Option<EncryptionType>,
    /// Whether the record came in an aggregated record.
    pub aggregated: bool,
    /// Whether the record's hash key lies outside the shard it was read from.
    pub out_of_range: bool,
}

impl Record {
    /// A record that is not aggregated, with nothing but the necessary parts.
    #[must_use]
    pub fn new(
        sequence_number: SequenceNumber,
        partition_key: impl Into<String>,
        data: impl Into<Bytes>,
    ) -> Self {
        Self {
            data: data.into(),
            partition_key: partition_key.into(),
            explicit_hash_key: None,
            sequence_number,
            sub_sequence_number: 0,
            approximate_arrival: None,
            encryption_type: None,
            aggregated: false,
            out_of_range: false,
        }
    }

    /// The place in the shard.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.sequence_number.clone(), self.sub_sequence_number)
    }
}

/// Shows the place and the size only: payloads and keys do not belong in logs.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position())
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}
