//! Records that are given up go to the dead-letter sink, and nothing passes them before it has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kcl_core::{BoxError, DeadLetter, OnFailure, ParkTime, WorkerEvent};

use crate::fixture::{Fixture, eventually};
use crate::poison::{
    Letters, builder, numbered, processed, put_all, put_keyed, refuse_poison, three_times,
};

#[tokio::test(start_paused = true)]
async fn a01_the_failing_record_is_found_and_goes_to_the_sink_with_everything_that_is_known() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    let all = numbered(64, &[40]);
    put_all(&fixture, &all);
    let mut events = worker.handle.events();
    eventually("the letter", || !letters.texts().is_empty()).await;
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!((counters.dead_letters, counters.records_processed), (1, 64));
    assert_eq!(counters.dead_letter_failures, 0);
    worker.stop().await;
    let letter = letters.accepted.lock().unwrap()[0].clone();
    assert_eq!(letter.data.as_ref(), b"poison 40");
    assert_eq!((&*letter.application, &*letter.stream), ("app", "memory"));
    assert_eq!(
        (letter.shard, letter.partition_key.as_str()),
        (fixture.shard(0), "key")
    );
    assert_eq!((letter.error.as_str(), letter.attempts), ("refused", 3 + 4));
    assert!(letter.arrival.is_some());
    let mut expected = vec!["warm".to_owned()];
    expected.extend(all.into_iter().filter(|text| text != "poison 40"));
    assert_eq!(processed(&fixture), expected, "each once, and in order");
    assert!(fixture.lease(&fixture.shard(0)).checkpoint > letter.position.clone().into());
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let WorkerEvent::DeadLettered {
            position, attempts, ..
        } = event
        {
            told.push((position, attempts));
        }
    }
    assert_eq!(told, [(letter.position, 3 + 4)]);
}

