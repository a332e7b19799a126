//! Splits, merges, scaling.

use serde_json::{Value, json};

use super::{HALF, Lab, from_start, shard_id, text};

fn listed(lab: &mut Lab) -> Vec<Value> {
    let answer = lab.ok("ListShards", json!({"StreamName": "s"}));
    answer["Shards"].as_array().unwrap().clone()
}

/// First and last hash key of the open shards, in order.
pub(super) fn open_ranges(lab: &mut Lab) -> Vec<(u128, u128)> {
    let input = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    let answer = lab.ok("ListShards", input);
    let mut ranges: Vec<_> = answer["Shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(range)
        .collect();
    ranges.sort_unstable();
    ranges
}

pub(super) fn range(shard: &Value) -> (u128, u128) {
    let range = &shard["HashKeyRange"];
    let end = |name: &str| text(&range[name]).parse().unwrap();
    (end("StartingHashKey"), end("EndingHashKey"))
}

#[test]
fn k13_a_split_goes_through_updating() {
    let mut lab = Lab::slow();
    lab.ok("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    lab.pass(1_000);
    lab.split(0, HALF);
    assert_eq!(lab.status(), "UPDATING");
    let input = json!({"StreamName": "s", "ShardToSplit": shard_id(0), "NewStartingHashKey": "9"});
    let refused = lab.refused("SplitShard", input);
    assert_eq!(refused.code, "ResourceInUseException");
    assert_eq!(
        refused.message,
        "Stream s under account 000000000000 not ACTIVE, instead in state UPDATING"
    );
    lab.put("still open", 0, b"1");
    assert_eq!(listed(&mut lab).len(), 1);
    lab.pass(1_000);
    assert_eq!(lab.status(), "ACTIVE");
    let shards = listed(&mut lab);
    assert_eq!(range(&shards[1]), (0, HALF - 1));
    assert_eq!(range(&shards[2]), (HALF, u128::MAX));
    for child in &shards[1..] {
        assert_eq!(text(&child["ParentShardId"]), shard_id(0));
        assert!(child.get("AdjacentParentShardId").is_none());
        let start = text(&child["SequenceNumberRange"]["StartingSequenceNumber"]);
        let parent_end = text(&shards[0]["SequenceNumberRange"]["EndingSequenceNumber"]);
        assert!(start > parent_end, "{start} after {parent_end}");
        assert!(
            child["SequenceNumberRange"]
                .get("EndingSequenceNumber")
                .is_none()
        );
    }
}

#[test]
fn k13_a_split_needs_an_open_shard_and_a_key_inside_it() {
    let mut lab = Lab::stream(1);
    let split = |shard: u32, at: &str| json!({"StreamName": "s", "ShardToSplit": shard_id(shard), "NewStartingHashKey": at});
    for at in ["0", "1", &u128::MAX.to_string()] {
        assert_eq!(
            lab.code("SplitShard", split(0, at)),
            "InvalidArgumentException",
            "{at}"
        );
    }
    assert_eq!(lab.code("SplitShard", split(0, "x")), "ValidationException");
    assert_eq!(
        lab.code("SplitShard", split(7, "9")),
        "ResourceNotFoundException"
    );
    lab.split(0, 2);
    let refused = lab.refused("SplitShard", split(0, "9"));
    assert_eq!(refused.code, "InvalidArgumentException");
    assert!(
        refused.message.contains("already been merged or split"),
        "{refused}"
    );
}

#[test]
fn k14_a_merge_has_two_parents_in_the_order_of_the_request() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut lab = Lab::stream(3);
        lab.merge(first, second);
        let shards = listed(&mut lab);
        assert_eq!(text(&shards[3]["ParentShardId"]), shard_id(first));
        assert_eq!(text(&shards[3]["AdjacentParentShardId"]), shard_id(second));
        assert_eq!(range(&shards[3]), (0, range(&shards[1]).1));
        for parent in &shards[..2] {
            assert!(
                parent["SequenceNumberRange"]
                    .get("EndingSequenceNumber")
                    .is_some()
            );
        }
        let iterator = lab.iterator(first, from_start());
        let end = lab.get(&iterator);
        assert_eq!(
            end["ChildShards"][0]["ParentShards"],
            json!([shard_id(first), shard_id(second)])
        );
    }
}

