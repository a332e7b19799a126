//! Starting, holding, stopping.

use super::*;
use crate::LossReason;
use crate::key::StreamKey;
use crate::test_support::at;
use kcl_checkpoint::Checkpoint;

#[tokio::test(start_paused = true)]
async fn a_cold_start_grants_every_shard_in_a_few_round_trips() {
    let table = table();
    let begun = Instant::now();
    let mut worker = Worker::start("w", &table);
    let opened = worker.open(&listing(4)).await;
    assert!(opened.fresh);
    worker.wait_granted(4).await;
    assert!(
        begun.elapsed() < Duration::from_millis(60),
        "{:?}",
        begun.elapsed()
    );
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::Settled))
        .await;
    for grant in worker.grants.values() {
        assert!(grant.is_current());
        assert_eq!(*grant.start(), Checkpoint::TrimHorizon);
        assert!(grant.epoch() > 1_700_000_000_000);
    }
    assert_eq!(row(&table, 0).unwrap().owner, Some(worker.handle.worker()));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_start_in_a_second() {
    let table = table();
    let begun = Instant::now();
    let worker = Worker::running("w", &table, 1_000).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(worker.held(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_before_the_stream_is_known() {
    let table = table();
    put_lease(&table, &lease_of(0));
    let mut worker = Worker::start("w", &table);
    worker.listen(L).await;
    assert_eq!(worker.held(), 0);
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_releases_everything_and_another_worker_starts_at_once() {
    let table = table();
    let mut first = Worker::running("a", &table, 3).await;
    first.handle.shutdown(Duration::from_secs(25));
    first.listen(Duration::from_secs(30)).await;
    assert_eq!(
        first.held(),
        3,
        "holders end their grants, not the coordinator"
    );
    assert!(first.grant(0).is_current());
    for grant in first.grants.values() {
        grant.release(Some(at(7))).await.unwrap();
        assert_eq!(grant.lost().await, LossReason::Released);
        assert!(!grant.is_current());
    }
    first
        .wait_event(|event| matches!(event, CoordinatorEvent::Stopped))
        .await;
    first.handle.stopped().await;
    assert!(!table.items().contains_key(first.handle.worker().as_str()));
    let begun = Instant::now();
    let mut second = Worker::start("b", &table);
    let opened = second
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    assert!(!opened.fresh);
    second.wait_granted(3).await;
    assert!(
        begun.elapsed() < Duration::from_millis(60),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(*second.grant(1).start(), at(7));
}

#[tokio::test(start_paused = true)]
async fn another_or_a_recreated_stream_is_refused() {
    let table = table();
    let _first = Worker::running("a", &table, 1).await;
    for (arn, created_at) in [("arn:other", 0), (identity().stream_arn.as_str(), 5_000)] {
        let worker = Worker::start("b", &table);
        let proposed = StreamIdentity {
            stream_arn: arn.to_owned(),
            created_at: identity().created_at + created_at,
            start: StreamStart::Latest { moment_ms: 1 },
        };
        let error = worker
            .handle
            .open_stream(StreamKey::ONLY, proposed)
            .await
            .unwrap_err();
        assert!(
            matches!(error, CoordinatorError::StreamMismatch { .. }),
            "{error}"
        );
    }
    // The first worker's starting point holds for all.
    let other = Worker::start("c", &table);
    let proposed = StreamIdentity {
        start: StreamStart::Latest { moment_ms: 1 },
        created_at: identity().created_at + 1,
        ..identity()
    };
    let opened = other
        .handle
        .open_stream(StreamKey::ONLY, proposed)
        .await
        .unwrap();
    assert_eq!(opened.identity.start, StreamStart::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn max_leases_is_kept() {
    let table = table();
    let mut worker = Worker::start_with("w", &table, |options| options.max_leases = 2);
    worker.open(&listing(5)).await;
    worker.listen(L * 3).await;
    assert_eq!(worker.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_with_one_shard_costs_next_to_nothing() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    worker.path.reads.store(0, Ordering::Relaxed);
    worker.path.writes.store(0, Ordering::Relaxed);
    worker.listen(Duration::from_secs(100)).await;
    // Half a read unit a second: all these reads are eventually consistent and cost a half each.
    assert!(worker.path.reads.load(Ordering::Relaxed) <= 100);
    assert!(worker.path.writes.load(Ordering::Relaxed) <= 31);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_stored_and_never_move_back() {
    let table = table();
    let worker = Worker::running("w", &table, 1).await;
    let grant = worker.grant(0);
    grant.checkpoint(at(5)).await.unwrap();
    grant.checkpoint(at(3)).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().checkpoint, at(5));
    grant.prepare(at(9), Some(b"state".to_vec())).await.unwrap();
    let pending = row(&table, 0).unwrap().pending.unwrap();
    assert_eq!(
        (pending.checkpoint, pending.state),
        (at(9), Some(b"state".to_vec()))
    );
    grant.checkpoint(at(9)).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().pending, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_checkpoint_future_still_stores() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let grant = worker.grant(0);
    let asked = timeout(Duration::from_millis(1), grant.checkpoint(at(5)));
    assert!(asked.await.is_err());
    worker.listen(Duration::from_millis(100)).await;
    assert_eq!(row(&table, 0).unwrap().checkpoint, at(5));
}

#[tokio::test(start_paused = true)]
async fn giving_up_lets_leases_expire_and_keeps_others_waiting() {
    let table = table();
    let mut first = Worker::running("a", &table, 1).await;
    let grant = first.grant(0);
    first.handle.abandon();
    assert_eq!(grant.lost().await, LossReason::Abandoned);
    assert!(!grant.is_current());
    first
        .wait_event(|event| matches!(event, CoordinatorEvent::Stopped))
        .await;
    assert!(table.items().contains_key(first.handle.worker().as_str()));
    let begun = Instant::now();
    let second = Worker::running("b", &table, 1).await;
    assert!(begun.elapsed() >= L, "{:?}", begun.elapsed());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_ends_coordination() {
    let table = table();
    let mut worker = Worker::start("w", &table);
    worker.listen(Duration::from_secs(1)).await;
    let id = worker.handle.worker();
    let mut events = worker.events;
    drop(worker.handle);
    while let Some(event) = events.recv().await {
        drop(event);
    }
    assert!(!table.items().contains_key(id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn bad_options_say_what_to_use() {
    for change in [
        (|o| o.lease_duration = Duration::ZERO) as fn(&mut CoordinatorOptions),
        |o| o.lease_duration = Duration::MAX,
        |o| o.scan_interval = o.lease_duration * 2,
        |o| o.scan_interval = Duration::ZERO,
        |o| o.watch_interval = Duration::ZERO,
        |o| o.max_leases = 0,
        |o| o.worker_name = "a/b".to_owned(),
    ] {
        let mut options = CoordinatorOptions::default();
        change(&mut options);
        let used = Path::new(&table());
        let started = Coordinator::start(options, Runtime::virtual_time(7), move || used);
        assert!(started.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn five_thousand_shards_leave_time_for_heartbeats() {
    let table = table();
    let worker = Worker::running("w", &table, 5_000).await;
    let rival = Worker::start("v", &table);
    rival.open(&listing(5_000)).await;
    assert_eq!(worker.held(), 5_000);
    assert!(worker.grant(4_999).is_current());
}

#[tokio::test(start_paused = true)]
async fn a_draining_worker_takes_nothing_more() {
    let table = table();
    let mut worker = Worker::start_with("w", &table, |options| options.max_leases = 2);
    worker.open(&listing(3)).await;
    worker.wait_granted(2).await;
    worker.handle.shutdown(Duration::from_secs(25));
    let free = (0..3).find(|n| row(&table, *n).unwrap().owner.is_none());
    let free = row(&table, free.unwrap()).unwrap();
    let grants: Vec<_> = worker.grants.values().cloned().collect();
    grants[0].release(None).await.unwrap();
    worker.listen(L * 3).await;
    assert_eq!(worker.grants.len(), 2);
    assert!(
        grants[1].is_current(),
        "it keeps what it holds until that is released"
    );
    grants[1].release(None).await.unwrap();
    worker.handle.stopped().await;
    let untouched = table.items()[free.key.as_str()].clone();
    assert_eq!(Lease::from_item(&untouched).unwrap(), Some(free));
    for number in 0..3 {
        assert_eq!(row(&table, number).unwrap().owner, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_away_is_left_to_others_for_a_while() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let first = worker.grant(0);
    first.release(Some(at(4))).await.unwrap();
    worker.listen(L - Duration::from_millis(100)).await;
    assert_eq!(worker.held(), 0);
    worker.wait_granted(1).await;
    assert!(worker.grant(0).epoch() > first.epoch());
    assert_eq!(*worker.grant(0).start(), at(4));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_refuses_a_take_or_a_read_is_asked_ever_less_often() {
    for operation in ["write", "get"] {
        let table = table();
        let mut a = Worker::start("a", &table);
        a.open(&listing(1)).await;
        a.wait_granted(1).await;
        a.grant(0).release(None).await.unwrap();
        a.handle.abandon();
        // The row names this worker, so that it tries for itself.
        let mut b = Worker::start("b", &table);
        let asked = Arc::new(AtomicU64::new(0));
        let (count, row_key) = (Arc::clone(&asked), id(0));
        b.path.rule(move |seen| {
            let is_row = seen.key == row_key.as_str();
            // The first write is refused in any case: that makes it read the row.
            let first = seen.operation == "write" && count.load(Ordering::Relaxed) == 0;
            match is_row && (seen.operation == operation || first) {
                true => {
                    count.fetch_add(1, Ordering::Relaxed);
                    Act::Reject
                }
                false => Act::Pass,
            }
        });
        b.handle
            .open_stream(StreamKey::ONLY, identity())
            .await
            .unwrap();
        b.listen(Duration::from_secs(60)).await;
        let refused = asked.load(Ordering::Relaxed);
        assert!((10..=45).contains(&refused), "{operation}: {refused}");
        b.path.heal();
        b.listen(Duration::from_millis(2_100)).await;
        assert_eq!(b.held(), 1, "{operation}");
    }
}
