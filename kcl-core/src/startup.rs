//! From nothing to leases: which stream this is, where it starts, and a lease for each shard that needs one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kcl_lease::retry::{RetryPolicy, retry};
use kcl_lease::runtime::Runtime;
use kcl_lease::{
    CoordinatorError, CoordinatorHandle, OpenedStream, StreamIdentity, StreamKey, StreamStart,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Config, InitialPosition};
use crate::error::WorkerError;
use crate::event::{EventSink, WorkerEvent};
use crate::retrieval::{ShardFilter, ShardSource, SourceError, StreamDescription, StreamStatus};

/// A record may have arrived just before the call whose answer dates the start of a LATEST application.
const LATEST_MARGIN: Duration = Duration::from_secs(1);
/// How often a stream that is being created is looked at.
const CREATING_POLL: Duration = Duration::from_millis(500);
/// A reshard that a listing caught half-way is over soon.
const LISTING_AGAIN: Duration = Duration::from_millis(500);

/// The stream that the application belongs to.
#[derive(Debug, Clone)]
pub(crate) struct OpenStream {
    pub(crate) arn: String,
    /// The time that LATEST or AT_TIMESTAMP stand for in this application; `None` for TRIM_HORIZON.
    pub(crate) initial_time: Option<SystemTime>,
    /// This worker has compared the stream itself with what is stored; else another one has that leads.
    pub(crate) checked: bool,
}

/// What the start and later listings need.
#[derive(Clone, Copy)]
pub(crate) struct Startup<'a> {
    pub(crate) stream: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) source: &'a dyn ShardSource,
    pub(crate) coordinator: &'a CoordinatorHandle,
    pub(crate) events: &'a EventSink,
    pub(crate) runtime: &'a Runtime,
}

impl Startup<'_> {
    /// Checks the stream against what the application knows of it, and creates missing leases. Only the worker that leads
    /// asks the service: all others start with what is stored, so that the start of a large fleet costs a few calls.
    ///
    /// The moment of LATEST is stored before the shards are listed, and the listing asks for the shards open at that
    /// moment: a split in between leaves no hole.
    pub(crate) async fn open(&self) -> Result<OpenStream, WorkerError> {
        // A reset begins with the stream itself.
        if !self.config.reset_if_stream_changed
            && let Some(stored) = self.coordinator.stored_stream().await?
            && self.source.adopt(&stored.stream_arn)
        {
            self.coordinator.join_stream();
            return Ok(open_stream(stored, false));
        }
        let attempts = self.attempts();
        let opened = self.check(&attempts).await?;
        let created = attempts
            .create_leases(self.source, self.coordinator, &StreamKey::ONLY, &opened)
            .await?;
        if created > 0 {
            self.events
                .emit(WorkerEvent::LeasesCreated { count: created });
        }
        Ok(open_stream(opened.identity, true))
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts {
            stream: self.stream,
            deadline: Instant::now() + self.config.startup_timeout,
            rng: self.runtime.rng("startup"),
        }
    }

    /// Describes the stream and compares it with what is stored, or stores it.
    async fn check(&self, attempts: &Attempts<'_>) -> Result<OpenedStream, WorkerError> {
        let description = attempts.describe(self.source).await?;
        let proposed = StreamIdentity {
            stream_arn: description.arn.clone(),
            created_at: epoch_millis(description.created_at),
            start: proposed_start(self.config.initial_position, &description),
        };
        let opened = self.coordinator.open_stream(StreamKey::ONLY, proposed);
        Ok(opened.await?)
    }

    /// Lists the shards again whenever coordination needs to know which parents still exist, or when this worker has come
    /// to lead; before the first time it looks whether the stream is the right one. Ends only with what that finds wrong.
    pub(crate) async fn keep_listing(&self, wanted: &Notify, checked: bool) -> WorkerError {
        let mut waits = RetryPolicy::endless(Duration::from_millis(200), Duration::from_secs(10))
            .schedule(self.runtime.rng("listing"));
        let mut checked = checked;
        loop {
            wanted.notified().await;
            if !checked {
                checked = match self.check(&self.attempts()).await {
                    Ok(_) => true,
                    Err(error) if error.is_retryable() => false,
                    // Whoever runs the worker sees coordination end, and knows better why.
                    Err(WorkerError::Coordination(CoordinatorError::Stopped)) => false,
                    Err(error) => return error,
                };
            }
            let listed = match checked {
                true => self.list().await,
                false => Err("the stream could not be described".to_owned()),
            };
            match listed {
                Ok(created) if created > 0 => {
                    self.events
                        .emit(WorkerEvent::LeasesCreated { count: created });
                }
                Ok(_) => waits.reset(),
                Err(error) => {
                    tracing::warn!(error, "listing the shards failed and is tried again");
                    wanted.notify_one();
                }
            }
            // Never more than a few listings a second, whatever asks for them.
            tokio::time::sleep(waits.next_or_cap()).await;
        }
    }

    async fn list(&self) -> Result<usize, String> {
        list_shards(self.source, self.coordinator, StreamKey::ONLY).await
    }
}

