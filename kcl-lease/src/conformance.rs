//! What every lease table must do, as a suite that any implementation can run in its own tests.
//!
//! Not a stable part of the public API.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a suite of checks that fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};

use crate::item::{Item, Value, attribute};
use crate::table::{Consistency, LeaseTable, Refusal, TableErrorKind, Transacted, Written};
use crate::write::{self, Change, Edit, Held, RowWrite, Term};
use crate::{HashKeyRange, Lease, LeaseKey, NewLease, PendingCheckpoint, ShardId, WorkerId};
use crate::{StreamItem, StreamKey, StreamStart, WorkerItem};

/// Runs all checks on an empty table. Leaves items behind.
pub async fn check_all(table: &dyn LeaseTable) {
    table.prepare().await.unwrap();
    assert!(!table.prepare().await.unwrap().created, "it exists already");
    every_type_of_value_survives(table).await;
    a_put_creates_only_once(table).await;
    an_update_keeps_what_it_does_not_name(table).await;
    a_refused_write_shows_the_item_and_changes_nothing(table).await;
    sets_and_numbers_grow_and_shrink(table).await;
    a_delete_needs_its_condition(table).await;
    a_transaction_is_all_or_nothing(table).await;
    of_two_takes_one_wins(table).await;
    a_lease_lives(table).await;
    a_session_lives(table).await;
    invalid_writes_are_refused(table).await;
    a_scan_sees_every_item_once(table).await;
}

async fn get(table: &dyn LeaseTable, key: &str) -> Option<Item> {
    table.get(key, Consistency::Strong).await.unwrap()
}

async fn applied(table: &dyn LeaseTable, write: RowWrite) -> Item {
    match table.write(write.clone()).await.unwrap() {
        Written::Applied(item) => item,
        Written::Refused(found) => panic!("{write:?} was refused, the item is {found:?}"),
    }
}

async fn refused(table: &dyn LeaseTable, write: RowWrite) -> Option<Item> {
    match table.write(write.clone()).await.unwrap() {
        Written::Refused(found) => found,
        Written::Applied(item) => panic!("{write:?} was applied, the item is {item:?}"),
    }
}

fn item<const N: usize>(key: &str, attributes: [(&str, Value); N]) -> Item {
    let mut item = Item::from(attributes.map(|(name, value)| (name.to_owned(), value)));
    item.insert(attribute::KEY.to_owned(), Value::text(key));
    item
}

fn put(item: Item) -> RowWrite {
    let Some(Value::S(key)) = item.get(attribute::KEY).cloned() else {
        panic!("an item without key");
    };
    RowWrite {
        key,
        condition: vec![Term::Absent(attribute::KEY)],
        change: Change::Put(item),
    }
}

fn update(key: &str, condition: Vec<Term>, edits: Vec<Edit>) -> RowWrite {
    RowWrite {
        key: key.to_owned(),
        condition,
        change: Change::Update(edits),
    }
}

async fn every_type_of_value_survives(table: &dyn LeaseTable) {
    let nested = Item::from([("text".to_owned(), Value::text("ä"))]);
    let stored = item(
        "values",
        [
            ("text", Value::text("plain \u{1F980} text")),
            ("empty", Value::text("")),
            ("number", Value::number(u64::MAX)),
            ("fraction", Value::N("-12.345678".to_owned())),
            ("bytes", Value::B(vec![0, 255, 10])),
            ("yes", Value::Bool(true)),
            ("null", Value::Null),
            ("texts", Value::texts(["a", "b"])),
            ("numbers", Value::Ns(["1", "2.5"].map(str::to_owned).into())),
            ("set of bytes", Value::Bs([vec![1], vec![2, 3]].into())),
            ("list", Value::L(vec![Value::number(1), Value::text("x")])),
            ("map", Value::M(nested)),
        ],
    );
    assert_eq!(applied(table, put(stored.clone())).await, stored);
    assert_eq!(get(table, "values").await, Some(stored.clone()));
    let eventual = table.get("values", Consistency::Eventual).await.unwrap();
    assert_eq!(eventual, Some(stored));
    assert_eq!(get(table, "no such item").await, None);
}

