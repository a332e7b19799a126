//! Memory stays within the budget, whatever processors do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use kcl_lease::{ListedShard, ShardId};
use tokio::time::sleep;

use super::{MIB, Reading, Setup};
use crate::retrieval::tests::{aggregate, numbered_aggregate};
use crate::retrieval::{
    Fetched, MemoryStream, RecordRef, ShardFilter, ShardIterator, ShardSource, SourceError,
    StartPosition, StreamDescription,
};

const SHARDS: usize = 500;

/// Takes a while for each read, so that all shards read at the same time.
#[derive(Debug)]
struct Slow(MemoryStream);

#[async_trait]
impl ShardSource for Slow {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.0.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.0.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.0.iterator(shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        sleep(Duration::from_millis(20)).await;
        self.0.get_records(iterator, limit).await
    }
}

fn slow(shards: u32, bytes: u64) -> Setup {
    let setup = Setup::with_budget(shards, bytes);
    let source = Slow(setup.stream.clone());
    setup.with_source(Arc::new(source))
}

fn read_all(setup: &Setup) -> Vec<Reading> {
    (0..SHARDS)
        .map(|index| setup.read_shard(setup.shard(index), StartPosition::TrimHorizon, None))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a24_five_hundred_blocked_shards_stay_within_the_budget_and_share_it() {
    let setup = slow(500, 16 * MIB);
    for index in 0..SHARDS {
        let shard = setup.shard(index);
        // Ten user records in a Kinesis record of more than 4 KiB.
        let packed = numbered_aggregate(&format!("{index:0>200}"), 10);
        for _ in 0..30 {
            setup.stream.put_to(&shard, "key", packed.clone());
        }
    }
    let mut readings = read_all(&setup);
    sleep(Duration::from_secs(600)).await;
    let budget = &setup.polling.budget;
    assert!(budget.peak() <= budget.total(), "{} bytes", budget.peak());
    assert!(
        budget.used() > budget.total() / 10,
        "the budget is used: {}",
        budget.used()
    );
    for reading in &readings {
        assert_eq!(reading.deliveries.len(), 1, "every shard got its share");
    }

    let counts = join_all(readings.iter_mut().map(|reading| async {
        let mut most = 0;
        let mut records = 0;
        while records < 300 {
            let delivery = reading.next().await;
            records += delivery.rows.len();
            most = most.max(delivery.batch.resident_bytes());
            sleep(Duration::from_millis(5)).await;
        }
        (records, most)
    }))
    .await;
    assert!(counts.iter().all(|(records, _)| *records == 300));
    assert!(budget.peak() <= budget.total(), "{} bytes", budget.peak());
    drop(readings);
    // Their tasks are dropped when they are next looked at.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(budget.used(), 0);
}

/// All shards have shown small records when those of all shards become as large as an answer can be at the same moment, or
/// such that their tables are far larger than they are.
#[tokio::test(start_paused = true)]
async fn a24_records_that_grow_everywhere_at_once_exceed_the_budget_by_one_answer_at_most() {
    let large = Bytes::from(vec![1; 10 << 20]);
    let nothing: Vec<(&str, &[u8])> = (0..20_000).map(|_| ("k", &[][..])).collect();
    let hostile = aggregate(&nothing);
    for (grown, most) in [(large, 10 * MIB + 1000), (hostile, 3 * MIB)] {
        let setup = slow(100, 64 * MIB);
        let put_all = |data: &Bytes, times: usize| {
            for index in 0..100 {
                for _ in 0..times {
                    setup
                        .stream
                        .put_to(&setup.shard(index), "key", data.clone());
                }
            }
        };
        put_all(&Bytes::from_static(&[1; 100]), 200);
        let readings: Vec<Reading> = (0..100)
            .map(|index| setup.read_shard(setup.shard(index), StartPosition::TrimHorizon, None))
            .collect();
        let counts = readings.into_iter().map(|mut reading| async move {
            let mut records = 0;
            while records < 200 {
                records += reading.next().await.rows.len();
            }
            reading
        });
        let readings = join_all(counts).await;
        put_all(&grown, 3);
        sleep(Duration::from_secs(600)).await;
        let budget = &setup.polling.budget;
        assert!(budget.used() > budget.total() / 2, "{}", budget.used());
        assert!(
            budget.peak() <= budget.total() + most,
            "{} bytes",
            budget.peak()
        );
        drop(readings);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(budget.used(), 0);
    }
}

/// The tables of all its user records would take 80 MB.
#[tokio::test(start_paused = true)]
async fn a24_the_largest_answer_with_the_smallest_user_records_stays_within_the_budget() {
    let setup = Setup::with_budget(1, 24 * MIB);
    let shard = setup.shard(0);
    let smallest: Vec<(&str, &[u8])> = (0..170_000).map(|_| ("k", &[][..])).collect();
    let packed = aggregate(&smallest);
    assert!(packed.len() > 1_000_000, "{} bytes", packed.len());
    // So many are read at once after small ones.
    for _ in 0..100 {
        setup.stream.put_to(&shard, "key", vec![1; 100]);
    }
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let mut small = 0;
    while small < 100 {
        small += reading.next().await.rows.len();
    }
    for _ in 0..10 {
        setup.stream.put_to(&shard, "key", packed.clone());
    }
    let (mut records, mut last, mut parts) = (0, None, 0);
    while records < 10 * smallest.len() {
        let delivery = reading.next().await;
        records += delivery.rows.len();
        parts += 1;
        assert!(delivery.batch.first_position() > last, "in order");
        last = delivery.batch.last_position();
    }
    assert_eq!(records, 10 * smallest.len());
    assert!(parts >= 8, "{parts} deliveries");
    let budget = &setup.polling.budget;
    assert!(budget.peak() <= budget.total(), "{} bytes", budget.peak());
}

#[tokio::test(start_paused = true)]
async fn a24_a_shard_whose_answers_are_kept_leaves_room_for_the_others() {
    let setup = slow(20, 16 * MIB);
    for index in 0..20 {
        for _ in 0..400 {
            setup
                .stream
                .put_to(&setup.shard(index), "key", vec![1; 50 << 10]);
        }
    }
    let mut readings = (0..20)
        .map(|index| setup.read_shard(setup.shard(index), StartPosition::TrimHorizon, None))
        .collect::<Vec<_>>();
    let mut greedy = readings.remove(0);
    let keeps_all = async {
        let mut kept = Vec::new();
        loop {
            kept.push(greedy.next().await);
        }
    };
    let others = join_all(readings.into_iter().map(|mut reading| async move {
        let mut records = 0;
        while records < 400 {
            records += reading.next().await.rows.len();
        }
    }));
    let others = tokio::time::timeout(Duration::from_secs(3600), others);
    tokio::select! {
        _ = keeps_all => unreachable!(),
        done = others => assert!(done.is_ok(), "{:?}", setup.polling.budget),
    }
}

#[tokio::test(start_paused = true)]
async fn a24_kept_slices_count_until_they_are_dropped() {
    let setup = Setup::with_budget(1, MIB);
    let shard = setup.shard(0);
    for _ in 0..40 {
        setup.stream.put_to(&shard, "key", vec![1; 100 << 10]);
    }
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let mut kept = Vec::new();
    let took_all = async {
        while kept.len() < 40 {
            let delivery = reading.next().await;
            kept.extend(delivery.batch.iter().map(RecordRef::data_bytes));
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(600), took_all).await;
    assert!(stuck.is_err(), "kept slices hold the budget");
    assert!((5..=11).contains(&kept.len()), "{}", kept.len());
    let before = kept.len();
    kept.clear();
    let mut rest = before;
    while rest < 40 {
        rest += reading.next().await.rows.len();
    }
    assert_eq!(rest, 40);
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_the_budget_gets_through() {
    let setup = Setup::with_budget(2, 64 << 10);
    for index in 0..2 {
        let shard = setup.shard(index);
        for _ in 0..3 {
            setup.stream.put_to(&shard, "key", vec![1; 1 << 20]);
        }
    }
    let readings =
        [0, 1].map(|index| setup.read_shard(setup.shard(index), StartPosition::TrimHorizon, None));
    let counts = join_all(readings.into_iter().map(|mut reading| async move {
        let mut records = 0;
        while records < 3 {
            records += reading.next().await.rows.len();
        }
        records
    }))
    .await;
    assert_eq!(counts, [3, 3]);
    assert!(
        setup.polling.budget.peak() < 2 << 20,
        "never two of them at once"
    );
}

#[tokio::test(start_paused = true)]
async fn tables_of_offsets_count_too() {
    let setup = Setup::new(1);
    let shard = setup.shard(0);
    // User records without data: the table is far larger than the payload.
    let texts: Vec<(&str, &[u8])> = (0..20_000).map(|_| ("k", &[][..])).collect();
    let packed = aggregate(&texts);
    let payload = packed.len() as u64;
    setup.stream.put_to(&shard, "key", packed);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let delivery = reading.next().await;
    assert_eq!(delivery.rows.len(), 20_000);
    assert!(setup.polling.budget.used() > 5 * payload);
    assert_eq!(setup.polling.budget.used(), delivery.batch.resident_bytes());
}
