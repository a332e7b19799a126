//! The byte budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::raw_batch;
use crate::retrieval::{Budget, Reservation};

const MIB: u64 = 1 << 20;

/// Room for an answer that has come, and is as large as expected.
async fn answer(budget: &Budget, bytes: u64) -> Reservation {
    answered(budget.reserve(bytes).await)
}

fn answered(mut room: Reservation) -> Reservation {
    room.resize(room.bytes());
    room
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_with_the_last_slice_and_not_with_the_batch() {
    let budget = Budget::new(10_000);
    let mut room = budget.reserve(1000).await;
    let mut batch = raw_batch(&[Bytes::from(vec![1; 500]), Bytes::from(vec![2; 500])]);
    room.resize(batch.resident_bytes());
    let held = batch.resident_bytes();
    batch.hold(Arc::new(room));
    assert_eq!(budget.used(), held);
    let slice = batch.get(0).unwrap().data_bytes();
    let part = slice.slice(10..20);
    drop(batch);
    drop(slice);
    assert_eq!(budget.used(), held, "a slice of a slice keeps the answer");
    assert_eq!(&part[..], [1; 10]);
    drop(part);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn small_requests_do_not_overtake_a_large_one() {
    let budget = Budget::new(100);
    let first = answer(&budget, 60).await;
    let mut large = Box::pin(answer(&budget, 80));
    let mut small = Box::pin(answer(&budget, 10));
    assert!((&mut large).now_or_never().is_none());
    assert!(
        (&mut small).now_or_never().is_none(),
        "10 would fit, but it came later"
    );
    assert_eq!(budget.waiting(), 2);
    drop(first);
    let large = large.now_or_never().unwrap();
    let small = small.now_or_never().unwrap();
    assert_eq!(budget.used(), 90);
    drop((large, small));
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiters_that_go_away_leave_nothing_behind() {
    let budget = Budget::new(10 * MIB + 100);
    let first = answer(&budget, 10 * MIB + 60).await;
    let mut large = Box::pin(budget.reserve(80));
    let mut small = Box::pin(answer(&budget, 10));
    assert!((&mut large).now_or_never().is_none());
    assert!((&mut small).now_or_never().is_none());
    drop(large);
    let small = small.now_or_never().expect("the next in the queue fits");
    assert_eq!(budget.used(), 10 * MIB + 70);
    drop(small);

    // Granted, but dropped before it was looked at.
    let mut granted = Box::pin(budget.reserve(50));
    assert!((&mut granted).now_or_never().is_none());
    drop(first);
    assert_eq!(budget.used(), 50);
    drop(granted);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_whole_budget_gets_through_alone() {
    let budget = Budget::new(100);
    let first = budget.reserve(1).await;
    let mut huge = Box::pin(budget.reserve(5000));
    assert!((&mut huge).now_or_never().is_none());
    drop(first);
    let huge = huge.now_or_never().unwrap();
    let mut other = Box::pin(budget.reserve(1));
    assert!((&mut other).now_or_never().is_none());
    drop(huge);
    assert!(other.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_expected_stops_new_reads_until_it_is_gone() {
    let budget = Budget::new(100);
    let mut larger = budget.reserve(10).await;
    larger.resize(150);
    assert_eq!((budget.used(), budget.peak()), (150, 150));
    assert!(budget.reserve(1).now_or_never().is_none());
    larger.resize(20);
    assert!(budget.reserve(80).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn reads_at_the_same_time_are_covered_against_larger_answers() {
    let budget = Budget::new(30 * MIB);
    let mut reads: Vec<_> = (0..3)
        .map(|_| budget.reserve(MIB).now_or_never().unwrap())
        .collect();
    let mut next = Box::pin(budget.reserve(MIB));
    assert!((&mut next).now_or_never().is_none(), "27 MiB may come");
    reads.iter_mut().for_each(|read| read.resize(10 * MIB));
    assert_eq!(budget.peak(), 30 * MIB);
    drop(reads);
    let first = next.now_or_never().unwrap();
    let kept = answer(&budget, 25 * MIB).await;
    assert!(
        budget.reserve(MIB).now_or_never().is_none(),
        "the second that runs could take too much"
    );
    drop(answered(first));
    let mut alone = budget.reserve(MIB).now_or_never().unwrap();
    alone.resize(10 * MIB);
    assert_eq!(budget.peak(), 35 * MIB, "one answer too much");
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn one_table_at_a_time_gets_more_than_there_is() {
    let budget = Budget::new(100);
    let (mut first, mut second) = (answer(&budget, 40).await, answer(&budget, 40).await);
    first.add_table(500).await;
    let mut waits = Box::pin(second.add_table(30));
    assert!((&mut waits).now_or_never().is_none());
    let mut read = Box::pin(budget.reserve(1));
    assert!((&mut read).now_or_never().is_none());
    first.resize(300);
    assert!((&mut waits).now_or_never().is_none(), "still beyond");
    drop(first);
    waits.now_or_never().unwrap();
    assert!(read.now_or_never().is_some());
    assert_eq!(budget.peak(), 340);
    drop(second);
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_too_much_holds_up_others_only_as_long_as_it_is() {
    let budget = Budget::new(100);
    let (mut stays, other) = (answer(&budget, 10).await, answer(&budget, 80).await);
    stays.add_table(50).await;
    stays.resize(60);
    assert!(budget.used() > 100);
    drop(other);
    let mut next = answer(&budget, 10).await;
    next.add_table(200).now_or_never().unwrap();
    drop(stays);
    let mut third = Box::pin(budget.reserve(1));
    assert!(
        (&mut third).now_or_never().is_none(),
        "the second is beyond"
    );
    drop(next);
    assert!(third.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_smaller_than_feared_lets_others_go_on() {
    let budget = Budget::new(100);
    let (mut first, mut second) = (answer(&budget, 40).await, answer(&budget, 40).await);
    first.add_table(500).await;
    let mut waits = Box::pin(second.add_table(30));
    assert!((&mut waits).now_or_never().is_none());
    first.resize(50);
    (&mut waits).now_or_never().unwrap();
    assert!(
        budget.reserve(1).now_or_never().is_none(),
        "the second is beyond now"
    );
    drop(waits);
    // One that is given up, granted or not, leaves nothing behind.
    let mut given_up = Box::pin(first.add_table(30));
    assert!((&mut given_up).now_or_never().is_none());
    drop(second);
    drop(given_up);
    assert_eq!(budget.used(), 50);
    first.add_table(500).await;
    drop(first);
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_shards_take_turns_within_the_budget() {
    let budget = Budget::new(1000);
    let shards = (0..100_u64).map(|shard| {
        let budget = budget.clone();
        async move {
            for round in 0..20 {
                let room = answer(&budget, 100 + (shard * 7 + round) % 200).await;
                assert!(budget.used() <= 1000);
                sleep(Duration::from_millis(1 + shard % 5)).await;
                drop(room);
            }
        }
    });
    join_all(shards).await;
    assert!(budget.peak() > 800, "the budget is used: {}", budget.peak());
    assert!(budget.peak() <= 1000);
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn the_share_of_a_shard_follows_how_many_there_are() {
    let budget = Budget::new(1000);
    let first = budget.join();
    assert_eq!(first.share(), 500);
    let others: Vec<_> = (0..9).map(|_| budget.join()).collect();
    assert_eq!(first.share(), 50);
    drop(others);
    assert_eq!(first.share(), 500);
    assert_eq!(first.learned(), None);
    budget.join().learn(1000, 10);
    assert_eq!(first.learned().unwrap().bytes_per_record, 100);
}
