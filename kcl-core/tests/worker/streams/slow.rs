//! A stream that is slow or fails does not hold up the others.

use std::time::Duration;

use kcl_core::{SourceErrorKind, StreamConfig, Streams, WorkerEvent};
use tokio::time::Instant;

use super::stage::{List, Stage, put};
use crate::fixture::eventually;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_listing_that_never_comes_holds_up_no_other_stream() {
    let stage = Stage::new();
    let [slow, other] = ["slow", "other"].map(|name| stage.create(name, 2));
    let list = List::of(&["slow", "other"]);
    let worker = stage.start(stage.builder("one", Streams::tracked(list.clone())));
    worker.handle.caught_up().await;
    stage.account.hang_listings("slow");
    // What the leader lists for.
    stage.delete_lease("slow").await;
    tokio::time::sleep(60 * SECOND).await;
    let deleted = stage.delete_lease("other").await;
    let begun = Instant::now();
    eventually("the deleted lease", || {
        stage.table.items().contains_key(&deleted)
    })
    .await;
    assert!(begun.elapsed() < 60 * SECOND, "{:?}", begun.elapsed());
    for stream in [&slow, &other] {
        // Their children are known only once they are listed.
        stream.name_children(false);
        for shard in stream.shards() {
            stream.split(&shard.shard_id).unwrap();
        }
    }
    let begun = Instant::now();
    put(&other, &["1", "2", "3", "4"]);
    eventually("the children of the other one", || {
        stage.done("other").len() == 4
    })
    .await;
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
    let added = stage.create("added", 1);
    put(&added, &["1"]);
    list.set(&["slow", "other", "added"]);
    let begun = Instant::now();
    eventually("the new one", || stage.done("added").len() == 1).await;
    assert!(begun.elapsed() < 65 * SECOND, "{:?}", begun.elapsed());
    // A new leader begins with a listing of each stream.
    drop(worker);
    let two = stage.start(stage.builder("two", Streams::tracked(list.clone())));
    let begun = Instant::now();
    put(&other, &["5"]);
    put(&added, &["2"]);
    eventually("both", || {
        stage.done("other").len() == 5 && stage.done("added").len() == 2
    })
    .await;
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
    let shard = added.shards()[0].shard_id.clone();
    added.name_children(false);
    added.split(&shard).unwrap();
    put(&added, &["3"]);
    put(&stage.create("late", 1), &["1"]);
    list.set(&["slow", "other", "added", "late"]);
    let begun = Instant::now();
    eventually("the children", || stage.done("added").len() == 3).await;
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
    eventually("the late one", || stage.done("late").len() == 1).await;
    assert!(begun.elapsed() < 80 * SECOND, "{:?}", begun.elapsed());
    stage.account.heal_listings("slow");
    put(&slow, &["1", "2", "3", "4"]);
    eventually("the slow one", || stage.done("slow").len() == 4).await;
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn listings_that_fail_hold_up_no_other_stream() {
    let stage = Stage::new();
    let [bad, other] = ["bad", "other"].map(|name| stage.create(name, 1));
    bad.fail_next("ListShards", SourceErrorKind::Unavailable, 10_000);
    let list = ["bad", "other"].map(StreamConfig::new);
    let worker = stage.start(stage.builder("one", list));
    put(&other, &["1"]);
    put(&bad, &["1"]);
    let begun = Instant::now();
    eventually("the other one", || stage.done("other").len() == 1).await;
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    eventually("a word of it", || worker.told_unavailable("bad") > 0).await;
    other.name_children(false);
    other.split(&other.shards()[0].shard_id).unwrap();
    put(&other, &["2"]);
    let begun = Instant::now();
    eventually("its child", || stage.done("other").len() == 2).await;
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(stage.done("bad").len(), 0);
    bad.fail_no_more("ListShards");
    eventually("the bad one", || stage.done("bad").len() == 1).await;
    let removed = |event: &WorkerEvent| matches!(event, WorkerEvent::StreamRemoved { .. });
    assert_eq!(worker.told(removed), 0);
    worker.stop().await;
}