async fn a_put_creates_only_once(table: &dyn LeaseTable) {
    let first = item("once", [("n", Value::number(1))]);
    applied(table, put(first.clone())).await;
    let second = item("once", [("n", Value::number(2))]);
    assert_eq!(refused(table, put(second)).await, Some(first.clone()));
    assert_eq!(get(table, "once").await, Some(first));
}

async fn an_update_keeps_what_it_does_not_name(table: &dyn LeaseTable) {
    let foreign = [("throughputKBps", Value::N("1.5".to_owned()))];
    applied(table, put(item("kept", foreign))).await;
    let edits = vec![
        Edit::Set(attribute::OWNER, Value::text("me")),
        Edit::Remove(attribute::CHECKPOINT_OWNER),
    ];
    let after = applied(table, update("kept", vec![], edits)).await;
    let expected = [
        ("throughputKBps", Value::N("1.5".to_owned())),
        (attribute::OWNER, Value::text("me")),
    ];
    assert_eq!(after, item("kept", expected));
    let edits = vec![Edit::Remove(attribute::OWNER)];
    applied(table, update("kept", vec![], edits)).await;
    let left = get(table, "kept").await.unwrap();
    assert!(!left.contains_key(attribute::OWNER));
}

async fn a_refused_write_shows_the_item_and_changes_nothing(table: &dyn LeaseTable) {
    let edits = || vec![Edit::Set(attribute::COUNTER, Value::number(9))];
    let stored = item("refused", [(attribute::COUNTER, Value::number(1))]);
    applied(table, put(stored.clone())).await;
    let conditions = [
        vec![Term::Equals(attribute::COUNTER, Value::number(2))],
        vec![Term::Equals(attribute::COUNTER, Value::text("1"))],
        vec![Term::Equals(attribute::OWNER, Value::text("me"))],
        vec![Term::Present(attribute::OWNER)],
        vec![Term::Absent(attribute::COUNTER)],
        vec![
            Term::Equals(attribute::COUNTER, Value::number(1)),
            Term::Present(attribute::OWNER),
        ],
    ];
    for condition in conditions {
        let found = refused(table, update("refused", condition, edits())).await;
        assert_eq!(found, Some(stored.clone()));
    }
    assert_eq!(get(table, "refused").await, Some(stored));
    let condition = vec![Term::Present(attribute::HEARTBEAT)];
    let found = refused(table, update("nobody", condition, edits())).await;
    assert_eq!(found, None);
    assert_eq!(get(table, "nobody").await, None, "no item came into being");
}

async fn sets_and_numbers_grow_and_shrink(table: &dyn LeaseTable) {
    let texts = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<BTreeSet<_>>();
    let change = |edit| update("growing", vec![], vec![edit]);
    applied(table, change(Edit::AddNumber(attribute::COUNTER, 3))).await;
    applied(table, change(Edit::AddNumber(attribute::COUNTER, 4))).await;
    applied(
        table,
        change(Edit::AddToSet(attribute::INBOX, texts(&["a"]))),
    )
    .await;
    let grown = applied(
        table,
        change(Edit::AddToSet(attribute::INBOX, texts(&["a", "b", "c"]))),
    )
    .await;
    let expected = [
        (attribute::COUNTER, Value::number(7)),
        (attribute::INBOX, Value::texts(["a", "b", "c"])),
    ];
    assert_eq!(grown, item("growing", expected));
    let fewer = change(Edit::DeleteFromSet(attribute::INBOX, texts(&["b", "x"])));
    let fewer = applied(table, fewer).await;
    assert_eq!(fewer[attribute::INBOX], Value::texts(["a", "c"]));
    let none = change(Edit::DeleteFromSet(attribute::INBOX, texts(&["a", "c"])));
    let none = applied(table, none).await;
    assert!(!none.contains_key(attribute::INBOX), "no set is empty");
}

