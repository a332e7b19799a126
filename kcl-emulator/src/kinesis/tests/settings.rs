//! Modes, encryption, monitoring, tags, policies.

use serde_json::json;

use super::{Lab, STREAM_ARN, from_start, text};

#[test]
fn k02_an_on_demand_stream_has_four_shards_and_scales_by_itself() {
    let mut lab = Lab::new();
    let mode = json!({"StreamMode": "ON_DEMAND"});
    lab.ok(
        "CreateStream",
        json!({"StreamName": "s", "StreamModeDetails": mode}),
    );
    let summary =
        lab.ok("DescribeStreamSummary", json!({"StreamName": "s"}))["StreamDescriptionSummary"]
            .clone();
    assert_eq!(
        (&summary["StreamModeDetails"], &summary["OpenShardCount"]),
        (&mode, &json!(4))
    );
    let refused = lab.refused(
        "UpdateShardCount",
        json!({"StreamName": "s", "TargetShardCount": 8, "ScalingType": "UNIFORM_SCALING"}),
    );
    assert_eq!(refused.code, "ValidationException");
    let limits = lab.ok("DescribeLimits", json!({}));
    assert_eq!(
        (&limits["OnDemandStreamCount"], &limits["OpenShardCount"]),
        (&json!(1), &json!(0))
    );
    let provisioned =
        json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    lab.ok("UpdateStreamMode", provisioned);
    lab.scale(8);
}

#[test]
fn k16_the_retention_period_has_limits_and_directions() {
    let mut lab = Lab::stream(1);
    let hours = |hours: i64| json!({"StreamName": "s", "RetentionPeriodHours": hours});
    let (more, less) = (
        "IncreaseStreamRetentionPeriod",
        "DecreaseStreamRetentionPeriod",
    );
    lab.ok(more, hours(48));
    assert_eq!(
        lab.refused(more, hours(24)).message,
        "Requested retention period (24 hours) for stream s can not be shorter than existing retention period (48 \
         hours). Use DecreaseRetentionPeriod API."
    );
    assert_eq!(lab.code(less, hours(72)), "InvalidArgumentException");
    assert_eq!(
        lab.refused(less, hours(23)).message,
        "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."
    );
    assert_eq!(lab.code(more, hours(8761)), "ValidationException");
    lab.ok(less, hours(24));
}

#[test]
fn k23_tags_by_stream_and_by_resource() {
    let mut lab = Lab::stream(1);
    lab.ok(
        "AddTagsToStream",
        json!({"StreamName": "s", "Tags": {"a": "1", "b": "2"}}),
    );
    lab.ok(
        "TagResource",
        json!({"ResourceARN": STREAM_ARN, "Tags": {"b": "3", "c": "4"}}),
    );
    let page = lab.ok("ListTagsForStream", json!({"StreamName": "s", "Limit": 2}));
    assert_eq!(
        page,
        json!({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "3"}], "HasMoreTags": true})
    );
    let page = lab.ok(
        "ListTagsForStream",
        json!({"StreamName": "s", "ExclusiveStartTagKey": "b"}),
    );
    assert_eq!(
        page,
        json!({"Tags": [{"Key": "c", "Value": "4"}], "HasMoreTags": false})
    );
    lab.ok(
        "RemoveTagsFromStream",
        json!({"StreamName": "s", "TagKeys": ["a"]}),
    );
    lab.ok(
        "UntagResource",
        json!({"ResourceARN": STREAM_ARN, "TagKeys": ["c", "none"]}),
    );
    let tags = lab.ok("ListTagsForResource", json!({"ResourceARN": STREAM_ARN}));
    assert_eq!(tags, json!({"Tags": [{"Key": "b", "Value": "3"}]}));
    let many: serde_json::Map<_, _> = (0..50).map(|tag| (format!("t{tag}"), json!("v"))).collect();
    for tags in [json!({"a;b": "1"}), json!(many)] {
        let input = json!({"StreamName": "s", "Tags": tags});
        assert_eq!(
            lab.code("AddTagsToStream", input),
            "InvalidArgumentException"
        );
    }
    let input = json!({"StreamName": "s", "Tags": {"k".repeat(129): "1"}});
    assert_eq!(lab.code("AddTagsToStream", input), "ValidationException");
    let consumer = lab.register("app");
    lab.ok(
        "TagResource",
        json!({"ResourceARN": consumer, "Tags": {"x": "y"}}),
    );
    let tags = lab.ok("ListTagsForResource", json!({"ResourceARN": consumer}));
    assert_eq!(tags, json!({"Tags": [{"Key": "x", "Value": "y"}]}));
}

