//! What the lease table does to its holders: a lost answer costs nothing, a silent table stops delivery in time.

use std::time::Duration;

use integration_tests::{Stage, What};
use kcl_emulator::Service;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::Instant;

const SHARD: &str = "shardId-000000000000";

#[tokio::test(start_paused = true)]
async fn lost_answers_of_checkpoints_keep_the_lease_and_the_checkpoint_advances() {
    let stage = Stage::new(1);
    let lost = Rule::new(Fault::LoseAnswer)
        .caller("a")
        .service(Service::DynamoDb);
    let lost = lost
        .operation("UpdateItem")
        .resource(SHARD)
        .probability(0.5);
    stage.emulator.faults().add(lost);
    let worker = stage
        .worker("a")
        .checkpoint_interval(Duration::from_millis(100));
    let worker = worker.build(&stage.emulator.sdk_config("a")).unwrap();
    let handle = worker.handle();
    let mut last = String::new();
    let script = async {
        for n in 0..50 {
            last = stage.put("key", &format!("{n:05}")).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        stage.wait_for_records(50).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (checkpoint, owner) = stage.lease(SHARD).await.unwrap();
        assert!(owner.is_some());
        handle.shutdown();
        checkpoint
    };
    let (stopped, checkpoint) = tokio::join!(worker.run(), script);
    stopped.unwrap();
    assert_eq!(checkpoint, last);
    assert_eq!(handle.counters().leases_lost, 0);
    assert_eq!(stage.log.records(), 50, "each record once");
}

#[tokio::test(start_paused = true)]
async fn a_worker_cut_off_from_the_table_stops_in_time_and_goes_on_when_it_is_back() {
    let stage = Stage::new(2);
    let lease_duration = Duration::from_secs(10);
    let worker = stage.worker("a").lease_duration(lease_duration);
    let script = async {
        stage.put_numbered(0, 20).await;
        stage.wait_for_records(20).await;
        let cut = Rule::new(Fault::Disconnect)
            .caller("a")
            .service(Service::DynamoDb)
            .named("cut");
        stage.emulator.faults().add(cut);
        let cut_at = Instant::now();
        for n in 0..60 {
            stage.put_numbered(20 + n * 5, 5).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let late = stage.log.entries().into_iter().filter(|entry| {
            matches!(entry.what, What::Record { .. }) && entry.at > cut_at + lease_duration
        });
        assert_eq!(late.count(), 0, "delivered after the deadline");
        stage.emulator.faults().remove("cut");
        let back = Instant::now();
        stage.wait_for_records(320).await;
        assert!(back.elapsed() <= 2 * lease_duration, "{:?}", back.elapsed());
    };
    stage.run("a", worker, script).await;
    assert_eq!(
        stage
            .log
            .data()
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        320
    );
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_throttling_end_without_a_restart() {
    let stage = Stage::new(4);
    let worker = stage.worker("a");
    let script = async {
        stage.put_numbered(0, 20).await;
        stage.wait_for_records(20).await;
        let throttled = Rule::new(Fault::Throttle)
            .service(Service::DynamoDb)
            .caller("a");
        stage.emulator.faults().add(throttled.named("throttled"));
        tokio::time::sleep(Duration::from_secs(300)).await;
        stage.emulator.faults().remove("throttled");
        stage.put_numbered(20, 40).await;
        let back = Instant::now();
        stage.wait_for_different(60).await;
        assert!(
            back.elapsed() <= Duration::from_secs(20),
            "{:?}",
            back.elapsed()
        );
    };
    stage.run("a", worker, script).await;
}

#[tokio::test(start_paused = true)]
async fn rights_to_the_table_that_are_missing_are_one_clear_line() {
    for action in [
        "dynamodb:CreateTable",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:Scan",
    ] {
        let stage = Stage::new(1);
        stage.emulator.faults().deny("a", action);
        let worker = stage
            .worker("a")
            .build(&stage.emulator.sdk_config("a"))
            .unwrap();
        let began = Instant::now();
        let stopped = tokio::time::timeout(Duration::from_secs(600), worker.run()).await;
        let error = stopped.unwrap().unwrap_err().to_string();
        assert!(
            error.contains(action.split(':').nth(1).unwrap()),
            "{action}: {error}"
        );
        assert!(
            !error.contains('\n') && began.elapsed() <= Duration::from_secs(5),
            "{error}"
        );
    }
}
