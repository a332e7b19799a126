//! What a shard gives and takes, and what a request may hold.

use serde_json::{Value, json};

use super::{HALF, HOUR, Lab, from_start, keys, shard_id, text};
use crate::kinesis::EngineConfig;

const MIB: usize = 1024 * 1024;

fn throttled() -> Lab {
    let mut lab = Lab::with(EngineConfig::default());
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 2}));
    lab
}

fn data(size: usize) -> String {
    base64_simd::STANDARD.encode_to_string(vec![0; size])
}

fn entry(hash_key: u128, data: &str) -> Value {
    json!({"PartitionKey": "k", "ExplicitHashKey": hash_key.to_string(), "Data": data})
}

#[test]
fn k09_an_answer_has_at_most_10_mib_and_10_000_records() {
    let mut lab = Lab::stream(1);
    let megabyte = data(MIB - 1);
    for _ in 0..12 {
        lab.ok(
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": "k", "Data": megabyte}),
        );
    }
    let iterator = lab.iterator(0, from_start());
    let first = lab.get(&iterator);
    assert_eq!(first["Records"].as_array().unwrap().len(), 10);
    assert!(first["MillisBehindLatest"].as_i64().unwrap() > 0);
    let second = lab.get(&text(&first["NextShardIterator"]));
    assert_eq!(second["Records"].as_array().unwrap().len(), 2);
    for limit in [0, 10_001] {
        let input = json!({"ShardIterator": iterator, "Limit": limit});
        assert_eq!(lab.code("GetRecords", input), "ValidationException");
    }
    let small: Vec<_> = (0..500).map(|_| entry(0, "")).collect();
    let latest = lab.iterator(0, json!({"ShardIteratorType": "LATEST"}));
    for _ in 0..21 {
        lab.ok("PutRecords", json!({"StreamName": "s", "Records": small}));
    }
    assert_eq!(
        lab.get(&latest)["Records"].as_array().unwrap().len(),
        10_000
    );
}

#[test]
fn k10_a_shard_answers_five_calls_a_second() {
    let mut lab = throttled();
    let iterator = lab.iterator(0, from_start());
    for _ in 0..5 {
        lab.get(&iterator);
    }
    let refused = lab.refused("GetRecords", json!({"ShardIterator": iterator}));
    assert_eq!(refused.code, "ProvisionedThroughputExceededException");
    assert_eq!(
        refused.message,
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."
    );
    let other = lab.iterator(1, from_start());
    lab.get(&other);
    lab.pass(200);
    lab.get(&iterator);
    assert_eq!(
        lab.code("GetRecords", json!({"ShardIterator": iterator})),
        "ProvisionedThroughputExceededException"
    );
}

#[test]
fn k10_a_big_answer_is_paid_for_at_2_mib_a_second() {
    let mut lab = throttled();
    let megabyte = data(MIB - 1);
    for _ in 0..10 {
        lab.ok(
            "PutRecords",
            json!({"StreamName": "s", "Records": [entry(0, &megabyte)]}),
        );
        lab.pass(1_000);
    }
    let iterator = lab.iterator(0, from_start());
    assert_eq!(lab.get(&iterator)["Records"].as_array().unwrap().len(), 10);
    lab.pass(4_900);
    assert_eq!(
        lab.code("GetRecords", json!({"ShardIterator": iterator})),
        "ProvisionedThroughputExceededException"
    );
    lab.pass(200);
    lab.get(&iterator);
}

#[test]
fn k11_records_go_where_their_hash_key_says_and_numbers_grow() {
    let mut lab = Lab::stream(2);
    let first = lab.put("a", HALF - 1, b"1");
    let second = lab.put("b", HALF, b"2");
    let last = lab.put("c", u128::MAX, b"3");
    assert!(first < second && second < last);
    assert_eq!(lab.keys(0, from_start()), ["a"]);
    assert_eq!(lab.keys(1, from_start()), ["b", "c"]);
    let ordered = |number: &str| json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": number});
    let next = text(&lab.ok("PutRecord", ordered(&last))["SequenceNumber"]);
    assert!(next > last);
    lab.ok("PutRecord", ordered("0"));
    let refused = lab.refused("PutRecord", ordered("17"));
    assert_eq!(
        refused.message,
        "ExclusiveMinimumSequenceNumber 17 used in PutRecord on stream s under account 000000000000 is invalid."
    );
}

