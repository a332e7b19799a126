//! The columnar batch.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{position, raw_batch, sequence};
use crate::retrieval::{
    Batch, BatchBuilder, EncryptionType, InvalidBatch, RawRecord, Record, RecordRef,
};

fn raw<'a>(sequence_number: &'a str, partition_key: &'a str) -> RawRecord<'a> {
    RawRecord {
        sequence_number,
        partition_key,
        arrival_millis: None,
        encryption_type: None,
    }
}

#[test]
fn a_record_shows_all_its_parts() {
    let mut builder = BatchBuilder::with_capacity(1);
    let record = RawRecord {
        sequence_number: "0049",
        partition_key: "schlüssel",
        arrival_millis: Some(1_500),
        encryption_type: Some(EncryptionType::Kms),
    };
    builder.push(record, Bytes::from_static(b"data")).unwrap();
    let batch = builder.finish();
    let record = batch.get(0).unwrap();
    assert_eq!(record.data(), b"data");
    assert_eq!(record.partition_key(), "schlüssel");
    assert_eq!(record.sequence_number(), "49");
    assert_eq!(record.position(), position(49, 0));
    assert_eq!(record.explicit_hash_key(), None);
    assert_eq!(record.encryption_type(), Some(EncryptionType::Kms));
    assert_eq!(
        record.approximate_arrival(),
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500))
    );
    assert!(!record.is_aggregated() && !record.is_out_of_range());
    let owned = record.to_owned();
    assert_eq!(owned.data, "data");
    assert_eq!(owned.position(), position(49, 0));
}

#[test]
fn payloads_are_not_copied() {
    let payload = Bytes::from(vec![7; 100]);
    let batch = raw_batch(std::slice::from_ref(&payload));
    let record = batch.get(0).unwrap();
    assert_eq!(record.data().as_ptr(), payload.as_ptr());
    assert_eq!(record.data_bytes().as_ptr(), payload.as_ptr());
    assert_ne!(record.to_owned().data.as_ptr(), payload.as_ptr());
}

#[test]
fn answers_that_are_out_of_order_or_without_numbers_are_refused() {
    let mut builder = BatchBuilder::with_capacity(2);
    builder.push(raw("9", "k"), Bytes::new()).unwrap();
    builder.push(raw("10", "k"), Bytes::new()).unwrap();
    for not_behind in ["10", "9", "1"] {
        assert_eq!(
            builder.push(raw(not_behind, "k"), Bytes::new()),
            Err(InvalidBatch::Order { index: 2 })
        );
    }
    let long = "1".repeat(129);
    for no_number in ["", "-1", "12a", &long] {
        assert_eq!(
            builder.push(raw(no_number, "k"), Bytes::new()),
            Err(InvalidBatch::SequenceNumber { index: 2 })
        );
    }
}

#[test]
fn what_is_complete_is_found_by_number_and_not_by_text() {
    let payloads = vec![Bytes::from_static(b"x"); 12];
    let batch = raw_batch(&payloads);
    assert_eq!(batch.after(&position(0, 0)), 0);
    assert_eq!(batch.after(&position(20, 0)), 2);
    assert_eq!(batch.after(&position(25, 3)), 2);
    // As text, "90" comes after "100".
    assert_eq!(batch.after(&position(90, 0)), 9);
    assert_eq!(batch.after(&position(100, 0)), 10);
    assert_eq!(batch.after(&position(1000, 0)), batch.len());
}

#[test]
fn ranges_stay_within_the_batch() {
    let batch = raw_batch(&vec![Bytes::from_static(b"x"); 5]);
    assert_eq!(batch.range(2..4).len(), 2);
    assert_eq!(batch.range(2..400).len(), 3);
    assert_eq!(batch.range(7..9).len(), 0);
    let backwards: Vec<u64> = batch
        .iter()
        .rev()
        .map(|record| record.sequence_number().parse().unwrap())
        .collect();
    assert_eq!(backwards, [50, 40, 30, 20, 10]);
    assert_eq!(batch.iter().nth(3).unwrap().sequence_number(), "40");
    assert!(batch.get(5).is_none());
}

#[test]
fn an_empty_batch_has_no_positions() {
    let batch = Batch::empty();
    assert_eq!(batch.first_position(), None);
    assert_eq!(batch.last_position(), None);
    assert_eq!(batch.end_position(), None);
    assert_eq!(batch.after(&position(1, 0)), 0);
}

#[test]
fn ready_records_make_a_batch_for_tests() {
    let mut first = Record::new(sequence(7), "a", "one");
    first.aggregated = true;
    first.explicit_hash_key = Some("123".to_owned());
    let mut second = first.clone();
    second.sub_sequence_number = 4;
    second.partition_key = "b".to_owned();
    let third = Record::new(sequence(8), "c", "three");
    let batch = Batch::from_records([&first, &second, &third]).unwrap();
    let back: Vec<Record> = batch.iter().map(RecordRef::to_owned).collect();
    assert_eq!(back, [first.clone(), second.clone(), third]);
    assert_eq!(batch.kinesis_records(), 2);
    assert_eq!(batch.after(&position(7, 3)), 1);
    assert!(Batch::from_records([&second, &first]).is_err());
}

#[test]
fn debug_output_has_no_payloads_and_no_keys() {
    let batch = raw_batch(&[Bytes::from_static(b"secret")]);
    let record = batch.get(0).unwrap();
    let shown = format!("{batch:?} {record:?} {:?}", record.to_owned());
    assert!(
        !shown.contains("secret") && !shown.contains("outer"),
        "{shown}"
    );
}

#[test]
fn an_answer_of_small_records_costs_little_more_than_its_bytes() {
    let batch = raw_batch(&vec![Bytes::from(vec![0; 100]); 1000]);
    let per_record = batch.resident_bytes() / 1000;
    assert!((200..350).contains(&per_record), "{per_record}");
    assert_eq!(
        batch.payload_bytes(),
        1000 * 100 + 9 * 7 + 90 * 8 + 900 * 9 + 10
    );
}