async fn a_delete_needs_its_condition(table: &dyn LeaseTable) {
    let delete = |counter| RowWrite {
        key: "deleted".to_owned(),
        condition: vec![Term::Equals(attribute::COUNTER, Value::number(counter))],
        change: Change::Delete,
    };
    let stored = item("deleted", [(attribute::COUNTER, Value::number(5))]);
    applied(table, put(stored.clone())).await;
    assert_eq!(refused(table, delete(4)).await, Some(stored));
    applied(table, delete(5)).await;
    assert_eq!(get(table, "deleted").await, None);
    assert_eq!(refused(table, delete(5)).await, None);
}

async fn a_transaction_is_all_or_nothing(table: &dyn LeaseTable) {
    let stored = item("t1", [(attribute::COUNTER, Value::number(1))]);
    applied(table, put(stored.clone())).await;
    let check = |key: &str, term| RowWrite {
        key: key.to_owned(),
        condition: vec![term],
        change: Change::Check,
    };
    let count = |seen| {
        let condition = vec![Term::Equals(attribute::COUNTER, Value::number(seen))];
        let edits = vec![Edit::Set(attribute::COUNTER, Value::number(seen + 1))];
        update("t1", condition, edits)
    };
    let failing = vec![
        put(item("t2", [])),
        count(7),
        check("t3", Term::Absent(attribute::KEY)),
        check("t4", Term::Present(attribute::KEY)),
    ];
    let reasons = vec![
        Refusal::None,
        Refusal::Condition(Some(stored)),
        Refusal::None,
        Refusal::Condition(None),
    ];
    let answer = table.transact(failing).await.unwrap();
    assert_eq!(answer, Transacted::Refused(reasons));
    assert_eq!(get(table, "t2").await, None, "nothing of it happened");

    let passing = vec![
        put(item("t2", [])),
        count(1),
        check("t3", Term::Absent(attribute::KEY)),
    ];
    let answer = table.transact(passing).await.unwrap();
    assert_eq!(answer, Transacted::Applied);
    assert_eq!(get(table, "t2").await, Some(item("t2", [])));
    let counted = get(table, "t1").await.unwrap();
    assert_eq!(counted[attribute::COUNTER], Value::number(2));
}

fn key(text: &str) -> LeaseKey {
    LeaseKey::from(text)
}

fn worker(text: &str) -> WorkerId {
    WorkerId::from(text)
}

fn held(lease: &LeaseKey, counter: u64, owner: &str) -> Held {
    Held {
        key: lease.clone(),
        counter,
        owner: worker(owner),
    }
}

fn at(digits: &str, sub: u64) -> Checkpoint {
    Checkpoint::At(Position::new(SequenceNumber::parse(digits).unwrap(), sub))
}

fn new_lease(shard: &str, parents: &[&str]) -> NewLease {
    NewLease {
        key: key(shard),
        checkpoint: Checkpoint::TrimHorizon,
        parents: parents.iter().map(|&p| ShardId::from(p)).collect(),
        hash_range: Some(HashKeyRange::FULL),
    }
}

fn lease(item: &Item) -> Lease {
    Lease::from_item(item).unwrap().unwrap()
}

async fn of_two_takes_one_wins(table: &dyn LeaseTable) {
    let shard = new_lease("contended", &[]);
    applied(table, write::create_lease(&shard, 10)).await;
    let take = |me| table.write(write::take_unowned(&shard.key, 10, me));
    let (a, b) = (worker("a"), worker("b"));
    let (a, b) = tokio::join!(take(&a), take(&b));
    let answers = [a.unwrap(), b.unwrap()];
    let wins = answers.iter().filter(|w| matches!(w, Written::Applied(_)));
    assert_eq!(wins.count(), 1, "{answers:?}");
}

