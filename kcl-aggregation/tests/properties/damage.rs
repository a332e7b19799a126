//! A damaged aggregated record is never taken apart, not even in part.

use kcl_aggregation::{Damaged, Decoder, HashKeyRange, PackLimits, Packer};

use crate::message::{delimited, number, varint};
use crate::oracle::{check, framed};

/// An aggregated record with both kinds of keys, empty data and data of more than 127 bytes.
fn sample() -> Vec<u8> {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    for (key, explicit, data) in [
        ("alpha", None, &b"first"[..]),
        ("grün", Some(u128::MAX), b""),
        ("alpha", Some(7), &[7; 130]),
    ] {
        assert_eq!(packer.add(key, explicit, data), Ok(None));
    }
    packer.flush().remove(0).data.to_vec()
}

fn decode(record: &[u8]) -> Result<Option<usize>, Damaged> {
    let mut decoder = Decoder::new();
    let records = decoder.decode(record, &HashKeyRange::FULL)?;
    Ok(records.map(|records| records.len()))
}

fn decode_message(message: &[u8]) -> Result<Option<usize>, Damaged> {
    decode(&framed(message))
}

#[test]
fn cut_at_every_byte() {
    let record = sample();
    assert_eq!(decode(&record), Ok(Some(3)));
    for len in 0..record.len() {
        let expected = if len <= 20 {
            Ok(None)
        } else {
            Err(Damaged::Digest)
        };
        assert_eq!(decode(&record[..len]), expected, "{len} bytes");
    }
    let message = &record[4..record.len() - 16];
    for len in 0..message.len() {
        check(&message[..len]);
    }
}

#[test]
fn every_bit_flipped() {
    let record = sample();
    for at in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let expected = if at < 32 {
            Ok(None)
        } else {
            Err(Damaged::Digest)
        };
        assert_eq!(decode(&flipped), expected, "bit {at}");
        check(&flipped[4..flipped.len() - 16]);
    }
}

#[test]
fn each_reason_is_told() {
    let key = delimited(1, b"k");
    let record = |fields: &[Vec<u8>]| [key.clone(), delimited(3, &fields.concat())].concat();
    let complete = record(&[number(1, 0), delimited(3, b"x")]);
    assert_eq!(decode_message(&complete), Ok(Some(1)));
    for (message, expected) in [
        (record(&[delimited(3, b"x")]), Damaged::MissingField),
        (record(&[number(1, 0)]), Damaged::MissingField),
        (
            record(&[number(1, 1), delimited(3, b"x")]),
            Damaged::KeyIndex,
        ),
        (
            record(&[number(1, u64::MAX), delimited(3, b"x")]),
            Damaged::KeyIndex,
        ),
        (
            record(&[number(1, 0), number(2, 0), delimited(3, b"x")]),
            Damaged::KeyIndex,
        ),
        (record(&[number(1, 0), number(3, 1)]), Damaged::Malformed),
        (delimited(1, b"\xFF"), Damaged::KeyNotUtf8),
        (delimited(2, b"\xFF"), Damaged::KeyNotUtf8),
        (complete[..complete.len() - 1].to_vec(), Damaged::Malformed),
        ([vec![0x1A], varint(u64::MAX)].concat(), Damaged::Malformed),
        (vec![0x80; 11], Damaged::Malformed),
        (vec![0x00, 0x00], Damaged::Malformed),
        (vec![0x0F, 0x00], Damaged::Malformed),
    ] {
        assert_eq!(decode_message(&message), Err(expected), "{message:?}");
    }
}

#[test]
fn one_bad_user_record_makes_the_whole_damaged() {
    let good = delimited(3, &[number(1, 0), delimited(3, b"x")].concat());
    let bad = delimited(3, &[number(1, 9), delimited(3, b"x")].concat());
    let key = delimited(1, b"k");
    let message = [&key, &good, &good, &bad].map(Vec::as_slice).concat();
    assert_eq!(decode_message(&message), Err(Damaged::KeyIndex));
}

#[test]
fn entries_beyond_the_limit_are_refused_and_up_to_it_accepted() {
    let user_record = delimited(3, &[number(1, 0), delimited(3, b"")].concat());
    let limited = |keys: usize, explicit: usize, records: usize| {
        let message = [
            delimited(1, b"").repeat(keys),
            delimited(2, b"").repeat(explicit),
            user_record.repeat(records),
        ];
        Decoder::with_max_user_records(5)
            .decode(&framed(&message.concat()), &HashKeyRange::FULL)
            .map(|records| records.map(|records| records.len()))
    };
    assert_eq!(limited(5, 5, 5), Ok(Some(5)));
    assert_eq!(limited(6, 5, 5), Err(Damaged::TooMany));
    assert_eq!(limited(5, 6, 5), Err(Damaged::TooMany));
    assert_eq!(limited(5, 5, 6), Err(Damaged::TooMany));
}

#[test]
fn the_densest_record_of_one_mebibyte_is_below_the_limit_and_a_larger_one_is_not() {
    let user_record = delimited(3, &[number(1, 0), delimited(3, b"")].concat());
    assert_eq!(user_record.len(), 6);
    let densest = |bytes: usize| {
        let records = bytes / user_record.len();
        [delimited(1, b"k"), user_record.repeat(records)].concat()
    };
    assert_eq!(decode_message(&densest(1 << 20)), Ok(Some(174_762)));
    assert_eq!(decode_message(&densest(2 << 20)), Err(Damaged::TooMany));
    assert_eq!(
        decode_message(&delimited(1, b"").repeat(1 << 19)),
        Err(Damaged::TooMany)
    );
}