#[test]
fn k14_only_neighbours_merge() {
    let mut lab = Lab::stream(3);
    let merge = |a: u32, b: u32| json!({"StreamName": "s", "ShardToMerge": shard_id(a), "AdjacentShardToMerge": shard_id(b)});
    assert_eq!(
        lab.code("MergeShards", merge(0, 2)),
        "InvalidArgumentException"
    );
    assert_eq!(
        lab.code("MergeShards", merge(0, 0)),
        "InvalidArgumentException"
    );
    assert_eq!(
        lab.code("MergeShards", merge(0, 9)),
        "ResourceNotFoundException"
    );
}

#[test]
fn k15_the_shard_count_doubles_and_halves_by_splits_and_merges() {
    let mut lab = Lab::stream(2);
    lab.scale(4);
    assert_eq!(open_ranges(&mut lab).len(), 4);
    let parents: Vec<_> = listed(&mut lab)[2..]
        .iter()
        .map(|shard| text(&shard["ParentShardId"]))
        .collect();
    assert_eq!(
        parents,
        [shard_id(0), shard_id(0), shard_id(1), shard_id(1)]
    );
    lab.scale(2);
    let merged = listed(&mut lab)[6..].to_vec();
    assert_eq!(merged.len(), 2);
    assert!(
        merged
            .iter()
            .all(|shard| shard.get("AdjacentParentShardId").is_some())
    );
    assert_eq!(open_ranges(&mut lab), [(0, HALF - 1), (HALF, u128::MAX)]);
}

#[test]
fn k15_uneven_counts_pass_through_short_lived_shards() {
    let mut lab = Lab::stream(4);
    lab.scale(3);
    let sizes: Vec<_> = open_ranges(&mut lab)
        .iter()
        .map(|(start, end)| end - start)
        .collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
    for shard in &listed(&mut lab)[4..] {
        assert!(shard.get("ParentShardId").is_some(), "{shard}");
    }
}

#[test]
fn k15_scaling_has_limits() {
    let mut lab = Lab::stream(4);
    let to = |target: i64| json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
    for target in [1, 4, 9] {
        assert_eq!(
            lab.code("UpdateShardCount", to(target)),
            "InvalidArgumentException",
            "{target}"
        );
    }
    let input = json!({"StreamName": "s", "TargetShardCount": 2, "ScalingType": "OTHER"});
    assert_eq!(lab.code("UpdateShardCount", input), "ValidationException");
    for target in [3, 4, 3, 4, 3, 4, 3, 4, 3, 4] {
        lab.scale(target);
    }
    assert_eq!(
        lab.code("UpdateShardCount", to(3)),
        "LimitExceededException"
    );
    lab.pass(24 * super::HOUR);
    lab.scale(3);
}

#[test]
fn k26_a_reader_of_parent_then_child_sees_the_order_of_the_writes() {
    let mut lab = Lab::stream(1);
    let lineage = [0, 1, 3, 5];
    let mut numbers = Vec::new();
    for (generation, shard) in lineage.into_iter().enumerate() {
        numbers.push(lab.put(&format!("first of {generation}"), 0, b"x"));
        numbers.push(lab.put(&format!("second of {generation}"), 0, b"x"));
        if generation < 3 {
            lab.split(shard, HALF >> generation);
        }
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
    let mut read = Vec::new();
    for shard in lineage {
        let iterator = lab.iterator(shard, from_start());
        let answer = lab.get(&iterator);
        let records = answer["Records"].as_array().unwrap();
        read.extend(records.iter().map(|record| text(&record["SequenceNumber"])));
    }
    assert_eq!(read, numbers);
}