/// Creates leases for shards of a stream that lack one. Returns how many.
pub(crate) async fn list_shards(
    source: &dyn ShardSource,
    coordinator: &CoordinatorHandle,
    stream: StreamKey,
) -> Result<usize, String> {
    let listing = source.list_shards(ShardFilter::All).await;
    let listing = listing.map_err(|error| error.to_string())?;
    let synced = coordinator.sync_shards(stream, listing, false).await;
    synced
        .map(|outcome| outcome.created)
        .map_err(|error| error.to_string())
}

fn open_stream(identity: StreamIdentity, checked: bool) -> OpenStream {
    OpenStream {
        initial_time: initial_time(&identity.start),
        arn: identity.stream_arn,
        checked,
    }
}

pub(crate) fn proposed_start(
    position: InitialPosition,
    description: &StreamDescription,
) -> StreamStart {
    match position {
        InitialPosition::TrimHorizon => StreamStart::TrimHorizon,
        InitialPosition::AtTimestamp(time) => StreamStart::AtTimestamp {
            moment_ms: epoch_millis(time),
        },
        InitialPosition::Latest => {
            let now = description.service_time.unwrap_or(description.created_at);
            let moment = now
                .checked_sub(LATEST_MARGIN)
                .unwrap_or(now)
                .max(description.created_at);
            StreamStart::Latest {
                moment_ms: epoch_millis(moment),
            }
        }
    }
}

fn initial_filter(start: &StreamStart) -> ShardFilter {
    match initial_time(start) {
        None => ShardFilter::AtTrimHorizon,
        Some(time) => ShardFilter::AtTimestamp(time),
    }
}

/// The time that a start other than the trim horizon stands for.
pub(crate) fn initial_time(start: &StreamStart) -> Option<SystemTime> {
    match start {
        StreamStart::TrimHorizon => None,
        StreamStart::Latest { moment_ms } | StreamStart::AtTimestamp { moment_ms } => {
            UNIX_EPOCH.checked_add(Duration::from_millis(*moment_ms))
        }
    }
}

pub(crate) fn epoch_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Repeats transient failures of the start until the startup timeout, or of the opening of one stream.
pub(crate) struct Attempts<'a> {
    pub(crate) stream: &'a str,
    pub(crate) deadline: Instant,
    pub(crate) rng: fastrand::Rng,
}

impl Attempts<'_> {
    pub(crate) async fn describe(
        &self,
        source: &dyn ShardSource,
    ) -> Result<StreamDescription, WorkerError> {
        loop {
            let description = self.repeat(|| source.describe()).await?;
            match description.status {
                StreamStatus::Readable => return Ok(description),
                StreamStatus::Deleting => {
                    return Err(WorkerError::StreamDeleting {
                        stream: self.stream.to_owned(),
                    });
                }
                StreamStatus::Creating if Instant::now() >= self.deadline => {
                    return Err(WorkerError::StreamCreating {
                        stream: self.stream.to_owned(),
                    });
                }
                StreamStatus::Creating => tokio::time::sleep(CREATING_POLL).await,
            }
        }
    }

    /// Creates the leases that the shards need. A listing in the middle of a reshard, or one that was overtaken by
    /// another worker's start, is taken again.
    pub(crate) async fn create_leases(
        &self,
        source: &dyn ShardSource,
        coordinator: &CoordinatorHandle,
        stream: &StreamKey,
        opened: &OpenedStream,
    ) -> Result<usize, WorkerError> {
        let mut fresh = opened.fresh;
        loop {
            let filter = if fresh {
                initial_filter(&opened.identity.start)
            } else {
                ShardFilter::All
            };
            let listing = self.repeat(|| source.list_shards(filter.clone())).await?;
            match coordinator
                .sync_shards(stream.clone(), listing, fresh)
                .await
            {
                Ok(outcome) => return Ok(outcome.created),
                Err(error @ CoordinatorError::Listing(_)) if Instant::now() < self.deadline => {
                    tracing::warn!(%error, "the shards are listed again");
                    fresh &= error.allows_fresh_start();
                    tokio::time::sleep(LISTING_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn repeat<T, Fut>(&self, call: impl Fn() -> Fut) -> Result<T, WorkerError>
    where
        Fut: Future<Output = Result<T, SourceError>>,
    {
        let policy = RetryPolicy {
            elapsed_max: Some(self.deadline.saturating_duration_since(Instant::now())),
            ..RetryPolicy::endless(Duration::from_millis(100), Duration::from_secs(5))
        };
        let warn =
            |error: &SourceError, wait| tracing::warn!(%error, ?wait, "the start is tried again");
        retry(
            policy.schedule(self.rng.clone()),
            SourceError::is_retryable,
            warn,
            call,
        )
        .await
        .map_err(|source| WorkerError::Stream {
            stream: self.stream.to_owned(),
            source,
        })
    }
}
