//! Calls that fail: each is reported, waited out and repeated.

use std::time::Duration;

use kcl_checkpoint::Position;
use tokio::time::{Instant, sleep};

use super::{Setup, numbered};
use crate::retrieval::{SourceErrorKind, StartPosition};

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_loses_and_repeats_nothing() {
    let setup = Setup::new(1);
    setup.put("first", 5);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(5).await, numbered("first", 0..5));
    sleep(Duration::from_secs(5)).await;
    setup.stream.expire_iterators();
    setup.put("second", 5);
    assert_eq!(reading.texts(5).await, numbered("second", 0..5));
    assert_eq!(reading.notes.of("expired").len(), 1);
    let fetched = reading.notes.records_fetched();
    assert_eq!(fetched, 11, "only the last record is looked at again");
    assert!(reading.notes.of("gap").is_empty(), "nothing was lost");
    assert!(reading.notes.of("failed").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_expires_before_the_first_record_starts_where_it_started() {
    let setup = Setup::new(1);
    setup.put("old", 5);
    sleep(Duration::from_secs(1)).await;
    let start = StartPosition::AtTimestamp(setup.runtime.wall_time());
    let mut reading = setup.read(start, None);
    sleep(Duration::from_secs(30)).await;
    setup.put("new", 5);
    setup.stream.expire_iterators();
    assert_eq!(reading.texts(5).await, numbered("new", 0..5));
}

#[tokio::test(start_paused = true)]
async fn iterators_that_expire_at_once_are_not_asked_for_in_a_tight_loop() {
    let setup = Setup::new(1);
    setup.put("record", 1);
    setup
        .stream
        .fail_next("GetRecords", SourceErrorKind::ExpiredIterator, 10);
    let started = Instant::now();
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    assert!(
        started.elapsed() > Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(reading.notes.of("failed").len(), 9);
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_down_and_is_not_a_failure() {
    let setup = Setup::new(1);
    setup.put("record", 1);
    setup
        .stream
        .fail_next("GetRecords", SourceErrorKind::Throttled, 4);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    let waits: Vec<u128> = reading
        .notes
        .of("throttled")
        .iter()
        .map(|note| note.split(' ').next_back().unwrap().parse().unwrap())
        .collect();
    assert_eq!(waits.len(), 4);
    assert!(
        waits[0] >= 300 && waits[3] >= 1000 && waits[3] <= 1100,
        "{waits:?}"
    );
    assert!(reading.notes.of("failed").is_empty());
    assert_eq!(
        setup.stream.calls("GetShardIterator"),
        1,
        "the iterator is still good"
    );
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_told_with_its_class_and_survived() {
    use SourceErrorKind as Kind;
    for kind in [
        Kind::KmsDisabled,
        Kind::KmsAccessDenied,
        Kind::KmsThrottling,
        Kind::AccessDenied,
        Kind::Credentials,
        Kind::Endpoint,
        Kind::Timeout,
        Kind::Unavailable,
        Kind::Malformed,
        Kind::InvalidArgument,
        Kind::Other,
    ] {
        let setup = Setup::new(1);
        setup.put("record", 1);
        setup.stream.fail_next("GetRecords", kind, 3);
        let mut reading = setup.read(StartPosition::TrimHorizon, None);
        assert_eq!(reading.texts(1).await, ["record-0"]);
        let told: Vec<String> = (1..=3)
            .map(|attempt| format!("failed {attempt} {kind}"))
            .collect();
        assert_eq!(reading.notes.of("failed"), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_iterator_call_is_repeated() {
    let setup = Setup::new(1);
    setup.put("record", 1);
    setup
        .stream
        .fail_next("GetShardIterator", SourceErrorKind::Unavailable, 2);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    assert_eq!(
        reading.notes.of("failed"),
        ["failed 1 unavailable", "failed 2 unavailable"]
    );
}

#[tokio::test(start_paused = true)]
async fn a07_a_trimmed_checkpoint_resumes_at_the_oldest_record_and_says_so() {
    let setup = Setup::new(1);
    let numbers = setup.put("trimmed", 10);
    setup.stream.trim(&setup.shard(0));
    let kept = setup.put("kept", 3);
    let complete = Position::new(numbers[4].clone(), 0);
    let start = StartPosition::AtSequenceNumber(numbers[4].clone());
    let started = Instant::now();
    let mut reading = setup.read(start, Some(complete));
    assert_eq!(reading.texts(3).await, numbered("kept", 0..3));
    assert!(started.elapsed() < Duration::from_secs(10));
    let restarted = reading.notes.of("restarted");
    assert_eq!(restarted, [format!("restarted {}", numbers[4])]);
    let gap = reading.notes.of("gap");
    assert_eq!(gap, [format!("gap from {} to {}", numbers[4], kept[0])]);
}

#[tokio::test(start_paused = true)]
async fn starting_over_does_not_repeat_what_is_complete() {
    let setup = Setup::new(1);
    let numbers = setup.put("record", 10);
    setup
        .stream
        .fail_next("GetShardIterator", SourceErrorKind::InvalidArgument, 1);
    let complete = Position::new(numbers[4].clone(), 0);
    let mut reading = setup.read(
        StartPosition::AtSequenceNumber(numbers[4].clone()),
        Some(complete),
    );
    assert_eq!(reading.texts(5).await, numbered("record", 5..10));
    assert_eq!(reading.notes.of("restarted").len(), 1);
    assert!(reading.notes.of("gap").is_empty(), "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn records_that_are_gone_when_an_iterator_expired_are_told() {
    let setup = Setup::new(1);
    let read = setup.put("read", 3);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    assert_eq!(reading.texts(3).await, numbered("read", 0..3));
    setup.put("lost", 2);
    setup.stream.trim(&setup.shard(0));
    let kept = setup.put("kept", 3);
    setup.stream.expire_iterators();
    assert_eq!(reading.texts(3).await, numbered("kept", 0..3));
    let gap = reading.notes.of("gap");
    assert_eq!(gap, [format!("gap from {} to {}", read[2], kept[0])]);
}
