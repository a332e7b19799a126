//! Listings: streams, shards, pages, filters.

use serde_json::{Value, json};

use super::{HALF, HOUR, Lab, shard_id, text};

fn ids(numbers: &[u32]) -> Vec<String> {
    numbers.iter().copied().map(shard_id).collect()
}

fn filter(kind: &str) -> Value {
    json!({"Type": kind})
}

#[test]
fn k03_describe_stream_and_list_streams_are_paged() {
    let mut lab = Lab::stream(3);
    let input = json!({"StreamName": "s", "Limit": 2});
    let page = lab.ok("DescribeStream", input)["StreamDescription"].clone();
    assert_eq!(
        (
            page["Shards"].as_array().unwrap().len(),
            &page["HasMoreShards"]
        ),
        (2, &json!(true))
    );
    let input = json!({"StreamName": "s", "Limit": 2, "ExclusiveStartShardId": shard_id(1)});
    let page = lab.ok("DescribeStream", input)["StreamDescription"].clone();
    assert_eq!(
        (text(&page["Shards"][0]["ShardId"]), &page["HasMoreShards"]),
        (shard_id(2), &json!(false))
    );
    for name in ["a", "b"] {
        lab.ok("CreateStream", json!({"StreamName": name, "ShardCount": 1}));
    }
    let page = lab.ok("ListStreams", json!({"Limit": 2}));
    assert_eq!(
        (&page["StreamNames"], &page["HasMoreStreams"]),
        (&json!(["a", "b"]), &json!(true))
    );
    let rest = lab.ok("ListStreams", json!({"NextToken": page["NextToken"]}));
    assert_eq!(
        (&rest["StreamNames"], &rest["HasMoreStreams"]),
        (&json!(["s"]), &json!(false))
    );
    let rest = lab.ok(
        "ListStreams",
        json!({"ExclusiveStartStreamName": "a", "Limit": 1}),
    );
    assert_eq!(rest["StreamNames"], json!(["b"]));
    let limits = lab.ok("DescribeLimits", json!({}));
    assert_eq!(
        (&limits["OpenShardCount"], &limits["ShardLimit"]),
        (&json!(5), &json!(20_000))
    );
}

#[test]
fn k04_list_shards_is_paged_by_tokens_that_stand_alone_and_expire() {
    let mut lab = Lab::stream(5);
    let page = lab.ok("ListShards", json!({"StreamName": "s", "MaxResults": 2}));
    let token = page["NextToken"].clone();
    let next = lab.ok("ListShards", json!({"NextToken": token, "MaxResults": 2}));
    let last = lab.ok(
        "ListShards",
        json!({"NextToken": next["NextToken"], "MaxResults": 2}),
    );
    let seen = [&page, &next, &last].map(|page| page["Shards"].as_array().unwrap().len());
    assert_eq!(seen, [2, 2, 1]);
    assert_eq!(text(&last["Shards"][0]["ShardId"]), shard_id(4));
    assert!(last.get("NextToken").is_none());

    let after = lab.ok(
        "ListShards",
        json!({"StreamName": "s", "ExclusiveStartShardId": shard_id(3)}),
    );
    assert_eq!(after["Shards"].as_array().unwrap().len(), 1);
    for other in [
        json!({"NextToken": token, "StreamName": "s"}),
        json!({"NextToken": token, "ExclusiveStartShardId": shard_id(0)}),
        json!({"NextToken": token, "StreamCreationTimestamp": 1}),
        json!({"NextToken": token, "ShardFilter": {"Type": "AT_LATEST"}}),
        json!({"NextToken": "bogus"}),
        json!({}),
    ] {
        assert_eq!(lab.code("ListShards", other), "InvalidArgumentException");
    }
    assert_eq!(
        lab.code("ListShards", json!({"StreamName": "s", "MaxResults": 0})),
        "ValidationException"
    );
    lab.pass(300_001);
    assert_eq!(
        lab.code("ListShards", json!({"NextToken": token})),
        "ExpiredNextTokenException"
    );
}

