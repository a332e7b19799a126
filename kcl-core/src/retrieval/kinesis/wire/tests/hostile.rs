//! Answers that nobody should send.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::cbor_head::Head;
use super::super::error_body::ErrorBody;
use super::super::{DecodeError, Wire};
use super::decode;
use super::generated::answer;
use crate::retrieval::InvalidBatch;

/// Decodes as everything, and looks at whatever comes out.
pub(super) fn both(body: &[u8]) {
    let _ = ErrorBody::from_json(body);
    let _ = ErrorBody::from_cbor(body);
    for wire in [Wire::Json, Wire::Cbor] {
        let Ok(answer) = decode(wire, Bytes::copy_from_slice(body)) else {
            continue;
        };
        for record in &answer.batch {
            assert!(!record.sequence_number().is_empty());
            let _ = (record.data(), record.partition_key());
        }
    }
}

fn json_error(body: &str) -> DecodeError {
    decode(Wire::Json, Bytes::copy_from_slice(body.as_bytes())).unwrap_err()
}

fn cbor_error(body: &[u8]) -> DecodeError {
    decode(Wire::Cbor, Bytes::copy_from_slice(body)).unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        both(&body);
    }

    #[test]
    fn bytes_of_the_formats_never_panic(
        json in r#"[\[\]{}",:\\0-9eEnul.u -]{0,200}"#,
        cbor in prop::collection::vec(prop::sample::select(vec![
            0x00, 0x18, 0x3b, 0x40, 0x5b, 0x5f, 0x60, 0x64, 0x7f, 0x80, 0x81, 0x9f, 0xa0, 0xa1, 0xbf, 0xc1, 0xdb, 0xf6,
            0xf9, 0xfb, 0xff,
        ]), 0..200),
    ) {
        both(json.as_bytes());
        both(&cbor);
        // The same inside of an answer.
        both(format!(r#"{{"Records":{json}"#).as_bytes());
        both(&[b"\xbf\x67Records".as_slice(), &cbor].concat());
    }

    #[test]
    fn damaged_answers_never_panic(
        generated in answer(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for body in [generated.json(), generated.cbor()] {
            let mut damaged = body.clone();
            damaged[place.index(body.len())] = byte;
            both(&damaged);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    /// An answer that lacks its end is never taken for a whole one.
    #[test]
    fn a_cut_answer_is_no_answer(generated in answer()) {
        let json = generated.json();
        let end = json.trim_ascii_end().len();
        for cut in cuts(end) {
            prop_assert!(decode(Wire::Json, Bytes::copy_from_slice(&json[..cut])).is_err());
        }
        let cbor = Bytes::from(generated.cbor());
        for cut in cuts(cbor.len()) {
            prop_assert!(decode(Wire::Cbor, cbor.slice(..cut)).is_err());
        }
    }
}

/// Places all over an answer, and each of the last hundred.
fn cuts(end: usize) -> impl Iterator<Item = usize> {
    let all_over = (0..end).step_by(end / 100 + 1);
    all_over.chain(end.saturating_sub(100)..end)
}

#[test]
fn a_value_nested_without_end_is_refused() {
    let json = format!(r#"{{"New":{}"#, "[".repeat(1_000_000));
    assert_eq!(json_error(&json), DecodeError::TooDeep);
    let json = format!(r#"{{"New":{}"#, r#"{"a":"#.repeat(1_000_000));
    assert_eq!(json_error(&json), DecodeError::TooDeep);
    for nesting in [[0x81], [0x9f], [0xc1]] {
        let cbor = [b"\xbf\x63New".as_slice(), &nesting.repeat(1_000_000)].concat();
        assert_eq!(cbor_error(&cbor), DecodeError::TooDeep);
        let in_pieces = [b"\xbf\x7f\xff".as_slice(), &nesting.repeat(1_000_000)].concat();
        assert_eq!(cbor_error(&in_pieces), DecodeError::TooDeep);
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    for kind in [2, 3, 4, 5] {
        for length in [1 << 20, u64::from(u32::MAX), u64::MAX] {
            let mut body = b"\xbf\x67Records".to_vec();
            Head::write(&mut body, kind, length);
            assert!(decode(Wire::Cbor, Bytes::from(body)).is_err());
            let mut body = b"\xbf\x67Records\x81\xa1\x64Data".to_vec();
            Head::write(&mut body, kind, length);
            assert!(decode(Wire::Cbor, Bytes::from(body)).is_err());
        }
    }
    let many_tags = [b"\xbf\x72MillisBehindLatest".as_slice(), &[0xc1; 1_000_000]].concat();
    assert_eq!(cbor_error(&many_tags), DecodeError::Truncated);
}

#[test]
fn empty_records_and_children_end_at_the_first() {
    let no_number = DecodeError::Records(InvalidBatch::SequenceNumber { index: 0 });
    let records = format!(r#"{{"Records":[{}{{}}]}}"#, "{},".repeat(100_000));
    assert_eq!(json_error(&records), no_number);
    let records = [b"\xa1\x67Records\x9f".as_slice(), &[0xa0; 100_000]].concat();
    assert_eq!(cbor_error(&records), no_number);
    let children = format!(r#"{{"ChildShards":[{}{{}}]}}"#, "{},".repeat(100_000));
    assert_eq!(json_error(&children), DecodeError::NamelessChild);
}

#[test]
fn an_object_that_is_no_answer_does_not_end_a_shard() {
    for body in ["{}", r#"{"message":"try again"}"#, "null"] {
        assert_eq!(json_error(body), DecodeError::NoRecords, "{body}");
    }
    assert_eq!(cbor_error(b"\xa0"), DecodeError::NoRecords);
    assert_eq!(json_error(""), DecodeError::Truncated);
    assert_eq!(cbor_error(b""), DecodeError::Truncated);
}

#[test]
fn what_is_wrong_is_named() {
    let record = |members: &str| json_error(&format!(r#"{{"Records":[{{{members}}}]}}"#));
    assert_eq!(
        record(r#""SequenceNumber":"1","Data":"*""#),
        DecodeError::NotBase64
    );
    assert_eq!(
        record(r#""SequenceNumber":"one""#),
        DecodeError::Records(InvalidBatch::SequenceNumber { index: 0 })
    );
    let order = r#"{"Records":[{"SequenceNumber":"10"},{"SequenceNumber":"9"}]}"#;
    assert_eq!(
        json_error(order),
        DecodeError::Records(InvalidBatch::Order { index: 1 })
    );
    let same = r#"{"Records":[{"SequenceNumber":"10"},{"SequenceNumber":"010"}]}"#;
    assert_eq!(
        json_error(same),
        DecodeError::Records(InvalidBatch::Order { index: 1 })
    );
    assert_eq!(json_error(r#"{"Records":[]}x"#), DecodeError::Trailing);
    assert_eq!(
        cbor_error(b"\xa1\x67Records\x80\x00"),
        DecodeError::Trailing
    );
    for escape in [r"\x", r"\u12", r"\ud800", r"\ud800\u0041", r"\udc00"] {
        let error = json_error(&format!(r#"{{"{escape}":1}}"#));
        assert!(matches!(error, DecodeError::Expected(_)), "{escape}");
    }
}

#[test]
fn keys_are_text() {
    let json = b"{\"Records\":[{\"SequenceNumber\":\"1\",\"PartitionKey\":\"\xff\"}]}";
    let error = decode(Wire::Json, Bytes::from_static(json)).unwrap_err();
    assert_eq!(error, DecodeError::NotUtf8);
    let cbor = b"\xa1\x67Records\x81\xa2\x6eSequenceNumber\x61\x31\x6cPartitionKey\x61\xff";
    assert_eq!(cbor_error(cbor), DecodeError::NotUtf8);
}
