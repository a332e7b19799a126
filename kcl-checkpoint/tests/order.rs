//! Sequence numbers and checkpoints: order, text forms, hostile text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kcl_checkpoint::{Checkpoint, MAX_DIGITS, Position, SequenceNumber, compare_sequence_numbers};
use proptest::prelude::*;

fn sequence_number(text: &str) -> SequenceNumber {
    SequenceNumber::parse(text).unwrap()
}

fn at(digits: &str, sub: u64) -> Checkpoint {
    Checkpoint::At(Position::new(sequence_number(digits), sub))
}

fn digits() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,60}", "0{0,5}[0-9]{1,3}", "[1-9][0-9]{127}"]
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    prop_oneof![
        Just(Checkpoint::AtTimestamp),
        Just(Checkpoint::TrimHorizon),
        Just(Checkpoint::Latest),
        Just(Checkpoint::ShardEnd),
        (digits(), any::<u64>()).prop_map(|(digits, sub)| at(&digits, sub)),
    ]
}

/// The Java library's order in numbers: sentinels -3, -2, -1, then the digits padded to one length, then SHARD_END.
fn java_rank(checkpoint: &Checkpoint) -> (u8, String, u64) {
    match checkpoint {
        Checkpoint::AtTimestamp => (0, String::new(), 0),
        Checkpoint::TrimHorizon => (1, String::new(), 0),
        Checkpoint::Latest => (2, String::new(), 0),
        Checkpoint::At(position) => (
            3,
            format!("{:0>128}", position.sequence_number.as_str()),
            position.sub_sequence_number,
        ),
        Checkpoint::ShardEnd => (4, String::new(), 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequence_numbers_order_as_numbers(a in 0..u128::MAX, b in 0..u128::MAX, shift in 0_u32..128) {
        let (a, b) = (a >> shift, b);
        let (x, y) = (sequence_number(&a.to_string()), sequence_number(&b.to_string()));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(compare_sequence_numbers(x.as_str(), y.as_str()), a.cmp(&b));
    }

    #[test]
    fn leading_zeros_do_not_count(text in "[0-9]{1,60}", zeros in 0_usize..=60) {
        let padded = format!("{}{text}", "0".repeat(zeros));
        prop_assert_eq!(sequence_number(&padded), sequence_number(&text));
    }

    #[test]
    fn what_is_printed_is_read_back(text in digits()) {
        let parsed = sequence_number(&text);
        prop_assert_eq!(parsed.to_string().parse::<SequenceNumber>().unwrap(), parsed);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let ok = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        prop_assert_eq!(SequenceNumber::parse(&text).is_ok(), ok);
    }

    #[test]
    fn checkpoints_order_as_in_the_java_library(a in checkpoint(), b in checkpoint()) {
        prop_assert_eq!(a.cmp(&b), java_rank(&a).cmp(&java_rank(&b)));
        prop_assert_eq!(a == b, java_rank(&a) == java_rank(&b));
    }

    #[test]
    fn checkpoints_survive_the_two_attributes(checkpoint in checkpoint()) {
        let read = Checkpoint::from_attributes(checkpoint.text(), checkpoint.sub_sequence_number());
        prop_assert_eq!(read.unwrap(), checkpoint);
    }
}

#[test]
fn a_longer_number_is_greater_whatever_its_digits() {
    let old = sequence_number("9999999999999999999999999999999999999999999999999999999");
    let new = sequence_number("10000000000000000000000000000000000000000000000000000000");
    assert!(old < new);
}

#[test]
fn text_that_is_no_number_is_refused() {
    let too_long = "1".repeat(MAX_DIGITS + 1);
    for text in [
        "", " 1", "1 ", "-1", "+1", "1.0", "0x1", "１", "1e3", &too_long,
    ] {
        let error = SequenceNumber::parse(text).unwrap_err();
        let message = format!("got {} bytes", text.len());
        assert!(error.to_string().contains(&message), "{error}");
    }
    assert_eq!(sequence_number("000").as_str(), "0");
    assert_eq!(sequence_number(&"9".repeat(MAX_DIGITS)).as_str().len(), 128);
}

#[test]
fn sentinels_are_read_only_in_their_exact_form() {
    for text in ["latest", "LATEST ", "TRIM HORIZON", "SHARD-END", "", "null"] {
        assert!(Checkpoint::from_attributes(text, 0).is_err(), "{text:?}");
    }
    assert_eq!(
        Checkpoint::from_attributes("SHARD_END", 7).unwrap(),
        Checkpoint::ShardEnd
    );
}

#[test]
fn positions_print_the_sub_sequence_number_only_if_there_is_one() {
    assert_eq!(at("12", 0).to_string(), "12");
    assert_eq!(at("12", 3).to_string(), "12#3");
}
