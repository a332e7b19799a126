//! Streams, records, iterators.

use serde_json::json;

use super::{HALF, Lab, from_start, keys, shard_id, text};

#[test]
fn k01_a_provisioned_stream_is_created_and_described() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 2}));
    assert_eq!(lab.status(), "CREATING");
    assert_eq!(
        lab.code("CreateStream", json!({"StreamName": "s", "ShardCount": 2})),
        "ResourceInUseException"
    );
    assert_eq!(
        lab.code("ListShards", json!({"StreamName": "s"})),
        "ResourceInUseException"
    );
    lab.pass(1_000);
    let answer = lab.ok("DescribeStreamSummary", json!({"StreamName": "s"}));
    assert_eq!(
        answer["StreamDescriptionSummary"],
        json!({
            "StreamName": "s",
            "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 1_790_000_000.0,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "OpenShardCount": 2,
            "ConsumerCount": 0,
            "MaxRecordSizeInKiB": 1024,
        })
    );
}

#[test]
fn k06_the_five_kinds_of_iterators() {
    let mut lab = Lab::stream(1);
    let first = lab.put("a", 0, b"1");
    lab.pass(10);
    let latest = lab.iterator(0, json!({"ShardIteratorType": "LATEST"}));
    let middle = lab.now.as_seconds();
    lab.put("b", 0, b"2");
    lab.pass(10);
    assert_eq!(lab.keys(0, from_start()), ["a", "b"]);
    let at = json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": first});
    assert_eq!(lab.keys(0, at), ["a", "b"]);
    let after =
        json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": first});
    assert_eq!(lab.keys(0, after), ["b"]);
    let at_time = json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": middle});
    assert_eq!(lab.keys(0, at_time), ["b"]);
    assert_eq!(keys(&lab.get(&latest)), ["b"]);
}

#[test]
fn k07_a_closed_shard_ends_with_its_children() {
    let mut lab = Lab::stream(1);
    lab.put("a", 0, b"1");
    lab.ok(
        "SplitShard",
        json!({"StreamName": "s", "ShardToSplit": shard_id(0), "NewStartingHashKey": HALF.to_string()}),
    );
    lab.put("b", 0, b"2");
    lab.put("c", HALF, b"3");
    let iterator = lab.iterator(0, from_start());
    let answer = lab.get(&iterator);
    assert_eq!(keys(&answer), ["a"]);
    assert!(answer.get("NextShardIterator").is_none());
    assert_eq!(
        answer["ChildShards"],
        json!([
            {"ShardId": shard_id(1), "ParentShards": [shard_id(0)],
             "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": (HALF - 1).to_string()}},
            {"ShardId": shard_id(2), "ParentShards": [shard_id(0)],
             "HashKeyRange": {"StartingHashKey": HALF.to_string(), "EndingHashKey": u128::MAX.to_string()}},
        ])
    );
    assert_eq!(lab.keys(1, from_start()), ["b"]);
    assert_eq!(lab.keys(2, from_start()), ["c"]);
}

#[test]
fn k08_a_reader_knows_how_far_behind_it_is() {
    let mut lab = Lab::stream(1);
    lab.put("a", 0, b"1");
    lab.put("b", 0, b"2");
    lab.pass(700);
    let iterator = lab.iterator(0, from_start());
    let answer = lab.ok("GetRecords", json!({"ShardIterator": iterator, "Limit": 1}));
    assert_eq!(answer["MillisBehindLatest"], 700);
    let next = text(&answer["NextShardIterator"]);
    let answer = lab.get(&next);
    assert_eq!(
        (keys(&answer), answer["MillisBehindLatest"].clone()),
        (vec!["b".to_owned()], json!(0))
    );
    let next = text(&answer["NextShardIterator"]);
    let answer = lab.get(&next);
    assert_eq!(
        (keys(&answer).len(), answer["MillisBehindLatest"].clone()),
        (0, json!(0))
    );
}
