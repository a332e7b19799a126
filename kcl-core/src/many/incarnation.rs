//! One incarnation of a stream: the ARN stays the same when a stream is deleted and created anew, its leases do not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kcl_lease::{ListedShard, ShardId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::retrieval::{
    Fetched, ShardFilter, ShardIterator, ShardSource, SourceError, SourceErrorKind, StartPosition,
    StreamConsumer, StreamDescription, Subscription,
};

/// Creation times are given to fractions of a second that not every SDK keeps.
const TOLERANCE: Duration = Duration::from_secs(1);
/// A look at the stream holds for so long: many shards begin to be read at the same time.
const HOLDS: Duration = Duration::from_secs(60);
/// So does it that there is none, not for as long.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// A stream as long as it is the one that was created at that time; after that it is not found.
#[derive(Debug)]
pub(crate) struct Incarnation {
    stream: Arc<dyn ShardSource>,
    created_at: SystemTime,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
enum Seen {
    Never,
    There(Instant),
    /// It was not there at that moment.
    Missing(Instant),
    /// The look that ended at that moment failed.
    Failed(Instant, Failure),
    Replaced,
}

#[derive(Debug)]
struct Failure {
    kind: SourceErrorKind,
    operation: &'static str,
    message: String,
}

impl Failure {
    fn of(error: &SourceError) -> Self {
        Self {
            kind: error.kind(),
            operation: error.operation(),
            message: error.detail().unwrap_or_default().to_owned(),
        }
    }

    fn error(&self) -> SourceError {
        SourceError::new(self.kind, self.operation).with_detail(&self.message)
    }
}

impl Incarnation {
    pub(crate) fn new(stream: Arc<dyn ShardSource>, created_at: SystemTime) -> Self {
        Self {
            stream,
            created_at,
            seen: Mutex::new(Seen::Never),
        }
    }

    /// Looks whether the stream is still the same one, unless that was seen a moment ago.
    ///
    /// Takes as long as describing the stream may take. Whoever has a limit of his own that is shorter than that must not put it
    /// around this: a look that is dropped is lost, and the next one takes as long.
    async fn check(&self) -> Result<(), SourceError> {
        let asked = Instant::now();
        let mut seen = self.seen.lock().await;
        match &*seen {
            Seen::There(at) if at.elapsed() < HOLDS => return Ok(()),
            // All shards of the stream ask, again and again.
            Seen::Missing(at) if at.elapsed() < MISSING_FOR => return Err(missing()),
            // Who waited for a look that failed does not wait for one after the other.
            Seen::Failed(at, failure) if *at > asked => return Err(failure.error()),
            Seen::There(_) | Seen::Missing(_) | Seen::Failed(..) | Seen::Never => {}
            Seen::Replaced => return Err(replaced()),
        }
        let found = match self.stream.describe().await {
            Ok(description) => description.created_at,
            Err(error) if error.kind() == SourceErrorKind::StreamNotFound => {
                *seen = Seen::Missing(Instant::now());
                return Err(error);
            }
            Err(error) => {
                *seen = Seen::Failed(Instant::now(), Failure::of(&error));
                return Err(error);
            }
        };
        let apart = found.duration_since(self.created_at);
        let apart = apart.unwrap_or_else(|earlier| earlier.duration());
        if apart < TOLERANCE {
            *seen = Seen::There(Instant::now());
            return Ok(());
        }
        *seen = Seen::Replaced;
        Err(replaced())
    }

    /// A sequence number is one of its stream only, so the service tells the difference; else it has to be looked at.
    async fn begin(&self, from: &StartPosition) -> Result<(), SourceError> {
        match from {
            StartPosition::TrimHorizon | StartPosition::AtTimestamp(_) => self.check().await,
            StartPosition::AtSequenceNumber(_) | StartPosition::AfterSequenceNumber(_) => Ok(()),
        }
    }

    /// What a failed call says, or that the stream is another one by now.
    async fn why(&self, error: SourceError) -> SourceError {
        let suspicious = matches!(
            error.kind(),
            SourceErrorKind::InvalidArgument | SourceErrorKind::StreamNotFound
        );
        if !suspicious {
            return error;
        }
        let mut seen = self.seen.lock().await;
        if matches!(*seen, Seen::There(_)) {
            *seen = Seen::Never;
        }
        drop(seen);
        match self.check().await {
            Err(other) if other.kind() == SourceErrorKind::StreamNotFound => other,
            _ => error,
        }
    }
}

fn missing() -> SourceError {
    SourceError::new(SourceErrorKind::StreamNotFound, "DescribeStreamSummary")
        .with_detail("it was not there a moment ago")
}

fn replaced() -> SourceError {
    SourceError::new(SourceErrorKind::StreamNotFound, "DescribeStreamSummary")
        .with_detail("the stream was deleted and created anew; the new one has leases of its own")
}

#[async_trait]
impl ShardSource for Incarnation {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
    }

    fn adopt(&self, arn: &str) -> bool {
        self.stream.adopt(arn)
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.check().await?;
        self.stream.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.begin(from).await?;
        match self.stream.iterator(shard, from).await {
            Ok(iterator) => Ok(iterator),
            Err(error) => Err(self.why(error).await),
        }
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
        self.begin(from).await?;
        match self.stream.subscribe(consumer_arn, shard, from).await {
            Ok(subscription) => Ok(subscription),
            Err(error) => Err(self.why(error).await),
        }
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.stream.get_records(iterator, limit).await
    }
}

#[cfg(test)]
mod tests;
