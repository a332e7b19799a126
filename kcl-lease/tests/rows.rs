//! Reading items of the Java library, of ours, and hostile ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::item::{Item, Value};
use kcl_lease::write::{self, Change};
use kcl_lease::{
    HashKeyRange, LeaderItem, Lease, LeaseKey, NewLease, Obeyed, PendingCheckpoint, Row, ShardId,
    StreamItem, StreamKey, StreamStart, WorkerId, WorkerItem, new_lease_item,
};
use proptest::prelude::*;

const LONG: &str = "49590338271490256608559692538361571095921575989136588898";

fn s(text: &str) -> Value {
    Value::text(text)
}

fn n(number: u64) -> Value {
    Value::number(number)
}

fn item<const N: usize>(attributes: [(&str, Value); N]) -> Item {
    attributes
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// A lease in the middle of an aggregate, as the Java library 3.5 leaves it.
fn java_lease() -> Item {
    item([
        ("leaseKey", s("shardId-000000000002")),
        ("leaseOwner", s("worker-a")),
        ("leaseCounter", n(4711)),
        ("ownerSwitchesSinceCheckpoint", n(0)),
        ("checkpoint", s(LONG)),
        ("checkpointSubSequenceNumber", n(3)),
        ("parentShardId", Value::texts(["shardId-000000000000"])),
        ("startingHashKey", s("0")),
        (
            "endingHashKey",
            s("170141183460469231731687303715884105727"),
        ),
        ("throughputKBps", Value::N("12.345678".to_owned())),
        ("entityType", s("LEASE")),
    ])
}

fn with(mut item: Item, name: &str, value: Value) -> Item {
    item.insert(name.to_owned(), value);
    item
}

fn without(mut item: Item, name: &str) -> Item {
    item.remove(name);
    item
}

fn lease(item: &Item) -> Lease {
    Lease::from_item(item).unwrap().unwrap()
}

fn at(digits: &str, sub: u64) -> Checkpoint {
    Checkpoint::At(Position::new(SequenceNumber::parse(digits).unwrap(), sub))
}

#[test]
fn a_lease_of_the_java_library_is_read() {
    let read = lease(&java_lease());
    let expected = Lease {
        key: LeaseKey::from("shardId-000000000002"),
        owner: Some(WorkerId::from("worker-a")),
        counter: 4711,
        checkpoint: at(LONG, 3),
        owner_switches: 0,
        parents: BTreeSet::from([ShardId::from("shardId-000000000000")]),
        children: BTreeSet::new(),
        hash_range: Some(HashKeyRange {
            start: 0,
            end: u128::MAX / 2,
        }),
        pending: None,
        checkpoint_owner: None,
        obeyed: Obeyed::default(),
    };
    assert_eq!(read, expected);
    assert!(!read.owner.unwrap().is_session());
}

#[test]
fn a_lease_of_an_old_release_has_no_entity_type_and_little_else() {
    let old = item([
        ("leaseKey", s("shardId-000000000000")),
        ("leaseCounter", n(0)),
        ("ownerSwitchesSinceCheckpoint", n(0)),
        ("checkpoint", s("TRIM_HORIZON")),
    ]);
    let read = lease(&old);
    assert_eq!((&read.owner, &read.hash_range), (&None, &None));
    assert_eq!(read.checkpoint, Checkpoint::TrimHorizon);
    assert!(read.parents.is_empty());
}

#[test]
fn a_pending_hand_off_and_a_pending_checkpoint_are_read() {
    let row = with(java_lease(), "checkpointOwner", s("worker-b"));
    let row = with(row, "pendingCheckpoint", s("77"));
    let row = with(row, "pendingCheckpointSubSequenceNumber", n(1));
    let row = with(row, "pendingCheckpointState", Value::B(vec![1, 2]));
    let read = lease(&row);
    assert_eq!(read.checkpoint_owner, Some(WorkerId::from("worker-b")));
    let pending = PendingCheckpoint {
        checkpoint: at("77", 1),
        state: Some(vec![1, 2]),
    };
    assert_eq!(read.pending, Some(pending));
}

#[test]
fn empty_texts_count_as_absent() {
    let mut row = java_lease();
    for name in [
        "leaseOwner",
        "pendingCheckpoint",
        "startingHashKey",
        "checkpointOwner",
    ] {
        row = with(row, name, s(""));
    }
    let read = lease(&row);
    assert_eq!((&read.owner, &read.hash_range), (&None, &None));
    assert_eq!((&read.pending, &read.checkpoint_owner), (&None, &None));
}

#[test]
fn items_of_other_kinds_are_no_leases() {
    let metrics = item([
        ("leaseKey", s("worker-a")),
        ("entityType", s("WORKER_METRIC_STATS")),
        ("lut", n(1_784_600_000)),
        ("sts", Value::M(Item::new())),
    ]);
    assert_eq!(Lease::from_item(&metrics).unwrap(), None);
    let expected = Row::Foreign {
        entity_type: "WORKER_METRIC_STATS".to_owned(),
    };
    assert_eq!(Row::from_item(&metrics).unwrap(), expected);
    let typed = [
        WorkerItem::from_item(&metrics).unwrap().is_none(),
        LeaderItem::from_item(&metrics).unwrap().is_none(),
        StreamItem::from_item(&metrics).unwrap().is_none(),
    ];
    assert_eq!(typed, [true; 3]);
}

#[test]
fn a_new_lease_is_stored_as_the_java_library_stores_it() {
    let merged = NewLease {
        key: LeaseKey::from("123456789012:orders:1620000000:shardId-000000000006"),
        checkpoint: Checkpoint::TrimHorizon,
        parents: ["shardId-000000000000", "shardId-000000000001"]
            .map(ShardId::from)
            .into(),
        hash_range: Some(HashKeyRange::FULL),
    };
    let expected = item([
        (
            "leaseKey",
            s("123456789012:orders:1620000000:shardId-000000000006"),
        ),
        ("leaseCounter", n(0)),
        ("ownerSwitchesSinceCheckpoint", n(0)),
        ("checkpoint", s("TRIM_HORIZON")),
        ("checkpointSubSequenceNumber", n(0)),
        (
            "parentShardId",
            Value::texts(["shardId-000000000000", "shardId-000000000001"]),
        ),
        ("startingHashKey", s("0")),
        (
            "endingHashKey",
            s("340282366920938463463374607431768211455"),
        ),
        ("streamName", s("123456789012:orders:1620000000")),
        ("shardId", s("shardId-000000000006")),
        ("entityType", s("LEASE")),
    ]);
    assert_eq!(new_lease_item(&merged, 0), expected);

    let single = NewLease {
        key: LeaseKey::from("shardId-000000000000"),
        checkpoint: Checkpoint::Latest,
        parents: BTreeSet::new(),
        hash_range: None,
    };
    let stored = new_lease_item(&single, 1_767_225_600_000);
    let names: Vec<&str> = stored.keys().map(String::as_str).collect();
    let expected = [
        "checkpoint",
        "checkpointSubSequenceNumber",
        "entityType",
        "leaseCounter",
        "leaseKey",
        "ownerSwitchesSinceCheckpoint",
    ];
    assert_eq!(names, expected, "nothing empty is stored");
    let read = lease(&stored);
    assert_eq!(
        (read.counter, read.checkpoint),
        (1_767_225_600_000, Checkpoint::Latest)
    );
}

#[test]
fn a_hostile_lease_is_an_error_that_names_key_and_attribute() {
    let huge = "x".repeat(3_000);
    let cases = [
        ("leaseKey", Value::number(1)),
        ("leaseKey", s("")),
        ("leaseKey", s(&huge)),
        ("leaseOwner", Value::Bool(true)),
        ("leaseOwner", s(&huge)),
        ("leaseCounter", s("4711")),
        ("leaseCounter", Value::N("-1".to_owned())),
        ("leaseCounter", Value::N("1.5".to_owned())),
        ("leaseCounter", Value::N("9223372036854775808".to_owned())),
        ("leaseCounter", Value::N("1E99".to_owned())),
        ("ownerSwitchesSinceCheckpoint", Value::Null),
        ("checkpoint", s("HALF_WAY")),
        ("checkpoint", s(&"9".repeat(200))),
        ("checkpoint", s("")),
        ("checkpointSubSequenceNumber", s("3")),
        ("parentShardId", Value::Ns(["1".to_owned()].into())),
        ("parentShardId", s("shardId-000000000000")),
        ("parentShardId", Value::texts([&huge])),
        (
            "childShardIds",
            Value::texts((0..5_000).map(|n| n.to_string())),
        ),
        ("startingHashKey", s("-5")),
        (
            "startingHashKey",
            s("340282366920938463463374607431768211456"),
        ),
        (
            "startingHashKey",
            s("170141183460469231731687303715884105728"),
        ),
        ("pendingCheckpoint", s("?")),
        ("checkpointOwner", Value::L(vec![])),
        ("entityType", n(1)),
    ];
    for (attribute, value) in cases {
        let row = with(java_lease(), attribute, value.clone());
        let error = Lease::from_item(&row).unwrap_err();
        assert_eq!(error.attribute(), attribute, "{error}");
        let text = error.to_string();
        assert!(
            text.len() < 500 && text.contains("correct or delete"),
            "{text}"
        );
        if attribute != "leaseKey" {
            assert_eq!(error.key(), "shardId-000000000002");
        }
    }
    for attribute in [
        "leaseKey",
        "leaseCounter",
        "ownerSwitchesSinceCheckpoint",
        "checkpoint",
    ] {
        let error = Lease::from_item(&without(java_lease(), attribute)).unwrap_err();
        assert_eq!(error.attribute(), attribute);
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}

#[test]
fn the_state_of_a_pending_checkpoint_must_be_bytes() {
    let row = with(java_lease(), "pendingCheckpoint", s("77"));
    let row = with(row, "pendingCheckpointState", n(3));
    let error = Lease::from_item(&row).unwrap_err();
    assert_eq!(error.attribute(), "pendingCheckpointState");
}

#[test]
fn a_worker_item_survives_storage() {
    let id = WorkerId::generate("host", &mut fastrand::Rng::with_seed(1)).unwrap();
    let mut worker = WorkerItem::new(id, Duration::from_secs(10));
    worker.held_digest = u64::MAX;
    worker.max_leases = Some(100);
    worker.inbox = BTreeSet::from(["take|x".to_owned(), "x".repeat(10_000)]);
    let stored = worker.to_item();
    assert_eq!(stored["entityType"], s("SESSION_WORKER"));
    assert_eq!(stored["heartbeat"], n(0));
    assert_eq!(Row::from_item(&stored).unwrap(), Row::Worker(worker));
    for duration in [0, 86_400_001] {
        let row = with(stored.clone(), "duration", n(duration));
        let error = WorkerItem::from_item(&row).unwrap_err();
        assert_eq!(error.attribute(), "duration");
    }
}

#[test]
fn a_stream_item_survives_storage() {
    let starts = [
        StreamStart::TrimHorizon,
        StreamStart::Latest { moment_ms: 7 },
        StreamStart::AtTimestamp { moment_ms: 8 },
    ];
    for start in starts {
        let stream = StreamItem::new(
            StreamKey::ONLY,
            "arn:aws:kinesis:eu-west-1:1:stream/orders",
            5,
            start,
        );
        let stored = stream.to_item();
        assert_eq!(stored["leaseKey"], s("SessionStream"));
        assert_eq!(Row::from_item(&stored).unwrap(), Row::Stream(stream));
    }
    assert_eq!(
        StreamItem::key_of(&StreamKey::new("1", "orders", 2)),
        "SessionStream:1:orders:2"
    );
    let latest = StreamItem::new(
        StreamKey::ONLY,
        "arn",
        5,
        StreamStart::Latest { moment_ms: 7 },
    )
    .to_item();
    let error = StreamItem::from_item(&without(latest.clone(), "initialMoment")).unwrap_err();
    assert_eq!(error.attribute(), "initialMoment");
    let error = StreamItem::from_item(&with(latest, "initialPosition", s("?"))).unwrap_err();
    assert_eq!(error.attribute(), "initialPosition");
}

#[test]
fn a_leader_item_is_read_with_its_ages() {
    let pair = |a: Value, b: Value| Value::L(vec![a, b]);
    let ages = |value| Value::M(Item::from([("w".to_owned(), value)]));
    let leader = item([
        ("leaseKey", s("SessionLeader")),
        ("entityType", s("SESSION_LEADER")),
        ("leader", s("me")),
        ("round", n(4)),
        ("ages", ages(pair(n(5), n(1_500)))),
    ]);
    let Row::Leader(read) = Row::from_item(&leader).unwrap() else {
        panic!("not the leader item");
    };
    let age = read.ages[&WorkerId::from("w")];
    assert_eq!((age.heartbeat, age.age), (5, Duration::from_millis(1_500)));
    assert_eq!((read.round, read.deputy), (4, None));
    for hostile in [pair(n(5), s("x")), Value::L(vec![n(5)]), n(1)] {
        let error =
            LeaderItem::from_item(&with(leader.clone(), "ages", ages(hostile))).unwrap_err();
        assert_eq!(error.attribute(), "ages");
    }
}

#[test]
fn a_written_leader_item_is_read_back() {
    let me = WorkerId::from("me");
    let write = write::lead(None, &me, Some(&WorkerId::from("d")), &[].into());
    let Change::Update(edits) = write.change else {
        panic!("not an update");
    };
    let mut stored = item([("leaseKey", s(&write.key))]);
    for edit in edits {
        if let write::Edit::Set(name, value) = edit {
            stored.insert(name.to_owned(), value);
        }
    }
    let read = LeaderItem::from_item(&stored).unwrap().unwrap();
    assert_eq!((read.leader, read.round), (me, 1));
    assert_eq!(read.deputy, Some(WorkerId::from("d")));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::S),
        prop::sample::select(vec![
            "LEASE",
            "SESSION_WORKER",
            "SESSION_LEADER",
            "SESSION_STREAM",
            "LATEST"
        ])
        .prop_map(Value::text),
        "-?[0-9]{1,40}".prop_map(Value::N),
        any::<String>().prop_map(Value::N),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::B),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        prop::collection::btree_set(any::<String>(), 0..4).prop_map(Value::Ss),
        prop::collection::btree_set(any::<String>(), 0..4).prop_map(Value::Ns),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::L),
            prop::collection::btree_map(any::<String>(), inner, 0..3).prop_map(Value::M),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let known = vec![
        "leaseKey",
        "entityType",
        "leaseOwner",
        "leaseCounter",
        "ownerSwitchesSinceCheckpoint",
        "checkpoint",
        "checkpointSubSequenceNumber",
        "parentShardId",
        "pendingCheckpoint",
        "startingHashKey",
        "endingHashKey",
        "heartbeat",
        "duration",
        "inbox",
        "leader",
        "round",
        "ages",
        "streamArn",
        "streamCreationTime",
        "initialPosition",
        "initialMoment",
    ];
    prop_oneof![9 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_item_makes_a_reader_panic(changes in prop::collection::vec((any_name(), any_value()), 0..12), java in any::<bool>()) {
        let mut row = if java { java_lease() } else { Item::new() };
        row.extend(changes);
        if let Ok(Row::Lease(lease)) = Row::from_item(&row) {
            // What was read can be written under: one more never overflows.
            prop_assert!(lease.counter.checked_add(1).is_some());
        }
    }

    #[test]
    fn a_new_lease_is_read_back(
        counter in 0_u64..i64::MAX as u64,
        parents in prop::collection::btree_set("[a-z]{1,9}", 0..3),
        range in prop::option::of((any::<u128>(), any::<u128>())),
        digits in "[1-9][0-9]{0,55}",
        sub in 0_u64..1_000,
    ) {
        let new = NewLease {
            key: LeaseKey::from("shard"),
            checkpoint: at(&digits, sub),
            parents: parents.into_iter().map(ShardId::from).collect(),
            hash_range: range.map(|(a, b)| HashKeyRange { start: a.min(b), end: a.max(b) }),
        };
        let read = lease(&new_lease_item(&new, counter));
        prop_assert_eq!((read.key, read.checkpoint), (new.key, new.checkpoint));
        prop_assert_eq!((read.parents, read.hash_range), (new.parents, new.hash_range));
        prop_assert_eq!((read.counter, read.owner), (counter, None));
    }
}
