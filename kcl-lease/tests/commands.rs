//! Commands as items of the table.

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::item::{Item, Value};
use kcl_lease::{CommandItem, Lease, LeaseKey, Row, Seek, StartPoint, StopCause};
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn command(to: Option<StartPoint>) -> CommandItem {
    CommandItem {
        lease: LeaseKey::from("123456789012:orders:1620000000:shardId-000000000006"),
        command: ID.into(),
        paused: true,
        stopped: None,
        seek: to.map(|to| Seek { id: ID.into(), to }),
    }
}

fn with(item: &Item, name: &str, value: Value) -> Item {
    let mut item = item.clone();
    item.insert(name.to_owned(), value);
    item
}

#[test]
fn commands_come_back_and_are_no_leases() {
    let position = Position::new(SequenceNumber::parse("4959").unwrap(), 3);
    for to in [
        None,
        Some(StartPoint::oldest()),
        Some(StartPoint::at_time(1_700_000_000_000)),
        Some(StartPoint::after(position)),
    ] {
        let command = command(to);
        let item = command.to_item();
        assert_eq!(Row::from_item(&item).unwrap(), Row::Command(command));
        assert_eq!(Lease::from_item(&item).unwrap(), None);
        // It is in no index by owner, and the Java library knows by its kind that it is no lease.
        assert!(!item.contains_key("leaseOwner"));
        assert_eq!(item["entityType"], Value::text("SESSION_COMMAND"));
    }
}

#[test]
fn why_a_shard_was_stopped_comes_back_at_a_bounded_length() {
    let position = Position::new(SequenceNumber::parse("4959").unwrap(), 3);
    for (at, error, kept) in [
        (Some(position), "cannot parse", 12),
        (None, "", "unknown".len()),
        (None, &*"ä".repeat(5_000), 1_000),
        (None, &*format!("a{}", "ä".repeat(5_000)), 999),
    ] {
        let cause = StopCause::new(at, error);
        assert_eq!(cause.error.len(), kept);
        let command = CommandItem {
            stopped: Some(cause),
            ..command(None)
        };
        let item = command.to_item();
        assert_eq!(CommandItem::from_item(&item).unwrap(), Some(command));
    }
}

#[test]
fn hostile_commands_are_errors_that_name_the_attribute() {
    let good = command(Some(StartPoint::oldest())).to_item();
    for (name, value) in [
        ("leaseKey", Value::text("shardId-000000000006")),
        ("leaseKey", Value::text("SessionCommand:")),
        ("command", Value::text("")),
        ("command", Value::text("0123456789ABCDEF0123456789ABCDEF")),
        ("command", Value::text("x".repeat(5_000))),
        ("command", Value::number(7)),
        ("paused", Value::text("true")),
        ("seek", Value::text("1")),
        ("seek", Value::Null),
        ("seekTo", Value::text("LATEST")),
        ("seekTo", Value::text("SHARD_END")),
        ("seekTo", Value::text("AT_TIMESTAMP")),
        ("seekTo", Value::text("-1")),
        ("seekTo", Value::Bool(true)),
        ("seekToSubSequenceNumber", Value::text("1")),
        ("seekToMoment", Value::N("1e9".to_owned())),
    ] {
        let error = Row::from_item(&with(&good, name, value.clone())).unwrap_err();
        let at_fault = error.attribute();
        assert!(
            at_fault == name || at_fault == "seekTo",
            "{name} {value:?}: {error}"
        );
    }
}

#[test]
fn a_row_says_what_was_obeyed() {
    let row = |more: &[(&str, Value)]| {
        let mut item = Item::from([
            ("leaseKey".to_owned(), Value::text("s")),
            ("leaseCounter".to_owned(), Value::number(1)),
            ("ownerSwitchesSinceCheckpoint".to_owned(), Value::number(0)),
            ("checkpoint".to_owned(), Value::text("AT_TIMESTAMP")),
        ]);
        for (name, value) in more {
            item.insert((*name).to_owned(), value.clone());
        }
        Lease::from_item(&item)
    };
    let plain = row(&[]).unwrap().unwrap();
    assert!(!plain.has_begun());
    assert_eq!(plain.start().moment_ms, None);
    let moment = ("soughtMoment", Value::number(77));
    let seek = ("obeyedSeek", Value::text(ID));
    let sought = row(&[moment.clone(), seek]).unwrap().unwrap();
    assert_eq!(sought.start(), StartPoint::at_time(77));
    assert!(
        sought.has_begun(),
        "its parents were done when it was moved"
    );
    let ended = ("checkpoint", Value::text("SHARD_END"));
    let ended = row(&[moment, ended]).unwrap().unwrap();
    assert_eq!(ended.start().checkpoint, Checkpoint::ShardEnd);
    assert_eq!(ended.start().moment_ms, None);
    assert!(row(&[("obeyedCommand", Value::number(1))]).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[0-9a-fA-Z_|:]{0,40}".prop_map(Value::text),
        "-?[0-9]{0,30}".prop_map(Value::N),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        Just(Value::B(vec![0xff])),
    ]
}

proptest! {
    /// Whatever is taken for a command is what would have been stored for it, but for attributes that say nothing.
    #[test]
    fn any_item_is_survived(
        changes in proptest::collection::vec(
            (prop_oneof!["leaseKey", "command", "paused", "seek", "seekTo", "seekToSubSequenceNumber", "seekToMoment"], value()),
            0..4,
        )
    ) {
        let mut item = command(Some(StartPoint::at_time(5))).to_item();
        for (name, value) in changes {
            item.insert(name, value);
        }
        if let Ok(Row::Command(command)) = Row::from_item(&item) {
            let again = CommandItem::from_item(&command.to_item()).unwrap();
            prop_assert_eq!(again, Some(command));
        }
    }
}
