//! Taking aggregates apart inside a batch.

use bytes::Bytes;
use kcl_lease::HashKeyRange;
use proptest::prelude::*;

use super::{aggregate, numbered_aggregate, position, raw_batch, texts};
use crate::retrieval::{DeaggregationCounts, OutOfRange, RecordRef, deaggregate};

const LOWER_HALF: HashKeyRange = HashKeyRange {
    start: 0,
    end: u128::MAX / 2,
};

#[test]
fn a04_aggregates_become_user_records_in_place() {
    let packed = numbered_aggregate("user", 3);
    let payloads = [
        Bytes::from_static(b"plain"),
        packed.clone(),
        Bytes::from_static(b"last"),
    ];
    let (batch, counts) = deaggregate(
        raw_batch(&payloads),
        &HashKeyRange::FULL,
        OutOfRange::Deliver,
    );
    assert_eq!(
        texts(&batch),
        ["plain", "user-0", "user-1", "user-2", "last"]
    );
    assert_eq!(
        counts,
        DeaggregationCounts {
            aggregated: 1,
            user_records: 3,
            ..DeaggregationCounts::default()
        }
    );
    let positions: Vec<_> = batch.iter().map(RecordRef::position).collect();
    assert_eq!(
        positions,
        [
            position(10, 0),
            position(20, 0),
            position(20, 1),
            position(20, 2),
            position(30, 0)
        ]
    );
    let user_record = batch.get(2).unwrap();
    assert_eq!(user_record.partition_key(), "user-1");
    assert!(user_record.is_aggregated() && !user_record.is_out_of_range());
    assert!(!batch.get(0).unwrap().is_aggregated());
    assert_eq!(batch.get(4).unwrap().partition_key(), "outer-3");
    // Not copied: the payload lies inside the aggregate's own memory.
    let inside = packed.as_ptr_range();
    assert!(inside.contains(&user_record.data().as_ptr()));
    assert_eq!(batch.kinesis_records(), 3);
}

#[test]
fn a04_out_of_range_user_records_are_delivered_and_counted_or_withheld() {
    // MD5: "a" begins with 0c, "b" with 92.
    let packed = aggregate(&[("a", b"inside"), ("b", b"outside"), ("a", b"inside too")]);
    let payloads = [packed];
    let (batch, counts) = deaggregate(raw_batch(&payloads), &LOWER_HALF, OutOfRange::Deliver);
    assert_eq!(texts(&batch), ["inside", "outside", "inside too"]);
    assert_eq!((counts.out_of_range, counts.withheld), (1, 0));
    let flags: Vec<bool> = batch.iter().map(RecordRef::is_out_of_range).collect();
    assert_eq!(flags, [false, true, false]);

    let (batch, counts) = deaggregate(raw_batch(&payloads), &LOWER_HALF, OutOfRange::Withhold);
    assert_eq!(texts(&batch), ["inside", "inside too"]);
    assert_eq!((counts.out_of_range, counts.withheld), (1, 1));
    // Withholding does not renumber.
    assert_eq!(batch.get(1).unwrap().position(), position(10, 2));
}

#[test]
fn a04_damaged_aggregates_come_out_raw_and_whole() {
    let mut damaged = numbered_aggregate("user", 3).to_vec();
    damaged[10] ^= 1;
    let truncated = numbered_aggregate("user", 3).slice(..30);
    let payloads = [
        Bytes::from(damaged.clone()),
        truncated,
        Bytes::from_static(b"plain"),
    ];
    let (batch, counts) = deaggregate(
        raw_batch(&payloads),
        &HashKeyRange::FULL,
        OutOfRange::Withhold,
    );
    assert_eq!(batch.len(), 3);
    assert_eq!(batch.get(0).unwrap().data(), damaged);
    assert!(!batch.get(0).unwrap().is_aggregated());
    assert_eq!((counts.damaged, counts.aggregated), (2, 0));
}

#[test]
fn a05_complete_user_records_of_an_aggregate_are_passed_over() {
    let payloads = [numbered_aggregate("user", 20), Bytes::from_static(b"next")];
    let (batch, _) = deaggregate(
        raw_batch(&payloads),
        &HashKeyRange::FULL,
        OutOfRange::Deliver,
    );
    let first = batch.after(&position(10, 7));
    assert_eq!(batch.get(first).unwrap().position(), position(10, 8));
    assert_eq!(batch.after(&position(10, 19)), 20);
}

#[test]
fn an_aggregate_without_user_records_still_moves_the_position_on() {
    // A message that holds a key table only.
    let mut message = vec![0x0a, 1, b'k'];
    let digest = md5_of(&message);
    let mut empty = vec![0xF3, 0x89, 0x9A, 0xC2];
    empty.append(&mut message);
    empty.extend(digest);
    let payloads = [Bytes::from_static(b"plain"), Bytes::from(empty)];
    let (batch, counts) = deaggregate(
        raw_batch(&payloads),
        &HashKeyRange::FULL,
        OutOfRange::Deliver,
    );
    assert_eq!(texts(&batch), ["plain"]);
    assert_eq!((counts.aggregated, counts.user_records), (1, 0));
    assert_eq!(batch.last_position(), Some(position(10, 0)));
    assert_eq!(batch.end_position(), Some(position(20, 0)));
}

#[test]
fn withheld_user_records_at_the_end_still_move_the_position_on() {
    let payloads = [aggregate(&[("a", b"inside"), ("b", b"outside")])];
    let (batch, _) = deaggregate(raw_batch(&payloads), &LOWER_HALF, OutOfRange::Withhold);
    assert_eq!(batch.last_position(), Some(position(10, 0)));
    assert_eq!(batch.end_position(), Some(position(10, 1)));
}

/// The hash key of a key is its MD5 as a number.
fn md5_of(message: &[u8]) -> [u8; 16] {
    kcl_aggregation::hash_key(str::from_utf8(message).unwrap()).to_be_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a payload holds, every Kinesis record comes out: whole, or as its user records.
    #[test]
    fn hostile_payloads_never_panic_and_never_hide_a_record(
        flips in prop::collection::vec((0_usize..400, any::<u8>()), 0..4),
        cut in 0_usize..400,
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut data = numbered_aggregate("u", 12).to_vec();
        for (at, value) in flips {
            let len = data.len();
            data[at % len] = value;
        }
        data.truncate(cut.max(1));
        data.extend(tail);
        let payloads = [Bytes::from(data.clone()), Bytes::from_static(b"plain")];
        let (batch, counts) =
            deaggregate(raw_batch(&payloads), &LOWER_HALF, OutOfRange::Deliver);
        if counts.aggregated == 0 {
            prop_assert_eq!(batch.len(), 2);
            prop_assert_eq!(batch.get(0).unwrap().data(), data.as_slice());
        } else {
            prop_assert_eq!(batch.len(), 13);
        }
        prop_assert_eq!(batch.end_position(), Some(position(20, 0)));
    }
}
