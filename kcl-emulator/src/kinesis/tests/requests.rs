//! Naming resources, malformed requests, streams that come and go.

use serde_json::json;

use super::{Lab, STREAM_ARN, from_start, shard_id};
use crate::kinesis::{EngineConfig, Request};

#[test]
fn k21_streams_are_named_by_name_by_arn_or_by_both() {
    let mut lab = Lab::stream(1);
    for input in [
        json!({"StreamName": "s"}),
        json!({"StreamARN": STREAM_ARN}),
        json!({"StreamName": "s", "StreamARN": STREAM_ARN}),
    ] {
        lab.ok("DescribeStream", input.clone());
        lab.ok("DescribeStreamSummary", input.clone());
        lab.ok("ListShards", input);
    }
    lab.ok(
        "PutRecord",
        json!({"StreamARN": STREAM_ARN, "PartitionKey": "k", "Data": ""}),
    );
    let iterator = lab.iterator(0, from_start());
    lab.ok(
        "GetRecords",
        json!({"ShardIterator": iterator, "StreamARN": STREAM_ARN}),
    );
    let other = STREAM_ARN.replace("/s", "/t");
    assert_eq!(
        lab.code(
            "GetRecords",
            json!({"ShardIterator": iterator, "StreamARN": other})
        ),
        "InvalidArgumentException"
    );
    let cases = [
        (
            json!({"StreamName": "s", "StreamARN": other}),
            "InvalidArgumentException",
        ),
        (json!({}), "InvalidArgumentException"),
        (json!({"StreamARN": other}), "ResourceNotFoundException"),
        (json!({"StreamARN": "orders"}), "ValidationException"),
        (
            json!({"StreamARN": STREAM_ARN.replace("000000000000", "111111111111")}),
            "AccessDeniedException",
        ),
        (
            json!({"StreamARN": STREAM_ARN.replace("us-east-1", "eu-west-1")}),
            "ResourceNotFoundException",
        ),
    ];
    for (input, code) in cases {
        assert_eq!(
            lab.code("DescribeStreamSummary", input.clone()),
            code,
            "{input}"
        );
    }
}

#[test]
fn k25_errors_are_told_in_the_services_words() {
    let mut lab = Lab::stream(1);
    let refused = lab.refused("DescribeStreamSummary", json!({"StreamName": "foo"}));
    assert_eq!(
        refused.to_string(),
        "ResourceNotFoundException: Stream foo under account 000000000000 not found."
    );
    let refused = lab.refused(
        "CreateStream",
        json!({"StreamName": "a b", "ShardCount": 0}),
    );
    assert_eq!(
        refused.to_string(),
        "ValidationException: 2 validation errors detected: Value 'a b' at 'streamName' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '0' at 'shardCount' \
         failed to satisfy constraint: Member must have value greater than or equal to 1"
    );
    let refused = lab.refused(
        "GetShardIterator",
        json!({"StreamName": "s", "ShardId": shard_id(0), "ShardIteratorType": "NOW"}),
    );
    assert_eq!(
        refused.to_string(),
        "ValidationException: 1 validation error detected: Value 'NOW' at 'shardIteratorType' failed to satisfy \
         constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, \
         AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
    );
    assert_eq!(lab.code("Nonsense", json!({})), "UnknownOperationException");
    assert_eq!(
        lab.code("ListShards", json!({"MaxResults": "2"})),
        "SerializationException"
    );
    assert_eq!(lab.code("ListShards", json!([])), "SerializationException");
    lab.ok(
        "ListShards",
        json!({"StreamName": "s", "Unknown": {"x": [1]}}),
    );
}

#[test]
fn every_operation_refuses_an_empty_request_or_answers_it() {
    let mut lab = Lab::stream(1);
    let operations = "AddTagsToStream CreateStream DecreaseStreamRetentionPeriod DeleteResourcePolicy DeleteStream \
        DeregisterStreamConsumer DescribeLimits DescribeStream DescribeStreamConsumer DescribeStreamSummary \
        DisableEnhancedMonitoring EnableEnhancedMonitoring GetRecords GetResourcePolicy GetShardIterator \
        IncreaseStreamRetentionPeriod ListShards ListStreamConsumers ListStreams ListTagsForResource \
        ListTagsForStream MergeShards PutRecord PutRecords PutResourcePolicy RegisterStreamConsumer \
        RemoveTagsFromStream SplitShard StartStreamEncryption StopStreamEncryption SubscribeToShard TagResource \
        UntagResource UpdateMaxRecordSize UpdateShardCount UpdateStreamMode";
    for operation in operations.split_whitespace() {
        let request = Request::decode(operation, json!({})).unwrap();
        assert_eq!(request.operation(), operation);
        if ["DescribeLimits", "ListStreams"].contains(&operation) {
            lab.ok(operation, json!({}));
        } else {
            let code = lab.code(operation, json!({}));
            assert!(
                ["ValidationException", "InvalidArgumentException"].contains(&&*code),
                "{operation}: {code}"
            );
        }
    }
}

#[test]
fn a_stream_in_transition_refuses_what_needs_it_active() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": ""});
    assert_eq!(
        lab.code("PutRecord", put.clone()),
        "ResourceNotFoundException"
    );
    assert_eq!(
        lab.code("DeleteStream", json!({"StreamName": "s"})),
        "ResourceInUseException"
    );
    lab.pass(1_000);
    lab.ok("PutRecord", put.clone());
    lab.ok("DeleteStream", json!({"StreamName": "s"}));
    assert_eq!(lab.status(), "DELETING");
    assert_eq!(
        lab.code("ListShards", json!({"StreamName": "s"})),
        "ResourceInUseException"
    );
    let create = json!({"StreamName": "s", "ShardCount": 1});
    assert_eq!(
        lab.code("CreateStream", create.clone()),
        "ResourceInUseException"
    );
    lab.pass(1_000);
    assert_eq!(lab.code("PutRecord", put), "ResourceNotFoundException");
    lab.ok("CreateStream", create);
    lab.pass(1_000);
    let summary =
        lab.ok("DescribeStreamSummary", json!({"StreamName": "s"}))["StreamDescriptionSummary"]
            .clone();
    assert_eq!(summary["StreamCreationTimestamp"], 1_790_000_002.0);
    assert!(lab.keys(0, from_start()).is_empty());
}

#[test]
fn the_account_has_a_shard_limit() {
    let mut lab = Lab::with(EngineConfig {
        shard_limit: 3,
        ..EngineConfig::default()
    });
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 2}));
    lab.scale(3);
    let refused = lab.refused("CreateStream", json!({"StreamName": "t", "ShardCount": 1}));
    assert_eq!(refused.code, "LimitExceededException");
    let split = json!({"StreamName": "s", "ShardToSplit": shard_id(2), "NewStartingHashKey": "9"});
    assert_eq!(lab.code("SplitShard", split), "LimitExceededException");
}

#[test]
fn a_clock_that_goes_back_does_not_take_the_engine_with_it() {
    let mut lab = Lab::stream(1);
    lab.put("a", 0, b"1");
    lab.pass(-10_000);
    lab.put("b", 0, b"2");
    assert_eq!(lab.keys(0, from_start()), ["a", "b"]);
    let log = lab.engine.log("s");
    assert!(log.is_sorted_by_key(|record| (record.arrived, record.sequence_number)));
    assert_eq!((log.len(), &*log[1].data), (2, &b"2"[..]));
}
