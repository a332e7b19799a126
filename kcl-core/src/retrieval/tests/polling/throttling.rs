//! A shard that is refused reads for its limits costs other shards nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::time::{Instant, sleep};

use super::{Reading, Setup};
use crate::retrieval::tests::one_throttled::OneThrottled;
use crate::retrieval::{ReadLimit, StartPosition};

const MINUTE: Duration = Duration::from_secs(60);
const THROTTLED: usize = 0;
const OTHER: usize = 1;

/// Two shards with records to catch up with, and a source that can throttle the first one.
fn two_shards(records: usize, bytes: usize) -> (Setup, Arc<OneThrottled>) {
    let setup = Setup::new(2);
    for index in [THROTTLED, OTHER] {
        for _ in 0..records {
            let put = setup
                .stream
                .put_to(&setup.shard(index), "key", vec![b'x'; bytes]);
            assert!(put.is_some());
        }
    }
    let source = Arc::new(OneThrottled::new(&setup.stream, setup.shard(THROTTLED)));
    let mut setup = setup.with_source(Arc::clone(&source) as _);
    setup.polling.max_records = 1;
    (setup, source)
}

fn read(setup: &Setup, index: usize) -> Reading {
    setup.read_shard(setup.shard(index), StartPosition::TrimHorizon, None)
}

/// How many records come in so long.
async fn within(reading: &mut Reading, time: Duration) -> usize {
    let (mut records, end) = (0, Instant::now() + time);
    while let Ok(delivery) = tokio::time::timeout_at(end, reading.deliveries.recv()).await {
        records += delivery.unwrap().rows.len();
    }
    records
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_throttled_costs_another_one_nothing_and_recovers_by_itself() {
    let (setup, source) = two_shards(2_000, 10);
    let (mut throttled, mut other) = (read(&setup, THROTTLED), read(&setup, OTHER));
    for (throttles, of_throttled) in [(false, 290..=300), (true, 0..=1), (false, 150..=300)] {
        source.throttle(throttles);
        let reads = join(within(&mut throttled, MINUTE), within(&mut other, MINUTE)).await;
        assert!(of_throttled.contains(&reads.0), "{throttles}: {reads:?}");
        // Five a second, all that the service allows.
        assert!((290..=301).contains(&reads.1), "{throttles}: {reads:?}");
    }
    assert!(
        (50..=65).contains(&source.refused()),
        "{}",
        source.refused()
    );
    assert_eq!(other.notes.of("throttled"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_refused_take_nothing_of_what_the_worker_may_read() {
    let (mut setup, source) = two_shards(100, 1_000_000);
    // Each of them would be charged for ten seconds.
    setup.polling.limit = ReadLimit::new(100_000, setup.runtime.clone());
    let (mut throttled, mut other) = (read(&setup, THROTTLED), read(&setup, OTHER));
    let reads = join(within(&mut throttled, MINUTE), within(&mut other, MINUTE)).await;
    assert!(reads.0 >= 3 && reads.1 >= 3, "they take turns: {reads:?}");
    source.throttle(true);
    sleep(MINUTE / 2).await;
    while other.deliveries.try_recv().is_ok() {}
    let reads = join(
        within(&mut throttled, 5 * MINUTE),
        within(&mut other, 5 * MINUTE),
    )
    .await;
    assert!(reads.0 <= 1 && (28..=31).contains(&reads.1), "{reads:?}");
}