/// Every lease write of the protocol once, on one lease.
async fn a_lease_lives(table: &dyn LeaseTable) {
    let parent = new_lease("parent", &[]);
    applied(table, write::create_lease(&parent, 100)).await;
    let k = &parent.key;
    let (a, b) = (worker("a"), worker("b"));

    let row = lease(&applied(table, write::take_unowned(k, 100, &a)).await);
    assert_eq!((row.counter, row.owner.as_ref()), (101, Some(&a)));
    assert_eq!(
        (row.owner_switches, &row.checkpoint),
        (1, &Checkpoint::TrimHorizon)
    );

    let row = lease(
        &applied(
            table,
            write::checkpoint(&held(k, 101, "a"), &at("7", 3), None),
        )
        .await,
    );
    assert_eq!((row.counter, row.owner_switches), (102, 0));
    assert_eq!(row.checkpoint, at("7", 3));

    let pending = PendingCheckpoint {
        checkpoint: at("8", 0),
        state: Some(vec![1, 2, 3]),
    };
    let row = lease(&applied(table, write::prepare(&held(k, 102, "a"), &pending)).await);
    assert_eq!((row.counter, &row.checkpoint), (103, &at("7", 3)));
    assert_eq!(row.pending, Some(pending));

    let handed = write::hand_over(&held(k, 103, "a"), &b, Some(&at("9", 0)), None);
    let row = lease(&applied(table, handed).await);
    assert_eq!((row.counter, row.owner.as_ref()), (104, Some(&b)));
    assert_eq!((&row.checkpoint, &row.pending), (&at("9", 0), &None));
    refused(
        table,
        write::checkpoint(&held(k, 103, "a"), &at("10", 0), None),
    )
    .await;

    let row = lease(&applied(table, write::accept(&held(k, 104, "b"))).await);
    assert_eq!((row.counter, row.owner_switches), (105, 1));
    let row = lease(&applied(table, write::regrant(&held(k, 105, "b"))).await);
    assert_eq!((row.counter, row.owner.as_ref()), (106, Some(&b)));
    let row = lease(&applied(table, write::release(&held(k, 106, "b"), None, None)).await);
    assert_eq!((row.counter, &row.owner), (107, &None));
    assert_eq!(row.checkpoint, at("9", 0));
    applied(table, write::take_unowned(k, 107, &a)).await;
    let row = lease(&applied(table, write::take_owned(&held(k, 108, "a"), &b)).await);
    assert_eq!((row.counter, row.owner.as_ref()), (109, Some(&b)));

    refused(table, write::delete_finished(k, 109)).await;
    let children = ["left", "right"].map(|child| new_lease(child, &["parent"]));
    let names = children.iter().map(|child| child.key.shard()).collect();
    let mut writes = vec![write::shard_end(&held(k, 109, "b"), &names)];
    writes.extend(children.iter().map(|child| write::create_lease(child, 200)));
    assert_eq!(table.transact(writes).await.unwrap(), Transacted::Applied);
    let row = lease(&get(table, k.as_str()).await.unwrap());
    assert!(row.is_finished());
    assert_eq!((row.counter, &row.children), (110, &names));
    let child = lease(&get(table, "left").await.unwrap());
    assert_eq!(child.parents, [k.shard()].into());
    applied(table, write::delete_finished(k, 110)).await;
}

