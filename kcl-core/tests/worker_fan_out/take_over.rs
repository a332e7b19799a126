//! Shards that move between workers that subscribe.

use std::time::Duration;

use kcl_core::{Events, SourceErrorKind, WorkerEvent, WorkerHandle};
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, Running, eventually};

/// What a worker reports of trouble with reading.
async fn failures(events: &mut Events) -> Vec<WorkerEvent> {
    let mut failures = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if matches!(
            event,
            WorkerEvent::ReadFailed { .. } | WorkerEvent::GapDetected { .. }
        ) {
            failures.push(event);
        }
    }
    failures
}

async fn is_processed(fixture: &Fixture, text: &str) -> Duration {
    let before = Instant::now();
    fixture.put_many(0, &[text]);
    let log = &fixture.log;
    eventually(text, || {
        log.delivered().last().is_some_and(|last| last == text)
    })
    .await;
    before.elapsed()
}

fn start(fixture: &Fixture) -> (Running, WorkerHandle, Events) {
    let worker = fixture.start(|_| Ok(()));
    let (handle, events) = (worker.handle.clone(), worker.handle.events());
    (worker, handle, events)
}

#[tokio::test(start_paused = true)]
async fn a17_a_shard_that_moves_costs_no_error_no_duplicate_and_six_seconds_at_most() {
    // The subscription is in use for five seconds after it began, so that is the worst of all moments.
    for age in [100, 1_000, 4_900, 5_100, 60_000, 254_000, 290_000] {
        let fixture = Fixture::new(1);
        let (old, _, mut of_old) = start(&fixture);
        assert!(is_processed(&fixture, "a").await < Duration::from_secs(1));
        sleep(Duration::from_millis(age)).await;
        let before = Instant::now();
        let (new, handle, mut of_new) = start(&fixture);
        old.stop().await;
        is_processed(&fixture, "b").await;
        assert!(
            before.elapsed() <= Duration::from_secs(6),
            "{age}: {:?}",
            before.elapsed()
        );
        sleep(Duration::from_secs(600)).await;
        assert!(is_processed(&fixture, "c").await < Duration::from_secs(1));
        new.stop().await;
        assert_eq!(failures(&mut of_old).await, []);
        assert_eq!(failures(&mut of_new).await, []);
        assert_eq!(handle.counters().reads_failed, 0);
        assert_eq!(fixture.log.delivered(), ["a", "b", "c"], "{age}");
    }
}

#[tokio::test(start_paused = true)]
async fn a17_two_workers_that_hand_shards_to_and_fro_lose_and_repeat_nothing() {
    let fixture = Fixture::new(4);
    let mut put = Vec::new();
    let mut worker = fixture.start(|_| Ok(()));
    for round in 0..12 {
        let next = fixture.start(|_| Ok(()));
        for number in 0..20 {
            let text = format!("{round}-{number}");
            fixture.put_many(number % 4, &[&text]);
            put.push(text);
            sleep(Duration::from_millis(900)).await;
        }
        worker.stop().await;
        worker = next;
    }
    worker.handle.caught_up().await;
    worker.stop().await;
    let mut delivered = fixture.log.delivered();
    delivered.sort();
    put.sort();
    assert_eq!(delivered, put);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_uses_another_ones_consumer_is_told_so() {
    let fixture = Fixture::new(1);
    let (first, _, mut of_first) = start(&fixture);
    first.handle.caught_up().await;
    // Another table, the same consumer.
    let other = Fixture {
        table: std::sync::Arc::default(),
        ..Fixture::new(1)
    };
    let rival = Fixture {
        stream: fixture.stream.clone(),
        runtime: fixture.runtime.clone(),
        ..other
    };
    let (second, _, mut of_second) = start(&rival);
    sleep(Duration::from_secs(120)).await;
    let calls = fixture.stream.calls("SubscribeToShard");
    sleep(Duration::from_secs(60)).await;
    let calls = fixture.stream.calls("SubscribeToShard") - calls;
    assert!(calls <= 2 * 60, "{calls} calls a minute");
    let mut told = failures(&mut of_first).await;
    told.extend(failures(&mut of_second).await);
    let of_conflict = |event: &WorkerEvent| matches!(event, WorkerEvent::ReadFailed { error, .. } if error.contains("no other application"));
    assert!(told.iter().any(of_conflict), "{told:?}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a16_a_shard_that_stays_silent_is_reported_while_others_flow() {
    let fixture = Fixture::new(2);
    let (worker, handle, mut events) = start(&fixture);
    worker.handle.caught_up().await;
    fixture.stream.silence(&fixture.shard(1), true);
    for number in 0..60 {
        let text = number.to_string();
        assert!(is_processed(&fixture, &text).await < Duration::from_millis(100));
        sleep(Duration::from_secs(10)).await;
    }
    let health = handle.health();
    assert!(!health.is_healthy());
    let red: Vec<String> = health.unhealthy_shards().map(ToString::to_string).collect();
    assert_eq!(red.len(), 1);
    assert!(
        red[0].contains(fixture.shard(1).as_str()) && red[0].contains("SubscribeToShard"),
        "{red:?}"
    );
    let told = failures(&mut events).await;
    // Ten seconds of silence for each.
    assert!((10..=60).contains(&told.len()), "{}", told.len());
    let of_kind = SourceErrorKind::Timeout;
    assert!(told.iter().all(|event| matches!(event, WorkerEvent::ReadFailed { error, .. } if error.contains("no answer in time"))), "{of_kind}: {told:?}");
    fixture.stream.silence(&fixture.shard(1), false);
    fixture.put_many(1, &["silent no more"]);
    let before = Instant::now();
    eventually("the other shard", || {
        fixture
            .log
            .delivered()
            .contains(&"silent no more".to_owned())
    })
    .await;
    assert!(before.elapsed() <= Duration::from_secs(15));
    eventually("green", || handle.health().is_healthy()).await;
    worker.stop().await;
}
