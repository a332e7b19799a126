//! Who may take what, and when.

use super::*;
use crate::LossReason;
use crate::test_support::at;

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_killed_worker_are_taken_after_its_deadline_and_soon() {
    let table = table();
    let mut first = Worker::running("a", &table, 3).await;
    first.listen(Duration::from_secs(7)).await;
    first.path.cut();
    let killed = Instant::now();
    let mut second = Worker::start("b", &table);
    second.open(&listing(3)).await;
    let grant = first.grant(0);
    second
        .wait_event(|event| matches!(event, CoordinatorEvent::Granted(_)))
        .await;
    assert!(
        !grant.is_current(),
        "nobody else may start while the holder may deliver"
    );
    second.wait_granted(2).await;
    let took = killed.elapsed();
    assert!(
        took >= L && took < L + Duration::from_millis(400),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_runs_already_takes_over_within_two_seconds_more() {
    let table = table();
    let mut first = Worker::running("a", &table, 3).await;
    let mut second = Worker::start("b", &table);
    second.open(&listing(3)).await;
    // The first one is asked to hand one lease over, and does not react.
    for phase in [0, 700, 1_300, 2_900] {
        first.listen(Duration::from_millis(10_000 + phase)).await;
        assert_eq!(second.held(), 0);
    }
    first.path.cut();
    let killed = Instant::now();
    second.wait_granted(3).await;
    let took = killed.elapsed();
    assert!(took < L + Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_live_worker_is_not_robbed() {
    let table = table();
    let mut first = Worker::running("a", &table, 3).await;
    let mut second = Worker::start("b", &table);
    second.open(&listing(3)).await;
    second.listen(L * 12).await;
    first.listen(Duration::ZERO).await;
    assert_eq!((first.held(), second.held()), (3, 0));
    assert!(first.grant(2).is_current());
}

#[tokio::test(start_paused = true)]
async fn a_java_row_is_taken_when_its_counter_stood_still() {
    let table = table();
    for number in 0..2 {
        put_lease(&table, &lease_of(number));
        owned_by(&table, number, "ip-10-0-0-1:5f3a", 40);
    }
    let begun = Instant::now();
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(2)).await;
    // Shard 1's owner lives for a while: Java renews each 3.3 s.
    for renewal in 1..=10_u64 {
        worker.listen(Duration::from_millis(3_300)).await;
        owned_by(&table, 1, "ip-10-0-0-1:5f3a", 40 + renewal);
    }
    assert_eq!(worker.held(), 1, "only the one that stood still");
    let last_renewal = Instant::now();
    worker.wait_granted(2).await;
    assert!(last_renewal.elapsed() >= L);
    assert!(begun.elapsed() < Duration::from_secs(33) + L * 3);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_session_without_item_are_taken_at_once() {
    let table = table();
    put_lease(&table, &lease_of(0));
    owned_by(&table, 0, "gone/0123456789abcdef0123456789abcdef", 40);
    let begun = Instant::now();
    let _worker = Worker::running("w", &table, 1).await;
    assert!(begun.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_lapse_stops_delivery_and_a_re_grant_goes_on_with_a_new_token() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.listen(Duration::from_secs(5)).await;
    let grant = worker.grant(0);
    let epoch = grant.epoch();
    worker.path.cut();
    worker.listen(Duration::from_secs(12)).await;
    assert!(!grant.is_current());
    assert_eq!(grant.loss(), None);
    let before = Instant::now();
    let resumed = {
        let grant = grant.clone();
        Runtime::virtual_time(0).spawn(async move { grant.deliverable().await })
    };
    worker.listen(Duration::from_secs(5)).await;
    assert!(!resumed.is_finished());
    worker.path.heal();
    resumed.await.unwrap().unwrap();
    assert!(grant.is_current());
    assert!(grant.epoch() > epoch);
    assert!(before.elapsed() < Duration::from_secs(5) + Duration::from_millis(2_100));
    grant.checkpoint(at(4)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_alone_does_not_end_a_lapse() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let grant = worker.grant(0);
    worker.path.cut();
    worker.listen(Duration::from_secs(15)).await;
    // Only rows do not answer.
    worker
        .path
        .rule(|seen| match seen.key.starts_with("shardId") {
            true => Act::Swallow,
            false => Act::Pass,
        });
    worker.listen(Duration::from_secs(8)).await;
    assert!(
        !grant.is_current(),
        "nobody knows yet whether the row is still ours"
    );
    worker.path.heal();
    worker.listen(Duration::from_secs(4)).await;
    assert!(grant.is_current());
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_in_a_lapse_is_lost_and_its_checkpoint_is_fenced() {
    let table = table();
    let mut first = Worker::running("a", &table, 1).await;
    let grant = first.grant(0);
    first.path.cut();
    let mut second = Worker::running("b", &table, 1).await;
    first.path.heal();
    let error = grant.checkpoint(at(3)).await.unwrap_err();
    assert!(
        !error.is_retryable() || grant.lost().await == LossReason::Taken,
        "{error}"
    );
    assert_eq!(grant.lost().await, LossReason::Taken);
    first.listen(Duration::from_secs(3)).await;
    second.listen(Duration::ZERO).await;
    assert_eq!((first.held(), second.held()), (0, 1));
    assert!(row(&table, 0).unwrap().checkpoint.is_start());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_item_vanished_ends_and_a_new_one_takes_the_leases_again() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    let (old, grant) = (worker.handle.worker(), worker.grant(0));
    let heartbeat = |item: &Item| item[attribute::HEARTBEAT].clone();
    let seen = match heartbeat(&table.items()[old.as_str()]) {
        Value::N(text) => text.parse().unwrap(),
        other => panic!("{other:?}"),
    };
    let delete = crate::write::delete_worker(&old, seen);
    table.write(delete).await.unwrap();
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::SessionOver { .. }))
        .await;
    assert_eq!(grant.loss(), Some(LossReason::SessionOver));
    assert!(!grant.is_current());
    worker.wait_granted(2).await;
    assert_ne!(worker.handle.worker(), old);
    assert!(worker.grant(0).epoch() > grant.epoch());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_table_moves_no_lease() {
    for outage in [4_u64, 9, 12, 30, 120] {
        let table = table();
        let mut first = Worker::running("a", &table, 3).await;
        let mut second = Worker::start("b", &table);
        second.open(&listing(3)).await;
        second.listen(Duration::from_secs(25)).await;
        first.path.cut();
        second.path.cut();
        second.listen(Duration::from_secs(outage)).await;
        first.path.heal();
        second.path.heal();
        second.listen(L * 3).await;
        first.listen(Duration::ZERO).await;
        assert_eq!(
            (first.held(), second.held()),
            (3, 0),
            "outage of {outage} s"
        );
        assert!(first.grant(1).is_current());
    }
}

#[tokio::test(start_paused = true)]
async fn items_of_dead_workers_are_cleaned_up() {
    let table = table();
    let first = Worker::running("a", &table, 1).await;
    let dead = first.handle.worker();
    first.path.cut();
    let mut second = Worker::running("b", &table, 1).await;
    second.listen(L * 8).await;
    assert!(table.items().contains_key(dead.as_str()));
    second.listen(L * 4).await;
    assert!(!table.items().contains_key(dead.as_str()));
    assert_eq!(second.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn beside_a_newer_protocol_a_worker_keeps_what_it_holds_and_takes_no_more() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let item = crate::WorkerItem {
        protocol: 99,
        ..crate::WorkerItem::new("new/0123456789abcdef0123456789abcdef".into(), L)
    };
    table.put(item.id.as_str(), item.to_item());
    put_lease(&table, &lease_of(7));
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::NewerProtocol { protocol: 99, .. }))
        .await;
    worker.listen(L * 2).await;
    assert_eq!(worker.held(), 1);
    assert!(worker.grant(0).is_current());
}

#[tokio::test(start_paused = true)]
async fn workers_that_start_together_share_no_lease() {
    let table = table();
    let mut workers: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| Worker::start(name, &table))
        .collect();
    let shards = listing(50);
    let opened = workers.iter().map(|worker| worker.open(&shards));
    futures_util::future::join_all(opened).await;
    for worker in &mut workers {
        worker.listen(Duration::from_secs(2)).await;
    }
    let held: usize = workers.iter().map(Worker::held).sum();
    assert_eq!(held, 50);
}
