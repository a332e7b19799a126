//! How long a subscription is held while what came has to wait, and what an event may come into.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use kcl_lease::{ListedShard, ShardId};
use tokio::time::{Instant, sleep};

use super::{NONE, Reading, Setup};
use crate::retrieval::tests::{aggregate, numbered_aggregate};
use crate::retrieval::{
    Budget, Fetched, MemoryStream, Pushed, ReadLimit, ShardFilter, ShardIterator, ShardSource,
    SourceError, SourceErrorKind, StartPosition, StreamConsumer, StreamDescription, Subscription,
};

const MIB: u64 = 1 << 20;

impl Setup {
    fn with_budget(mut self, bytes: u64) -> Self {
        self.reader.polling.budget = Budget::new(bytes);
        self
    }

    fn with_source(mut self, source: &Arc<dyn ShardSource>) -> Self {
        self.reader = super::reader(source, &self.runtime, super::named(true));
        self
    }

    fn budget(&self) -> Budget {
        self.reader.polling.budget.clone()
    }

    fn put_bytes(&self, index: usize, bytes: u64) {
        let data = vec![1; usize::try_from(bytes).unwrap()];
        assert!(self.stream.put_to(&self.shard(index), "k", data).is_some());
    }

    fn is_followed(&self, index: usize) -> bool {
        self.stream.is_followed("app", &self.shard(index))
    }

    fn read_all(&self, shards: usize) -> Vec<Reading> {
        (0..shards)
            .map(|index| self.read_shard(index, StartPosition::TrimHorizon, None))
            .collect()
    }
}

async fn records(reading: &mut Reading, count: usize) {
    let mut records = 0;
    while records < count {
        records += reading.next().await.rows.len();
    }
    assert_eq!(records, count);
}

#[tokio::test(start_paused = true)]
async fn room_that_was_waited_for_is_not_taken_for_more_than_it_is() {
    let setup = Setup::new(6).with_budget(32 * MIB);
    let budget = setup.budget();
    let mut readings = setup.read_all(6);
    sleep(Duration::from_secs(10)).await;
    let mut taken = budget.reserve(32 * MIB).await;
    for index in 0..6 {
        setup.put_bytes(index, MIB);
    }
    sleep(Duration::from_secs(60)).await;
    // The next subscriptions begin with more than was announced: seven times as much, and more than any answer.
    for index in 0..6 {
        setup.put_bytes(index, 7 * MIB);
    }
    setup.put_bytes(0, 20 * MIB);
    taken.resize(20 * MIB);
    let all = join_all(
        (0..6)
            .zip(&mut readings)
            .map(|(index, reading)| records(reading, if index == 0 { 3 } else { 2 })),
    );
    let freed = async {
        sleep(Duration::from_secs(60)).await;
        drop(taken);
    };
    tokio::join!(all, freed);
    let most = budget.total() + 10 * MIB;
    assert!(budget.peak() <= most, "{}", budget.peak());
    drop(readings);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_table_of_user_records_holds_no_subscription() {
    let setup = Setup::new(1).with_budget(16 * MIB);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(10)).await;
    // Somebody's read runs, and may need what is left.
    let running = setup.budget().reserve(15 * MIB).await;
    let user_records: Vec<(&str, &[u8])> = (0..60_000).map(|_| ("k", &[][..])).collect();
    setup
        .stream
        .put_to(&setup.shard(0), "key", aggregate(&user_records));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(setup.budget().waiting(), 1);
    assert!(setup.is_followed(0), "for a moment it may wait");
    sleep(Duration::from_secs(8)).await;
    assert_eq!(setup.budget().waiting(), 1);
    assert!(!setup.is_followed(0));
    drop(running);
    setup.put(&["after"]);
    records(&mut reading, 60_001).await;
    assert_eq!(reading.notes.of("failed"), NONE);
}

#[tokio::test(start_paused = true)]
async fn who_delivers_part_by_part_to_a_slow_receiver_holds_no_subscription() {
    let setup = Setup::new(1);
    let smallest: Vec<(&str, &[u8])> = (0..100_000).map(|_| ("k", &[][..])).collect();
    let packed = aggregate(&smallest);
    for _ in 0..6 {
        setup.stream.put_to(&setup.shard(0), "key", packed.clone());
    }
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(30)).await;
    let first = reading.next().await;
    assert!(first.rows.len() < 600_000, "it is one part");
    sleep(Duration::from_secs(30)).await;
    assert!(!setup.is_followed(0));
    setup.put(&["after"]);
    records(&mut reading, 600_001 - first.rows.len()).await;
    sleep(Duration::from_secs(6)).await;
    assert!(setup.is_followed(0));
    assert_eq!(reading.notes.of("failed"), NONE);
}

