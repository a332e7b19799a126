//! What a worker that stops leaves behind at that very moment.

use std::collections::BTreeSet;

use super::*;
use crate::hint::Hint;
use crate::item::entity;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::leader_item::LEADER_KEY;
use crate::test_support::at;
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

/// A giver names the worker in a row and in its inbox, just before it leaves without having looked. Returns the worker's id.
async fn given_while_it_stops(worker: &mut Worker, table: &MemoryLeaseTable) -> String {
    worker
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    worker.listen(SECOND).await;
    let (me, _) = item_of(table, "w");
    let given = Lease {
        owner: Some(WorkerId::from(me.as_str())),
        counter: 12,
        ..lease_of(0)
    };
    put_lease(table, &given);
    change(table, &me, &[(attribute::INBOX, yours(0, 12))]);
    worker.handle.shutdown(25 * SECOND);
    me
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_takes_care_of_what_came_into_its_inbox_last() {
    let table = table();
    let mut worker = Worker::cooperating("w", &table);
    let me = given_while_it_stops(&mut worker, &table).await;
    worker.listen(5 * SECOND).await;
    assert!(!table.items().contains_key(&me), "it left");
    let row = row(&table, 0).unwrap();
    assert_eq!((row.owner, row.checkpoint), (None, at(9)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stays_for_an_unread_hint_says_that_it_stops() {
    let table = table();
    // It holds what it gets for as long as it lives.
    let mut worker = Worker::start("w", &table);
    given_while_it_stops(&mut worker, &table).await;
    worker.listen(SECOND).await;
    let (_, item) = item_of(&table, "w");
    assert!(item.unwrap().draining, "others must not give it more");
}

fn leads(table: &MemoryLeaseTable, leader: &str, round: u64) {
    let item = [
        (attribute::KEY, Value::text(LEADER_KEY)),
        (attribute::ENTITY_TYPE, Value::text(entity::LEADER)),
        (attribute::LEADER, Value::text(leader)),
        (attribute::ROUND, Value::number(round)),
    ];
    let item = item.map(|(name, value)| (name.to_owned(), value));
    table.put(LEADER_KEY, Item::from(item));
}

const GONE: &str = "gone/0123456789abcdef0123456789abcdef";
const NEXT: &str = "next/0123456789abcdef0123456789abcdef";

/// A worker that holds a lease, gives it away as soon as it is asked to, and may find another one there: `NEXT`.
async fn one_with_a_lease(table: &Arc<MemoryLeaseTable>) -> Worker {
    let mut worker = Worker::cooperating("w", table);
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
    let next = WorkerItem::new(WorkerId::from(NEXT), L);
    table.put(NEXT, next.to_item());
    worker
}

/// The worker stops; its lease has no owner then, and `NEXT` was told to take it.
async fn leaves_its_lease_to_next(worker: &mut Worker, table: &MemoryLeaseTable) {
    worker.handle.shutdown(25 * SECOND);
    worker.listen(5 * SECOND).await;
    assert_eq!(row(table, 0).unwrap().owner, None);
    let inbox = item_of(table, "next").1.unwrap().inbox;
    let hints: Vec<Hint> = inbox.iter().filter_map(|text| Hint::parse(text)).collect();
    assert!(matches!(&hints[..], [.., Hint::Take { .. }]), "{hints:?}");
}

/// A leader is gone by the time that somebody writes to it; its successor begins with this round.
async fn the_successor_is_told(round: u64) {
    let table = table();
    let mut worker = one_with_a_lease(&table).await;
    leads(&table, GONE, 1_000);
    worker.listen(SECOND * 3 / 2).await;
    let stage = Arc::clone(&table);
    worker.path.rule(move |seen| {
        if seen.operation == "write" && seen.key == GONE {
            leads(&stage, NEXT, round);
        }
        Act::Pass
    });
    leaves_its_lease_to_next(&mut worker, &table).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_left_alone_is_told_to_the_one_who_leads_after_the_known_leader_left() {
    the_successor_is_told(1_001).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_rounds_begin_anew_is_followed() {
    the_successor_is_told(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_left_alone_is_told_to_the_one_who_leads_when_nobody_was_known_to() {
    let table = table();
    let mut worker = one_with_a_lease(&table).await;
    // It led itself. Somebody else does by the time that it gives its lease away.
    let stage = Arc::clone(&table);
    worker.path.rule(move |seen| {
        if seen.operation == "write" && seen.key == id(0).as_str() {
            leads(&stage, NEXT, 1);
        }
        Act::Pass
    });
    leaves_its_lease_to_next(&mut worker, &table).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_named_as_the_next_leader_and_stops_gives_the_lead_up() {
    let table = table();
    // It holds its lease for as long as it lives.
    let mut worker = Worker::running("w", &table, 1).await;
    leads(&table, GONE, 1_000);
    worker.listen(SECOND * 3 / 2).await;
    worker.handle.shutdown(25 * SECOND);
    let (me, _) = item_of(&table, "w");
    leads(&table, &me, 1_001);
    worker.listen(2 * SECOND).await;
    assert!(!table.items().contains_key(LEADER_KEY));
}

/// A holder that has not heard yet who leads now leaves a lease without owner, and tells the leader that stops.
async fn a_leader_that_stops_passes_on(left: impl Fn(LeaseKey) -> Hint) {
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
    let left = left(LeaseKey::from(id(7).as_str())).encode();
    let inbox = Value::Ss(BTreeSet::from([left]));
    change(&table, &key, &[(attribute::INBOX, inbox)]);
    first.listen(Duration::ZERO).await;
    second.listen(2 * SECOND + SECOND / 2).await;
    assert!(second.serves(7));
}

#[tokio::test(start_paused = true)]
async fn the_item_of_a_worker_that_left_is_not_read_again_and_again() {
    let table = table();
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        let worker = Worker::start(name, &table);
        worker.open(&listing(1)).await;
        workers.push(worker);
    }
    let rest = async |workers: &mut [Worker], time| {
        tokio::time::sleep(time).await;
        for worker in workers {
            worker.listen(Duration::ZERO).await;
        }
    };
    rest(&mut workers, 2 * L).await;
    // The leader has the lease; the deputy watches everybody, too.
    let holder = workers.iter().position(|worker| worker.held() == 1);
    let leaves = (0..3).rfind(|n| Some(*n) != holder).unwrap();
    workers.remove(leaves).handle.shutdown(25 * SECOND);
    rest(&mut workers, L).await;
    let reads = |worker: &Worker| worker.path.reads.load(Ordering::Relaxed);
    let before: Vec<u64> = workers.iter().map(reads).collect();
    rest(&mut workers, 10 * L).await;
    for (worker, before) in workers.iter().zip(before) {
        // Its own item, the leader's two and the other one's each second, and scans.
        let each_second = (reads(worker) - before) / 100;
        assert!(each_second <= 4, "{each_second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_passes_on_what_only_a_leader_can_do() {
    let (counter, dead) = (0, None);
    a_leader_that_stops_passes_on(|key| Hint::Take {
        key,
        counter,
        dead: dead.clone(),
    })
    .await;
    let worker = WorkerId::from("w/11112222");
    let refused = |key| Hint::Refused {
        key,
        counter,
        worker: worker.clone(),
    };
    a_leader_that_stops_passes_on(refused).await;
}
