//! An application belongs to one stream: another one, or one that was created anew, is refused.

use std::time::Duration;

use integration_tests::{APPLICATION, Probe, STREAM, Stage};
use kcl_core::{Runtime, Worker};
use kcl_emulator::Service;
use tokio::time::Instant;

/// Runs a worker of the application on this stream, which must refuse to start; returns its error.
async fn refused(stage: &Stage, stream: &str) -> String {
    let probe = Probe::new("b", &stage.log);
    let worker = Worker::builder(APPLICATION, stream, move |_| probe.clone())
        .runtime(Runtime::virtual_time(1))
        .build(&stage.emulator.sdk_config("b"))
        .unwrap();
    let began = Instant::now();
    let error = worker.run().await.unwrap_err().to_string();
    assert!(
        began.elapsed() <= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(!error.contains('\n'), "{error}");
    error
}

#[tokio::test(start_paused = true)]
async fn a08_another_stream_is_refused() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 5).await;
    stage.catch_up("a").await;
    stage.emulator.create_stream("payments", 1).unwrap();
    let error = refused(&stage, "payments").await;
    assert!(
        error.contains("payments") && error.contains(STREAM),
        "{error}"
    );
    assert_eq!(stage.log.records(), 5);
}

/// Five records were processed, then the stream was deleted and created anew with five others.
async fn created_anew() -> Stage {
    let stage = Stage::new(1);
    stage.put_numbered(0, 5).await;
    stage.catch_up("a").await;
    stage
        .kinesis
        .delete_stream()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.emulator.create_stream(STREAM, 1).unwrap();
    stage.put_numbered(5, 5).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a08_a_reset_reads_the_new_stream_from_its_beginning() {
    let stage = created_anew().await;
    let worker = stage.worker("b").reset_if_stream_changed(true);
    stage.catch_up_with("b", worker).await;
    let expected: Vec<String> = (5..10).map(|n| format!("{n:05}")).collect();
    assert_eq!(stage.log.data_of("b"), expected);
    // From then on the application belongs to the new stream, with its checkpoints.
    stage.put_numbered(10, 1).await;
    stage.catch_up("c").await;
    assert_eq!(stage.log.data_of("c"), ["00010"]);
}

#[tokio::test(start_paused = true)]
async fn a08_a_stream_that_was_created_anew_is_refused() {
    let stage = created_anew().await;
    let error = refused(&stage, STREAM).await;
    assert!(error.contains(STREAM), "{error}");
    assert_eq!(
        stage.log.records(),
        5,
        "nothing of the new stream is delivered"
    );
}

/// Runs a worker for so long and ends it in the middle of whatever it does.
async fn run_and_kill(stage: &Stage, name: &str, time: Duration) {
    stage
        .kill_after(name, stage.worker(name), tokio::time::sleep(time))
        .await;
}

async fn create_anew(stage: &Stage) {
    let delete = stage.kinesis.delete_stream().stream_name(STREAM);
    delete.send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.emulator.create_stream(STREAM, 1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a08_whoever_comes_to_lead_refuses_a_stream_that_was_created_anew() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 5).await;
    // The leader dies, and what it left says that it leads.
    run_and_kill(&stage, "a", Duration::from_secs(5)).await;
    create_anew(&stage).await;
    stage.put_numbered(5, 5).await;
    for name in ["b", "c"] {
        let worker = stage.worker(name);
        let worker = worker.build(&stage.emulator.sdk_config(name)).unwrap();
        let began = Instant::now();
        let stopped = tokio::time::timeout(Duration::from_secs(60), worker.run()).await;
        let error = stopped.expect("it runs on").unwrap_err().to_string();
        assert!(
            error.contains(STREAM) && error.contains("created"),
            "{error}"
        );
        assert!(
            began.elapsed() <= Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(
        stage.log.records(),
        5,
        "nothing of the new stream is delivered"
    );
}

#[tokio::test(start_paused = true)]
async fn a08_another_stream_is_refused_also_while_the_fleet_runs() {
    let stage = Stage::new(1);
    stage.emulator.create_stream("payments", 1).unwrap();
    stage.put_numbered(0, 5).await;
    let script = async {
        stage.wait_for_records(5).await;
        let error = refused(&stage, "payments").await;
        assert!(
            error.contains("payments") && error.contains(STREAM),
            "{error}"
        );
    };
    stage.run_until("a", script).await;
}

#[tokio::test(start_paused = true)]
async fn a08_a_follower_that_comes_to_lead_looks_at_the_stream_itself() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 10).await;
    let follow = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let script = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            stage.put_numbered(10, 10).await;
            stage.wait_for_different(20).await;
        };
        stage.run_until("b", script).await;
    };
    tokio::join!(run_and_kill(&stage, "a", Duration::from_secs(10)), follow);
    let described = stage.calls("b", Service::Kinesis, "DescribeStreamSummary");
    assert_eq!(described, 1);
}

#[tokio::test(start_paused = true)]
async fn a08_a_stream_that_does_not_exist_is_one_clear_line() {
    let stage = Stage::new(1);
    let error = refused(&stage, "nowhere").await;
    assert!(
        error.contains("nowhere") && error.contains("check the stream's name"),
        "{error}"
    );
}
