//! Rows that somebody deletes by hand: they come back where reading stood, or not at all.

use kcl_checkpoint::Checkpoint;

use super::*;
use crate::audit::Repair;
use crate::key::StreamKey;
use crate::test_support::at;

impl Worker {
    /// Takes events in for so long, and answers each wish for a listing; returns the other events.
    async fn serve(&mut self, listing: &[ListedShard], time: Duration) -> Vec<CoordinatorEvent> {
        let end = Instant::now() + time;
        let mut others = Vec::new();
        while Instant::now() < end {
            for event in self.listen(Duration::from_millis(100)).await {
                match event {
                    CoordinatorEvent::ListingWanted { .. } => {
                        let synced = self
                            .handle
                            .sync_shards(StreamKey::ONLY, listing.to_vec(), false)
                            .await;
                        synced.unwrap();
                    }
                    other => others.push(other),
                }
            }
        }
        others
    }
}

fn repairs(events: &[CoordinatorEvent]) -> Vec<(String, RowRepair)> {
    let repair = |event: &CoordinatorEvent| match event {
        CoordinatorEvent::LeaseRowDeleted { key, repair, .. } => {
            Some((key.as_str().to_owned(), repair.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(repair).collect()
}

fn name(number: u32) -> String {
    id(number).as_str().to_owned()
}

async fn delete(table: &MemoryLeaseTable, number: u32) {
    let delete = RowWrite {
        key: name(number),
        condition: vec![],
        change: crate::write::Change::Delete,
    };
    table.write(delete).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deleted_row_of_an_idle_holder_comes_back_where_it_stood() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.grant(0).checkpoint(at(7)).await.unwrap();
    worker.serve(&listing(2), L * 2).await;
    let before = row(&table, 0).unwrap();
    delete(&table, 0).await;
    let events = worker.serve(&listing(2), L * 4).await;
    let restored = RowRepair::Restored { checkpoint: at(7) };
    assert_eq!(repairs(&events), [(name(0), restored)]);
    let after = row(&table, 0).unwrap();
    assert_eq!(after.checkpoint, at(7));
    assert!(
        after.counter > before.counter,
        "a counter is never used again"
    );
    assert_eq!(
        worker.held(),
        2,
        "its holder has it again under a new grant"
    );
    worker.grant(0).checkpoint(at(8)).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().checkpoint, at(8));
}

#[tokio::test(start_paused = true)]
async fn what_a_holder_wrote_last_counts_more_than_what_was_read() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.serve(&listing(2), L * 2).await;
    worker.grant(0).checkpoint(at(7)).await.unwrap();
    delete(&table, 0).await;
    worker.grant(0).checkpoint(at(8)).await.unwrap_err();
    let events = worker.serve(&listing(2), L * 4).await;
    let restored = RowRepair::Restored { checkpoint: at(7) };
    assert_eq!(repairs(&events), [(name(0), restored)]);
    assert_eq!(worker.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_deleted_row_of_a_lease_without_a_holder_comes_back_where_it_stood() {
    let table = table();
    for number in [0, 1] {
        let waiting = Lease {
            checkpoint: at(5),
            hash_range: Some(listing(2)[number as usize].hash_range),
            ..lease_of(number)
        };
        put_lease(&table, &waiting);
    }
    let mut worker = Worker::start_with("w", &table, |options| options.max_leases = 1);
    worker.open(&listing(2)).await;
    worker.serve(&listing(2), L * 2).await;
    assert_eq!(worker.held(), 1);
    let waiting = if worker.grants.contains_key(&name(0)) {
        1
    } else {
        0
    };
    delete(&table, waiting).await;
    let events = worker.serve(&listing(2), L * 4).await;
    let restored = RowRepair::Restored { checkpoint: at(5) };
    assert_eq!(repairs(&events), [(name(waiting), restored)]);
    let row = row(&table, waiting).unwrap();
    assert_eq!((row.owner, row.checkpoint), (None, at(5)));
}

/// A table of two leases that were both made, one of them deleted while no worker ran.
async fn deleted_while_nobody_ran() -> Arc<MemoryLeaseTable> {
    let table = table();
    let mut worker = Worker::running("first", &table, 2).await;
    worker.grant(0).checkpoint(at(7)).await.unwrap();
    worker.serve(&listing(2), L).await;
    for number in [0, 1] {
        worker.grant(number).release(None).await.unwrap();
    }
    worker.handle.shutdown(Duration::from_secs(25));
    worker.listen(L).await;
    delete(&table, 0).await;
    table
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_progress_nobody_knows_is_told_of_and_not_read_again() {
    let table = deleted_while_nobody_ran().await;
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(2)).await;
    let events = worker.serve(&listing(2), L * 31).await;
    let told = repairs(&events);
    assert!(
        told.iter()
            .all(|t| *t == (name(0), RowRepair::ProgressUnknown))
    );
    assert!(
        (3..=6).contains(&told.len()),
        "told about once a minute: {}",
        told.len()
    );
    assert_eq!(row(&table, 0), None);
    assert_eq!(worker.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn deleting_every_row_does_not_make_a_first_start() {
    let table = deleted_while_nobody_ran().await;
    delete(&table, 1).await;
    let mut worker = Worker::start("w", &table);
    let opened = worker
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    let fresh = worker
        .handle
        .sync_shards(StreamKey::ONLY, listing(2), opened.fresh)
        .await;
    let error = fresh.unwrap_err();
    assert!(!error.allows_fresh_start(), "{error}");
    let all = worker
        .handle
        .sync_shards(StreamKey::ONLY, listing(2), false);
    all.await.unwrap();
    let told = repairs(&worker.serve(&listing(2), L * 4).await);
    assert!(told.contains(&(name(1), RowRepair::ProgressUnknown)));
    assert_eq!((row(&table, 0), row(&table, 1)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_replay_happens_when_it_is_asked_for() {
    let table = deleted_while_nobody_ran().await;
    let mut worker = Worker::start_with("w", &table, |o| o.replay_deleted_leases = true);
    worker.open(&listing(2)).await;
    let events = worker.serve(&listing(2), L * 4).await;
    assert_eq!(repairs(&events), [(name(0), RowRepair::Replayed)]);
    assert_eq!(row(&table, 0).unwrap().checkpoint, Checkpoint::TrimHorizon);
    assert_eq!(worker.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_worker_that_asks_for_a_replay_is_enough() {
    let table = deleted_while_nobody_ran().await;
    let mut leader = Worker::start("leader", &table);
    leader.open(&listing(2)).await;
    leader.serve(&listing(2), L * 4).await;
    assert_eq!(row(&table, 0), None);
    let mut late = Worker::start_with("late", &table, |o| o.replay_deleted_leases = true);
    late.open(&listing(2)).await;
    let events = late.serve(&listing(2), L * 3).await;
    assert_eq!(repairs(&events), [(name(0), RowRepair::Replayed)]);
    leader.serve(&listing(2), L * 2).await;
    late.serve(&listing(2), L).await;
    assert_eq!(leader.held() + late.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_deleted_row_of_another_workers_lease_goes_back_to_that_worker() {
    let table = table();
    let mut leader = Worker::cooperating("leader", &table);
    leader.open(&listing(2)).await;
    leader.wait_granted(2).await;
    let mut other = Worker::start("other", &table);
    other.open(&listing(2)).await;
    other.wait_granted(1).await;
    let number = u32::from(other.grants.contains_key(&name(1)));
    leader.serve(&listing(2), L * 2).await;
    delete(&table, number).await;
    let events = leader.serve(&listing(2), L * 4).await;
    let restored = RowRepair::Restored { checkpoint: at(9) };
    assert_eq!(repairs(&events), [(name(number), restored)]);
    let owner = row(&table, number).unwrap().owner;
    assert_eq!(
        owner,
        Some(other.handle.worker()),
        "nobody starts beside it"
    );
    // It notices with its next write, and goes on from what is stored.
    other.grant(number).checkpoint(at(10)).await.unwrap_err();
    other.serve(&listing(2), L).await;
    other.grant(number).checkpoint(at(10)).await.unwrap();
    assert_eq!(row(&table, number).unwrap().checkpoint, at(10));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_stopped_half_way_is_completed_without_a_word() {
    let table = table();
    put_lease(&table, &lease_of(0));
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(2)).await;
    let events = worker.serve(&listing(2), L * 4).await;
    assert_eq!(repairs(&events), []);
    assert_eq!(worker.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_at_rest_is_not_listed_again() {
    let table = table();
    let mut worker = Worker::running("w", &table, 3).await;
    let events = worker.listen(L * 30).await;
    let listed = events
        .iter()
        .any(|e| matches!(e, CoordinatorEvent::ListingWanted { .. }));
    assert!(!listed);
}

#[tokio::test(start_paused = true)]
async fn a_restored_row_has_a_version_beyond_what_its_holder_can_have_written_unseen() {
    let table = table();
    let seen = Lease {
        counter: 5_000_000,
        checkpoint: at(5),
        ..lease_of(0)
    };
    let restored = async |now| {
        let seen = Repair::Restore(Box::new(seen.clone()));
        let write = super::super::audits::repair_write(&seen, now);
        table.write(write).await.unwrap();
        let restored = row(&table, 0).unwrap();
        delete(&table, 0).await;
        (restored.counter, restored.checkpoint)
    };
    // The clock of whoever restores it is behind.
    let (first, checkpoint) = restored(4_000_000).await;
    assert!(first >= 6_000_000);
    assert_eq!(checkpoint, at(5));
    // Somebody who has seen nothing since restores it once more, after a write of its holder.
    let (second, _) = restored(4_000_002).await;
    assert!(second > first + 1, "{second} after {first}");
}

/// A shard whose two children are being read was tidied up, and eventually consistent scans still show these as they were
/// made: both readings that are compared say that somebody waits for the parent.
#[tokio::test(start_paused = true)]
async fn what_only_stale_readings_miss_was_not_deleted() {
    for replay in [false, true] {
        let table = table();
        let mut worker = Worker::start_with("w", &table, |options| {
            options.replay_deleted_leases = replay;
        });
        worker.open(&listing(1)).await;
        worker.wait_granted(1).await;
        let children = [shard(10, &[0], 0, 2), shard(11, &[0], 1, 2)];
        worker.grant(0).end_shard(children.to_vec()).await.unwrap();
        worker.wait_granted(2).await;
        let as_made = [10, 11].map(|number| (name(number), table.items()[&name(number)].clone()));
        for number in [10, 11] {
            worker.grant(number).checkpoint(at(1)).await.unwrap();
        }
        let closed = ListedShard {
            open: false,
            ..listing(1).remove(0)
        };
        let [left, right] = children;
        let listing = [closed, left, right];
        worker.serve(&listing, L * 30).await;
        assert!(row(&table, 0).is_none(), "tidied up");
        worker.path.show_stale(as_made.into());
        let events = worker.serve(&listing, L * 4).await;
        assert_eq!(repairs(&events), []);
        assert!(row(&table, 0).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn one_reading_does_not_confirm_itself() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.serve(&listing(2), L * 2).await;
    delete(&table, 0).await;
    for _ in 0..3 {
        let synced = worker
            .handle
            .sync_shards(StreamKey::ONLY, listing(2), false)
            .await;
        synced.unwrap();
        assert!(row(&table, 0).is_none());
    }
    worker.serve(&listing(2), L * 4).await;
    assert!(row(&table, 0).is_some());
}
