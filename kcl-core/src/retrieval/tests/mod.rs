//! Tests of retrieval as a whole, and what they share.

mod batches;
mod budgets;
mod deaggregation;
mod fan_out;
mod kinesis;
mod kinesis_fan_out;
mod one_throttled;
mod pacing;
mod polling;
mod read_limits;

use bytes::Bytes;
use kcl_aggregation::{HashKeyRange as AggregatedRange, PackLimits, Packer};
use kcl_checkpoint::{Position, SequenceNumber};

use super::batch::Batch;
use super::batch_builder::{BatchBuilder, RawRecord};

pub(super) fn sequence(number: u64) -> SequenceNumber {
    SequenceNumber::parse(&number.to_string()).unwrap()
}

pub(super) fn position(number: u64, sub: u64) -> Position {
    Position::new(sequence(number), sub)
}

/// An aggregated record of `(partition key, data)`.
pub(super) fn aggregate(user_records: &[(&str, &[u8])]) -> Bytes {
    let limits = PackLimits {
        aggregate_bytes: 1 << 20,
        ..PackLimits::default()
    };
    let mut packer = Packer::new([AggregatedRange::FULL], limits);
    for (key, data) in user_records {
        assert!(packer.add(key, None, data).unwrap().is_none());
    }
    packer.flush().remove(0).data
}

/// An aggregated record of `count` user records `"<name>-<index>"`.
pub(super) fn numbered_aggregate(name: &str, count: usize) -> Bytes {
    let texts: Vec<String> = (0..count).map(|index| format!("{name}-{index}")).collect();
    let user_records: Vec<(&str, &[u8])> = texts
        .iter()
        .map(|text| (text.as_str(), text.as_bytes()))
        .collect();
    aggregate(&user_records)
}

/// A raw batch with these payloads and sequence numbers 10, 20, 30, ...
pub(super) fn raw_batch(payloads: &[Bytes]) -> Batch {
    let mut builder = BatchBuilder::with_capacity(payloads.len());
    for (index, data) in (1..).zip(payloads) {
        let raw = RawRecord {
            sequence_number: &(index * 10).to_string(),
            partition_key: &format!("outer-{index}"),
            arrival_millis: Some(1_767_225_600_000 + index),
            encryption_type: None,
        };
        builder.push(raw, data.clone()).unwrap();
    }
    builder.finish()
}

pub(super) fn texts(batch: &Batch) -> Vec<String> {
    batch
        .iter()
        .map(|record| String::from_utf8_lossy(record.data()).into_owned())
        .collect()
}
