//! What the decoder promises about aggregated records that are in order.

use bytes::Bytes;
use kcl_aggregation::{Decoder, HashKeyRange, PackLimits, Packer, hash_key};

use crate::message::{delimited, number};
use crate::oracle::framed;

/// Written by `aws-kinesis-agg` 1.2.3, the Python implementation of the format: `("alpha", "first")`,
/// `("beta", explicit hash key 12345678901234567890, "")`, `("alpha", "third")`.
const FROM_ANOTHER_PRODUCER: &[u8] = b"\xf3\x89\x9a\xc2\
    \x0a\x05alpha\x0a\x04beta\x12\x1412345678901234567890\
    \x1a\x09\x08\x00\x1a\x05first\x1a\x06\x08\x01\x10\x00\x1a\x00\x1a\x09\x08\x00\x1a\x05third\
    \x0d\xf3\x17\x83\x5b\x5d\x2c\x80\x3d\xe6\x6b\x10\x97\x8e\xac\x49";

const EXPLICIT: u128 = 12_345_678_901_234_567_890;

#[test]
fn a_record_of_another_producer_is_read() {
    let mut decoder = Decoder::new();
    let records = decoder.decode(FROM_ANOTHER_PRODUCER, &HashKeyRange::FULL);
    let records = records.unwrap().unwrap();
    let read: Vec<_> = records
        .iter()
        .map(|r| (r.partition_key(), r.explicit_hash_key(), r.data()))
        .collect();
    assert_eq!(
        read,
        [
            ("alpha", None, &b"first"[..]),
            ("beta", Some("12345678901234567890"), b""),
            ("alpha", None, b"third"),
        ]
    );
    assert_eq!(
        records.get(1).map(|r| r.effective_hash_key()),
        Some(EXPLICIT)
    );
    assert_eq!(
        records.get(2).map(|r| r.effective_hash_key()),
        Some(hash_key("alpha"))
    );
    assert!(records.get(3).is_none());
}

#[test]
fn the_same_user_records_are_packed_into_the_same_bytes() {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    packer.add("alpha", None, b"first").unwrap();
    packer.add("beta", Some(EXPLICIT), b"").unwrap();
    packer.add("alpha", None, b"third").unwrap();
    assert_eq!(packer.flush().remove(0).data, FROM_ANOTHER_PRODUCER);
}

#[test]
fn spans_are_slices_of_the_record_itself() {
    let record = Bytes::from_static(FROM_ANOTHER_PRODUCER);
    let mut decoder = Decoder::new();
    let records = decoder
        .decode(&record, &HashKeyRange::FULL)
        .unwrap()
        .unwrap();
    let third = records.get(2).unwrap();
    let data = third.data_span().bytes_of(&record);
    assert_eq!(data, "third");
    assert_eq!(data.as_ptr(), record[third.data_span().range()].as_ptr());
    assert_eq!(
        third.partition_key_span(),
        records.get(0).unwrap().partition_key_span(),
        "one key, stored once"
    );
}

#[test]
fn a04_out_of_range_user_records_are_delivered_and_told_apart() {
    let alpha = hash_key("alpha");
    let in_range = |range: HashKeyRange| {
        let mut decoder = Decoder::new();
        let records = decoder
            .decode(FROM_ANOTHER_PRODUCER, &range)
            .unwrap()
            .unwrap();
        let flags: Vec<bool> = records.iter().map(|r| r.in_range()).collect();
        assert_eq!(
            records.out_of_range(),
            flags.iter().filter(|flag| !**flag).count()
        );
        flags
    };
    let only = |hash_key| HashKeyRange {
        start: hash_key,
        end: hash_key,
    };
    assert_eq!(in_range(HashKeyRange::FULL), [true, true, true]);
    assert_eq!(in_range(only(alpha)), [true, false, true]);
    assert_eq!(in_range(only(EXPLICIT)), [false, true, false]);
    assert_eq!(in_range(only(1)), [false, false, false]);
}

#[test]
fn an_explicit_hash_key_that_is_no_number_leaves_the_partition_key_in_charge() {
    let user_record = [number(1, 0), number(2, 0), delimited(3, b"x")].concat();
    let message = [
        delimited(1, b"k"),
        delimited(2, b"nonsense"),
        delimited(3, &user_record),
    ];
    let record = framed(&message.concat());
    for (range, expected) in [(hash_key("k"), true), (hash_key("k") ^ 1, false)] {
        let mut decoder = Decoder::new();
        let range = HashKeyRange {
            start: range,
            end: range,
        };
        let records = decoder.decode(&record, &range).unwrap().unwrap();
        let only = records.get(0).unwrap();
        assert_eq!(only.explicit_hash_key(), Some("nonsense"));
        assert_eq!(only.in_range(), expected);
    }
}

#[test]
fn without_user_records_it_is_empty_and_not_plain() {
    let mut decoder = Decoder::new();
    let record = framed(&delimited(1, b"k"));
    let records = decoder
        .decode(&record, &HashKeyRange::FULL)
        .unwrap()
        .unwrap();
    assert!(records.is_empty());
    assert_eq!(records.iter().len(), 0);
}

#[test]
fn key_tables_may_follow_and_the_last_of_a_repeated_field_counts() {
    let user_record = [
        number(1, 77),
        delimited(3, b"not this"),
        delimited(4, b"a tag"),
        delimited(3, b"this"),
        number(1, 1),
    ];
    let message = [
        delimited(3, &user_record.concat()),
        delimited(1, b"a"),
        delimited(1, b"b"),
        number(99, 1),
    ];
    let record = framed(&message.concat());
    let mut decoder = Decoder::new();
    let records = decoder
        .decode(&record, &HashKeyRange::FULL)
        .unwrap()
        .unwrap();
    let only = records.get(0).unwrap();
    assert_eq!((only.partition_key(), only.data()), ("b", &b"this"[..]));
}

#[test]
fn a_decoder_forgets_the_record_before() {
    let mut decoder = Decoder::new();
    let nowhere = HashKeyRange { start: 1, end: 1 };
    decoder.decode(FROM_ANOTHER_PRODUCER, &nowhere).unwrap();
    let bad = framed(&[delimited(1, b"k"), delimited(3, b"")].concat());
    decoder.decode(&bad, &nowhere).unwrap_err();
    let records = decoder.decode(FROM_ANOTHER_PRODUCER, &HashKeyRange::FULL);
    let records = records.unwrap().unwrap();
    assert_eq!((records.len(), records.out_of_range()), (3, 0));
}

#[test]
fn nothing_that_is_printed_shows_a_payload_or_a_key() {
    let mut decoder = Decoder::new();
    let records = decoder.decode(FROM_ANOTHER_PRODUCER, &HashKeyRange::FULL);
    let printed = format!("{:?}", records.unwrap().unwrap());
    assert!(printed.contains("data: Span { start:"), "{printed}");
    let bytes_of_first = format!("{:?}", b"first");
    for secret in ["alpha", "first", bytes_of_first.trim_matches(['[', ']'])] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
