//! Rows and tables that somebody deletes: nothing is read again unasked, and nothing is left unread in silence.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use integration_tests::{APPLICATION, Stage};
use kcl_core::{Events, RowRepair, WorkerEvent};

const FIRST: &str = "shardId-000000000000";

async fn delete_row(stage: &Stage) {
    stage
        .dynamodb
        .delete_item()
        .table_name(APPLICATION)
        .key("leaseKey", AttributeValue::S(FIRST.to_owned()))
        .send()
        .await
        .unwrap();
}

async fn repair(mut events: Events) -> RowRepair {
    loop {
        if let WorkerEvent::LeaseRowDeleted { shard, repair } = events.next().await.unwrap() {
            assert_eq!(shard.as_str(), FIRST);
            return repair;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_deleted_under_its_holder_comes_back_and_nothing_is_repeated() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 20).await;
    let worker = stage
        .worker("a")
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let script = async {
        stage.wait_for_records(20).await;
        // Every record is checkpointed.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let events = handle.events();
        delete_row(&stage).await;
        assert!(matches!(repair(events).await, RowRepair::Restored { .. }));
        stage.put_numbered(20, 20).await;
        stage.wait_for_different(40).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    stopped.unwrap();
    assert_eq!(stage.log.records(), 40, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_deleted_while_nobody_runs_is_told_of_and_its_shard_is_not_read_again() {
    let stage = Stage::new(2);
    stage.put_numbered(0, 20).await;
    stage.catch_up("a").await;
    delete_row(&stage).await;
    stage.put_numbered(20, 20).await;
    let worker = stage
        .worker("b")
        .build(&stage.emulator.sdk_config("b"))
        .unwrap();
    let handle = worker.handle();
    let script = async {
        let told = repair(handle.events()).await;
        assert_eq!(told, RowRepair::ProgressUnknown);
        tokio::time::sleep(Duration::from_secs(60)).await;
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    stopped.unwrap();
    let read = stage.log.data_of("b");
    assert!(
        !read.is_empty() && read.len() < 20,
        "one of two shards: {read:?}"
    );
    assert!(read.iter().all(|data| data.as_str() >= "00020"), "{read:?}");
    // Somebody decides.
    let replaying = stage.worker("c").replay_deleted_leases(true);
    let until = stage.wait_for_different(40);
    stage.run("c", replaying, until).await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_deleted_ends_the_worker_with_one_clear_line() {
    let stage = Stage::new(1);
    stage.put_numbered(0, 5).await;
    let worker = stage
        .worker("a")
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let script = async {
        stage.wait_for_records(5).await;
        let delete = stage.dynamodb.delete_table().table_name(APPLICATION);
        delete.send().await.unwrap();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    let error = stopped.unwrap_err().to_string();
    assert!(
        error.contains("was deleted while this worker ran"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
    assert_eq!(stage.log.records(), 5);
}
