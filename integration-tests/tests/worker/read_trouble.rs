//! What the stream does to its readers: shown, bounded, and over when it is over.

use std::time::Duration;

use integration_tests::Stage;
use kcl_core::{WorkerCounters, WorkerEvent};
use kcl_emulator::Service;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::Instant;

/// Runs a worker under this rule until all records are there; returns its counters and its failures to read.
async fn read_under(stage: &Stage, rule: Rule) -> (WorkerCounters, Vec<(String, bool)>) {
    stage.put_numbered(0, 50).await;
    stage
        .emulator
        .faults()
        .add(rule.caller("a").named("trouble"));
    let worker = stage
        .worker("a")
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let mut events = handle.events();
    let script = async {
        stage.wait_for_records(50).await;
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    stopped.unwrap();
    let mut failures = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let WorkerEvent::ReadFailed {
            error,
            needs_operator,
            ..
        } = event
        {
            failures.push((error, needs_operator));
        }
    }
    assert_eq!(stage.log.records(), 50, "each record once");
    (handle.counters(), failures)
}

fn get_records(fault: Fault) -> Rule {
    Rule::new(fault).operation("GetRecords")
}

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_replaced_where_reading_stood() {
    let stage = Stage::new(1);
    let (counters, _) = read_under(&stage, get_records(Fault::ExpiredIterator).first(3)).await;
    assert_eq!(counters.iterators_expired, 3);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_really_expires_is_replaced() {
    let stage = Stage::new(1);
    let script = async {
        stage.put("key", "early").await;
        stage.wait_for_records(1).await;
        // Longer than the five minutes of an iterator, without an answer.
        let hang = get_records(Fault::Hang).caller("a").named("hang");
        stage.emulator.faults().add(hang);
        tokio::time::sleep(Duration::from_secs(400)).await;
        stage.emulator.faults().remove("hang");
        stage.put("key", "late").await;
        stage.wait_for_records(2).await;
    };
    stage.run_until("a", script).await;
    assert_eq!(stage.log.data(), ["early", "late"]);
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_down_and_nothing_else() {
    let stage = Stage::new(1);
    let (counters, _) = read_under(&stage, get_records(Fault::ThroughputExceeded).first(10)).await;
    assert!(counters.reads_throttled >= 3, "{counters:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_asked_again() {
    let stage = Stage::new(2);
    read_under(&stage, get_records(Fault::InternalError).first(10)).await;
    let stage = Stage::new(2);
    read_under(&stage, get_records(Fault::LoseAnswer).first(5)).await;
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_key_is_named_and_over_when_the_key_is_back() {
    for code in [
        "KMSDisabledException",
        "KMSAccessDeniedException",
        "KMSInvalidStateException",
    ] {
        let stage = Stage::new(1);
        let error = Fault::Error {
            status: 400,
            code: code.to_owned(),
            message: "the key".to_owned(),
        };
        let rule = get_records(error).between(Duration::ZERO, Duration::from_secs(60));
        let (_, failures) = read_under(&stage, rule).await;
        assert!(
            !failures.is_empty() && failures.len() < 100,
            "{} failures",
            failures.len()
        );
        assert!(
            failures
                .iter()
                .all(|(error, operator)| *operator && error.contains("key")),
            "{failures:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_named_and_reading_goes_on_when_it_is_given() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 10).await;
    stage.emulator.faults().deny("a", "kinesis:GetRecords");
    let worker = stage
        .worker("a")
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let mut events = handle.events();
    let script = async {
        loop {
            let event = events.next().await.unwrap();
            if let WorkerEvent::ReadFailed {
                error,
                needs_operator,
                ..
            } = event
            {
                assert!(
                    needs_operator && error.contains("kinesis:GetRecords"),
                    "{error}"
                );
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        stage.emulator.faults().allow("a", "kinesis:GetRecords");
        let since = Instant::now();
        stage.wait_for_records(10).await;
        assert!(
            since.elapsed() <= Duration::from_secs(60),
            "{:?}",
            since.elapsed()
        );
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    stopped.unwrap();
    let asked = stage.calls("a", Service::Kinesis, "GetRecords");
    assert!(asked < 200, "{asked} calls in two minutes");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_at_the_start_stops_it_at_once() {
    for action in ["kinesis:DescribeStreamSummary", "kinesis:ListShards"] {
        let stage = Stage::new(1);
        stage.emulator.faults().deny("a", action);
        let worker = stage
            .worker("a")
            .build(&stage.emulator.sdk_config("a"))
            .unwrap();
        let began = Instant::now();
        let error = worker.run().await.unwrap_err().to_string();
        assert!(error.contains(action) && error.contains("allow"), "{error}");
        assert!(
            began.elapsed() <= Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}
