//! What a worker reads in a second, over all of its shards.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use kcl_lease::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::retrieval::ReadLimit;

const MIB: u64 = 1 << 20;

#[tokio::test(start_paused = true)]
async fn the_bound_is_kept_on_average_and_shards_take_turns() {
    let limit = ReadLimit::new(MIB, Runtime::virtual_time(0));
    let begun = Instant::now();
    let last = Cell::new(begun);
    let reads = (0..10).map(|_| async {
        let mut reads = 0;
        while begun.elapsed() < Duration::from_secs(100) {
            let charge = limit.wait(MIB).await;
            let apart = last.replace(Instant::now()).elapsed();
            assert!(begun.elapsed().is_zero() || apart >= Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
            charge.settle(MIB);
            reads += 1;
        }
        reads
    });
    let reads = join_all(reads).await;
    assert!(
        reads.iter().all(|reads| (9..=12).contains(reads)),
        "{reads:?}"
    );
    let all: u32 = reads.iter().sum();
    assert!((100..=111).contains(&all), "{all}");
}

#[tokio::test(start_paused = true)]
async fn what_came_counts_and_not_what_was_expected() {
    let limit = ReadLimit::new(MIB, Runtime::virtual_time(0));
    let begun = Instant::now();
    limit.wait(0).await.settle(5 * MIB);
    drop(limit.wait(MIB).await);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    // The last read brought nothing, and nobody waits for it.
    drop(limit.wait(MIB).await);
    limit.wait(MIB).await.settle(MIB / 2);
    drop(limit.wait(MIB).await);
    assert_eq!(begun.elapsed(), Duration::from_millis(5500));
}

#[tokio::test(start_paused = true)]
async fn a_turn_comes_earlier_when_a_read_brought_less_and_later_when_it_brought_more() {
    let seconds = Duration::from_secs;
    for (came, waited) in [
        (0, seconds(2)),
        (3 * MIB, seconds(3)),
        (9 * MIB, seconds(9)),
    ] {
        let limit = ReadLimit::new(MIB, Runtime::virtual_time(0));
        let begun = Instant::now();
        let charge = limit.wait(6 * MIB).await;
        let next = async {
            drop(limit.wait(MIB).await);
            begun.elapsed()
        };
        let read = async {
            tokio::time::sleep(seconds(2)).await;
            charge.settle(came);
        };
        assert_eq!(tokio::join!(next, read).0, waited);
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_read_is_not_saved_up() {
    let limit = ReadLimit::new(MIB, Runtime::virtual_time(0));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = Instant::now();
    for _ in 0..10 {
        limit.wait(MIB).await.settle(MIB);
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_holds_nobody_up() {
    let limit = ReadLimit::new(MIB, Runtime::virtual_time(0));
    limit.wait(0).await.settle(10 * MIB);
    let second = Duration::from_secs(1);
    assert!(timeout(second, limit.wait(MIB)).await.is_err());
    let begun = Instant::now();
    drop(limit.wait(MIB).await);
    assert_eq!(begun.elapsed(), 9 * second);
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_nobody_waits() {
    let limit = ReadLimit::default();
    let begun = Instant::now();
    for _ in 0..1000 {
        limit.wait(u64::MAX).await.settle(u64::MAX);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
