//! From nothing to leases: which stream this is, where it starts, and a lease for each shard that needs one.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kcl_lease::retry::{RetryPolicy, retry};
use kcl_lease::runtime::Runtime;
use kcl_lease::{CoordinatorError, CoordinatorHandle, StreamIdentity, StreamStart};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Config, InitialPosition};
use crate::error::WorkerError;
use crate::event::{EventSink, WorkerEvent};
use crate::retrieval::{ShardFilter, ShardSource, SourceError, StreamDescription, StreamStatus};
use crate::stream::StreamRef;

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
}

/// Checks the stream against what the application knows of it, and creates missing leases.
///
/// The moment of LATEST is stored before the shards are listed, and the listing asks for the shards open at that moment:
/// a split in between leaves no hole.
pub(crate) async fn open(
    stream: &StreamRef,
    config: &Config,
    source: &dyn ShardSource,
    coordinator: &CoordinatorHandle,
    events: &EventSink,
    runtime: &Runtime,
) -> Result<OpenStream, WorkerError> {
    let attempts = Attempts {
        stream,
        deadline: Instant::now() + config.startup_timeout,
        rng: runtime.rng("startup"),
    };
    let description = attempts.describe(source).await?;
    let proposed = StreamIdentity {
        stream_arn: description.arn.clone(),
        created_at: epoch_millis(description.created_at),
        start: proposed_start(config.initial_position, &description),
    };
    let opened = coordinator.open_stream(proposed).await?;
    let start = opened.identity.start;
    let created = attempts
        .create_leases(source, coordinator, opened.fresh, &start)
        .await?;
    if created > 0 {
        events.emit(WorkerEvent::LeasesCreated { count: created });
    }
    Ok(OpenStream {
        arn: opened.identity.stream_arn,
        initial_time: initial_time(&start),
    })
}

fn proposed_start(position: InitialPosition, description: &StreamDescription) -> StreamStart {
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

fn initial_time(start: &StreamStart) -> Option<SystemTime> {
    match start {
        StreamStart::TrimHorizon => None,
        StreamStart::Latest { moment_ms } | StreamStart::AtTimestamp { moment_ms } => {
            UNIX_EPOCH.checked_add(Duration::from_millis(*moment_ms))
        }
    }
}

fn epoch_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Repeats transient failures of the start until the startup timeout.
struct Attempts<'a> {
    stream: &'a StreamRef,
    deadline: Instant,
    rng: fastrand::Rng,
}

impl Attempts<'_> {
    async fn describe(&self, source: &dyn ShardSource) -> Result<StreamDescription, WorkerError> {
        loop {
            let description = self.repeat(|| source.describe()).await?;
            match description.status {
                StreamStatus::Readable => return Ok(description),
                StreamStatus::Deleting => {
                    return Err(WorkerError::StreamDeleting {
                        stream: self.stream.name.clone(),
                    });
                }
                StreamStatus::Creating if Instant::now() >= self.deadline => {
                    return Err(WorkerError::StreamCreating {
                        stream: self.stream.name.clone(),
                    });
                }
                StreamStatus::Creating => tokio::time::sleep(CREATING_POLL).await,
            }
        }
    }

    /// Creates the leases that the shards need. A listing in the middle of a reshard, or one that was overtaken by
    /// another worker's start, is taken again.
    async fn create_leases(
        &self,
        source: &dyn ShardSource,
        coordinator: &CoordinatorHandle,
        fresh: bool,
        start: &StreamStart,
    ) -> Result<usize, WorkerError> {
        let mut fresh = fresh;
        loop {
            let filter = if fresh {
                initial_filter(start)
            } else {
                ShardFilter::All
            };
            let listing = self.repeat(|| source.list_shards(filter.clone())).await?;
            match coordinator.sync_shards(listing, fresh).await {
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
            stream: self.stream.name.clone(),
            source,
        })
    }
}

/// Lists the shards again whenever coordination needs to know which parents still exist.
pub(crate) async fn keep_listing(
    source: &dyn ShardSource,
    coordinator: &CoordinatorHandle,
    wanted: &Notify,
    events: &EventSink,
    runtime: &Runtime,
) -> Infallible {
    let mut waits = RetryPolicy::endless(Duration::from_millis(200), Duration::from_secs(10))
        .schedule(runtime.rng("listing"));
    loop {
        wanted.notified().await;
        let outcome = match source.list_shards(ShardFilter::All).await {
            Ok(listing) => coordinator
                .sync_shards(listing, false)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(outcome) if outcome.created > 0 => {
                events.emit(WorkerEvent::LeasesCreated {
                    count: outcome.created,
                });
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
