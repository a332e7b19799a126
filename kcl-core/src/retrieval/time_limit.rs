//! A limit on the time of every call to a stream, whatever its source promises.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kcl_lease::{ListedShard, ShardId};
use tokio::time::timeout;

use super::error::{SourceError, SourceErrorKind};
use super::source::{
    Fetched, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamDescription,
};
use super::subscription::{StreamConsumer, Subscription};

/// Longer than the limits that the Kinesis source has of its own (30 s), whose errors say more.
const CALL_LIMIT: Duration = Duration::from_secs(40);
/// A call to subscribe that is not answered in this time went to a connection that is dead.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(8);
/// A listing has many pages, each with a limit of its own.
const LISTING_LIMIT: Duration = Duration::from_secs(300);

/// A stream whose calls all end: one that takes too long is dropped, and is an error like any other.
#[derive(Debug)]
pub(crate) struct TimeLimited(Arc<dyn ShardSource>);

impl TimeLimited {
    pub(crate) fn new(source: Arc<dyn ShardSource>) -> Self {
        Self(source)
    }
}

async fn within<T>(
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    timeout(limit, call).await.unwrap_or_else(|_| {
        let error = SourceError::new(SourceErrorKind::Timeout, operation);
        Err(error.with_detail(format!("the call was dropped after {} s", limit.as_secs())))
    })
}

#[async_trait]
impl ShardSource for TimeLimited {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        within(CALL_LIMIT, "DescribeStreamSummary", self.0.describe()).await
    }

    fn adopt(&self, arn: &str) -> bool {
        self.0.adopt(arn)
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        within(LISTING_LIMIT, "ListShards", self.0.list_shards(filter)).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        let call = self.0.iterator(shard, from);
        within(CALL_LIMIT, "GetShardIterator", call).await
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        let call = self.0.describe_consumer(name);
        within(CALL_LIMIT, "DescribeStreamConsumer", call).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        let call = self.0.register_consumer(name);
        within(CALL_LIMIT, "RegisterStreamConsumer", call).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let call = self.0.subscribe(consumer_arn, shard, from);
        within(SUBSCRIBE_LIMIT, "SubscribeToShard", call).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let call = self.0.get_records(iterator, limit);
        within(CALL_LIMIT, "GetRecords", call).await
    }
}
