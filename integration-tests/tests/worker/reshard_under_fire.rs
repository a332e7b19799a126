//! Splits, merges and a rolling restart at once, while records come in.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use integration_tests::{STREAM, Stage};
use kcl_core::Worker;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::crew::{LEASE, put_all, record};

/// A hundred records each time.
const KEYS: usize = 100;
const PUT_EVERY: Duration = Duration::from_millis(200);

/// The account's limit is five splits and merges a second (Kinesis API reference, SplitShard).
const RESHARD_EVERY: Duration = Duration::from_millis(200);

/// So long after the start the first worker is replaced, and then one after the other.
const CALM: Duration = Duration::from_secs(20);
const REPLACE_EVERY: Duration = Duration::from_secs(4);

/// How many shards there are: at first, after splits, and after merges.
struct Sizes {
    first: u32,
    split: usize,
    merged: usize,
    workers: usize,
}

/// Open shards in the order of their hash ranges.
async fn open_shards(stage: &Stage) -> Vec<String> {
    let list = stage.kinesis.list_shards().stream_name(STREAM);
    let listing = list.send().await.unwrap();
    assert_eq!(listing.next_token, None, "one page");
    let open = listing.shards().iter().filter(|shard| {
        let range = shard.sequence_number_range.as_ref().unwrap();
        range.ending_sequence_number.is_none()
    });
    let by_range: BTreeMap<u128, String> = open
        .map(|shard| {
            let range = shard.hash_key_range.as_ref().unwrap();
            (
                range.starting_hash_key.parse().unwrap(),
                shard.shard_id.clone(),
            )
        })
        .collect();
    by_range.into_values().collect()
}

/// Splits the first ones until there are so many, then merges neighbours until there are so few.
async fn reshard(stage: &Stage, sizes: &Sizes) {
    let open = open_shards(stage).await;
    for shard in open.iter().take(sizes.split - open.len()) {
        stage.split(shard).await;
        sleep(RESHARD_EVERY).await;
    }
    let open = open_shards(stage).await;
    assert_eq!(open.len(), sizes.split);
    for pair in open.chunks_exact(2).take(sizes.split - sizes.merged) {
        stage.merge(&pair[0], &pair[1]).await;
        sleep(RESHARD_EVERY).await;
    }
    assert_eq!(open_shards(stage).await.len(), sizes.merged);
}

/// Puts a record under each key again and again for so long, numbered in each key. Returns how many of each.
async fn produce(stage: &Stage, time: Duration) -> usize {
    let end = Instant::now() + time;
    let mut number = 0;
    while Instant::now() < end {
        let records: Vec<_> = (0..KEYS)
            .map(|key| {
                let data = format!("{key:03}/{number:05}");
                record(&format!("key-{key}"), &data).build().unwrap()
            })
            .collect();
        put_all(stage, &records).await;
        number += 1;
        sleep(PUT_EVERY).await;
    }
    number
}

/// One place of the fleet: a worker, and at its turn another one that starts before the first is told to stop.
async fn replaced_in_turn(stage: &Stage, place: usize, over: &CancellationToken) {
    let make = |name: String| -> Worker {
        let worker = stage.worker(&name);
        worker.build(&stage.emulator.sdk_config(&name)).unwrap()
    };
    let old = make(format!("old-{place}"));
    let new = make(format!("new-{place}"));
    let (of_old, of_new) = (old.handle(), new.handle());
    let turn = CALM + REPLACE_EVERY * u32::try_from(place).unwrap();
    let replaced = async {
        sleep(turn).await;
        let stop_old = async {
            sleep(REPLACE_EVERY / 2).await;
            of_old.shutdown();
        };
        let stop_new = async {
            over.cancelled().await;
            of_new.shutdown();
        };
        tokio::join!(new.run(), stop_old, stop_new).0
    };
    for stopped in <[_; 2]>::from(tokio::join!(old.run(), replaced)) {
        assert_eq!(stopped.unwrap().abandoned, 0, "a worker was not drained");
    }
}

/// The whole fleet is replaced while the stream is resharded while records come in.
async fn every_record_once_and_in_order(sizes: Sizes) {
    let stage = Stage::new(sizes.first);
    let rolling = REPLACE_EVERY * u32::try_from(sizes.workers).unwrap();
    let producing = CALM + rolling + LEASE;
    let over = CancellationToken::new();
    let fleet = join_all((0..sizes.workers).map(|place| replaced_in_turn(&stage, place, &over)));
    let script = async {
        let resharding = async {
            // In the middle of the restart.
            sleep(CALM + REPLACE_EVERY).await;
            reshard(&stage, &sizes).await;
        };
        let (of_each, ()) = tokio::join!(produce(&stage, producing), resharding);
        stage.wait_for_records(of_each * KEYS).await;
        sleep(LEASE).await;
        over.cancel();
        of_each
    };
    let (_, of_each) = tokio::join!(fleet, script);

    let by_key = stage.log.by_key();
    assert_eq!(by_key.len(), KEYS);
    for (key, data) in by_key {
        let number = |data: &String| data.split_once('/').unwrap().1.parse::<usize>().unwrap();
        // All restarts were clean: nothing comes twice.
        assert!(data.iter().map(number).eq(0..of_each), "{key}: {data:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_stream_is_resharded_under_fire() {
    every_record_once_and_in_order(Sizes {
        first: 6,
        split: 8,
        merged: 4,
        workers: 2,
    })
    .await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation; run with --release"
)]
async fn a13_110_shards_become_120_and_then_60_under_fire() {
    every_record_once_and_in_order(Sizes {
        first: 110,
        split: 120,
        merged: 60,
        workers: 6,
    })
    .await;
}