#[test]
fn k11_requests_and_records_have_limits() {
    let mut lab = Lab::stream(1);
    let put = |entry: Value| json!({"StreamName": "s", "Records": [entry]});
    let many: Vec<_> = (0..501).map(|_| entry(0, "")).collect();
    assert_eq!(
        lab.code("PutRecords", json!({"StreamName": "s", "Records": many})),
        "ValidationException"
    );
    assert_eq!(
        lab.code("PutRecords", json!({"StreamName": "s", "Records": []})),
        "ValidationException"
    );
    let beyond = json!({"PartitionKey": "k", "Data": "", "ExplicitHashKey": "340282366920938463463374607431768211456"});
    let refused = lab.refused("PutRecords", put(beyond));
    assert_eq!(
        refused.message,
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was \
         340282366920938463463374607431768211456"
    );
    for (key, code) in [
        ("", Some("ValidationException")),
        (&*"é".repeat(257), Some("ValidationException")),
        (&*"é".repeat(256), None),
    ] {
        let input = put(json!({"PartitionKey": key, "Data": ""}));
        assert_eq!(
            lab.call("PutRecords", input)
                .err()
                .map(|error| error.code)
                .as_deref(),
            code
        );
    }
    lab.ok("PutRecords", put(entry(0, &data(MIB - 1))));
    let refused = lab.refused("PutRecords", put(entry(0, &data(MIB))));
    assert_eq!(refused.code, "ValidationException");
    assert!(
        refused.message.contains("at 'records.1.member.data'"),
        "{refused}"
    );
    let arn = super::STREAM_ARN;
    lab.ok(
        "UpdateMaxRecordSize",
        json!({"StreamARN": arn, "MaxRecordSizeInKiB": 10_240}),
    );
    lab.ok("PutRecords", put(entry(0, &data(10 * MIB - 1))));
    let two =
        json!({"StreamName": "s", "Records": [entry(0, &data(6 * MIB)), entry(0, &data(6 * MIB))]});
    assert_eq!(lab.code("PutRecords", two), "InvalidArgumentException");
}

#[test]
fn k12_a_shard_takes_1_000_records_a_second_and_says_which_it_did_not() {
    let mut lab = throttled();
    let batch: Vec<_> = (0..500).map(|_| entry(0, "")).collect();
    for _ in 0..2 {
        let answer = lab.ok("PutRecords", json!({"StreamName": "s", "Records": batch}));
        assert_eq!(answer["FailedRecordCount"], 0);
    }
    let mixed = json!({"StreamName": "s", "Records": [entry(0, ""), entry(HALF, "")]});
    let answer = lab.ok("PutRecords", mixed);
    assert_eq!(answer["FailedRecordCount"], 1);
    assert_eq!(
        answer["Records"][0],
        json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.",
        })
    );
    assert_eq!(answer["Records"][1]["ShardId"], shard_id(1));
    lab.pass(1);
    assert_eq!(
        lab.ok(
            "PutRecords",
            json!({"StreamName": "s", "Records": [entry(0, "")]})
        )["FailedRecordCount"],
        0
    );
}

#[test]
fn k12_a_shard_takes_1_mib_a_second() {
    let mut lab = throttled();
    let half = data(MIB / 2 - 1);
    let put = json!({"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": half});
    lab.ok("PutRecord", put.clone());
    lab.ok("PutRecord", put.clone());
    assert_eq!(
        lab.code("PutRecord", put.clone()),
        "ProvisionedThroughputExceededException"
    );
    lab.pass(500);
    lab.ok("PutRecord", put);
}

#[test]
fn iterators_expire_after_five_minutes_or_when_told_to() {
    let mut lab = Lab::stream(1);
    let iterator = lab.iterator(0, from_start());
    lab.pass(300_000);
    let next = text(&lab.get(&iterator)["NextShardIterator"]);
    lab.pass(1);
    let refused = lab.refused("GetRecords", json!({"ShardIterator": iterator}));
    assert_eq!(refused.code, "ExpiredIteratorException");
    assert!(
        refused
            .message
            .ends_with("tolerated delay of 300000 milliseconds."),
        "{refused}"
    );
    lab.get(&next);
    lab.engine.expire_iterators_before(lab.now);
    assert_eq!(
        lab.code("GetRecords", json!({"ShardIterator": next})),
        "ExpiredIteratorException"
    );
    assert_eq!(
        lab.code("GetRecords", json!({"ShardIterator": "bogus"})),
        "InvalidArgumentException"
    );
}