#[test]
fn k05_the_six_filters_around_a_split_and_a_merge() {
    let mut lab = Lab::stream(2);
    lab.pass(10_000);
    let before = lab.now.as_seconds();
    lab.pass(10_000);
    lab.split(0, HALF / 2); // closes 0, opens 2 and 3
    lab.pass(10_000);
    let between = lab.now.as_seconds();
    lab.pass(10_000);
    lab.merge(3, 1); // closes 3 and 1, opens 4
    lab.pass(10_000);
    let at = |time: f64| json!({"Type": "AT_TIMESTAMP", "Timestamp": time});
    let from = |time: f64| json!({"Type": "FROM_TIMESTAMP", "Timestamp": time});
    assert_eq!(lab.shards(Value::Null), ids(&[0, 1, 2, 3, 4]));
    assert_eq!(
        lab.shards(filter("FROM_TRIM_HORIZON")),
        ids(&[0, 1, 2, 3, 4])
    );
    assert_eq!(lab.shards(filter("AT_TRIM_HORIZON")), ids(&[0, 1]));
    assert_eq!(lab.shards(filter("AT_LATEST")), ids(&[2, 4]));
    assert_eq!(lab.shards(at(before)), ids(&[0, 1]));
    assert_eq!(lab.shards(at(between)), ids(&[1, 2, 3]));
    assert_eq!(
        lab.shards(at(1.0)),
        ids(&[0, 1]),
        "corrected to the trim horizon"
    );
    assert_eq!(lab.shards(from(between)), ids(&[1, 2, 3, 4]));
    assert_eq!(lab.shards(from(before)), ids(&[0, 1, 2, 3, 4]));
    let after = json!({"Type": "AFTER_SHARD_ID", "ShardId": shard_id(2)});
    assert_eq!(lab.shards(after), ids(&[3, 4]));

    for wrong in [
        filter("AT_TIMESTAMP"),
        filter("AFTER_SHARD_ID"),
        json!({"Type": "AT_LATEST", "Timestamp": 1}),
        json!({"Type": "AT_LATEST", "ShardId": shard_id(0)}),
    ] {
        let input = json!({"StreamName": "s", "ShardFilter": wrong});
        assert_eq!(lab.code("ListShards", input), "InvalidArgumentException");
    }
    let input = json!({"StreamName": "s", "ShardFilter": {"Type": "ALL"}});
    assert_eq!(lab.code("ListShards", input), "ValidationException");
}

#[test]
fn k05_a_split_in_the_millisecond_of_creation_leaves_the_parent_at_the_trim_horizon() {
    let mut lab = Lab::stream(1);
    let created = lab.now.as_seconds();
    lab.put("a", 0, b"1");
    lab.split(0, HALF);
    assert_eq!(lab.shards(filter("AT_TRIM_HORIZON")), ids(&[0]));
    assert_eq!(
        lab.shards(json!({"Type": "AT_TIMESTAMP", "Timestamp": created})),
        ids(&[0])
    );
    assert_eq!(lab.shards(filter("AT_LATEST")), ids(&[1, 2]));
}

#[test]
fn k05_filters_hold_across_pages() {
    let mut lab = Lab::stream(2);
    lab.split(0, HALF / 2);
    let input = json!({"StreamName": "s", "MaxResults": 1, "ShardFilter": {"Type": "AT_LATEST"}});
    let page = lab.ok("ListShards", input);
    let next = lab.ok("ListShards", json!({"NextToken": page["NextToken"]}));
    assert_eq!(text(&page["Shards"][0]["ShardId"]), shard_id(1));
    let rest: Vec<_> = next["Shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| text(&shard["ShardId"]))
        .collect();
    assert_eq!(rest, ids(&[2, 3]));
}

#[test]
fn k16_closed_shards_go_when_nothing_of_them_is_left() {
    let mut lab = Lab::stream(1);
    lab.pass(HOUR);
    lab.put("a", 0, b"1");
    lab.split(0, HALF);
    lab.pass(24 * HOUR);
    assert_eq!(lab.shards(Value::Null), ids(&[0, 1, 2]));
    assert_eq!(lab.shards(filter("AT_TRIM_HORIZON")), ids(&[0]));
    let iterator = lab.iterator(0, super::from_start());
    lab.pass(1);
    assert_eq!(lab.shards(Value::Null), ids(&[1, 2]));
    assert_eq!(lab.shards(filter("AT_TRIM_HORIZON")), ids(&[1, 2]));
    assert_eq!(
        lab.code("GetRecords", json!({"ShardIterator": iterator})),
        "ResourceNotFoundException"
    );
}
