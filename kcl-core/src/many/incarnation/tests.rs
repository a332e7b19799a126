//! Looks at a stream that take long or fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use kcl_lease::HashKeyRange;
use kcl_lease::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::retrieval::{Budget, MemoryStream, Retrieval, ShardRead, TimeLimited, Unobserved};
use crate::shared_reading::SharedReading;
use crate::stream::StreamConfig;

/// A stream whose calls take long, and whose descriptions may fail after that.
#[derive(Debug)]
struct Slow {
    stream: MemoryStream,
    describes_in: Duration,
    described: AtomicUsize,
    fails: bool,
    subscribes_in: std::sync::Mutex<Vec<Duration>>,
}

impl Slow {
    fn new(stream: &MemoryStream, describes_in: Duration) -> Self {
        Self {
            stream: stream.clone(),
            describes_in,
            described: AtomicUsize::new(0),
            fails: false,
            subscribes_in: std::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl ShardSource for Slow {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.described.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.describes_in).await;
        match self.fails {
            true => Err(SourceError::new(
                SourceErrorKind::Throttled,
                "DescribeStreamSummary",
            )),
            false => self.stream.describe().await,
        }
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.stream.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.stream.iterator(shard, from).await
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.stream.describe_consumer(name).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.stream.register_consumer(name).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let takes = self.subscribes_in.lock().unwrap().pop();
        tokio::time::sleep(takes.unwrap_or_default()).await;
        self.stream.subscribe(consumer_arn, shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.stream.get_records(iterator, limit).await
    }
}

async fn incarnation(slow: &Arc<Slow>) -> Arc<Incarnation> {
    let limited = Arc::new(TimeLimited::new(Arc::clone(slow) as _));
    let created = slow.stream.describe().await.unwrap().created_at;
    Arc::new(Incarnation::new(limited, created))
}

/// How long it takes until the first record comes over a subscription.
async fn first_record(slow: Slow, runtime: &Runtime) -> Duration {
    let slow = Arc::new(slow);
    let shard = slow.stream.shards()[0].shard_id.clone();
    slow.stream.put_to(&shard, "key", "text").unwrap();
    let source = incarnation(&slow).await as Arc<dyn ShardSource>;
    let shared = SharedReading::new(&Config::default(), Budget::new(64 << 20), runtime.clone());
    let stream = StreamConfig::new("memory").stream().unwrap();
    let consumer = Retrieval::fan_out().resolve(&"app".into(), &stream, None);
    let read = ShardRead {
        shard,
        hash_range: HashKeyRange::FULL,
        start: StartPosition::TrimHorizon,
        skip_through: None,
        observer: Arc::new(Unobserved),
    };
    let (sender, mut deliveries) = mpsc::channel(1);
    let begun = Instant::now();
    let reading = shared
        .reader(&source, Some(consumer.unwrap()))
        .read(read, sender);
    let _reading = runtime.spawn(reading);
    let first = timeout(Duration::from_secs(3600), deliveries.recv()).await;
    assert_eq!(first.expect("within an hour").unwrap().rows.len(), 1);
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_look_that_takes_longer_than_subscribing_may_is_not_lost() {
    let seconds = Duration::from_secs;
    let runtime = Runtime::virtual_time(1);
    let slow = |describes_in| Slow::new(&MemoryStream::new(1, runtime.clone()), describes_in);
    assert_eq!(first_record(slow(seconds(30)), &runtime).await, seconds(30));
    // A call to subscribe that is not answered is not waited for as long, and the next one needs no look.
    let hangs = slow(seconds(30));
    *hangs.subscribes_in.lock().unwrap() = vec![seconds(3600)];
    assert_eq!(first_record(hangs, &runtime).await, seconds(38));
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_a_look_shares_what_came_of_it() {
    let stream = MemoryStream::new(1, Runtime::virtual_time(1));
    let ten_checks = async |incarnation: &Incarnation| {
        let begun = Instant::now();
        let answers = join_all((0..10).map(|_| incarnation.check())).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
        answers
    };
    let mut slow = Slow::new(&stream, Duration::from_secs(20));
    let good = Arc::new(slow);
    let answers = ten_checks(&*incarnation(&good).await).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(good.described.load(Ordering::Relaxed), 1);

    slow = Slow::new(&stream, Duration::from_secs(20));
    slow.fails = true;
    let bad = Arc::new(slow);
    let incarnation = incarnation(&bad).await;
    for looks in 1..=2 {
        let answers = ten_checks(&incarnation).await;
        let kind = |answer: &Result<(), SourceError>| answer.as_ref().unwrap_err().kind();
        assert!(
            answers
                .iter()
                .all(|answer| kind(answer) == SourceErrorKind::Throttled),
            "{answers:?}"
        );
        // Whoever asks later looks anew.
        assert_eq!(bad.described.load(Ordering::Relaxed), looks);
    }
}