#[test]
fn k24_encryption_shows_in_records() {
    let mut lab = Lab::stream(1);
    lab.put("plain", 0, b"1");
    let key = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"});
    assert_eq!(
        lab.code("StopStreamEncryption", key.clone()),
        "InvalidArgumentException"
    );
    lab.ok("StartStreamEncryption", key.clone());
    let put = lab.ok(
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "secret", "Data": ""}),
    );
    assert_eq!(put["EncryptionType"], "KMS");
    let iterator = lab.iterator(0, from_start());
    let records = lab.get(&iterator)["Records"].clone();
    assert!(records[0].get("EncryptionType").is_none());
    assert_eq!(records[1]["EncryptionType"], "KMS");
    let summary =
        lab.ok("DescribeStreamSummary", json!({"StreamName": "s"}))["StreamDescriptionSummary"]
            .clone();
    assert_eq!(
        (text(&summary["EncryptionType"]), text(&summary["KeyId"])),
        ("KMS".to_owned(), "alias/aws/kinesis".to_owned())
    );
    lab.ok("StopStreamEncryption", key);
    let put = lab.ok(
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "k", "Data": ""}),
    );
    assert_eq!(put["EncryptionType"], "NONE");
}

#[test]
fn k24_monitoring_tells_current_and_desired_metrics() {
    let mut lab = Lab::stream(1);
    let metrics = |names: &[&str]| json!({"StreamName": "s", "ShardLevelMetrics": names});
    let answer = lab.ok(
        "EnableEnhancedMonitoring",
        metrics(&["IncomingBytes", "OutgoingBytes"]),
    );
    assert_eq!(answer["CurrentShardLevelMetrics"], json!([]));
    assert_eq!(
        answer["DesiredShardLevelMetrics"],
        json!(["IncomingBytes", "OutgoingBytes"])
    );
    let answer = lab.ok("DisableEnhancedMonitoring", metrics(&["IncomingBytes"]));
    assert_eq!(answer["DesiredShardLevelMetrics"], json!(["OutgoingBytes"]));
    let answer = lab.ok("EnableEnhancedMonitoring", metrics(&["ALL"]));
    assert_eq!(
        answer["DesiredShardLevelMetrics"].as_array().unwrap().len(),
        7
    );
    assert_eq!(
        lab.code("EnableEnhancedMonitoring", metrics(&["Nothing"])),
        "ValidationException"
    );
    assert_eq!(
        lab.code("EnableEnhancedMonitoring", metrics(&[])),
        "ValidationException"
    );
}

#[test]
fn k24_policies_are_kept_per_resource() {
    let mut lab = Lab::stream(1);
    let resource = json!({"ResourceARN": STREAM_ARN});
    assert_eq!(
        lab.ok("GetResourcePolicy", resource.clone())["Policy"],
        "{}"
    );
    assert_eq!(
        lab.code("DeleteResourcePolicy", resource.clone()),
        "ResourceNotFoundException"
    );
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    lab.ok(
        "PutResourcePolicy",
        json!({"ResourceARN": STREAM_ARN, "Policy": policy}),
    );
    assert_eq!(
        lab.ok("GetResourcePolicy", resource.clone())["Policy"],
        policy
    );
    lab.ok("DeleteResourcePolicy", resource);
    let malformed = json!({"ResourceARN": STREAM_ARN, "Policy": "nonsense"});
    assert_eq!(
        lab.code("PutResourcePolicy", malformed),
        "InvalidArgumentException"
    );
}
