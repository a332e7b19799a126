//! What a worker that stops leaves behind at that very moment.

use std::collections::BTreeSet;

use super::*;
use crate::hint::Hint;
use crate::key::{LeaseKey, WorkerId};
use crate::leader_item::LEADER_KEY;
use crate::worker_item::WorkerItem;

const SECOND: Duration = Duration::from_secs(1);

fn yours(number: u32, counter: u64) -> Value {
    let yours = Hint::Yours {
        key: LeaseKey::from(id(number).as_str()),
        counter,
    };
    Value::Ss(BTreeSet::from([yours.encode()]))
}

fn item_of(table: &MemoryLeaseTable, name: &str) -> (String, Option<WorkerItem>) {
    let items = table.items();
    let prefix = format!("{name}/");
    let (key, item) = items
        .iter()
        .find(|(key, _)| key.starts_with(&prefix))
        .unwrap();
    (key.clone(), WorkerItem::from_item(item).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stays_for_an_unread_hint_says_that_it_stops() {
    let table = table();
    // It holds what it gets for as long as it lives.
    let mut worker = Worker::start("w", &table);
    worker.handle.open_stream(identity()).await.unwrap();
    worker.listen(SECOND).await;
    let (me, _) = item_of(&table, "w");
    let given = Lease {
        owner: Some(WorkerId::from(me.as_str())),
        counter: 12,
        ..lease_of(0)
    };
    put_lease(&table, &given);
    change(&table, &me, &[(attribute::INBOX, yours(0, 12))]);
    worker.handle.shutdown(25 * SECOND);
    worker.listen(SECOND).await;
    let (_, item) = item_of(&table, "w");
    assert!(item.unwrap().draining, "others must not give it more");
}

fn leads(table: &MemoryLeaseTable, leader: &str, round: u64) {
    let set = [
        (attribute::LEADER, Value::text(leader)),
        (attribute::ROUND, Value::number(round)),
    ];
    change(table, LEADER_KEY, &set);
}

/// A worker stops and leaves a lease to a leader that is gone; its successor, whose first round this is, is told.
async fn the_successor_is_told(round: u64) {
    let table = table();
    let mut worker = Worker::cooperating("w", &table);
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
    // Another one leads, whose item has gone. Its successor is there by the time that somebody writes to it.
    let gone = "gone/0123456789abcdef0123456789abcdef";
    let next = "next/0123456789abcdef0123456789abcdef";
    let item = WorkerItem::new(WorkerId::from(next), L);
    table.put(next, item.to_item());
    leads(&table, gone, 1_000);
    worker.listen(SECOND * 3 / 2).await;
    let stage = Arc::clone(&table);
    worker.path.rule(move |seen| {
        if seen.operation == "write" && seen.key == gone {
            leads(&stage, next, round);
        }
        Act::Pass
    });
    worker.handle.shutdown(25 * SECOND);
    worker.listen(5 * SECOND).await;
    assert_eq!(row(&table, 0).unwrap().owner, None);
    let (_, next) = item_of(&table, "next");
    let hints: Vec<Hint> = next
        .unwrap()
        .inbox
        .iter()
        .filter_map(|text| Hint::parse(text))
        .collect();
    assert!(matches!(&hints[..], [.., Hint::Take { .. }]), "{hints:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_left_alone_is_told_to_the_one_who_leads_after_the_known_leader_left() {
    the_successor_is_told(1_001).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_rounds_begin_anew_is_followed() {
    the_successor_is_told(1).await;
}

/// A holder that has not heard yet who leads now leaves a lease without owner, and tells the leader that stops.
#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_passes_on_what_only_a_leader_can_do() {
    let table = table();
    // It goes on with what it has for as long as it may.
    let mut first = Worker::running("a", &table, 2).await;
    let mut second = Worker::start("b", &table);
    second.open(&listing(2)).await;
    second.listen(L).await;
    first.handle.shutdown(25 * SECOND);
    // By now the second one leads, and has read the table.
    second.listen(4 * SECOND).await;
    let (key, item) = item_of(&table, "a");
    assert!(item.unwrap().draining);
    put_lease(&table, &lease_of(7));
    let left = Hint::Take {
        key: LeaseKey::from(id(7).as_str()),
        counter: 0,
        dead: None,
    };
    let inbox = Value::Ss(BTreeSet::from([left.encode()]));
    change(&table, &key, &[(attribute::INBOX, inbox)]);
    first.listen(Duration::ZERO).await;
    second.listen(2 * SECOND + SECOND / 2).await;
    assert!(second.serves(7));
}
