//! A shard whose subscriptions are refused for limits costs other shards nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{NONE, Setup};
use crate::retrieval::tests::one_throttled::OneThrottled;
use crate::retrieval::{ShardSource, StartPosition};

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_throttled_costs_another_one_nothing_and_recovers_by_itself() {
    let mut setup = Setup::new(2);
    let throttles = Arc::new(OneThrottled::new(&setup.stream, setup.shard(0)));
    let source = Arc::clone(&throttles) as Arc<dyn ShardSource>;
    setup.reader = super::reader(&source, &setup.runtime, super::named(true));
    throttles.throttle(true);
    let mut throttled = setup.read_shard(0, StartPosition::TrimHorizon, None);
    sleep(Duration::from_secs(30)).await;
    let mut other = setup.read_shard(1, StartPosition::TrimHorizon, None);
    setup.put(&["waits"]);
    for number in 0..20 {
        // At the beginning, and after each connection that broke.
        setup
            .stream
            .put_to(&setup.shard(1), "key", number.to_string());
        let put = Instant::now();
        assert_eq!(other.texts(1).await, [number.to_string()]);
        assert_eq!(put.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(6)).await;
        setup.stream.cut_subscriptions();
    }
    assert_eq!(other.notes.of("throttled"), NONE);
    assert_eq!(throttled.notes.of("failed"), NONE);
    let refused = throttles.refused();
    assert!((30..=50).contains(&refused), "in 150 s: {refused}");
    throttles.throttle(false);
    let next = timeout(Duration::from_secs(5), throttled.texts(1)).await;
    assert_eq!(next.expect("it recovers"), ["waits"]);
}