#[tokio::test(start_paused = true)]
async fn a01_the_checkpoint_passes_a_record_only_after_the_sink_accepted_it() {
    let fixture = Fixture::new(2);
    let letters = Letters::default();
    letters.closed.store(true, Ordering::SeqCst);
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    let before = fixture.lease(&fixture.shard(0)).checkpoint;
    put_all(&fixture, &numbered(10, &[0, 5]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.lease(&fixture.shard(0)).checkpoint, before);
    assert_eq!(processed(&fixture), ["warm"]);
    let asked = letters.asked.load(Ordering::SeqCst);
    assert!((20..=80).contains(&asked), "{asked} times in 10 minutes");
    assert_eq!(
        worker.handle.counters().dead_letter_failures,
        u64::from(asked)
    );
    fixture.put_many(1, &["other"]);
    let other = fixture.shard(1);
    eventually("the other shard", || fixture.is_checkpointed(&other)).await;
    letters.closed.store(false, Ordering::SeqCst);
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison 0", "poison 5"]);
    assert_eq!(processed(&fixture).len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a01_a_sink_that_panics_is_asked_again() {
    let fixture = Fixture::new(1);
    let asked = Arc::new(AtomicU32::new(0));
    let asks = Arc::clone(&asked);
    let sink = move |_: DeadLetter| {
        let asks = Arc::clone(&asks);
        async move {
            assert!(asks.fetch_add(1, Ordering::SeqCst) >= 2, "not yet");
            Ok(())
        }
    };
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(sink);
    let worker = fixture.start_builder(builder);
    fixture.put_many(0, &["poison"]);
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!(
        (counters.dead_letters, counters.dead_letter_failures),
        (1, 2)
    );
    worker.stop().await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a01_a_stop_does_not_wait_for_a_sink_that_fails_and_loses_nothing() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    letters.closed.store(true, Ordering::SeqCst);
    let policy = || three_times(OnFailure::DeadLetter);
    let start = || {
        let builder = builder(&fixture, refuse_poison).failure_policy(policy());
        fixture.start_builder(builder.dead_letters(letters.sink()))
    };
    let worker = start();
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(3, &[1]));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    letters.closed.store(false, Ordering::SeqCst);
    let worker = start();
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison 1"]);
    assert_eq!(processed(&fixture), ["warm", "0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a01_a_sink_that_hangs_is_reported_and_holds_neither_the_shard_nor_a_stop() {
    let fixture = Fixture::new(1);
    let hangs = |_: DeadLetter| std::future::pending::<Result<(), BoxError>>();
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(hangs)
        .drain_budget(Duration::from_secs(5));
    fixture.put_many(0, &["poison"]);
    let worker = fixture.start_builder(builder);
    let mut events = worker.handle.events();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let failures = worker.handle.counters().dead_letter_failures;
    assert!((5..=9).contains(&failures), "{failures} in 10 minutes");
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert!(asked.elapsed() < Duration::from_secs(1));
    let mut named = false;
    while let Some(event) = events.next().await {
        named |= matches!(event, WorkerEvent::DeadLetterFailed { error, .. } if error.contains("60 seconds"));
    }
    assert!(named);
    assert!(fixture.lease(&fixture.shard(0)).checkpoint.is_start());
}

#[tokio::test(start_paused = true)]
async fn a01_a_parked_key_goes_to_the_sink_in_order_while_others_flow() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::ParkKey(ParkTime::UntilLeaseEnds)))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_keyed(
        &fixture,
        &[
            ("a", "a1"),
            ("b", "b1"),
            ("a", "poison a2"),
            ("b", "b2"),
            ("a", "a3"),
            ("c", "c1"),
            ("a", "a4"),
        ],
    );
    eventually("the letters", || letters.texts().len() == 3).await;
    worker.handle.caught_up().await;
    put_keyed(&fixture, &[("a", "a5"), ("b", "b3"), ("a", "a6")]);
    eventually("more letters", || letters.texts().len() == 5).await;
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!((counters.keys_parked, counters.dead_letters), (1, 5));
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison a2", "a3", "a4", "a5", "a6"]);
    let attempts: Vec<u32> = letters
        .accepted
        .lock()
        .unwrap()
        .iter()
        .map(|l| l.attempts)
        .collect();
    assert!(attempts == [5, 3, 3, 0, 0], "{attempts:?}");
    assert_eq!(processed(&fixture), ["warm", "a1", "b1", "b2", "c1", "b3"]);
    let last = letters.accepted.lock().unwrap()[4].position.clone();
    assert_eq!(fixture.lease(&fixture.shard(0)).checkpoint, last.into());
    // The next lease knows of no parked keys.
    put_keyed(&fixture, &[("a", "a7")]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(processed(&fixture).last().unwrap(), "a7");
}

#[tokio::test(start_paused = true)]
async fn a01_a_key_is_parked_for_the_stated_time() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let minute = ParkTime::For(Duration::from_secs(60));
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::ParkKey(minute)))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    put_keyed(&fixture, &[("a", "poison")]);
    eventually("the letter", || letters.texts().len() == 1).await;
    tokio::time::sleep(Duration::from_secs(55)).await;
    put_keyed(&fixture, &[("a", "parked")]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    put_keyed(&fixture, &[("a", "flows")]);
    worker.handle.caught_up().await;
    eventually("the last", || processed(&fixture) == ["flows"]).await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison", "parked"]);
}

#[tokio::test(start_paused = true)]
async fn a01_more_failing_keys_than_can_be_parked_stop_the_shard() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let policy = three_times(OnFailure::ParkKey(ParkTime::UntilLeaseEnds)).max_parked_keys(2);
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(policy)
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    put_keyed(
        &fixture,
        &[
            ("a", "poison a"),
            ("b", "poison b"),
            ("c", "poison c"),
            ("a", "a2"),
        ],
    );
    eventually("the stop", || worker.handle.counters().shards_stopped == 1).await;
    let stopped = worker.handle.stopped_shards();
    assert!(stopped[0].error.contains("no more keys"), "{stopped:?}");
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison a", "a2", "poison b"]);
}

#[tokio::test(start_paused = true)]
async fn a01_without_a_search_every_record_of_the_failed_call_has_the_outcome() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let builder = builder(&fixture, refuse_poison)
        .failure_policy(three_times(OnFailure::DeadLetter).bisect(false))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(4, &[1]));
    eventually("the letters", || letters.texts().len() == 4).await;
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["0", "poison 1", "2", "3"]);
    assert_eq!(processed(&fixture), ["warm"]);
}
