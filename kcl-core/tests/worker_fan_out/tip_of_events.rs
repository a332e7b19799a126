//! An event with records may be the last one for now: nobody waits for the empty one that follows.

use std::time::Duration;

use kcl_core::Worker;
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, Recorder, Running, eventually};

fn start(fixture: &Fixture, lanes: usize) -> Running {
    let log = fixture.log.clone();
    let builder = Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: std::sync::Arc::new(|_| Ok(())),
    });
    fixture.start_builder(builder.lanes(lanes))
}

#[tokio::test(start_paused = true)]
async fn a_worker_has_caught_up_as_soon_as_the_last_records_are_processed() {
    for lanes in [1, 3] {
        let fixture = Fixture::new(1);
        let worker = start(&fixture, lanes);
        for text in ["a", "b", "c"] {
            worker.handle.caught_up().await;
            // Between two of the events that only say that the subscription lives.
            sleep(Duration::from_millis(1_300)).await;
            fixture.put_many(0, &[text]);
            let log = &fixture.log;
            eventually(text, || log.delivered().last().is_some_and(|t| t == text)).await;
            let before = Instant::now();
            worker.handle.caught_up().await;
            let took = before.elapsed();
            assert!(
                took < Duration::from_millis(100),
                "{lanes} {text}: {took:?}"
            );
            assert!(worker.handle.health().is_ready());
        }
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_begins_with_what_is_complete_has_caught_up_at_once() {
    let fixture = Fixture::new(1);
    let first = start(&fixture, 1);
    fixture.put_many(0, &["a"]);
    eventually("a", || fixture.log.delivered() == ["a"]).await;
    sleep(Duration::from_secs(60)).await;
    first.stop().await;
    let second = start(&fixture, 1);
    let subscribed = || second.handle.counters().kinesis_records == 1;
    eventually("the record that is complete", subscribed).await;
    let before = Instant::now();
    second.handle.caught_up().await;
    let took = before.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
    second.stop().await;
}
