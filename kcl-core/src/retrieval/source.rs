//! The one seam to the stream: everything above runs unchanged on Kinesis and on an in-memory stream.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kcl_checkpoint::SequenceNumber;
use kcl_lease::{ListedShard, ShardId};

use super::batch::Batch;
use super::error::{SourceError, SourceErrorKind};
use super::subscription::{StreamConsumer, Subscription};

/// Where a shard iterator starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest record that the stream still retains.
    TrimHorizon,
    /// The first record that arrived at this time or later.
    AtTimestamp(SystemTime),
    /// The record with this sequence number.
    AtSequenceNumber(SequenceNumber),
    /// The first record after this sequence number.
    AfterSequenceNumber(SequenceNumber),
}

/// Which shards a listing returns (the `ShardFilter` of `ListShards`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardFilter {
    /// Every shard that still has data or is open.
    All,
    /// The shards open at the trim horizon.
    AtTrimHorizon,
    /// The shards open now.
    AtLatest,
    /// The shards open at this time.
    AtTimestamp(SystemTime),
}

/// The service's token for the next read of a shard. Expires five minutes after it was given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// What the service says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// The stream's ARN.
    pub arn: String,
    /// When this incarnation of the stream was created.
    pub created_at: SystemTime,
    /// Whether the stream can be read.
    pub status: StreamStatus,
    /// The service's clock when it answered, from the `Date` header; `None` if it sent none.
    pub service_time: Option<SystemTime>,
}

/// The life of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStatus {
    /// Not readable yet.
    Creating,
    /// Readable (`ACTIVE` or `UPDATING`).
    Readable,
    /// Going away.
    Deleting,
}

/// One answer of a read.
#[derive(Debug)]
pub struct Fetched {
    /// The records, as they were put (not de-aggregated).
    pub batch: Batch,
    /// Where to go on; `None` at the end of a closed shard.
    pub next: Option<ShardIterator>,
    /// The shards that take over, at the end of a closed shard.
    pub children: Vec<ListedShard>,
    /// How far the answer's end lies behind the tip.
    pub behind: Option<Duration>,
}

/// A stream whose shards can be listed and read.
///
/// Every call makes a bounded number of attempts and ends within its own time limit: a worker drops calls that take longer
/// than 40 seconds (listings: 300, subscribing: 8), and calls again. Dropping a call's future is safe: reads change nothing.
#[async_trait]
pub trait ShardSource: Debug + Send + Sync + 'static {
    /// Describes the stream.
    async fn describe(&self) -> Result<StreamDescription, SourceError>;

    /// Whether the stream of this ARN is the one that this source reads, as far as can be told without a call. If so, later
    /// reads are bound to the ARN: one of the same name in another account, which other credentials may see, is not read.
    /// A source that cannot tell says no; then the stream is described.
    fn adopt(&self, _arn: &str) -> bool {
        false
    }

    /// Lists shards, all pages.
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError>;

    /// Gets an iterator.
    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError>;

    /// Looks for the consumer of this name. `None`: there is none. By default the source knows no consumers.
    async fn describe_consumer(&self, _name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        Err(no_fan_out("DescribeStreamConsumer"))
    }

    /// Registers a consumer of this name. `StreamInUse`: there is one.
    async fn register_consumer(&self, _name: &str) -> Result<StreamConsumer, SourceError> {
        Err(no_fan_out("RegisterStreamConsumer"))
    }

    /// Subscribes a consumer to a shard. `StreamInUse`: somebody did a moment ago.
    async fn subscribe(
        &self,
        _consumer_arn: &str,
        _shard: &ShardId,
        _from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        Err(no_fan_out("SubscribeToShard"))
    }

    /// Reads at most `limit` records (1 to 10,000).
    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError>;
}

fn no_fan_out(operation: &'static str) -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, operation)
        .with_detail("this source has no enhanced fan-out")
}
