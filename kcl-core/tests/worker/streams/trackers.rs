//! Trackers that fail: what is read is read on, new streams wait, and nothing asks in a hot loop.

use std::time::Duration;

use kcl_core::retrieval::MemoryStream;
use kcl_core::{SourceErrorKind, Streams};
use tokio::time::Instant;

use super::account::FAR;
use super::stage::{List, Running, Stage, put};
use crate::fixture::eventually;

const MINUTE: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("{FAR}{what}")
}

/// A worker that leads and one that does not, each with a tracker of its own, on one stream that needs a client of its own.
struct Two {
    stage: Stage,
    first: MemoryStream,
    leader: Running,
    follower: Running,
    lists: [List; 2],
}

impl Two {
    async fn start() -> Self {
        let stage = Stage::new();
        let a = name("a");
        let first = stage.create(&a, 2);
        let lists = [List::of(&[&a]), List::of(&[&a])];
        let start = |worker, list: &List| {
            stage.start(stage.builder(worker, Streams::tracked(list.clone())))
        };
        let leader = start("leader", &lists[0]);
        leader.handle.caught_up().await;
        let follower = start("follower", &lists[1]);
        eventually("balance", || {
            [&leader, &follower]
                .iter()
                .all(|worker| worker.handle.shards().len() == 1)
        })
        .await;
        Self {
            stage,
            first,
            leader,
            follower,
            lists,
        }
    }

    /// Another stream, of which each worker gets half of the shards.
    async fn add(&self, shards: u32) -> MemoryStream {
        let [a, b] = [name("a"), name("b")];
        let added = self.stage.create(&b, shards);
        self.lists[0].set(&[&a, &b]);
        let half = 1 + shards as usize / 2;
        eventually("half of it", || self.follower.handle.shards().len() == half).await;
        added
    }
}

const TEXTS: [&str; 12] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
];

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_lead_reads_on_while_its_tracker_fails_and_then_opens_what_is_new() {
    let two = Two::start().await;
    let [a, b] = [name("a"), name("b")];
    two.lists[1].fail();
    let added = two.add(2).await;
    put(&added, &TEXTS);
    put(&two.first, &TEXTS);
    eventually("the old stream", || two.stage.done(&a).len() == TEXTS.len()).await;
    assert!(two.stage.done_by("follower", &a) > 0);
    tokio::time::sleep(10 * MINUTE).await;
    put(&two.first, &TEXTS);
    eventually("it goes on", || two.stage.done(&a).len() == 2 * TEXTS.len()).await;
    // Without the list it is not known how the new one is reached. It says so, and does not guess.
    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{b}");
    assert!(two.follower.told_unavailable(&arn) >= 10);
    assert_eq!(two.stage.done_by("follower", &b), 0);
    assert!(two.stage.done_by("leader", &b) > 0);
    two.lists[1].set(&[&a, &b]);
    let begun = Instant::now();
    eventually("the new one", || two.stage.done(&b).len() == TEXTS.len()).await;
    assert!(begun.elapsed() < MINUTE + MINUTE / 2);
    assert!(two.stage.done_by("follower", &b) > 0);
    two.follower.stop().await;
    two.leader.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_for_its_tracker_gives_its_shards_away_when_it_is_asked_to() {
    let two = Two::start().await;
    two.lists[1].hang();
    let added = two.add(8).await;
    put(&added, &TEXTS);
    let begun = Instant::now();
    two.follower.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let b = name("b");
    eventually("the new stream", || two.stage.done(&b).len() == TEXTS.len()).await;
    two.leader.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_fails_is_asked_a_few_times_a_minute() {
    let two = Two::start().await;
    two.lists[1].fail();
    two.add(8).await;
    two.lists[0].fail();
    tokio::time::sleep(MINUTE).await;
    let asked = || two.lists.each_ref().map(List::asked);
    let before = asked();
    tokio::time::sleep(10 * MINUTE).await;
    let [leads, follows] = [0, 1].map(|worker| asked()[worker] - before[worker]);
    // As coordination wants it.
    assert!((9..=11).contains(&leads), "{leads}");
    // Four shards ask each minute, 5 s apart.
    assert!((10..=120).contains(&follows), "{follows}");
    two.follower.stop().await;
    // Whoever starts asks each 5 s, and so do the shards that it was given before it knows any stream.
    two.leader.stop().await;
    let builder = two
        .stage
        .builder("alone", Streams::tracked(two.lists[0].clone()));
    let alone = two.stage.start(builder.startup_timeout(20 * MINUTE));
    eventually("all shards", || alone.handle.shards().len() == 10).await;
    let before = two.lists[0].asked();
    tokio::time::sleep(10 * MINUTE).await;
    let asked = two.lists[0].asked() - before;
    assert!((100..=250).contains(&asked), "{asked}");
    let [a, b] = [name("a"), name("b")];
    two.lists[0].set(&[&a, &b]);
    put(&two.first, &TEXTS);
    eventually("all", || two.stage.done(&a).len() == TEXTS.len()).await;
    alone.stop().await;
}

#[tokio::test(start_paused = true)]
async fn listings_that_fail_are_asked_for_a_few_times_a_minute() {
    const LISTING: &str = "ListShards";
    let stage = Stage::new();
    let [good, bad] = ["good", "bad"].map(|name| stage.create(name, 1));
    let list = List::of(&["good", "bad"]);
    let worker = stage.start(stage.builder("a", Streams::tracked(list.clone())));
    worker.handle.caught_up().await;
    bad.fail_next(LISTING, SourceErrorKind::Unavailable, 10_000);
    let deleted = [
        stage.delete_lease("good").await,
        stage.delete_lease("bad").await,
    ];
    list.fail();
    let is_back = |lease: &String| stage.table.items().contains_key(lease);
    eventually("the lease", || is_back(&deleted[0])).await;
    tokio::time::sleep(MINUTE).await;
    let before = [good.calls(LISTING), bad.calls(LISTING)];
    tokio::time::sleep(10 * MINUTE).await;
    let good = good.calls(LISTING) - before[0];
    let bad = bad.calls(LISTING) - before[1];
    assert!(good <= 10, "{good}");
    assert!((60..=180).contains(&bad), "{bad}");
    assert!(!is_back(&deleted[1]));
    worker.stop().await;
}
