//! Lists of streams: all are read, each with processors, a position and leases of its own.

use std::time::Duration;

use kcl_core::{InitialPosition, StreamConfig, WorkerEvent};
use kcl_lease::write::{Change, RowWrite};
use kcl_lease::{LeaseTable, MemoryLeaseTable};
use tokio::time::Instant;

use super::account::SILENT;
use super::stage::{Stage, put};
use crate::fixture::eventually;

pub(super) fn streams(names: &[&str]) -> Vec<StreamConfig> {
    names.iter().map(|name| StreamConfig::new(*name)).collect()
}

#[tokio::test(start_paused = true)]
async fn shards_of_the_same_name_are_read_each_with_its_own_processor_and_position() {
    let stage = Stage::new();
    let (orders, payments) = (stage.create("orders", 2), stage.create("payments", 2));
    put(&orders, &["old order"]);
    put(&payments, &["old payment"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let list = [
        StreamConfig::new("orders").initial_position(InitialPosition::Latest),
        StreamConfig::new("payments"),
    ];
    let worker = stage.start(stage.builder("a", list));
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.shards().len(), 4);
    put(&orders, &["new order"]);
    put(&payments, &["new payment"]);
    eventually("the new ones", || {
        stage.done("orders").len() + stage.done("payments").len() == 3
    })
    .await;
    assert_eq!(stage.done("orders"), ["new order"]);
    assert_eq!(stage.done("payments"), ["old payment", "new payment"]);
    // Shards end and their children go on, in each stream by itself.
    for stream in [&orders, &payments] {
        let shard = stream.shards()[0].shard_id.clone();
        stream.split(&shard).unwrap();
    }
    eventually("the children", || worker.handle.shards().len() == 6).await;
    let names = |event: &WorkerEvent| matches!(event, WorkerEvent::ShardEnded { shard, .. } if shard.as_str().split(':').count() == 4);
    assert_eq!(worker.told(names), 2);
    assert_eq!(worker.handle.health().shards.len(), 6);
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
    // Another worker goes on with both.
    put(&orders, &["third"]);
    put(&payments, &["third"]);
    let worker = stage.start(stage.builder("b", streams(&["orders", "payments"])));
    eventually("the rest", || {
        stage.done("orders").len() + stage.done("payments").len() == 5
    })
    .await;
    assert_eq!(stage.done("orders"), ["new order", "third"]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_shards_of_all_streams() {
    let stage = Stage::new();
    let made = ["a", "b", "c"].map(|name| stage.create(name, 2));
    let list = || streams(&["a", "b", "c"]);
    let first = stage.start(stage.builder("one", list()));
    first.handle.caught_up().await;
    let second = stage.start(stage.builder("two", list()));
    eventually("balance", || {
        first.handle.shards().len() == 3 && second.handle.shards().len() == 3
    })
    .await;
    for stream in &made {
        put(stream, &["1", "2", "3", "4", "5", "6", "7", "8"]);
    }
    eventually("all", || {
        ["a", "b", "c"]
            .iter()
            .all(|name| stage.done(name).len() == 8)
    })
    .await;
    assert_eq!(stage.workers(), ["one", "two"]);
    // The worker that led stops; the other one takes care of all streams from then on.
    first.stop().await;
    eventually("all shards", || second.handle.shards().len() == 6).await;
    let shard = made[2].shards()[0].shard_id.clone();
    made[2].split(&shard).unwrap();
    eventually("the children", || second.handle.shards().len() == 7).await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_there_does_not_hold_up_the_others() {
    let stage = Stage::new();
    let orders = stage.create("orders", 1);
    put(&orders, &["1"]);
    let worker = stage.start(stage.builder("a", streams(&["missing", "orders"])));
    let begun = Instant::now();
    eventually("the record", || stage.done("orders").len() == 1).await;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = worker.told_unavailable("missing");
    assert!((9..=13).contains(&told), "once a minute: {told}");
    let missing = stage.create("missing", 1);
    put(&missing, &["2"]);
    eventually("the other stream", || stage.done("missing").len() == 1).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_named_twice_is_read_once() {
    let stage = Stage::new();
    let orders = stage.create("orders", 1);
    put(&orders, &["1"]);
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";
    let worker = stage.start(stage.builder("a", streams(&["orders", arn])));
    eventually("the record", || stage.done("orders").len() == 1).await;
    eventually("a word of it", || worker.told_unavailable(arn) > 0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(worker.handle.shards().len(), 1);
    assert_eq!(stage.done("orders").len(), 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_start_fails_if_no_stream_can_be_opened() {
    let stage = Stage::new();
    let builder = stage.builder("a", streams(&["missing", "gone"]));
    let begun = Instant::now();
    let worker = stage.start(builder.startup_timeout(Duration::from_secs(30)));
    let error = worker.result().await.unwrap_err().to_string();
    assert!(error.contains("no such stream"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_table_of_one_stream_is_not_that_of_several() {
    let mut stage = Stage::new();
    stage.create("orders", 1);
    let worker = stage.start(stage.builder("a", "orders"));
    worker.handle.caught_up().await;
    worker.stop().await;
    let worker = stage.start(stage.builder("b", streams(&["orders"])));
    let error = worker.result().await.unwrap_err().to_string();
    assert!(error.contains("one stream"), "{error}");

    stage.table = std::sync::Arc::new(MemoryLeaseTable::new());
    let worker = stage.start(stage.builder("a", streams(&["orders"])));
    worker.handle.caught_up().await;
    worker.stop().await;
    let worker = stage.start(stage.builder("b", "orders"));
    let error = worker.result().await.unwrap_err().to_string();
    assert!(error.contains("several streams"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_refused_when_the_worker_is_built() {
    let stage = Stage::new();
    let refused = |builder: kcl_core::WorkerBuilder| {
        let source = std::sync::Arc::new(stage.create("any", 1));
        let built = builder.build_with(source, std::sync::Arc::clone(&stage.table) as _);
        built.unwrap_err().to_string()
    };
    assert!(refused(stage.builder("a", streams(&[]))).contains("nothing to read"));
    assert!(refused(stage.builder("a", streams(&["x", "x"]))).contains("twice"));
    assert!(refused(stage.builder("a", streams(&["x", "no stream"]))).contains("no stream name"));
    let reset = stage
        .builder("a", streams(&["x"]))
        .reset_if_stream_changed(true);
    assert!(refused(reset).contains("reset_if_stream_changed"));
    let now = stage.runtime.wall_time();
    let replay = stage
        .builder("a", streams(&["x"]))
        .replay(std::time::UNIX_EPOCH, now);
    assert!(refused(replay).contains("replay"));
    let own = StreamConfig::new("x").initial_position(InitialPosition::Latest);
    let replay = stage.builder("a", own).replay(std::time::UNIX_EPOCH, now);
    assert!(refused(replay).contains("initial_position"));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_did_not_open_a_stream_lists_it_when_a_lease_needs_that() {
    let stage = Stage::new();
    let stream = stage.create("a", 3);
    let parents = stream.shards();
    for shard in &parents {
        stream.split(&shard.shard_id).unwrap();
    }
    for shard in &parents {
        // Only a listing shows that they will never get a row.
        stream.forget(&shard.shard_id);
    }
    let mut workers = Vec::new();
    for name in ["one", "two", "three"] {
        workers.push(stage.start(stage.builder(name, streams(&["a"]))));
        let share = 6 / workers.len();
        eventually("its share", || {
            workers
                .iter()
                .all(|worker| worker.handle.shards().len() == share)
        })
        .await;
    }
    // The third one dies. The first one leads.
    drop(workers.pop());
    eventually("the leases of the dead one", || {
        workers
            .iter()
            .all(|worker| worker.handle.shards().len() == 3)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_answers_does_not_keep_a_new_leader_from_the_others() {
    let stage = Stage::new();
    stage.create("a", 2);
    stage.create(SILENT, 1);
    let list = || streams(&["a", SILENT]);
    let one = stage.start(stage.builder("one", list()));
    eventually("all of a", || one.handle.shards().len() == 2).await;
    eventually("what is wrong", || one.told_unavailable(SILENT) > 0).await;
    let two = stage.start(stage.builder("two", list()));
    eventually("balance", || two.handle.shards().len() == 1).await;
    drop(one);
    let died = Instant::now();
    eventually("all of a again", || two.handle.shards().len() == 2).await;
    assert!(
        died.elapsed() < Duration::from_secs(13),
        "{:?}",
        died.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_that_lost_what_is_stored_of_streams_gets_it_back() {
    let stage = Stage::new();
    let stream = stage.create("a", 1);
    let worker = stage.start(stage.builder("one", streams(&["a"])));
    worker.handle.caught_up().await;
    let before = stage.table.items();
    // The worker's item too, so that it has to begin a new session.
    let lost = |key: &&String| key.starts_with("SessionStream") || key.starts_with("one/");
    for key in before.keys().filter(lost) {
        let delete = RowWrite {
            key: key.clone(),
            condition: Vec::new(),
            change: Change::Delete,
        };
        stage.table.write(delete).await.unwrap();
    }
    let key = before
        .keys()
        .find(|key| key.starts_with("SessionStream"))
        .unwrap();
    eventually("the item", || stage.table.items().contains_key(key)).await;
    put(&stream, &["after"]);
    eventually("the record", || stage.done("a") == ["after"]).await;
    let told = |event: &WorkerEvent| matches!(event, WorkerEvent::LeaseRowUnreadable { key: of, .. } if of == key);
    assert!(worker.told(told) > 0);
    worker.stop().await;
}