async fn a_session_lives(table: &dyn LeaseTable) {
    let me = worker("me/00000000000000000000000000000001");
    let session = WorkerItem::new(me.clone(), Duration::from_secs(10));
    let hints: BTreeSet<_> = ["take|x".to_owned(), "yours|y".to_owned()].into();
    refused(table, write::hint(&me, &hints)).await;
    applied(table, write::register(&session)).await;
    refused(table, write::register(&session)).await;
    applied(table, write::hint(&me, &hints)).await;
    let consumed: BTreeSet<_> = ["take|x".to_owned()].into();
    let after = applied(table, write::heartbeat(&me, 0, 3, u64::MAX, &consumed)).await;
    let read = WorkerItem::from_item(&after).unwrap().unwrap();
    assert_eq!(
        (read.heartbeat, read.held_count, read.held_digest),
        (1, 3, u64::MAX)
    );
    assert_eq!(read.inbox, ["yours|y".to_owned()].into());
    refused(table, write::heartbeat(&me, 0, 3, 4, &BTreeSet::new())).await;
    for room in [Some(3), None] {
        let after = applied(table, write::make_room(&me, room)).await;
        let read = WorkerItem::from_item(&after).unwrap().unwrap();
        assert_eq!((read.max_leases, read.heartbeat), (room, 1));
    }
    let drained = applied(table, write::drain(&me)).await;
    assert!(WorkerItem::from_item(&drained).unwrap().unwrap().draining);
    refused(table, write::delete_worker(&me, 0)).await;
    applied(table, write::delete_worker(&me, 1)).await;
    refused(table, write::make_room(&me, None)).await;

    let none = BTreeMap::new();
    applied(table, write::lead(None, &me, None, &none)).await;
    refused(table, write::lead(None, &me, None, &none)).await;
    applied(table, write::lead(Some(1), &me, Some(&worker("d")), &none)).await;
    refused(table, write::lead(Some(1), &me, None, &none)).await;

    let stream = StreamItem::new(
        StreamKey::ONLY,
        "arn",
        1,
        StreamStart::Latest { moment_ms: 2 },
    );
    let stored = applied(table, write::put_stream(&stream)).await;
    assert_eq!(
        StreamItem::from_item(&stored).unwrap(),
        Some(stream.clone())
    );
    assert_eq!(
        refused(table, write::put_stream(&stream)).await,
        Some(stored)
    );
}

async fn invalid_writes_are_refused(table: &dyn LeaseTable) {
    let set = || Edit::Set(attribute::OWNER, Value::text("me"));
    let none = BTreeSet::<String>::new;
    let writes = [
        update("", vec![], vec![set()]),
        update(&"x".repeat(2_049), vec![], vec![set()]),
        update("invalid", vec![], vec![]),
        update(
            "invalid",
            vec![],
            vec![set(), Edit::Remove(attribute::OWNER)],
        ),
        update("invalid", vec![], vec![Edit::Remove(attribute::KEY)]),
        update(
            "invalid",
            vec![],
            vec![Edit::AddToSet(attribute::INBOX, none())],
        ),
        update(
            "invalid",
            vec![],
            vec![Edit::Set(attribute::INBOX, Value::Ss(none()))],
        ),
        // The item `once` has a number here.
        update(
            "growing",
            vec![],
            vec![Edit::AddToSet(attribute::COUNTER, ["x".to_owned()].into())],
        ),
        RowWrite {
            key: "another".to_owned(),
            ..put(item("invalid", []))
        },
        write::check_exists(&key("invalid")),
    ];
    for write in writes {
        let error = table.write(write.clone()).await.unwrap_err();
        let invalid = matches!(error.kind(), TableErrorKind::Invalid { .. });
        assert!(invalid && error.has_no_side_effects(), "{write:?}: {error}");
    }
    let twice = vec![
        put(item("invalid", [])),
        write::check_absent(&key("invalid")),
    ];
    for transaction in [vec![], twice] {
        let error = table.transact(transaction).await.unwrap_err();
        assert!(
            matches!(error.kind(), TableErrorKind::Invalid { .. }),
            "{error}"
        );
    }
    assert_eq!(get(table, "invalid").await, None);
}

async fn a_scan_sees_every_item_once(table: &dyn LeaseTable) {
    // Large enough for more than one page of 1 MB.
    let large = Value::B(vec![7; 300_000]);
    let expected: BTreeSet<_> = (0..250).map(|n| format!("scanned-{n}")).collect();
    for (n, key) in expected.iter().enumerate() {
        let value = if n % 50 == 0 {
            large.clone()
        } else {
            Value::Null
        };
        applied(table, put(item(key, [("payload", value)]))).await;
    }
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, None);
    loop {
        let page = table.scan(Consistency::Strong, next).await.unwrap();
        pages += 1;
        seen.extend(
            page.items
                .into_iter()
                .filter_map(|item| match item.get(attribute::KEY) {
                    Some(Value::S(key)) if key.starts_with("scanned-") => Some(key.clone()),
                    _ => None,
                }),
        );
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert!(pages > 1, "the scan had one page only");
    assert_eq!(seen.len(), expected.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}
