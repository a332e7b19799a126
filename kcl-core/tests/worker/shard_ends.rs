//! The end of a shard whose children are not what the service says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcl_core::retrieval::{
    Fetched, MemoryStream, ShardFilter, ShardIterator, ShardSource, StartPosition,
    StreamDescription,
};
use kcl_core::{Checkpoint, SourceError, Worker, WorkerEvent, async_trait};
use kcl_lease::{ListedShard, ShardId};
use tokio::time::timeout;

use crate::fixture::{Behaviour, Fixture, Recorder, Running, eventually};

/// A stream that names wrong parents of shards.
#[derive(Debug)]
struct Liar {
    stream: MemoryStream,
    lies: Arc<AtomicBool>,
}

impl Liar {
    fn tell(&self, mut shards: Vec<ListedShard>) -> Vec<ListedShard> {
        if self.lies.load(Ordering::SeqCst) {
            let with_parent = shards.iter_mut().filter(|shard| shard.parent.is_some());
            with_parent.for_each(|shard| shard.parent = Some(ShardId::from("shardId-elsewhere")));
        }
        shards
    }
}

#[async_trait]
impl ShardSource for Liar {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        Ok(self.tell(self.stream.list_shards(filter).await?))
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.stream.iterator(shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let mut fetched = self.stream.get_records(iterator, limit).await?;
        fetched.children = self.tell(fetched.children);
        Ok(fetched)
    }
}

/// A worker on a stream whose lies can be switched on and off.
fn start(fixture: &Fixture, lies: &Arc<AtomicBool>) -> Running {
    let source = Liar {
        stream: fixture.stream.clone(),
        lies: Arc::clone(lies),
    };
    let log = fixture.log.clone();
    let all_well: Behaviour = Arc::new(|_| Ok(()));
    let builder = Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: Arc::clone(&all_well),
    });
    fixture.start_on(Arc::new(source), builder)
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_be_finished_says_so_and_goes_on_once_the_listing_is_right() {
    let fixture = Fixture::new(1);
    let lies = Arc::new(AtomicBool::new(false));
    let worker = start(&fixture, &lies);
    let mut events = worker.handle.events();
    worker.handle.caught_up().await;
    lies.store(true, Ordering::SeqCst);
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    fixture.put_many(1, &["child"]);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(fixture.log.delivered(), Vec::<String>::new());
    lies.store(false, Ordering::SeqCst);
    eventually("the child's record", || {
        fixture.log.delivered() == ["child"]
    })
    .await;
    drop(worker);
    let mut refused = 0;
    while let Some(event) = events.next().await {
        if let WorkerEvent::ShardEndRefused { shard, error, .. } = event {
            assert_eq!(shard.shard(), parent);
            assert!(error.contains("does not name this shard"), "{error}");
            refused += 1;
        }
    }
    assert!((5..=120).contains(&refused), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_a_refused_shard_once_the_listing_is_right() {
    let fixture = Fixture::new(1);
    let lies = Arc::new(AtomicBool::new(false));
    let worker = start(&fixture, &lies);
    worker.handle.caught_up().await;
    lies.store(true, Ordering::SeqCst);
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    worker.handle.shutdown();
    tokio::time::sleep(Duration::from_secs(2)).await;
    lies.store(false, Ordering::SeqCst);
    let report = worker.result().await.unwrap();
    assert_eq!((report.abandoned, report.exit_code()), (0, 0));
    assert_eq!(fixture.lease(&parent).checkpoint, Checkpoint::ShardEnd);
}

#[tokio::test(start_paused = true)]
async fn a_refused_shard_that_should_move_is_finished_once_the_listing_is_right() {
    let fixture = Fixture::new(2);
    let lies = Arc::new(AtomicBool::new(false));
    let first = start(&fixture, &lies);
    first.handle.caught_up().await;
    lies.store(true, Ordering::SeqCst);
    let parents = [fixture.shard(0), fixture.shard(1)];
    for parent in &parents {
        fixture.stream.split(parent).unwrap();
    }
    fixture.put_many(2, &["a child"]);
    fixture.put_many(4, &["another child"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    // One of the two shards should move to it.
    let _second = start(&fixture, &lies);
    tokio::time::sleep(Duration::from_secs(120)).await;
    lies.store(false, Ordering::SeqCst);
    eventually("the children's records", || {
        fixture.log.delivered().len() == 2
    })
    .await;
    for parent in &parents {
        assert_eq!(fixture.lease(parent).checkpoint, Checkpoint::ShardEnd);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_not_caught_up_before_a_shard_that_should_move_is_finished() {
    let fixture = Fixture::new(2);
    let lies = Arc::new(AtomicBool::new(false));
    let first = start(&fixture, &lies);
    first.handle.caught_up().await;
    lies.store(true, Ordering::SeqCst);
    fixture.stream.split(&fixture.shard(0)).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let _second = start(&fixture, &lies);
    let early = timeout(Duration::from_secs(120), first.handle.caught_up()).await;
    assert!(early.is_err(), "nobody reads the children yet");
    lies.store(false, Ordering::SeqCst);
    let late = timeout(Duration::from_secs(60), first.handle.caught_up()).await;
    assert!(late.is_ok());
}
