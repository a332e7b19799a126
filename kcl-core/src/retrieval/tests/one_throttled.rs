//! A stream of which one shard is used by others as well: all calls that read it are refused for its limits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kcl_lease::{ListedShard, ShardId};

use crate::retrieval::{
    Fetched, MemoryStream, ShardFilter, ShardIterator, ShardSource, SourceError, SourceErrorKind,
    StartPosition, StreamConsumer, StreamDescription, Subscription,
};

#[derive(Debug)]
pub(super) struct OneThrottled {
    stream: MemoryStream,
    shard: ShardId,
    throttles: AtomicBool,
    refused: AtomicUsize,
}

impl OneThrottled {
    pub(super) fn new(stream: &MemoryStream, shard: ShardId) -> Self {
        Self {
            stream: stream.clone(),
            shard,
            throttles: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
        }
    }

    /// Whether the shard's calls are refused from now on.
    pub(super) fn throttle(&self, throttles: bool) {
        self.throttles.store(throttles, Ordering::Relaxed);
    }

    /// How many calls were refused.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn allow(&self, is_it: bool, operation: &'static str) -> Result<(), SourceError> {
        if is_it && self.throttles.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SourceError::new(SourceErrorKind::Throttled, operation));
        }
        Ok(())
    }
}

#[async_trait]
impl ShardSource for OneThrottled {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
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
        self.allow(*shard == self.shard, "SubscribeToShard")?;
        self.stream.subscribe(consumer_arn, shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        // A refusal takes its time, too.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.allow(iterator.0.ends_with(self.shard.as_str()), "GetRecords")?;
        self.stream.get_records(iterator, limit).await
    }
}
