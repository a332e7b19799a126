//! What holds after any sequence of splits, merges and scalings.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Lab, from_start, keys,
    reshard::{open_ranges, range},
    text,
};

/// Few enough that a listing fits a page and a run takes milliseconds.
const MOST_SHARDS: usize = 24;

#[derive(Debug, Clone)]
enum Step {
    Split(prop::sample::Index, u16),
    Merge(prop::sample::Index),
    Scale(u16),
    Put(u128),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1..u16::MAX)
            .prop_map(|(shard, part)| Step::Split(shard, part)),
        any::<prop::sample::Index>().prop_map(Step::Merge),
        any::<u16>().prop_map(Step::Scale),
        any::<u128>().prop_map(Step::Put),
        any::<u128>().prop_map(Step::Put),
        (0..3_000_u16).prop_map(Step::Pass),
    ]
}

/// The open shards with their ranges, by first hash key.
fn open(lab: &mut Lab) -> Vec<Value> {
    let input = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    let mut shards = lab.ok("ListShards", input)["Shards"]
        .as_array()
        .unwrap()
        .clone();
    shards.sort_by_key(range);
    shards
}

/// Carries a step out; a step that the service would refuse is left out.
fn take(lab: &mut Lab, step: &Step, written: &mut Vec<String>) {
    let shards = open(lab);
    match step {
        Step::Split(shard, part) => {
            let shard = shard.get(&shards);
            let (start, end) = range(shard);
            let at = start + (end - start) / u128::from(u16::MAX) * u128::from(*part);
            let input = json!({"StreamName": "s", "ShardToSplit": shard["ShardId"], "NewStartingHashKey": at.to_string()});
            let _refused = lab.call("SplitShard", input);
        }
        Step::Merge(shard) if shards.len() > 1 => {
            let pair = &shards[shard.index(shards.len() - 1)..][..2];
            let input = json!({
                "StreamName": "s", "ShardToMerge": pair[0]["ShardId"], "AdjacentShardToMerge": pair[1]["ShardId"],
            });
            lab.ok("MergeShards", input);
        }
        Step::Merge(_) => {}
        Step::Scale(target) => {
            let target =
                shards.len().div_ceil(2) + usize::from(*target) % (shards.len() * 3 / 2 + 1);
            let target = target.min(MOST_SHARDS);
            let input = json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"});
            let _refused = lab.call("UpdateShardCount", input);
        }
        Step::Put(hash_key) => {
            let key = written.len().to_string();
            lab.put(&key, *hash_key, b"");
            written.push(key);
        }
        Step::Pass(milliseconds) => lab.pass(i64::from(*milliseconds)),
    }
}

/// The ranges of these shards cover every hash key exactly once.
fn assert_tiles(mut ranges: Vec<(u128, u128)>, what: &str) {
    ranges.sort_unstable();
    assert_eq!(
        (ranges[0].0, ranges[ranges.len() - 1].1),
        (0, u128::MAX),
        "{what}"
    );
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1.checked_add(1), Some(pair[1].0), "{what}");
    }
}

/// Reads all shards, each after its parents, and returns the keys by shard.
fn read_all(lab: &mut Lab, shards: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut read = BTreeMap::new();
    for shard in shards {
        let id = text(&shard["ShardId"]);
        for parent in ["ParentShardId", "AdjacentParentShardId"] {
            assert!(
                shard
                    .get(parent)
                    .is_none_or(|parent| read.contains_key(parent.as_str().unwrap()))
            );
        }
        let mut input = from_start();
        input["StreamName"] = json!("s");
        input["ShardId"] = json!(id);
        let iterator = text(&lab.ok("GetShardIterator", input)["ShardIterator"]);
        let answer = lab.get(&iterator);
        let closed = shard["SequenceNumberRange"]
            .get("EndingSequenceNumber")
            .is_some();
        assert_eq!(closed, answer.get("ChildShards").is_some());
        assert_eq!(closed, answer.get("NextShardIterator").is_none());
        for child in answer["ChildShards"].as_array().into_iter().flatten() {
            assert!(
                child["ParentShards"]
                    .as_array()
                    .unwrap()
                    .contains(&json!(id))
            );
        }
        read.insert(id, keys(&answer));
    }
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shards_tile_the_hash_keys_at_every_moment(
        shards in 1..6_usize,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut lab = Lab::stream(shards);
        let mut moments = vec![lab.now];
        let mut written = Vec::new();
        for step in &steps {
            take(&mut lab, step, &mut written);
            assert_tiles(open_ranges(&mut lab), "open shards");
            moments.push(lab.now);
        }
        let all = lab.ok("ListShards", json!({"StreamName": "s"}))["Shards"].as_array().unwrap().clone();
        let listed = |lab: &mut Lab, filter: Value| {
            let input = json!({"StreamName": "s", "ShardFilter": filter});
            let shards = lab.ok("ListShards", input)["Shards"].as_array().unwrap().clone();
            shards.iter().map(range).collect::<Vec<_>>()
        };
        assert_tiles(listed(&mut lab, json!({"Type": "AT_TRIM_HORIZON"})), "at the trim horizon");
        for moment in moments {
            let filter = json!({"Type": "AT_TIMESTAMP", "Timestamp": moment.as_seconds()});
            assert_tiles(listed(&mut lab, filter), "at a moment");
        }
        let mut read: Vec<_> = read_all(&mut lab, &all).into_values().flatten().collect();
        read.sort();
        written.sort();
        prop_assert_eq!(read, written);
    }
}