#[test]
fn k16_records_are_kept_for_the_retention_period() {
    let mut lab = Lab::stream(1);
    let first = lab.put("a", 0, b"1");
    lab.pass(HOUR);
    lab.put("b", 0, b"2");
    lab.pass(23 * HOUR);
    assert_eq!(lab.keys(0, from_start()), ["a", "b"]);
    lab.pass(1);
    assert_eq!(lab.keys(0, from_start()), ["b"]);
    let trimmed =
        json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": first});
    assert_eq!(
        lab.keys(0, trimmed),
        ["b"],
        "a trimmed number is still a place"
    );
    lab.ok(
        "IncreaseStreamRetentionPeriod",
        json!({"StreamName": "s", "RetentionPeriodHours": 48}),
    );
    lab.pass(24 * HOUR);
    assert_eq!(lab.keys(0, from_start()), ["b"]);
    lab.ok(
        "DecreaseStreamRetentionPeriod",
        json!({"StreamName": "s", "RetentionPeriodHours": 24}),
    );
    assert!(lab.keys(0, from_start()).is_empty());
    lab.ok(
        "IncreaseStreamRetentionPeriod",
        json!({"StreamName": "s", "RetentionPeriodHours": 8760}),
    );
    assert!(
        lab.keys(0, from_start()).is_empty(),
        "what is trimmed does not come back"
    );
}

#[test]
fn a_stream_without_readers_forgets_what_is_past_retention() {
    let mut lab = Lab::stream(1);
    lab.put("old", 0, b"1");
    lab.pass(24 * HOUR + 1);
    lab.put("new", 0, b"2");
    let log = lab.engine.log("s");
    assert_eq!(
        log.iter()
            .map(|record| &*record.partition_key)
            .collect::<Vec<_>>(),
        ["new"]
    );
}

#[test]
fn positions_that_are_none_are_refused() {
    let mut lab = Lab::stream(2);
    let number = lab.put("a", 0, b"1");
    let iterator = |shard: u32, kind: &str, number: &str| json!({"StreamName": "s", "ShardId": shard_id(shard), "ShardIteratorType": kind, "StartingSequenceNumber": number});
    let refused = lab.refused(
        "GetShardIterator",
        iterator(1, "AT_SEQUENCE_NUMBER", &number),
    );
    assert_eq!(
        refused.message,
        "Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used in a call to a shard with \
         shardId-000000000001"
    );
    for (kind, number) in [("AT_SEQUENCE_NUMBER", "12"), ("LATEST", &*number)] {
        assert_eq!(
            lab.code("GetShardIterator", iterator(0, kind, number)),
            "InvalidArgumentException"
        );
    }
    let future = json!({"StreamName": "s", "ShardId": shard_id(0), "ShardIteratorType": "AT_TIMESTAMP",
        "Timestamp": lab.now.plus(1).as_seconds()});
    assert_eq!(
        lab.code("GetShardIterator", future),
        "InvalidArgumentException"
    );
    let nothing =
        json!({"StreamName": "s", "ShardId": shard_id(0), "ShardIteratorType": "AT_TIMESTAMP"});
    assert_eq!(
        lab.code("GetShardIterator", nothing),
        "InvalidArgumentException"
    );
    let missing = json!({"StreamName": "s", "ShardId": shard_id(9), "ShardIteratorType": "LATEST"});
    assert_eq!(
        lab.code("GetShardIterator", missing),
        "ResourceNotFoundException"
    );

    lab.ok("DeleteStream", json!({"StreamName": "s"}));
    lab.pass(5_000);
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 2}));
    let foreign = lab.refused(
        "GetShardIterator",
        iterator(0, "AFTER_SEQUENCE_NUMBER", &number),
    );
    assert_eq!(foreign.code, "InvalidArgumentException");
    assert!(
        foreign
            .message
            .ends_with("because it did not come from this stream."),
        "{foreign}"
    );
}

#[test]
fn iterators_on_closed_shards_stay_where_the_shard_starts_and_ends() {
    let mut lab = Lab::stream(1);
    lab.put("a", 0, b"1");
    lab.split(0, HALF);
    let shards = lab.ok("ListShards", json!({"StreamName": "s"}));
    let range = &shards["Shards"][0]["SequenceNumberRange"];
    let at = |number: &Value| json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": number});
    assert_eq!(lab.keys(0, at(&range["StartingSequenceNumber"])), ["a"]);
    for start in [
        at(&range["EndingSequenceNumber"]),
        json!({"ShardIteratorType": "LATEST"}),
    ] {
        let iterator = lab.iterator(0, start);
        let answer = lab.get(&iterator);
        assert!(keys(&answer).is_empty() && answer.get("NextShardIterator").is_none());
        assert_eq!(answer["ChildShards"].as_array().unwrap().len(), 2);
    }
}
