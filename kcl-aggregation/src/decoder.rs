//! Taking aggregated records apart.

use std::{fmt, slice};

use crate::Damaged;
use crate::checked::CheckedRecord;
use crate::frame::message_range;
use crate::hash_key::{HashKeyRange, effective_hash_key};
use crate::span::Span;
use crate::tables::{Row, Tables};

/// The most user records, and the most keys per table, that a [`Decoder`] accepts unless told otherwise.
///
/// A user record takes at least six bytes, so every aggregated record of up to 1 MiB stays below.
pub const MAX_USER_RECORDS: usize = 200_000;

/// Takes aggregated records apart, one after the other, in memory that it uses again.
///
/// Work and memory are bounded by the input: each byte is read a fixed number of times (digest, structure, keys), each
/// key is hashed at most once, and nothing is copied, so that user records cannot add up to more than the record that
/// holds them. The tables take at most about ten times the input and never more than the limit on user records
/// allows (9 MiB at [`MAX_USER_RECORDS`]); the decoder keeps that memory until it is dropped. While keys are hashed they take
/// up to 8 MiB more.
#[derive(Debug)]
pub struct Decoder {
    tables: Tables,
    max_user_records: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that accepts up to [`MAX_USER_RECORDS`] user records in one aggregated record.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_user_records(MAX_USER_RECORDS)
    }

    /// A decoder that treats an aggregated record with more user records, or more keys of a kind, as damaged.
    #[must_use]
    pub fn with_max_user_records(max_user_records: usize) -> Self {
        Self {
            tables: Tables::default(),
            max_user_records,
        }
    }

    /// Decodes the data of one Kinesis record.
    ///
    /// `None`: a plain record, to be delivered as it is. `Some`: its user records, in order. There may be none of them
    /// (a message that holds only keys): then there is nothing to deliver and the record counts as complete, otherwise
    /// no checkpoint would ever pass it.
    ///
    /// `range` is what the shard owns; each user record says whether it lies inside ([`UserRecord::in_range`]). With
    /// [`HashKeyRange::FULL`] nothing is hashed.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the data begins like an aggregated record and is none. It is to be delivered as it is: an
    /// aggregated record is never given out in part.
    pub fn decode<'a>(
        &'a mut self,
        record: &'a [u8],
        range: &HashKeyRange,
    ) -> Result<Option<UserRecords<'a>>, Damaged> {
        self.decode_checked(CheckedRecord::check(record), range)
    }

    /// As [`decode`](Self::decode), for a record whose digest was checked together with others.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_checked<'a>(
        &'a mut self,
        checked: CheckedRecord<'a>,
        range: &HashKeyRange,
    ) -> Result<Option<UserRecords<'a>>, Damaged> {
        if !checked.is_aggregated()? {
            return Ok(None);
        }
        let record = checked.record();
        let message = message_range(record);
        self.tables.fill(record, message, self.max_user_records)?;
        self.tables.mark_range(record, range);
        Ok(Some(UserRecords {
            record,
            tables: &self.tables,
        }))
    }
}

/// The user records of one aggregated record.
#[derive(Clone, Copy)]
pub struct UserRecords<'a> {
    record: &'a [u8],
    tables: &'a Tables,
}

impl<'a> UserRecords<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.rows.len()
    }

    /// Whether the aggregated record holds no user record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.rows.is_empty()
    }

    /// The user record with this sub-sequence number: its place in the aggregated record, from 0.
    #[must_use]
    pub fn get(&self, sub_sequence_number: usize) -> Option<UserRecord<'a>> {
        let row = self.tables.rows.get(sub_sequence_number)?;
        Some(self.user_record(row))
    }

    /// All of them in the order of their sub-sequence numbers.
    #[must_use]
    pub fn iter(&self) -> UserRecordsIter<'a> {
        UserRecordsIter {
            records: *self,
            rows: self.tables.rows.iter(),
        }
    }

    /// How many lie outside the range that was given to [`Decoder::decode`].
    #[must_use]
    pub fn out_of_range(&self) -> usize {
        self.tables.rows.iter().filter(|row| !row.in_range).count()
    }

    #[inline]
    fn user_record(&self, row: &'a Row) -> UserRecord<'a> {
        let key = |table: &[Span], index: u32| table.get(index as usize).copied();
        UserRecord {
            record: self.record,
            data: row.data,
            partition_key: key(&self.tables.partition_keys, row.partition_key).unwrap_or_default(),
            explicit_hash_key: row
                .explicit_hash_key
                .and_then(|index| key(&self.tables.explicit_hash_keys, index)),
            in_range: row.in_range,
        }
    }
}

impl<'a> IntoIterator for UserRecords<'a> {
    type Item = UserRecord<'a>;
    type IntoIter = UserRecordsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &UserRecords<'a> {
    type Item = UserRecord<'a>;
    type IntoIter = UserRecordsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Shows offsets only: payloads and keys do not belong in logs.
impl fmt::Debug for UserRecords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterates over [`UserRecords`].
#[derive(Debug, Clone)]
pub struct UserRecordsIter<'a> {
    records: UserRecords<'a>,
    rows: slice::Iter<'a, Row>,
}

impl<'a> Iterator for UserRecordsIter<'a> {
    type Item = UserRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(|row| self.records.user_record(row))
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.rows.nth(n).map(|row| self.records.user_record(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl ExactSizeIterator for UserRecordsIter<'_> {}

/// One user record inside an aggregated record; a view, cheap to copy.
#[derive(Clone, Copy)]
pub struct UserRecord<'a> {
    record: &'a [u8],
    data: Span,
    partition_key: Span,
    explicit_hash_key: Option<Span>,
    in_range: bool,
}

impl<'a> UserRecord<'a> {
    /// The payload.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data.of(self.record)
    }

    /// The partition key that the producer gave.
    #[must_use]
    pub fn partition_key(&self) -> &'a str {
        self.partition_key.text_of(self.record)
    }

    /// The explicit hash key as the producer wrote it; not necessarily a number.
    #[must_use]
    pub fn explicit_hash_key(&self) -> Option<&'a str> {
        self.explicit_hash_key.map(|span| span.text_of(self.record))
    }

    /// The hash key that decides the shard, see [`effective_hash_key`]. Computed at each call.
    #[must_use]
    pub fn effective_hash_key(&self) -> u128 {
        effective_hash_key(self.partition_key(), self.explicit_hash_key())
    }

    /// Whether the effective hash key lies in the range that was given to [`Decoder::decode`].
    #[must_use]
    pub const fn in_range(&self) -> bool {
        self.in_range
    }

    /// Where the payload stands in the aggregated record.
    #[must_use]
    pub const fn data_span(&self) -> Span {
        self.data
    }

    /// Where the partition key stands in the aggregated record: checked to be UTF-8, shared by all records with that key.
    #[must_use]
    pub const fn partition_key_span(&self) -> Span {
        self.partition_key
    }

    /// Where the explicit hash key stands in the aggregated record, if there is one: checked to be UTF-8.
    #[must_use]
    pub const fn explicit_hash_key_span(&self) -> Option<Span> {
        self.explicit_hash_key
    }
}

/// Shows offsets only: payloads and keys do not belong in logs.
impl fmt::Debug for UserRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRecord")
            .field("data", &self.data)
            .field("partition_key", &self.partition_key)
            .field("explicit_hash_key", &self.explicit_hash_key)
            .field("in_range", &self.in_range)
            .finish_non_exhaustive()
    }
}
