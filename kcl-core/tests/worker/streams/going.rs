//! Streams that come and go while workers run.

use std::time::Duration;

use kcl_core::{Streams, WorkerEvent};

use super::stage::{List, Stage, put};
use crate::fixture::eventually;

const GRACE: Duration = Duration::from_secs(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_tracker_adds_streams_while_the_workers_run() {
    let stage = Stage::new();
    stage.create("a", 1);
    let list = List::of(&["a"]);
    let workers = ["one", "two"].map(|name| {
        let builder = stage.builder(name, Streams::tracked(list.clone()));
        stage.start(builder.former_streams_after(GRACE))
    });
    for worker in &workers {
        worker.handle.caught_up().await;
    }
    let added = stage.create("b", 2);
    put(&added, &["1", "2", "3", "4"]);
    list.set(&["a", "b"]);
    let begun = tokio::time::Instant::now();
    eventually("the new stream", || stage.done("b").len() == 4).await;
    assert!(begun.elapsed() < seconds(75), "{:?}", begun.elapsed());
    // A tracker that fails takes nothing away.
    list.fail();
    tokio::time::sleep(3 * GRACE).await;
    put(&added, &["5"]);
    eventually("the next record", || stage.done("b").len() == 5).await;
    let failed = |event: &WorkerEvent| matches!(event, WorkerEvent::StreamListFailed { error } if error == "the list is locked");
    let told: usize = workers.iter().map(|worker| worker.told(failed)).sum();
    assert!((13..=17).contains(&told), "{told}");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_removed_stream_are_deleted_after_the_grace_time() {
    let stage = Stage::new();
    let (stays, goes) = (stage.create("stays", 1), stage.create("goes", 2));
    let list = List::of(&["stays", "goes"]);
    let build = |name| {
        let builder = stage.builder(name, Streams::tracked(list.clone()));
        stage.start(builder.former_streams_after(GRACE))
    };
    let workers = [build("one"), build("two")];
    for worker in &workers {
        worker.handle.caught_up().await;
    }
    list.set(&["stays"]);
    tokio::time::sleep(GRACE - seconds(60)).await;
    put(&goes, &["still read"]);
    eventually("it is read on", || stage.done("goes").len() == 1).await;
    // Back in the list, everything stays.
    list.set(&["stays", "goes"]);
    tokio::time::sleep(2 * GRACE).await;
    put(&goes, &["on"]);
    eventually("it goes on", || stage.done("goes").len() == 2).await;
    assert!(!stage.rows("goes").is_empty());
    // Gone for good.
    list.set(&["stays"]);
    let removed = || {
        workers
            .iter()
            .map(|worker| worker.told_removed("goes"))
            .sum::<usize>()
    };
    tokio::time::sleep(GRACE - seconds(30)).await;
    assert_eq!(removed(), 0);
    eventually("its removal", || removed() == 1).await;
    assert_eq!(stage.rows("goes"), Vec::<String>::new());
    let held = || {
        workers
            .iter()
            .map(|worker| worker.handle.shards().len())
            .sum::<usize>()
    };
    assert_eq!(held(), 1);
    put(&goes, &["not read"]);
    put(&stays, &["undisturbed"]);
    eventually("the other one", || stage.done("stays").len() == 1).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(stage.done("goes").len(), 2);
    // Added again it begins anew.
    list.set(&["stays", "goes"]);
    eventually("all of it", || stage.done("goes").len() == 2 + 3).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_created_anew_is_read_anew() {
    let stage = Stage::new();
    let first = stage.create("orders", 1);
    stage.create("other", 1);
    put(&first, &["1", "2"]);
    let list = List::of(&["orders", "other"]);
    let builder = stage.builder("a", Streams::tracked(list.clone()));
    let worker = stage.start(builder.former_streams_after(GRACE));
    eventually("the first stream", || stage.done("orders").len() == 2).await;
    tokio::time::sleep(seconds(100)).await;
    let before = stage.rows("orders");
    let second = stage.create("orders", 2);
    put(&second, &["3", "4", "5", "6", "7", "8", "9"]);
    eventually("the second one", || stage.done("orders").len() == 9).await;
    eventually("the end of the first one", || {
        worker.told_removed("orders") == 1
    })
    .await;
    let after = stage.rows("orders");
    assert!(
        !after.is_empty() && after.iter().all(|row| !before.contains(row)),
        "{after:?}"
    );
    put(&second, &["10"]);
    eventually("the next record", || stage.done("orders").len() == 10).await;
    // Nothing was read under the leases of the first one as well.
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(stage.done("orders").len(), 10);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_deleted_does_not_stop_the_worker() {
    let stage = Stage::new();
    let (_gone, other) = (stage.create("gone", 1), stage.create("other", 1));
    let list = List::of(&["gone", "other"]);
    let builder = stage.builder("a", Streams::tracked(list.clone()));
    let worker = stage.start(builder.former_streams_after(GRACE));
    worker.handle.caught_up().await;
    stage.account.remove("gone");
    tokio::time::sleep(2 * GRACE).await;
    assert!(worker.told_unavailable("gone") > 5);
    assert!(!stage.rows("gone").is_empty(), "it is still in the list");
    assert!(!worker.handle.health().is_healthy());
    put(&other, &["1"]);
    eventually("the other stream", || stage.done("other").len() == 1).await;
    list.set(&["other"]);
    eventually("its end", || worker.told_removed("gone") == 1).await;
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
}
