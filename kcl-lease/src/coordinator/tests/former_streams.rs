//! Streams that come back in the middle of their removal, and a lead that changes while a stream is leaving.

use super::streams::{GRACE, Member, SECOND, bills, has_item, orders, rows_of, run};
use super::*;
use crate::stream_item::StreamItem;
use crate::test_support::at;

/// Runs until the condition holds. Returns how long that took.
async fn until(
    what: &str,
    members: &mut [&mut Member],
    condition: impl Fn(&[&mut Member]) -> bool,
) -> Duration {
    let begun = Instant::now();
    while !condition(members) {
        assert!(begun.elapsed() < GRACE * 4, "never: {what}");
        run(members, SECOND / 10).await;
    }
    begun.elapsed()
}

/// Runs, and sees that no lease of the stream goes meanwhile.
async fn nothing_goes(table: &MemoryLeaseTable, members: &mut [&mut Member], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        run(members, SECOND / 2).await;
        assert_eq!(
            (rows_of(table, &bills()), has_item(table, &bills())),
            (2, true)
        );
    }
}

fn reject(worker: &Worker, key: String) {
    worker.path.rule(move |call| match call.key == key {
        true => Act::Reject,
        false => Act::Pass,
    });
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_after_some_of_its_leases_were_deleted_keeps_the_rest() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    let [gone, left] = [0, 1].map(|number| bills().lease_key(&id(number)));
    let old = a.worker.grants[gone.as_str()].clone();
    old.checkpoint(at(5)).await.unwrap();
    a.list = vec![orders()];
    // One of the leases cannot be given up and deleted at first.
    reject(&a.worker, left.as_str().to_owned());
    until("a part of it", &mut [&mut a], |_| {
        rows_of(&table, &bills()) == 1
    })
    .await;
    a.list = vec![orders(), bills()];
    a.look().await;
    a.worker.path.heal();
    nothing_goes(&table, &mut [&mut a], GRACE * 3).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
    // What was deleted begins where the stream does, and what was not goes on.
    let starts = [&gone, &left].map(|key| a.worker.grants[key.as_str()].start().clone());
    assert_eq!(starts, [kcl_checkpoint::Checkpoint::TrimHorizon, at(9)]);
    assert!(a.worker.grants[gone.as_str()].epoch() > old.epoch());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_between_its_last_lease_and_what_is_stored_of_it_is_read_anew() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    a.list = vec![orders()];
    until("its leases", &mut [&mut a], |_| {
        rows_of(&table, &bills()) == 0
    })
    .await;
    assert!(has_item(&table, &bills()));
    reject(&a.worker, StreamItem::key_of(&bills()));
    run(&mut [&mut a], 30 * SECOND).await;
    assert!(has_item(&table, &bills()));
    a.worker.path.heal();
    a.list = vec![orders(), bills()];
    a.look().await;
    nothing_goes(&table, &mut [&mut a], GRACE * 3).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_carried_out_after_the_stream_came_back_leaves_nothing_unread() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    a.list = vec![orders()];
    let late = bills().lease_key(&id(1));
    // Its release comes first, its deletion is the second write.
    let mut writes = 0;
    a.worker.path.rule(move |call| {
        writes += u32::from(call.key == late.as_str());
        match call.key == late.as_str() && writes == 2 {
            true => Act::Late(20 * SECOND),
            false => Act::Pass,
        }
    });
    until("a part of it", &mut [&mut a], |_| {
        rows_of(&table, &bills()) == 1
    })
    .await;
    a.list = vec![orders(), bills()];
    let back = Instant::now();
    a.look().await;
    until("both leases", &mut [&mut a], |members| {
        members[0].held_of(&bills()) == 2
    })
    .await;
    assert!(
        back.elapsed() < 15 * SECOND,
        "the deletion is still to come"
    );
    nothing_goes(&table, &mut [&mut a], GRACE * 3).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
}

/// Two workers; the first one leads, has been told that the stream is not read any more, and is cut off before the grace time ends.
async fn cut_off_while_it_leaves(
    table: &Arc<MemoryLeaseTable>,
    second: &[StreamKey],
) -> [Member; 2] {
    let mut a = Member::start("a", table, &[orders(), bills()]).await;
    let mut b = Member::start("b", table, second).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    a.list = vec![orders()];
    a.look().await;
    run(&mut [&mut a, &mut b], GRACE - 20 * SECOND).await;
    assert_eq!(rows_of(table, &bills()), 2);
    a.is_blind = true;
    a.worker.path.cut();
    [a, b]
}

#[tokio::test(start_paused = true)]
async fn the_grace_time_begins_anew_with_each_leader() {
    let table = table();
    let [mut a, mut b] = cut_off_while_it_leaves(&table, &[orders()]).await;
    let removal = |_: &[&mut Member]| rows_of(&table, &bills()) < 2;
    let other = until("the removal", &mut [&mut a, &mut b], removal).await;
    assert!((GRACE..GRACE + 60 * SECOND).contains(&other), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leads_again_counts_the_grace_time_anew() {
    let table = table();
    let [mut a, mut b] = cut_off_while_it_leaves(&table, &[orders()]).await;
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    a.worker.path.heal();
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    a.is_blind = false;
    b.is_blind = true;
    b.worker.path.cut();
    let removal = |_: &[&mut Member]| rows_of(&table, &bills()) < 2;
    let again = until("the removal", &mut [&mut a, &mut b], removal).await;
    assert!((GRACE..GRACE + 60 * SECOND).contains(&again), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leads_again_removes_nothing_that_came_back_meanwhile() {
    let table = table();
    let [mut a, mut b] = cut_off_while_it_leaves(&table, &[orders(), bills()]).await;
    // While the other one leads, the stream is in the list.
    nothing_goes(&table, &mut [&mut a, &mut b], 30 * SECOND).await;
    a.worker.path.heal();
    nothing_goes(&table, &mut [&mut a, &mut b], 30 * SECOND).await;
    b.is_blind = true;
    b.worker.path.cut();
    // The first one leads, and has not been told of the list since.
    nothing_goes(&table, &mut [&mut a, &mut b], GRACE * 2).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
}
