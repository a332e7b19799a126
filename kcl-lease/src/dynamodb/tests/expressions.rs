//! Every write of the protocol as DynamoDB reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};

use crate::dynamodb::expression::Expression;
use crate::item::Value;
use crate::write::{self, Change, Held, RowWrite};
use crate::{
    HeartbeatAge, LeaseKey, NewLease, PendingCheckpoint, ShardId, StreamItem, StreamStart,
    WorkerId, WorkerItem,
};

/// The kind of write, its condition and its change, placeholders replaced by what they stand for.
fn text(write: &RowWrite) -> String {
    let expression = Expression::of(write);
    let kind = match write.change {
        Change::Put(_) => "PUT",
        Change::Update(_) => "UPDATE",
        Change::Delete => "DELETE",
        Change::Check => "CHECK",
    };
    let condition = expression.condition.unwrap_or_default();
    let mut text = format!("{kind} {} IF {condition}", write.key);
    if let Some(update) = expression.update {
        text = format!("{text}: {update}");
    }
    // Backwards, so that `:v1` is not found in `:v10`.
    for (placeholder, value) in expression.values.iter().rev() {
        text = text.replace(placeholder, &shown(value));
    }
    for (placeholder, name) in expression.names.iter().rev() {
        text = text.replace(placeholder, name);
    }
    assert!(!text.contains('#'), "{text}");
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::S(text) => format!("'{text}'"),
        Value::N(number) => number.clone(),
        Value::B(bytes) => format!("{bytes:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Ss(texts) => format!("{texts:?}"),
        other => format!("{other:?}"),
    }
}

fn held() -> Held {
    Held {
        key: LeaseKey::from("shard"),
        counter: 41,
        owner: WorkerId::from("me"),
    }
}

fn you() -> WorkerId {
    WorkerId::from("you")
}

