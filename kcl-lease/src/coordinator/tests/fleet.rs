//! Several workers: hand-over, balance, the leader's death, stopping, hints that get lost.

use super::*;
use crate::test_support::at;

const SECOND: Duration = Duration::from_secs(1);

/// Lets all workers take their events in for so long.
async fn run(workers: &mut [&mut Worker], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for worker in workers.iter_mut() {
            worker.listen(Duration::ZERO).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn counts(workers: &[&mut Worker]) -> Vec<usize> {
    let mut counts: Vec<usize> = workers.iter().map(|worker| worker.held()).collect();
    counts.sort_unstable();
    counts
}

/// A worker on `shards` shards that gives its leases away when asked to.
async fn first(name: &str, table: &Arc<MemoryLeaseTable>, shards: u32) -> Worker {
    let mut worker = Worker::cooperating(name, table);
    worker.open(&listing(shards)).await;
    worker.wait_granted(shards as usize).await;
    worker
}

async fn join(name: &str, table: &Arc<MemoryLeaseTable>, shards: u32) -> Worker {
    let worker = Worker::cooperating(name, table);
    worker.open(&listing(shards)).await;
    worker
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_its_share_within_seconds_and_then_nothing_moves() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = join("b", &table, 8).await;
    run(&mut [&mut a, &mut b], 5 * SECOND).await;
    assert_eq!(counts(&[&mut a, &mut b]), [4, 4]);
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c], 6 * SECOND).await;
    assert_eq!(counts(&[&mut a, &mut b, &mut c]), [2, 3, 3]);
    for grant in c.grants.values().chain(b.grants.values()) {
        assert!(
            grant.start() == &at(9),
            "handed over with its final checkpoint"
        );
    }
    let before: Vec<u64> = (0..8).map(|n| row(&table, n).unwrap().counter).collect();
    run(&mut [&mut a, &mut b, &mut c], 300 * SECOND).await;
    let after: Vec<u64> = (0..8).map(|n| row(&table, n).unwrap().counter).collect();
    assert_eq!(before, after, "no move at rest, and no write to a row");
}