#[tokio::test(start_paused = true)]
async fn a24_five_hundred_blocked_shards_stay_within_the_budget_and_share_it() {
    const SHARDS: usize = 500;
    let setup = Setup::new(500).with_budget(16 * MIB);
    for index in 0..SHARDS {
        let packed = numbered_aggregate(&format!("{index:0>200}"), 10);
        for _ in 0..8 {
            let shard = setup.shard(index);
            setup.stream.put_to(&shard, "key", packed.clone());
        }
    }
    let mut readings = setup.read_all(SHARDS);
    sleep(Duration::from_secs(600)).await;
    let budget = setup.budget();
    assert!(budget.peak() <= budget.total(), "{}", budget.peak());
    assert!(budget.used() > budget.total() / 4, "{}", budget.used());
    join_all(readings.iter_mut().map(|reading| records(reading, 80))).await;
    assert!(budget.peak() <= budget.total(), "{}", budget.peak());
    drop(readings);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_reads_in_a_second_is_bounded_and_nothing_is_lost() {
    const PUTS: usize = 60;
    let mut setup = Setup::new(2);
    // Half of what is put.
    let limit = ReadLimit::new(10 << 10, setup.runtime.clone());
    setup.reader.fan_out.as_mut().unwrap().limit = limit;
    let mut readings = setup.read_all(2);
    let puts = async {
        for number in 0..PUTS {
            for index in 0..2 {
                let text = format!("{number:0>10240}");
                setup.stream.put_to(&setup.shard(index), "k", text);
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let begun = Instant::now();
    let reads = join_all(readings.iter_mut().map(|reading| reading.texts(PUTS)));
    let (texts, ()) = tokio::join!(reads, puts);
    let seconds = begun.elapsed().as_secs();
    assert!((105..150).contains(&seconds), "{seconds}");
    for texts in texts {
        let numbers = texts.iter().map(|text| text.parse().unwrap());
        assert_eq!(numbers.collect::<Vec<usize>>(), Vec::from_iter(0..PUTS));
    }
    assert!(setup.calls() <= 2 * 150 / 5, "{}", setup.calls());
    for reading in &readings {
        assert_eq!(reading.notes.of("failed"), NONE);
    }
}

/// A connection over which a large event takes a while.
#[derive(Debug)]
struct SlowLine(MemoryStream);

#[derive(Debug)]
struct Slow {
    subscription: Box<dyn Subscription>,
    takes: Duration,
    since: Option<Instant>,
}

#[async_trait]
impl Subscription for Slow {
    async fn announced(&mut self) -> Result<Option<u64>, SourceError> {
        self.subscription.announced().await
    }

    async fn receive(&mut self) -> Result<Pushed, SourceError> {
        let bytes = self.subscription.announced().await?.unwrap_or_default();
        if bytes >= MIB {
            let since = *self.since.get_or_insert_with(Instant::now);
            tokio::time::sleep_until(since + self.takes).await;
        }
        self.since = None;
        self.subscription.receive().await
    }
}

#[async_trait]
impl ShardSource for SlowLine {
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

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.0.describe_consumer(name).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.0.register_consumer(name).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        Ok(Box::new(Slow {
            subscription: self.0.subscribe(consumer_arn, shard, from).await?,
            takes: Duration::from_secs(25),
            since: None,
        }))
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.0.get_records(iterator, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_event_over_a_slow_connection_comes_in_the_end() {
    let setup = Setup::new(1);
    let source: Arc<dyn ShardSource> = Arc::new(SlowLine(setup.stream.clone()));
    let setup = setup.with_source(&source);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(10)).await;
    for _ in 0..2 {
        let begun = Instant::now();
        setup.put_bytes(0, MIB);
        records(&mut reading, 1).await;
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "{:?}",
            begun.elapsed()
        );
    }
    // Ten seconds and twenty were not enough, both times.
    let failed = reading.notes.of("failed");
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert!(
        failed
            .iter()
            .all(|note| note.ends_with(SourceErrorKind::Timeout.as_str()))
    );
}