fn at(digits: &str, sub: u64) -> Checkpoint {
    Checkpoint::At(Position::new(SequenceNumber::parse(digits).unwrap(), sub))
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn writes_of_a_session() {
    let me = WorkerId::from("me");
    let register = write::register(&WorkerItem::new(me.clone(), Duration::from_secs(10)));
    assert_eq!(text(&register), "PUT me IF attribute_not_exists(leaseKey)");
    assert_eq!(
        text(&write::heartbeat(&me, 7, 2, 99, &set(&["a", "b"]))),
        "UPDATE me IF heartbeat = 7: SET heartbeat = 8, heldCount = 2, heldDigest = 99 DELETE inbox {\"a\", \"b\"}"
    );
    assert_eq!(
        text(&write::heartbeat(&me, 7, 2, 99, &set(&[]))),
        "UPDATE me IF heartbeat = 7: SET heartbeat = 8, heldCount = 2, heldDigest = 99"
    );
    assert_eq!(
        text(&write::make_room(&me, None)),
        "UPDATE me IF attribute_exists(heartbeat): REMOVE maxLeases"
    );
    assert_eq!(
        text(&write::drain(&me)),
        "UPDATE me IF attribute_exists(heartbeat): SET draining = true"
    );
    assert_eq!(
        text(&write::delete_worker(&me, 7)),
        "DELETE me IF heartbeat = 7"
    );
    assert_eq!(
        text(&write::hint(&you(), &set(&["take|x"]))),
        "UPDATE you IF attribute_exists(heartbeat): ADD inbox {\"take|x\"}"
    );
}

#[test]
fn writes_of_a_leader() {
    let me = WorkerId::from("me");
    assert_eq!(
        text(&write::lead(None, &me, None, &BTreeMap::new())),
        "UPDATE SessionLeader IF attribute_not_exists(leaseKey): \
         SET entityType = 'SESSION_LEADER', leader = 'me', round = 1 REMOVE deputy, ages"
    );
    let age = HeartbeatAge {
        heartbeat: 5,
        age: Duration::from_millis(1_500),
    };
    let ages = BTreeMap::from([(you(), age)]);
    assert_eq!(
        text(&write::lead(Some(3), &me, Some(&you()), &ages)),
        "UPDATE SessionLeader IF round = 3: \
         SET entityType = 'SESSION_LEADER', leader = 'me', round = 4, deputy = 'you', \
         ages = M({\"you\": L([N(\"5\"), N(\"1500\")])})"
    );
    let stream = StreamItem::new(crate::StreamKey::ONLY, "arn", 1, StreamStart::TrimHorizon);
    assert_eq!(
        text(&write::put_stream(&stream)),
        "PUT SessionStream IF attribute_not_exists(leaseKey)"
    );
}

#[test]
fn writes_that_change_the_owner() {
    let taken = "leaseCounter = 42 REMOVE checkpointOwner ADD ownerSwitchesSinceCheckpoint 1";
    assert_eq!(
        text(&write::take_owned(&held(), &you())),
        format!(
            "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': SET leaseOwner = 'you', {taken}"
        )
    );
    assert_eq!(
        text(&write::take_unowned(&held().key, 41, &you())),
        format!(
            "UPDATE shard IF leaseCounter = 41 AND attribute_not_exists(leaseOwner): SET leaseOwner = 'you', {taken}"
        )
    );
    assert_eq!(
        text(&write::hand_over(&held(), &you(), None, None)),
        format!(
            "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': SET leaseOwner = 'you', {taken}"
        )
    );
    assert_eq!(
        text(&write::hand_over(&held(), &you(), Some(&at("12", 3)), None)),
        "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': \
         SET leaseOwner = 'you', leaseCounter = 42, checkpoint = '12', checkpointSubSequenceNumber = 3 \
         REMOVE checkpointOwner, pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState \
         ADD ownerSwitchesSinceCheckpoint 1"
    );
    assert_eq!(
        text(&write::release(&held(), None, None)),
        "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': SET leaseCounter = 42 \
         REMOVE leaseOwner, checkpointOwner ADD ownerSwitchesSinceCheckpoint 1"
    );
    assert_eq!(
        text(&write::release(&held(), Some(&at("12", 0)), None)),
        "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': \
         SET leaseCounter = 42, checkpoint = '12', checkpointSubSequenceNumber = 0 \
         REMOVE leaseOwner, checkpointOwner, pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState \
         ADD ownerSwitchesSinceCheckpoint 1"
    );
}

#[test]
fn writes_of_a_holder() {
    let mine = "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': SET leaseCounter = 42";
    assert_eq!(text(&write::accept(&held())), mine);
    assert_eq!(text(&write::regrant(&held())), mine);
    assert_eq!(
        text(&write::checkpoint(&held(), &at("12", 3), None)),
        format!(
            "{mine}, ownerSwitchesSinceCheckpoint = 0, checkpoint = '12', checkpointSubSequenceNumber = 3 \
             REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"
        )
    );
    let mut pending = PendingCheckpoint {
        checkpoint: at("12", 3),
        state: Some(vec![1, 2]),
    };
    assert_eq!(
        text(&write::prepare(&held(), &pending)),
        format!(
            "{mine}, pendingCheckpoint = '12', pendingCheckpointSubSequenceNumber = 3, pendingCheckpointState = [1, 2]"
        )
    );
    let kept = format!(
        "{mine}, ownerSwitchesSinceCheckpoint = 0, checkpoint = '12', checkpointSubSequenceNumber = 2"
    );
    let before = write::checkpoint(&held(), &at("12", 2), Some(&pending));
    assert_eq!(text(&before), kept);
    assert_eq!(
        write::checkpoint(&held(), &at("12", 3), Some(&pending)),
        write::checkpoint(&held(), &at("12", 3), None)
    );
    pending.state = None;
    assert_eq!(
        text(&write::prepare(&held(), &pending)),
        format!(
            "{mine}, pendingCheckpoint = '12', pendingCheckpointSubSequenceNumber = 3 REMOVE pendingCheckpointState"
        )
    );
}

#[test]
fn writes_at_the_end_of_a_shard() {
    let ended = "UPDATE shard IF leaseCounter = 41 AND leaseOwner = 'me': SET leaseCounter = 42, \
                 ownerSwitchesSinceCheckpoint = 0, checkpoint = 'SHARD_END', checkpointSubSequenceNumber = 0";
    let removed =
        "REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState";
    let children = ["left", "right"].map(ShardId::from).into();
    assert_eq!(
        text(&write::shard_end(&held(), &children)),
        format!("{ended}, childShardIds = {{\"left\", \"right\"}} {removed}")
    );
    assert_eq!(
        text(&write::shard_end(&held(), &BTreeSet::new())),
        format!("{ended} {removed}")
    );
    let child = NewLease {
        key: LeaseKey::from("left"),
        checkpoint: Checkpoint::TrimHorizon,
        parents: BTreeSet::new(),
        hash_range: None,
    };
    assert_eq!(
        text(&write::create_lease(&child, 1)),
        "PUT left IF attribute_not_exists(leaseKey)"
    );
    let key = LeaseKey::from("other");
    assert_eq!(
        text(&write::check_exists(&key)),
        "CHECK other IF attribute_exists(leaseKey)"
    );
    assert_eq!(
        text(&write::check_absent(&key)),
        "CHECK other IF attribute_not_exists(leaseKey)"
    );
    assert_eq!(
        text(&write::delete_finished(&key, 41)),
        "DELETE other IF checkpoint = 'SHARD_END' AND leaseCounter = 41"
    );
}

#[test]
fn placeholders_stand_for_names_and_values() {
    let expression = Expression::of(&write::regrant(&held()));
    assert_eq!(
        expression.condition.as_deref(),
        Some("#leaseCounter = :v0 AND #leaseOwner = :v1")
    );
    assert_eq!(
        expression.update.as_deref(),
        Some("SET #leaseCounter = :v2")
    );
    let names = BTreeMap::from(
        [
            ("#leaseCounter", "leaseCounter"),
            ("#leaseOwner", "leaseOwner"),
        ]
        .map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned())),
    );
    assert_eq!(expression.names, names);
    assert_eq!(expression.values[":v1"], Value::text("me"));
    assert_eq!(expression.values[":v2"], Value::number(42));
}
