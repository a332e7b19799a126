//! The same answer through the SDK's decoder and both of ours.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use bytes::Bytes;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};
use proptest::prelude::*;

use super::super::{Answer, Wire};
use super::decode;
use super::generated::{Generated, answer};
use super::{CBOR, JSON, Reply, Server, get, run};
use crate::retrieval::record::EncryptionType;

fn by_sdk(body: &[u8]) -> Option<GetRecordsOutput> {
    let server = Server::always(Reply::new(200, JSON, body.to_vec()));
    let call = Client::new(&server.sdk_config()).get_records();
    run(call.shard_iterator("iterator").send()).ok()
}

fn assert_same(ours: &Answer, sdk: &GetRecordsOutput) {
    assert_eq!(ours.next, sdk.next_shard_iterator);
    let behind = sdk
        .millis_behind_latest
        .map(|millis| Duration::from_millis(millis.try_into().unwrap_or(0)));
    assert_eq!(ours.behind, behind);
    assert_eq!(ours.batch.len(), sdk.records.len());
    let mut payload_bytes = 0;
    for (ours, sdk) in ours.batch.iter().zip(&sdk.records) {
        payload_bytes += sdk.data.as_ref().len() + sdk.partition_key().unwrap_or("").len();
        assert_eq!(ours.data(), sdk.data.as_ref());
        assert_eq!(ours.data_bytes(), sdk.data.as_ref());
        let digits = sdk.sequence_number.trim_start_matches('0');
        assert_eq!(ours.sequence_number(), digits);
        assert_eq!(ours.partition_key(), sdk.partition_key().unwrap_or(""));
        // The SDK keeps what a binary fraction of seconds is; the service's unit is the millisecond.
        let millis = sdk
            .approximate_arrival_timestamp
            .map(|time| (time.as_secs_f64() * 1000.0).round() as i64);
        assert_eq!(ours.source.arrival_millis, millis);
        let encryption = sdk.encryption_type.as_ref().map(encryption);
        assert_eq!(ours.encryption_type(), encryption);
    }
    assert_eq!(ours.batch.payload_bytes(), payload_bytes as u64);
    let children: Option<Vec<ListedShard>> = sdk.child_shards().iter().map(listed).collect();
    assert_eq!(Some(&ours.children), children.as_ref());
}

pub(super) fn encryption(kind: &aws_sdk_kinesis::types::EncryptionType) -> EncryptionType {
    match kind.as_str() {
        "NONE" => EncryptionType::None,
        "KMS" => EncryptionType::Kms,
        _ => EncryptionType::Other,
    }
}

/// `None`: a range that is none.
pub(super) fn listed(child: &aws_sdk_kinesis::types::ChildShard) -> Option<ListedShard> {
    let range = child.hash_key_range()?;
    let mut parents = child
        .parent_shards()
        .iter()
        .map(|id| ShardId::from(id.as_str()));
    Some(ListedShard {
        shard_id: ShardId::from(child.shard_id()),
        parent: parents.next(),
        adjacent_parent: parents.next(),
        hash_range: HashKeyRange::parse(range.starting_hash_key(), range.ending_hash_key()).ok()?,
        open: true,
    })
}

fn assert_all_agree(generated: &Generated) {
    let (json, cbor) = (generated.json(), generated.cbor());
    let sdk = by_sdk(&json).unwrap();
    assert_same(
        &decode(Wire::Json, Bytes::from(json.clone())).unwrap(),
        &sdk,
    );
    assert_same(
        &decode(Wire::Cbor, Bytes::from(cbor.clone())).unwrap(),
        &sdk,
    );
    // The whole way: request, SDK, envelope, decoder. In the last case JSON answers a request in CBOR.
    for (asked, content_type, body) in [
        (Wire::Json, JSON, &json),
        (Wire::Cbor, CBOR, &cbor),
        (Wire::Cbor, JSON, &json),
    ] {
        let server = Server::always(Reply::new(200, content_type, body.clone()));
        let fetched = run(get(&server.source(asked))).unwrap();
        let answer = Answer {
            batch: fetched.batch,
            next: fetched.next.map(|next| next.0),
            behind: fetched.behind,
            children: fetched.children,
        };
        assert_same(&answer, &sdk);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_decoders_agree(generated in answer()) {
        assert_all_agree(&generated);
    }

    /// Whatever both can read, both read alike.
    #[test]
    fn a_damaged_answer_is_never_read_differently(
        generated in answer(),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut json = generated.json();
        let place = place.index(json.len());
        json[place] ^= 1 << bit;
        let ours = decode(Wire::Json, Bytes::from(json.clone()));
        if let (Ok(ours), Some(sdk)) = (ours, by_sdk(&json)) {
            assert_same(&ours, &sdk);
        }
    }
}

#[test]
fn ten_thousand_records_are_read_in_order() {
    let records: Vec<String> = (0..10_000)
        .map(|index| {
            format!(
                r#"{{"SequenceNumber":"4966{index:05}","Data":"eA==","PartitionKey":"key-{index}"}}"#
            )
        })
        .collect();
    let body = format!(r#"{{"Records":[{}]}}"#, records.join(","));
    let answer = decode(Wire::Json, Bytes::from(body)).unwrap();
    assert_eq!(answer.batch.len(), 10_000);
    let last = answer.batch.get(9_999).unwrap();
    assert_eq!(
        (last.partition_key(), last.data(), last.sequence_number()),
        ("key-9999", &b"x"[..], "496609999")
    );
}

#[test]
fn payloads_in_cbor_are_not_copied() {
    let body = Bytes::from_static(
        b"\xa1\x67Records\x81\xa3\x6eSequenceNumber\x61\x37\x64Data\x45hello\x6cPartitionKey\x61k",
    );
    let place = body.as_ptr_range();
    let server = Server::always(Reply::new(200, CBOR, body));
    let fetched = run(get(&server.source(Wire::Cbor))).unwrap();
    let data = fetched.batch.get(0).unwrap().data_bytes();
    assert_eq!(data, "hello");
    assert!(place.contains(&data.as_ptr()), "the payload was copied");
}

#[test]
fn an_answer_without_records_keeps_no_memory() {
    let body = r#"{"Records":[],"NextShardIterator":"next","MillisBehindLatest":0}"#;
    let answer = decode(Wire::Json, Bytes::from(body)).unwrap();
    assert_eq!(answer.batch.resident_bytes(), 0);
    assert_eq!(answer.next.as_deref(), Some("next"));
    assert_eq!(answer.behind, Some(Duration::ZERO));
}
