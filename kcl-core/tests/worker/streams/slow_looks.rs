//! Streams that are slow to be described: longer than a call to subscribe may take.

use std::time::Duration;

use kcl_core::Streams;
use tokio::time::Instant;

use super::lists::streams;
use super::stage::{List, Stage, put};
use crate::fixture::eventually;

const SLOW: Duration = Duration::from_secs(12);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn shards_begin_to_be_read_however_long_it_takes_to_describe_their_stream() {
    let stage = Stage::new();
    let orders = stage.create("orders", 2);
    let worker = stage.start(stage.builder("a", streams(&["orders"])));
    worker.handle.caught_up().await;
    stage.account.describe_in(SLOW);
    // What was seen of the stream does not hold any more.
    tokio::time::sleep(2 * MINUTE).await;
    for shard in orders.shards() {
        orders.split(&shard.shard_id).unwrap();
    }
    put(&orders, &["1", "2", "3", "4", "5", "6", "7", "8"]);
    let begun = Instant::now();
    eventually("the children", || stage.done("orders").len() == 8).await;
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_created_anew_and_slow_is_not_read_as_the_old_one() {
    let stage = Stage::new();
    let first = stage.create("orders", 2);
    put(&first, &["1", "2"]);
    let builder = stage.builder("a", Streams::tracked(List::of(&["orders"])));
    let worker = stage.start(builder.former_streams_after(5 * MINUTE));
    eventually("the first stream", || stage.done("orders").len() == 2).await;
    stage.account.describe_in(SLOW);
    tokio::time::sleep(2 * MINUTE).await;
    // Its shards have leases without a checkpoint, which begin at the oldest record.
    for shard in first.shards() {
        first.split(&shard.shard_id).unwrap();
    }
    tokio::time::sleep(MINUTE / 60).await;
    let second = stage.create("orders", 4);
    put(&second, &["3", "4", "5", "6", "7", "8", "9"]);
    eventually("the second one", || stage.done("orders").len() == 9).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(stage.done("orders").len(), 9);
    worker.stop().await;
}
