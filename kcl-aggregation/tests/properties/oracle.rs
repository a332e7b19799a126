//! A second opinion on aggregated records: the same format by way of `prost`, and the comparison with the decoder.
//!
//! The fuzz target calls [`check`], too.

use kcl_aggregation::{Decoder, HashKeyRange, UserRecords, looks_aggregated};
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// Required fields are optional here, because `prost` does not miss them by itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    pub(crate) partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) data: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) partition_key: String,
    pub(crate) explicit_hash_key: Option<String>,
    pub(crate) data: Vec<u8>,
}

/// The user records of a message, or `None` when it is damaged.
pub(crate) fn user_records(message: &[u8]) -> Option<Vec<User>> {
    let aggregate = Aggregate::decode(message).ok()?;
    let key = |table: &[String], index: u64| table.get(usize::try_from(index).ok()?).cloned();
    aggregate
        .records
        .into_iter()
        .map(|record| {
            let explicit_hash_key = match record.explicit_hash_key_index {
                Some(index) => Some(key(&aggregate.explicit_hash_key_table, index)?),
                None => None,
            };
            Some(User {
                partition_key: key(&aggregate.partition_key_table, record.partition_key_index?)?,
                explicit_hash_key,
                data: record.data?,
            })
        })
        .collect()
}

/// The record that holds this message, with the right digest.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&MAGIC, message, Md5::digest(message).as_slice()].concat()
}

pub(crate) fn owned(records: UserRecords<'_>) -> Vec<User> {
    let owned = |text: &str| text.to_owned();
    records
        .iter()
        .map(|record| User {
            partition_key: owned(record.partition_key()),
            explicit_hash_key: record.explicit_hash_key().map(owned),
            data: record.data().to_vec(),
        })
        .collect()
}

/// Decodes anything, as it is and as the message of a record whose digest is right, and compares with the oracle.
/// Returns whether the latter was accepted.
pub(crate) fn check(input: &[u8]) -> bool {
    if let Some(records) = check_record(input) {
        assert!(looks_aggregated(input));
        assert_eq!(Some(records), user_records(&input[4..input.len() - 16]));
    }
    let decoded = check_record(&framed(input));
    let expected = user_records(input).filter(|_| !input.is_empty());
    assert_eq!(decoded, expected);
    decoded.is_some()
}

/// Decodes one record with each kind of range; checks what each user record says about itself.
fn check_record(record: &[u8]) -> Option<Vec<User>> {
    let range = HashKeyRange {
        start: 1 << 126,
        end: 3 << 126,
    };
    let mut decoder = Decoder::new();
    let unranged = decoder.decode(record, &HashKeyRange::FULL);
    let unranged = unranged.ok().flatten().map(|records| {
        assert_eq!(records.out_of_range(), 0);
        owned(records)
    });
    let records = decoder.decode(record, &range).ok().flatten();
    let ranged = records.map(owned);
    assert_eq!(ranged, unranged);
    for user_record in records.iter().flatten() {
        assert_eq!(
            user_record.in_range(),
            range.contains(user_record.effective_hash_key())
        );
        assert_eq!(user_record.data(), user_record.data_span().of(record));
        let key = user_record.partition_key_span().of(record);
        assert_eq!(user_record.partition_key().as_bytes(), key);
    }
    ranged
}