#[tokio::test(start_paused = true)]
async fn the_holder_goes_on_until_the_receiver_knows_and_the_gap_is_short() {
    let table = table();
    let mut a = first("a", &table, 2).await;
    run(&mut [&mut a], 20 * SECOND).await;
    let mut b = join("b", &table, 2).await;
    let mut gap = None;
    for _ in 0..2_000 {
        run(&mut [&mut a, &mut b], Duration::from_millis(5)).await;
        if gap.is_none() && a.held() == 1 {
            gap = Some(Instant::now());
        }
        if b.held() == 1 {
            break;
        }
    }
    let gap = gap.expect("it was handed over").elapsed();
    assert!(gap < Duration::from_millis(300), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn the_leader_that_dies_costs_no_more_than_any_other_worker() {
    for (dies, lives) in [("a", "b"), ("b", "a")] {
        let table = table();
        let mut a = first("a", &table, 6).await;
        let mut b = join("b", &table, 6).await;
        let mut c = join("c", &table, 6).await;
        run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
        assert_eq!(counts(&[&mut a, &mut b, &mut c]), [2, 2, 2], "{lives}");
        let mut workers = BTreeMap::from([("a", a), ("b", b), ("c", c)]);
        let mut dead = workers.remove(dies).unwrap();
        dead.path.cut();
        let killed = Instant::now();
        let [left, right] = workers
            .values_mut()
            .collect::<Vec<_>>()
            .try_into()
            .ok()
            .unwrap();
        while left.held() + right.held() < 6 {
            run(&mut [left, right, &mut dead], Duration::from_millis(50)).await;
            let took = killed.elapsed();
            // A look at heartbeats each second, a margin, a look into the inbox each second.
            assert!(took < L + Duration::from_millis(2_350), "{dies}: {took:?}");
        }
        assert_eq!(counts(&[left, right]), [3, 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_becomes_deputy_learns_of_those_who_joined_before() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = join("b", &table, 8).await;
    run(&mut [&mut a, &mut b], 20 * SECOND).await;
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c], 20 * SECOND).await;
    // It tells the leader and the deputy, which is b: c does not hear of it.
    let mut d = join("d", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c, &mut d], 20 * SECOND).await;
    b.handle.shutdown(25 * SECOND);
    run(&mut [&mut a, &mut b, &mut c, &mut d], 20 * SECOND).await;
    let reads = c.path.reads.load(Ordering::Relaxed);
    let deputy = table.items()["SessionLeader"]["deputy"].clone();
    assert_eq!(deputy, Value::text(c.handle.worker().as_str()));
    run(&mut [&mut a, &mut c, &mut d], 20 * SECOND).await;
    let reads = c.path.reads.load(Ordering::Relaxed) - reads;
    assert!(reads <= 100, "one look each second at four items: {reads}");
    // The leader dies together with somebody whom the deputy would otherwise see for the first time after that.
    a.path.cut();
    d.path.cut();
    let killed = Instant::now();
    while c.held() < 8 {
        run(&mut [&mut a, &mut c, &mut d], Duration::from_millis(50)).await;
        let took = killed.elapsed();
        assert!(took < L + Duration::from_millis(2_350), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_hands_each_lease_to_one_that_lives() {
    for stops in ["a", "c"] {
        let table = table();
        let mut a = first("a", &table, 9).await;
        let mut b = join("b", &table, 9).await;
        let mut c = join("c", &table, 9).await;
        run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
        let mut workers = BTreeMap::from([("a", a), ("b", b), ("c", c)]);
        let mut stopping = workers.remove(stops).unwrap();
        let begun = Instant::now();
        stopping.handle.shutdown(25 * SECOND);
        let [left, right] = workers
            .values_mut()
            .collect::<Vec<_>>()
            .try_into()
            .ok()
            .unwrap();
        while left.held() + right.held() < 9 {
            run(&mut [left, right, &mut stopping], Duration::from_millis(20)).await;
            assert!(begun.elapsed() < 7 * SECOND, "{stops}");
        }
        let counted = counts(&[left, right]);
        assert!(counted[1] - counted[0] <= 1, "{counted:?}");
        for number in 0..9 {
            let switches = row(&table, number).unwrap().owner_switches;
            assert!(switches <= 3, "each lease moved once: {switches}");
        }
        stopping.handle.stopped().await;
        assert!(
            !table
                .items()
                .contains_key(stopping.handle.worker().as_str())
        );
        // Somebody leads again, and soon.
        run(&mut [left, right], 3 * SECOND).await;
        let leader = table.items()["SessionLeader"]["leader"].clone();
        assert_ne!(leader, Value::text(stopping.handle.worker().as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_peer_is_already_dead_gives_it_nothing() {
    let table = table();
    let mut a = first("a", &table, 6).await;
    let mut b = join("b", &table, 6).await;
    let mut c = join("c", &table, 6).await;
    run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
    let dead = c.handle.worker();
    c.path.cut();
    run(&mut [&mut a, &mut b], SECOND).await;
    a.handle.shutdown(25 * SECOND);
    for _ in 0..400 {
        run(&mut [&mut a, &mut b], Duration::from_millis(50)).await;
        let owned = (0..6).filter(|n| row(&table, *n).unwrap().owner.as_ref() == Some(&dead));
        assert!(owned.count() <= 2, "only what it had");
    }
    assert_eq!(b.held(), 6);
}

/// The holder's call goes on for long after it was asked to stop.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_dies_before_the_holder_stops_is_handed_nothing() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = Worker {
        batch: 60 * SECOND,
        ..join("b", &table, 8).await
    };
    run(&mut [&mut a, &mut b], 20 * SECOND).await;
    assert_eq!((a.held(), b.held()), (4, 4));
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c], 10 * SECOND).await;
    let dead = c.handle.worker();
    c.path.cut();
    run(&mut [&mut a, &mut b], 20 * SECOND).await;
    // The holder learns of this one while it is still asked to stop for the other.
    let mut d = join("d", &table, 8).await;
    let mut left = None;
    while a.held() + b.held() + d.held() < 8 || left.is_none() {
        run(&mut [&mut a, &mut b, &mut d], Duration::from_millis(20)).await;
        if b.held() < 4 {
            left.get_or_insert_with(Instant::now);
            let owners = (0..8).map(|number| row(&table, number).unwrap().owner);
            assert!({ owners }.all(|owner| owner.as_ref() != Some(&dead)));
        }
    }
    let gap = left.expect("the holder stopped").elapsed();
    assert!(gap < 3 * SECOND, "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_room_gets_nothing_more() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = Worker {
        holders: Some(Vec::new()),
        ..Worker::start_with("b", &table, |options| options.max_leases = 2)
    };
    b.open(&listing(8)).await;
    run(&mut [&mut a, &mut b], 40 * SECOND).await;
    assert_eq!((a.held(), b.held()), (6, 2));
    a.handle.shutdown(25 * SECOND);
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    assert_eq!((a.held(), b.held()), (0, 2));
    // Room elsewhere is found by the leader.
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut b, &mut c], 20 * SECOND).await;
    assert_eq!((b.held(), c.held()), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_know_the_stream_is_given_nothing_and_leads_nobody() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    // It reaches the table and cannot reach the stream.
    let mut b = Worker::cooperating("b", &table);
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    assert_eq!(a.held(), 8);
    let owners = (0..8).map(|number| row(&table, number).unwrap().owner);
    assert!({ owners }.all(|owner| owner == Some(a.handle.worker())));
    assert!(one_leads(&table, &[&a]));
    // Once it can, it gets its share as soon as any other newcomer.
    b.open(&listing(8)).await;
    run(&mut [&mut a, &mut b], 8 * SECOND).await;
    assert_eq!(counts(&[&mut a, &mut b]), [4, 4]);
    // Nor is it left the lead by one that stops.
    let mut c = Worker::cooperating("A", &table);
    run(&mut [&mut a, &mut b, &mut c], 15 * SECOND).await;
    a.handle.shutdown(25 * SECOND);
    run(&mut [&mut a, &mut b, &mut c], 10 * SECOND).await;
    assert!(one_leads(&table, &[&b]));
    assert_eq!((a.held(), b.held()), (0, 8));
}

/// The deputy started with what the leader had stored, and cannot reach the stream when it comes to lead.
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_look_at_the_stream_leaves_the_lead_to_one_that_can() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = Worker::cooperating("B", &table);
    assert!(b.handle.stored_stream().await.unwrap().is_some());
    b.handle.join_stream();
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
    assert_eq!(counts(&[&mut a, &mut b, &mut c]), [2, 3, 3]);
    a.path.cut();
    run(&mut [&mut b, &mut c], 30 * SECOND).await;
    assert!(one_leads(&table, &[&c]));
    assert_eq!(counts(&[&mut b, &mut c]), [4, 4]);
}

#[tokio::test(start_paused = true)]
async fn hints_that_are_lost_cost_time_only() {
    let table = table();
    let mut a = first("a", &table, 4).await;
    let mut b = join("b", &table, 4).await;
    // No hint ever reaches b, as far as a can tell it was sent.
    let other = b.handle.worker();
    a.path.rule(
        move |seen| match seen.key == other.as_str() && seen.operation == "write" {
            true => Act::Swallow,
            false => Act::Pass,
        },
    );
    run(&mut [&mut a, &mut b], 60 * SECOND).await;
    assert_eq!(a.held() + b.held(), 4, "what cannot be announced stays");
    a.path.heal();
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    assert_eq!(counts(&[&mut a, &mut b]), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nothing_moves() {
    for outage in [4, 12, 60, 300] {
        let table = table();
        let mut a = first("a", &table, 6).await;
        let mut b = join("b", &table, 6).await;
        let mut c = join("c", &table, 6).await;
        run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
        let owners: Vec<_> = (0..6).map(|n| row(&table, n).unwrap().owner).collect();
        for worker in [&a, &b, &c] {
            worker.path.cut();
        }
        run(&mut [&mut a, &mut b, &mut c], outage * SECOND).await;
        for worker in [&a, &b, &c] {
            worker.path.heal();
        }
        run(&mut [&mut a, &mut b, &mut c], 3 * SECOND).await;
        assert_eq!(a.held() + b.held() + c.held(), 6);
        for grant in [&a, &b, &c]
            .iter()
            .flat_map(|worker| worker.grants.values())
        {
            assert!(grant.loss().is_some() || grant.is_current(), "{outage}");
        }
        run(&mut [&mut a, &mut b, &mut c], 30 * SECOND).await;
        let after: Vec<_> = (0..6).map(|n| row(&table, n).unwrap().owner).collect();
        assert_eq!(owners, after, "{outage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_protocol_stops_taking_and_giving_and_is_told() {
    let table = table();
    let mut a = first("a", &table, 4).await;
    let mut item =
        crate::worker_item::WorkerItem::new("z/0123456789abcdef0123456789abcdef".into(), L);
    item.protocol = 2;
    table.put(item.id.as_str(), item.to_item());
    let told = a.listen(15 * SECOND).await;
    assert!(
        told.iter()
            .any(|event| matches!(event, CoordinatorEvent::NewerProtocol { protocol: 2, .. }))
    );
    let mut b = join("b", &table, 4).await;
    for beat in 1..10 {
        change(
            &table,
            item.id.as_str(),
            &[(attribute::HEARTBEAT, Value::number(beat))],
        );
        run(&mut [&mut a, &mut b], 3 * SECOND).await;
        assert_eq!((a.held(), b.held()), (4, 0));
    }
    // Once it is gone everything goes its way again.
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    assert_eq!((a.held(), b.held()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_finisher_takes_the_children_at_once_and_tells_of_those_it_has_no_room_for() {
    let table = table();
    let mut a = Worker::start_with("a", &table, |options| options.max_leases = 1);
    a.open(&listing(1)).await;
    a.wait_granted(1).await;
    let children = vec![shard(1, &[0], 0, 2), shard(2, &[0], 1, 2)];
    a.grant(0).end_shard(children).await.unwrap();
    let told = a.listen(Duration::from_millis(200)).await;
    assert_eq!(a.held(), 1, "one of them, at once");
    let elsewhere = told
        .iter()
        .filter(|event| matches!(event, CoordinatorEvent::ChildElsewhere { .. }));
    assert_eq!(elsewhere.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_takes_the_children_of_what_it_finishes_and_hands_them_over() {
    for finishes_first in [false, true] {
        let table = table();
        let mut a = Worker::start("a", &table);
        a.open(&listing(1)).await;
        a.wait_granted(1).await;
        let mut b = join("b", &table, 1).await;
        run(&mut [&mut a, &mut b], 20 * SECOND).await;
        if !finishes_first {
            a.handle.shutdown(25 * SECOND);
        }
        let children = vec![shard(1, &[0], 0, 2), shard(2, &[0], 1, 2)];
        a.grant(0).end_shard(children).await.unwrap();
        a.handle.shutdown(25 * SECOND);
        a.holders = Some(Vec::new());
        run(&mut [&mut a, &mut b], Duration::from_millis(200)).await;
        assert_eq!(
            a.held(),
            2,
            "somebody reads on while receivers are looked for ({finishes_first})"
        );
        run(&mut [&mut a, &mut b], 8 * SECOND).await;
        assert_eq!((a.held(), b.held()), (0, 2));
        a.handle.stopped().await;
    }
}

fn leader(table: &MemoryLeaseTable) -> Option<Value> {
    let items = table.items();
    items.get("SessionLeader")?.get("leader").cloned()
}

fn one_leads(table: &MemoryLeaseTable, workers: &[&Worker]) -> bool {
    let leader = leader(table).unwrap();
    let leads = |worker: &&Worker| leader == Value::text(worker.handle.worker().as_str());
    workers.iter().any(leads)
}

#[tokio::test(start_paused = true)]
async fn one_after_the_other_may_stop_and_somebody_leads_each_time() {
    let table = table();
    let mut a = first("a", &table, 8).await;
    let mut b = join("b", &table, 8).await;
    let mut c = join("c", &table, 8).await;
    run(&mut [&mut a, &mut b, &mut c], 20 * SECOND).await;
    let mut d = join("d", &table, 8).await;
    a.handle.shutdown(25 * SECOND);
    run(&mut [&mut a, &mut b, &mut c, &mut d], 10 * SECOND).await;
    let mut e = join("e", &table, 8).await;
    b.handle.shutdown(25 * SECOND);
    run(&mut [&mut b, &mut c, &mut d, &mut e], 10 * SECOND).await;
    assert!(one_leads(&table, &[&c, &d, &e]));
    run(&mut [&mut c, &mut d, &mut e], 15 * SECOND).await;
    assert_eq!(counts(&[&mut c, &mut d, &mut e]), [2, 3, 3]);
    let mut f = join("f", &table, 8).await;
    c.handle.shutdown(25 * SECOND);
    run(&mut [&mut c, &mut d, &mut e, &mut f], 10 * SECOND).await;
    assert!(one_leads(&table, &[&d, &e, &f]));
    run(&mut [&mut d, &mut e, &mut f], 15 * SECOND).await;
    assert_eq!(counts(&[&mut d, &mut e, &mut f]), [2, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_child_of_a_merge_is_taken_by_whoever_finishes_second() {
    for stops in [false, true] {
        let table = table();
        let mut a = first("a", &table, 2).await;
        let mut b = join("b", &table, 2).await;
        run(&mut [&mut a, &mut b], 20 * SECOND).await;
        let child = || vec![shard(2, &[0, 1], 0, 1)];
        let (mine, other) = match a.grants[id(0).as_str()].loss() {
            None => (a.grant(0), b.grant(1)),
            Some(_) => (a.grant(1), b.grant(0)),
        };
        mine.end_shard(child()).await.unwrap();
        run(&mut [&mut a, &mut b], SECOND).await;
        assert_eq!((a.held(), b.held()), (0, 1));
        if stops {
            b.holders = None;
            b.handle.shutdown(25 * SECOND);
            run(&mut [&mut a, &mut b], SECOND).await;
        }
        other.end_shard(child()).await.unwrap();
        run(&mut [&mut a, &mut b], SECOND / 2).await;
        assert_eq!(a.held() + b.held(), 1, "{stops}");
    }
}
