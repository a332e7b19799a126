//! Taking aggregated records apart, without copying payloads.

use std::mem::size_of;

use kcl_aggregation::{CheckedRecord, Decoder, MAX_USER_RECORDS, UserRecord, looks_aggregated};
use kcl_lease::HashKeyRange;

use super::batch::{Batch, Row, Span};
use super::record::RecordRef;

/// What happens to user records of an aggregated record whose hash keys the shard does not own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// They are delivered and counted.
    #[default]
    Deliver,
    /// They are withheld and counted, for streams whose producer sends such records again (the KPL does).
    ///
    /// The Java KCL 3.5 drops the whole aggregated record when one of its user records is out of range
    /// (`AggregatorUtil`); here the others are delivered.
    Withhold,
}

/// What was found in one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeaggregationCounts {
    /// Aggregated records taken apart.
    pub aggregated: u64,
    /// User records that they held.
    pub user_records: u64,
    /// User records whose hash keys the shard does not own.
    pub out_of_range: u64,
    /// User records that were withheld for that.
    pub withheld: u64,
    /// Records that begin like aggregated ones and are none. They are delivered as they are.
    pub damaged: u64,
}

impl DeaggregationCounts {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What a user record takes in an aggregated record at least: a tag and a length, the index of its key, its data.
const SMALLEST_USER_RECORD: usize = 6;

/// The most bytes that the table of a raw batch can grow by when its aggregated records are taken apart; 0 if there are none.
pub(super) fn largest_table(batch: &Batch) -> u64 {
    batch.iter().map(largest_share).sum()
}

/// How many Kinesis records of a raw batch, at least one, have tables of together at most so many bytes.
pub(super) fn records_within(batch: &Batch, table_bytes: u64) -> usize {
    let mut bytes = 0;
    let within = batch.iter().map(largest_share).take_while(|share| {
        bytes += share;
        bytes <= table_bytes
    });
    within.count().max(1)
}

/// What one record adds to the table at most.
fn largest_share(record: RecordRef<'_>) -> u64 {
    let data = record.data();
    if !looks_aggregated(data) {
        return 0;
    }
    let rows = (data.len() / SMALLEST_USER_RECORD).min(MAX_USER_RECORDS);
    (rows * size_of::<Row>()) as u64
}

/// Replaces each aggregated record of a raw batch by its user records. Payloads and keys stay where they are.
#[must_use]
pub fn deaggregate(
    mut batch: Batch,
    owned: &HashKeyRange,
    out_of_range: OutOfRange,
) -> (Batch, DeaggregationCounts) {
    let mut counts = DeaggregationCounts::default();
    let owned = kcl_aggregation::HashKeyRange {
        start: owned.start,
        end: owned.end,
    };
    // One decoder per answer: it keeps tables as large as the largest aggregate, which idle shards should not hold.
    let mut decoder = Decoder::new();
    let most_rows = batch.len() + largest_table(&batch) as usize / size_of::<Row>();
    let raw_rows = std::mem::take(&mut batch.rows);
    let mut rows = Vec::with_capacity(raw_rows.len());
    let chunks = &batch.chunks;
    let checked = CheckedRecord::check_all(raw_rows.iter().map(|raw| {
        let chunk = chunks.get(raw.data_chunk as usize);
        let data = chunk.and_then(|chunk| chunk.get(raw.data.range()));
        data.unwrap_or_default()
    }));
    let left = (1..=raw_rows.len()).rev();
    for ((record, raw), left) in checked.into_iter().zip(raw_rows.iter().copied()).zip(left) {
        match decoder.decode_checked(record, &owned) {
            Ok(None) => rows.push(raw),
            Err(_) => {
                counts.damaged += 1;
                rows.push(raw);
            }
            Ok(Some(user_records)) => {
                let last = u32::try_from(user_records.len().saturating_sub(1)).unwrap_or(u32::MAX);
                if let Some(source) = batch.sources.get_mut(raw.source as usize) {
                    source.last_sub_sequence_number = last;
                }
                counts.aggregated += 1;
                counts.user_records += user_records.len() as u64;
                if rows.capacity() - rows.len() < user_records.len() {
                    // Aggregated records of one answer are alike.
                    let guess = user_records.len().saturating_mul(left);
                    rows.reserve_exact(guess.min(most_rows.saturating_sub(rows.len())));
                }
                for (sub_sequence_number, user_record) in (0..).zip(user_records) {
                    if !user_record.in_range() {
                        counts.out_of_range += 1;
                        if out_of_range == OutOfRange::Withhold {
                            counts.withheld += 1;
                            continue;
                        }
                    }
                    rows.push(user_row(&raw, sub_sequence_number, &user_record));
                }
            }
        }
    }
    rows.shrink_to_fit();
    batch.rows = rows;
    (batch, counts)
}

fn user_row(raw: &Row, sub_sequence_number: u32, user_record: &UserRecord<'_>) -> Row {
    let within = |span: kcl_aggregation::Span| Span {
        start: raw.data.start + span.start,
        len: span.len,
    };
    Row {
        data_chunk: raw.data_chunk,
        key_chunk: raw.data_chunk,
        data: within(user_record.data_span()),
        partition_key: within(user_record.partition_key_span()),
        explicit_hash_key: user_record.explicit_hash_key_span().map(within),
        source: raw.source,
        sub_sequence_number,
        aggregated: true,
        out_of_range: !user_record.in_range(),
    }
}
