//! Resets: the leases of another stream go, unless somebody works on them.

use super::*;
use crate::key::StreamKey;
use crate::test_support::at;

fn other_stream() -> StreamIdentity {
    StreamIdentity {
        created_at: 1_800_000_000_000,
        ..identity()
    }
}

fn resetting(name: &str, table: &Arc<MemoryLeaseTable>) -> Worker {
    Worker::start_with(name, table, |options| {
        options.reset_if_stream_changed = true;
    })
}

/// Opens the new stream as a worker starts on it.
async fn begin(worker: &Worker, shards: u32) -> Result<OpenedStream, CoordinatorError> {
    let opened = worker
        .handle
        .open_stream(StreamKey::ONLY, other_stream())
        .await?;
    let synced = worker
        .handle
        .sync_shards(StreamKey::ONLY, listing(shards), opened.fresh)
        .await;
    match synced {
        Err(error) if !error.allows_fresh_start() => {
            worker
                .handle
                .sync_shards(StreamKey::ONLY, listing(shards), false)
                .await?;
        }
        synced => drop(synced?),
    }
    Ok(opened)
}

/// A table of two leases with progress in the earlier stream, and no worker any more.
async fn left_behind() -> Arc<MemoryLeaseTable> {
    let table = table();
    let worker = Worker::running("old", &table, 2).await;
    for number in [0, 1] {
        worker.grant(number).checkpoint(at(7)).await.unwrap();
        worker.grant(number).release(None).await.unwrap();
    }
    worker.handle.shutdown(Duration::from_secs(1));
    worker.handle.stopped().await;
    table
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_the_earlier_stream_are_replaced() {
    let table = left_behind().await;
    // Far ahead of the time.
    let counter = [(attribute::COUNTER, Value::number(1 << 50))];
    change(&table, id(0).as_str(), &counter);
    let before = row(&table, 0).unwrap();
    let mut worker = resetting("new", &table);
    let begun = Instant::now();
    let opened = begin(&worker, 2).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "nobody to wait for"
    );
    assert_eq!(opened.identity.created_at, other_stream().created_at);
    worker
        .wait_event(|event| {
            matches!(event, CoordinatorEvent::ApplicationReset { before } if *before == identity())
        })
        .await;
    worker.wait_granted(2).await;
    let after = row(&table, 0).unwrap();
    assert!(after.checkpoint.is_start());
    assert!(after.counter > before.counter);
    let told = worker.listen(L * 4).await;
    let restored = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::LeaseRowDeleted { .. });
    assert!(!told.iter().any(restored), "{told:?}");
    worker.grant(0).checkpoint(at(3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_the_wish_nothing_is_touched() {
    let table = left_behind().await;
    let before = table.items();
    let worker = Worker::start("new", &table);
    let error = worker
        .handle
        .open_stream(StreamKey::ONLY, other_stream())
        .await
        .unwrap_err();
    assert!(
        matches!(error, CoordinatorError::StreamMismatch { .. }),
        "{error}"
    );
    assert_eq!(
        row(&table, 0),
        Lease::from_item(&before[id(0).as_str()]).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lives_is_named_and_keeps_its_leases() {
    let table = table();
    let mut old = Worker::running("old", &table, 2).await;
    old.listen(L).await;
    let worker = resetting("new", &table);
    let error = begin(&worker, 2).await.unwrap_err();
    let CoordinatorError::ResetRefused { worker: named, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*named, old.handle.worker());
    assert!(error.to_string().contains("old/"), "{error}");
    old.grant(0).checkpoint(at(5)).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().checkpoint, at(5));
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_is_waited_for() {
    let table = table();
    let old = Worker::running("old", &table, 2).await;
    old.handle.abandon();
    old.handle.stopped().await;
    let mut worker = resetting("new", &table);
    let begun = Instant::now();
    begin(&worker, 2).await.unwrap();
    assert!(begun.elapsed() > L, "it may only be slow");
    assert!(begun.elapsed() < L * 2);
    worker.wait_granted(2).await;
}

#[tokio::test(start_paused = true)]
async fn two_resets_at_once_are_one() {
    for millis in [0, 1, 5, 9, 14, 20, 40, 80] {
        let table = left_behind().await;
        let mut first = resetting("first", &table);
        let mut second = resetting("second", &table);
        let late = async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            begin(&second, 2).await
        };
        let (a, b) = tokio::join!(begin(&first, 2), late);
        a.unwrap();
        b.unwrap();
        first.listen(L * 2).await;
        second.listen(L).await;
        assert_eq!(first.held() + second.held(), 2, "{millis}");
        let stream = &table.items()["SessionStream"];
        let stored = crate::StreamItem::from_item(stream).unwrap().unwrap();
        assert_eq!(stored.created_ms, other_stream().created_at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_stopped_half_way_is_completed_by_the_next() {
    for calls in 0..12 {
        let table = left_behind().await;
        let first = resetting("first", &table);
        let mut left = calls;
        first.path.rule(move |_| {
            left -= 1;
            if left < 0 { Act::Swallow } else { Act::Pass }
        });
        let _ = timeout(Duration::from_secs(3), begin(&first, 2)).await;
        first.handle.abandon();
        drop(first);
        let mut second = resetting("second", &table);
        begin(&second, 2).await.unwrap();
        second.wait_granted(2).await;
        assert!(row(&table, 0).unwrap().checkpoint.is_start(), "{calls}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_away_while_the_application_was_reset_ends() {
    let table = table();
    let mut old = Worker::running("old", &table, 2).await;
    old.path.cut();
    let mut new = resetting("new", &table);
    begin(&new, 2).await.unwrap();
    old.path.heal();
    old.wait_event(|event| {
        matches!(
            event,
            CoordinatorEvent::Fatal(CoordinatorError::StreamMismatch { .. })
        )
    })
    .await;
    new.listen(L * 2).await;
    assert_eq!(new.held(), 2);
    assert_eq!(old.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_whole_table_was_emptied_ends_and_begins_nothing() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    for key in table.items().into_keys() {
        let change = crate::write::Change::Delete;
        let delete = RowWrite {
            key,
            condition: vec![],
            change,
        };
        table.write(delete).await.unwrap();
    }
    worker
        .wait_event(|event| {
            matches!(
                event,
                CoordinatorEvent::Fatal(CoordinatorError::StreamItemDeleted)
            )
        })
        .await;
    assert_eq!(row(&table, 0), None);
    assert_eq!(worker.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_table_was_deleted_says_so_and_ends() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.path.rule(|_| Act::NoTable);
    let begun = Instant::now();
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::TableTrouble { .. }))
        .await;
    worker
        .wait_event(|event| {
            matches!(
                event,
                CoordinatorEvent::Fatal(CoordinatorError::TableDeleted)
            )
        })
        .await;
    assert!(begun.elapsed() < L, "{:?}", begun.elapsed());
    assert_eq!(worker.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_takes_in_the_last_moment_is_kept() {
    let table = left_behind().await;
    let owner = "late/0123456789abcdef0123456789abcdef";
    let item = |heartbeat| {
        let item = crate::WorkerItem::new(owner.into(), L);
        crate::WorkerItem { heartbeat, ..item }.to_item()
    };
    table.put(owner, item(0));
    let worker = resetting("new", &table);
    let (shared, mut heartbeat) = (Arc::clone(&table), 0);
    worker.path.rule(move |seen| {
        heartbeat += 1;
        shared.put(owner, item(heartbeat));
        let taken = row(&shared, 0).is_some_and(|row| row.owner.is_some());
        if seen.operation == "write" && seen.key == id(0).as_str() && !taken {
            owned_by(&shared, 0, owner, 1 << 50);
        }
        Act::Pass
    });
    let error = begin(&worker, 2).await.unwrap_err();
    assert!(error.to_string().contains("late/"), "{error}");
    assert_eq!(row(&table, 0).unwrap().checkpoint, at(7));
}
