//! Packing user records into aggregated records.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::MAX_USER_RECORDS;
use crate::bundle::{Bundle, NewRecord};
use crate::hash_key::{HashKeyRange, hash_key};

/// How large the records of a [`Packer`] may become.
///
/// Sizes count as Kinesis counts them: the data, with magic bytes and digest, and the partition key it is put with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// The most bytes of an aggregated record. A user record that is larger alone is put as a plain record.
    pub aggregate_bytes: usize,
    /// The most bytes of any record: what the stream accepts. A user record that is larger alone is refused.
    pub record_bytes: usize,
    /// The most user records in one aggregated record; more than [`MAX_USER_RECORDS`] counts as that.
    pub user_records: usize,
}

impl Default for PackLimits {
    /// 50 KiB per aggregated record (`AggregationMaxSize` of the KPL), 1 MiB per record (the default of a stream), and
    /// as many user records as a [`Decoder`](crate::Decoder) accepts.
    fn default() -> Self {
        Self {
            aggregate_bytes: 51_200,
            record_bytes: 1 << 20,
            user_records: MAX_USER_RECORDS,
        }
    }
}

impl PackLimits {
    /// Whether the record still fits into the bundle.
    fn allow(&self, bundle: &Bundle, record: &NewRecord<'_>) -> bool {
        bundle.user_records() < self.user_records.min(MAX_USER_RECORDS)
            && bundle.len_with(record) <= self.aggregate_bytes.min(self.record_bytes)
    }
}

/// A record that is ready to be put.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedRecord {
    /// The partition key to put it with: that of the first user record.
    pub partition_key: String,
    /// The explicit hash key to put it with. An aggregated record always has one, the effective hash key of its first
    /// user record, so that it reaches the shard of that record; a plain record has the one that its producer gave.
    pub explicit_hash_key: Option<String>,
    /// The data to put.
    pub data: Bytes,
    /// How many user records it holds.
    pub user_records: usize,
}

/// Shows sizes only: payloads and keys do not belong in logs.
impl fmt::Debug for PackedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedRecord")
            .field("data_bytes", &self.data.len())
            .field("user_records", &self.user_records)
            .finish_non_exhaustive()
    }
}

/// Why a user record cannot be packed. The caller still has it, and what was added before is unharmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PackError {
    /// Larger than the stream accepts.
    #[error(
        "a user record of {bytes} bytes with its partition key exceeds the {limit} bytes of a record: make it smaller, or raise the limit of stream and packer"
    )]
    TooLarge {
        /// Bytes that the record would take alone, with its partition key.
        bytes: usize,
        /// [`PackLimits::record_bytes`].
        limit: usize,
    },
    /// Kinesis takes partition keys of 1 to 256 characters.
    #[error("a partition key of {characters} characters: Kinesis takes 1 to 256")]
    PartitionKey {
        /// Unicode characters in the key.
        characters: usize,
    },
}

/// Packs user records into aggregated records, one shard's to each.
///
/// Given the hash key ranges of the stream's open shards, user records are bundled by the range of their effective hash
/// key, so that what is put reaches the shard that each of them would have reached alone and the order per partition key
/// stays as it was added (as long as it is put in the order that it comes out). A user record that belongs to none of
/// the ranges comes out at once and plain. After a reshard: [`Packer::flush`], then a new packer.
///
/// A bundle of one user record comes out plain, as the KPL does it, because that is always smaller; except when its
/// payload begins like an aggregated record itself and would be taken for one.
///
/// Nothing here knows time: to bound how long a user record waits, call [`Packer::flush`].
#[derive(Debug)]
pub struct Packer {
    limits: PackLimits,
    /// Ordered by start.
    shards: Vec<(HashKeyRange, Bundle)>,
}

impl Packer {
    /// A packer for a stream whose open shards own these ranges, which must not overlap.
    ///
    /// `[HashKeyRange::FULL]` bundles everything together. That is right for a stream of one shard; with several, the
    /// bundles go to the shard of their first user record and the order per partition key is lost.
    #[must_use]
    pub fn new(shards: impl IntoIterator<Item = HashKeyRange>, limits: PackLimits) -> Self {
        let mut shards: Vec<_> = shards
            .into_iter()
            .map(|range| (range, Bundle::default()))
            .collect();
        shards.sort_by_key(|(range, _)| range.start);
        Self { limits, shards }
    }

    /// Adds a user record. What comes out is to be put: its bundle up to the record before this one, which had no room
    /// left, or this record itself, when it belongs to none of the ranges.
    ///
    /// # Errors
    ///
    /// [`PackError`] when Kinesis would refuse the record whatever it is packed with.
    pub fn add(
        &mut self,
        partition_key: &str,
        explicit_hash_key: Option<u128>,
        data: &[u8],
    ) -> Result<Option<PackedRecord>, PackError> {
        let record = NewRecord {
            partition_key,
            explicit_hash_key,
            hash_key: explicit_hash_key.unwrap_or_else(|| hash_key(partition_key)),
            data,
        };
        self.check(&record)?;
        let shard = self
            .shards
            .partition_point(|(range, _)| range.start <= record.hash_key)
            .checked_sub(1)
            .and_then(|at| self.shards.get_mut(at))
            .filter(|(range, _)| range.contains(record.hash_key));
        let Some((_, bundle)) = shard else {
            let mut alone = Bundle::default();
            alone.push(&record);
            return Ok(alone.take());
        };
        let full = !bundle.is_empty() && !self.limits.allow(bundle, &record);
        let packed = if full { bundle.take() } else { None };
        bundle.push(&record);
        Ok(packed)
    }

    /// Takes out what is still waiting, at most one record per range.
    #[must_use = "the user records in what comes out are in no other place"]
    pub fn flush(&mut self) -> Vec<PackedRecord> {
        self.shards
            .iter_mut()
            .filter_map(|(_, bundle)| bundle.take())
            .collect()
    }

    /// How many user records wait to be flushed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shards
            .iter()
            .map(|(_, bundle)| bundle.user_records())
            .sum()
    }

    fn check(&self, record: &NewRecord<'_>) -> Result<(), PackError> {
        let characters = record.partition_key.chars().count();
        if !(1..=256).contains(&characters) {
            return Err(PackError::PartitionKey { characters });
        }
        let bytes = record.len_alone();
        if bytes > self.limits.record_bytes {
            return Err(PackError::TooLarge {
                bytes,
                limit: self.limits.record_bytes,
            });
        }
        Ok(())
    }
}
