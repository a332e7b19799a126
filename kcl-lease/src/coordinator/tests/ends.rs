//! Splits, merges, and rows of finished shards.

use super::*;
use crate::LossReason;
use crate::key::StreamKey;
use crate::test_support::at;
use kcl_checkpoint::Checkpoint;

fn split() -> Vec<ListedShard> {
    vec![shard(10, &[0], 0, 4), shard(11, &[0], 1, 4)]
}

fn merged() -> ListedShard {
    shard(20, &[0, 1], 0, 1)
}

#[tokio::test(start_paused = true)]
async fn the_children_of_a_split_are_granted_at_once() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let parent = worker.grant(0);
    let begun = Instant::now();
    let outcome = parent.end_shard(split()).await.unwrap();
    assert_eq!(outcome.children, [id(10), id(11)]);
    worker.wait_granted(2).await;
    assert!(
        begun.elapsed() < Duration::from_millis(40),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(parent.loss(), Some(LossReason::ShardEnded));
    assert_eq!(worker.grant(10).parents(), &[id(0)].into());
    let row = row(&table, 0).unwrap();
    assert_eq!(
        (row.checkpoint, row.children),
        (Checkpoint::ShardEnd, [id(10), id(11)].into())
    );
}

#[tokio::test(start_paused = true)]
async fn the_child_of_a_merge_starts_when_both_parents_ended() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    worker.grant(0).end_shard(vec![merged()]).await.unwrap();
    worker.listen(L * 2).await;
    assert!(
        !worker.grants.contains_key(id(20).as_str()),
        "the other parent is not finished"
    );
    let begun = Instant::now();
    worker.grant(1).end_shard(vec![merged()]).await.unwrap();
    worker
        .wait_event(|e| matches!(e, CoordinatorEvent::Granted(g) if *g.shard_id() == id(20)))
        .await;
    assert!(begun.elapsed() < Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn a_merge_child_whose_other_parent_has_no_row_is_made_from_a_listing() {
    let table = table();
    put_lease(&table, &lease_of(0));
    let mut worker = Worker::start("w", &table);
    let mut opened = worker
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    opened.fresh = false;
    worker.wait_granted(1).await;
    let outcome = worker.grant(0).end_shard(vec![merged()]).await.unwrap();
    assert_eq!((outcome.children, outcome.waiting), (vec![], vec![id(20)]));
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::ListingWanted { .. }))
        .await;
    // Shard 1 is gone from the stream: nobody will ever end it.
    let mut first = shard(0, &[], 0, 2);
    first.open = false;
    worker
        .handle
        .sync_shards(StreamKey::ONLY, vec![first, merged()], false)
        .await
        .unwrap();
    worker
        .wait_event(|e| matches!(e, CoordinatorEvent::Granted(g) if *g.shard_id() == id(20)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn children_that_are_none_are_refused() {
    let table = table();
    let worker = Worker::running("w", &table, 2).await;
    for children in [
        vec![shard(10, &[1], 0, 1)],
        vec![shard(0, &[0], 0, 1)],
        vec![shard(10, &[0], 0, 1), shard(10, &[0], 0, 1)],
        vec![shard(10, &[0, 11], 0, 1), shard(11, &[0], 0, 1)],
        (10..40).map(|n| shard(n, &[0], 0, 1)).collect(),
    ] {
        let error = worker.grant(0).end_shard(children).await.unwrap_err();
        assert!(
            matches!(error, crate::GrantError::InvalidChild { .. }),
            "{error}"
        );
    }
    assert!(worker.grant(0).is_current());
}

/// Ends shard 0 and 1 into a merge, then the merged shard into a split, with one worker cut off after its n-th call of
/// the end, and another that goes on.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_a_shards_end_leaves_nothing_undone() {
    for fatal in [Act::Swallow, Act::LoseAnswer] {
        for crash_after in 0..10 {
            let table = table();
            let mut first = Worker::running("a", &table, 2).await;
            first.listen(Duration::from_secs(1)).await;
            let mut left = crash_after;
            first.path.rule(move |_| {
                left -= 1;
                match left {
                    0.. => Act::Pass,
                    -1 => fatal,
                    _ => Act::Swallow,
                }
            });
            for number in [0, 1] {
                let _ = timeout(L, first.grant(number).end_shard(vec![merged()])).await;
            }
            let mut second = Worker::start("b", &table);
            second.open(&listing(2)).await;
            let finished = timeout(L * 20, async {
                while row(&table, 20).is_none_or(|row| !row.is_finished()) {
                    second.listen(Duration::from_secs(1)).await;
                    for grant in second.grants.values() {
                        let children = match grant.shard_id() {
                            shard if *shard == id(20) => vec![],
                            _ => vec![merged()],
                        };
                        if grant.is_current() {
                            let _ = grant.end_shard(children).await;
                        }
                    }
                }
            });
            finished
                .await
                .unwrap_or_else(|_| panic!("stuck: {fatal:?} {crash_after} {:#?}", table.items()));
            for parent in [0, 1] {
                if let Some(row) = row(&table, parent) {
                    assert!(row.is_finished());
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_row_goes_when_its_children_moved_on() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    worker.grant(0).end_shard(split()).await.unwrap();
    worker.wait_granted(2).await;
    worker.grant(10).checkpoint(at(5)).await.unwrap();
    worker.listen(L * 3).await;
    assert!(row(&table, 0).is_some(), "one child did not move on yet");
    worker.grant(11).checkpoint(at(6)).await.unwrap();
    worker.listen(L * 3).await;
    assert!(row(&table, 0).is_none());
    assert!(row(&table, 10).is_some());
    // Its grandchildren do not start it again, nor does a listing that still has it.
    let mut all = split();
    let mut parent = shard(0, &[], 0, 2);
    parent.open = false;
    all.push(parent);
    let synced = worker
        .handle
        .sync_shards(StreamKey::ONLY, all, false)
        .await
        .unwrap();
    assert_eq!(synced.created, 0);
    assert!(row(&table, 0).is_none());
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_stream_that_was_split_before_the_first_start_begin_at_once() {
    for start in [
        StreamStart::TrimHorizon,
        StreamStart::Latest { moment_ms: 5 },
        StreamStart::AtTimestamp { moment_ms: 5 },
    ] {
        let table = table();
        let mut worker = Worker::start("w", &table);
        let proposed = StreamIdentity {
            start,
            ..identity()
        };
        let opened = worker
            .handle
            .open_stream(StreamKey::ONLY, proposed.clone())
            .await
            .unwrap();
        // The service's filter leaves the parent out, although the full listing still has it.
        let filtered = vec![shard(10, &[0], 0, 2), shard(11, &[0], 1, 2)];
        worker
            .handle
            .sync_shards(StreamKey::ONLY, filtered.clone(), opened.fresh)
            .await
            .unwrap();
        worker.wait_granted(2).await;
        worker.path.cut();
        worker.handle.abandon();
        if start == StreamStart::TrimHorizon {
            continue;
        }
        // So do they for a worker that never saw the filtered listing.
        let mut second = Worker::start("b", &table);
        let opened = second
            .handle
            .open_stream(StreamKey::ONLY, proposed)
            .await
            .unwrap();
        assert!(!opened.fresh);
        let mut all = filtered;
        let mut parent = shard(0, &[], 0, 1);
        parent.open = false;
        all.push(parent);
        let synced = second
            .handle
            .sync_shards(StreamKey::ONLY, all, false)
            .await
            .unwrap();
        assert_eq!(synced.created, 0);
        second.wait_granted(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_waits_for_a_parent_without_row_that_is_still_listed() {
    let table = table();
    let mut child = lease_of(10);
    child.parents = [id(0)].into();
    put_lease(&table, &child);
    // The first start was complete, so the parent's row is no leftover of it.
    let mut stream = identity().to_item(StreamKey::ONLY);
    stream.leases_made = true;
    table.put(&stream.key(), stream.to_item());
    let mut worker = Worker::start("w", &table);
    worker
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::ListingWanted { .. }))
        .await;
    let mut parent = shard(0, &[], 0, 1);
    parent.open = false;
    let all = vec![parent, shard(10, &[0], 0, 1)];
    worker
        .handle
        .sync_shards(StreamKey::ONLY, all.clone(), false)
        .await
        .unwrap();
    worker.listen(L * 3).await;
    assert_eq!(worker.held(), 0);
    worker
        .handle
        .sync_shards(StreamKey::ONLY, all[1..].to_vec(), false)
        .await
        .unwrap();
    worker.wait_granted(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_row_stays_when_a_consistent_read_says_otherwise_than_the_scan() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    worker.grant(0).end_shard(split()).await.unwrap();
    worker.wait_granted(2).await;
    worker.grant(10).checkpoint(at(5)).await.unwrap();
    worker.grant(11).checkpoint(at(6)).await.unwrap();
    // Between the scan and the read one child is set back.
    let shared = Arc::clone(&table);
    worker.path.rule(move |seen| {
        if seen.operation == "get" {
            let start = [(attribute::CHECKPOINT, Value::text("TRIM_HORIZON"))];
            change(&shared, id(10).as_str(), &start);
        }
        Act::Pass
    });
    worker.listen(L * 3).await;
    assert!(row(&table, 0).is_some());
}
