//! The consumer that all shards of a worker subscribe with.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Reading, Setup, named};
use crate::retrieval::{ConsumerOptions, ShardSource, SourceErrorKind, StartPosition};

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_gone_is_registered_again() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(10)).await;
    setup.stream.deregister_consumer("app");
    setup.put(&["a"]);
    assert_eq!(reading.texts(1).await, ["a"]);
    assert_eq!(setup.stream.calls("RegisterStreamConsumer"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_found_and_never_known_is_a_reason_to_poll() {
    let setup = Setup::new(1);
    setup.put(&["a"]);
    let unknown = SourceErrorKind::StreamNotFound;
    setup.stream.fail_next("SubscribeToShard", unknown, 100_000);
    let setup = setup.with(ConsumerOptions {
        falls_back: true,
        ..named(true)
    });
    let before = Instant::now();
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(1).await, ["a"]);
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(setup.calls(), 3);
    assert_eq!(
        reading.notes.of("fell back"),
        ["fell back consumer_not_found"]
    );
    // Looked for again and again in vain: at once back to polling.
    sleep(Duration::from_secs(660)).await;
    assert_eq!(setup.calls(), 4);
    setup.stream.fail_no_more("SubscribeToShard");
    sleep(Duration::from_secs(660)).await;
    assert_eq!(reading.notes.of("back").len(), 1);
    // It works: removed once more, it is looked for again.
    setup.stream.deregister_consumer("app");
    setup.put(&["b"]);
    assert_eq!(reading.texts(1).await, ["b"]);
    assert_eq!(reading.notes.of("fell back").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_shards_ask_for_the_consumer_once() {
    let setup = Setup::new(50);
    let readings: Vec<Reading> = (0..50)
        .map(|index| setup.read_shard(index, StartPosition::TrimHorizon, None))
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.stream.calls("DescribeStreamConsumer"), 1);
    assert_eq!(setup.stream.calls("RegisterStreamConsumer"), 1);
    assert_eq!(setup.calls(), 50);
    drop(readings);
}

#[tokio::test(start_paused = true)]
async fn of_many_shards_that_want_a_consumer_one_tells_why_there_is_none() {
    let setup = Setup::new(50);
    let denied = SourceErrorKind::AccessDenied;
    setup
        .stream
        .fail_next("DescribeStreamConsumer", denied, 100_000);
    let mut readings: Vec<Reading> = (0..50)
        .map(|index| setup.read_shard(index, StartPosition::TrimHorizon, None))
        .collect();
    sleep(Duration::from_secs(600)).await;
    let told = |word: &str| {
        readings
            .iter()
            .map(|r| r.notes.of(word).len())
            .sum::<usize>()
    };
    // Not more often than it is asked for, which is each 5 s at most.
    let calls = setup.stream.calls("DescribeStreamConsumer");
    assert!((40..=120).contains(&calls), "{calls}");
    assert_eq!(told("failed"), calls);
    assert!(told("waits") > 50 * 600 / 30, "{}", told("waits"));
    setup.stream.fail_no_more("DescribeStreamConsumer");
    for index in 0..50 {
        setup.stream.put_to(&setup.shard(index), "k", "a");
    }
    let before = Instant::now();
    for reading in &mut readings {
        assert_eq!(reading.texts(1).await, ["a"]);
    }
    assert!(before.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_may_not_be_registered_or_cannot_be_is_named() {
    let setup = Setup::new(1);
    let setup = setup.with(named(false));
    let error = setup.consumer().arn().await.unwrap_err().error;
    assert_eq!(error.kind(), SourceErrorKind::ConsumerNotFound);
    for number in 0..20 {
        let source: &dyn ShardSource = &setup.stream;
        source
            .register_consumer(&format!("other-{number}"))
            .await
            .unwrap();
    }
    let setup = setup.with(named(true));
    let error = setup.consumer().arn().await.unwrap_err().error;
    assert_eq!(error.kind(), SourceErrorKind::ConsumerLimit);
    assert!(error.needs_operator());
}
