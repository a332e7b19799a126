//! The registered consumer that a worker subscribes with: found, made if that is wanted, waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kcl_lease::retry::doubled;
use kcl_lease::runtime::{Moment, Runtime};
use tokio::sync::Mutex;

use super::fall_back::FallBack;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::ShardSource;
use crate::retrieval::subscription::{ConsumerStatus, StreamConsumer};

/// A consumer becomes ACTIVE within seconds. All workers of an application wait for it together, and the service takes 20
/// `DescribeStreamConsumer` calls a second for a stream (API reference).
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The service answers `LimitExceeded` both for too many consumers and for too many calls at a time. The latter passes.
const LIMIT_ATTEMPTS: u32 = 3;
/// What one shard was told of a failure holds for the others that ask so soon: the calls are limited for the account.
const FAILURE_HOLDS: Duration = Duration::from_secs(5);

/// A consumer that is found and that the service does not know all the same, so often in a row, stays so.
const NOT_KNOWN_TIMES: u32 = 3;

/// Which consumer to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConsumerChoice {
    /// The consumer with this ARN, as it is.
    Arn(String),
    /// The one of this name.
    Name {
        /// The name, unique in the stream.
        name: String,
        /// Whether to register it if there is none.
        register: bool,
    },
}

/// Which consumer, and what to do without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerOptions {
    pub(crate) choice: ConsumerChoice,
    /// How long a consumer may take to become ACTIVE.
    pub(crate) active_within: Duration,
    /// Whether the worker polls if there is no consumer to be had.
    pub(crate) falls_back: bool,
}

/// One worker's consumer of a stream. All its shards subscribe with it.
#[derive(Debug)]
pub(crate) struct Consumer {
    options: ConsumerOptions,
    source: Arc<dyn ShardSource>,
    runtime: Runtime,
    /// Held while somebody asks, so that many shards ask once.
    known: Mutex<Known>,
    /// How often what was found turned out to be none, since the last subscription.
    not_known: AtomicU32,
    fall_back: FallBack,
}

#[derive(Debug, Default)]
struct Known {
    arn: Option<Arc<str>>,
    failure: Option<Failure>,
    /// Whether it was told that the consumer is waited for.
    told_wait: bool,
}

#[derive(Debug)]
struct Failure {
    at: Moment,
    kind: SourceErrorKind,
    operation: &'static str,
    message: String,
}

/// Why there is no consumer to subscribe with.
#[derive(Debug)]
pub(crate) struct NoConsumer {
    pub(crate) error: SourceError,
    /// Whether nobody was told yet: of the many shards that ask, one tells.
    pub(crate) is_news: bool,
}

impl Consumer {
    /// Nothing is asked before somebody subscribes.
    pub(crate) fn new(
        options: ConsumerOptions,
        source: Arc<dyn ShardSource>,
        runtime: Runtime,
    ) -> Self {
        Self {
            options,
            source,
            runtime,
            known: Mutex::default(),
            not_known: AtomicU32::new(0),
            fall_back: FallBack::default(),
        }
    }

    /// The ARN of the consumer, which is ACTIVE.
    ///
    /// # Errors
    /// When it is not there and may not be registered or cannot be, or did not become ACTIVE in time. The next call tries
    /// again, but not before five seconds have passed.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn arn(&self) -> Result<Arc<str>, NoConsumer> {
        let mut known = self.known.lock().await;
        if let Some(arn) = &known.arn {
            return Ok(Arc::clone(arn));
        }
        let now = self.runtime.now();
        if let Some(failure) = &known.failure
            && now.since(failure.at) < FAILURE_HOLDS
        {
            let error = SourceError::new(failure.kind, failure.operation);
            return Err(NoConsumer {
                error: error.with_detail(&failure.message),
                is_news: false,
            });
        }
        match self.find(&mut known.told_wait).await {
            Ok(arn) => {
                let arn: Arc<str> = arn.into();
                *known = Known {
                    arn: Some(Arc::clone(&arn)),
                    ..Known::default()
                };
                Ok(arn)
            }
            Err(error) => {
                known.failure = Some(Failure {
                    at: self.runtime.now(),
                    kind: error.kind(),
                    operation: error.operation(),
                    message: error.detail().unwrap_or_default().to_owned(),
                });
                let is_news = true;
                Err(NoConsumer { error, is_news })
            }
        }
    }

    /// Notes that the service does not know this ARN any more: the consumer is looked for again.
    pub(super) async fn forget(&self, arn: &str) {
        let mut known = self.known.lock().await;
        if known.arn.as_deref() == Some(arn) {
            known.arn = None;
            self.not_known.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes a failure. Whether that was the reason to poll instead, from now on.
    pub(super) fn gives_up(&self, error: &SourceError) -> bool {
        // Whoever has a name looks for the consumer again, which may be there under another ARN, or can be registered.
        let is_looked_for = error.kind() == SourceErrorKind::ConsumerNotFound
            && error.operation() == "SubscribeToShard"
            && matches!(self.options.choice, ConsumerChoice::Name { .. })
            && self.not_known.load(Ordering::Relaxed) < NOT_KNOWN_TIMES;
        let may_poll = self.options.falls_back && !is_looked_for;
        may_poll && self.fall_back.failed(error.kind(), self.runtime.now())
    }

    /// Whether the worker polls. One caller in a while is told otherwise, to look whether that is still necessary.
    pub(crate) fn polls(&self) -> bool {
        self.fall_back.polls(self.runtime.now())
    }

    /// Notes a subscription. Whether the worker polled before.
    pub(super) fn works(&self) -> bool {
        self.not_known.store(0, Ordering::Relaxed);
        self.fall_back.works()
    }

    async fn find(&self, told_wait: &mut bool) -> Result<String, SourceError> {
        let (name, register) = match &self.options.choice {
            ConsumerChoice::Arn(arn) => return Ok(arn.clone()),
            ConsumerChoice::Name { name, register } => (name, *register),
        };
        let begun = self.runtime.now();
        let mut rng = self.runtime.rng("consumer");
        let mut attempts = 0;
        for looks in 0.. {
            let found = match self.source.describe_consumer(name).await? {
                None if register => self.register(name, &mut attempts).await?,
                None => {
                    // "Not found" is said of streams, too.
                    self.source.describe().await?;
                    return Err(missing(name));
                }
                found => found,
            };
            if let Some(consumer) = &found
                && consumer.status == ConsumerStatus::Active
            {
                return Ok(consumer.arn.clone());
            }
            let (limit, waited) = (self.options.active_within, self.runtime.now().since(begun));
            if waited >= limit {
                break;
            }
            if !std::mem::replace(told_wait, true) {
                let status = found.map(|found| found.status);
                tracing::info!(
                    consumer = name,
                    ?status,
                    "waiting until the consumer is ACTIVE"
                );
            }
            let pause =
                doubled(LOOK_AGAIN, LONGEST_LOOK_AGAIN, looks).mul_f64(1.0 + rng.f64() / 4.0);
            tokio::time::sleep(pause.min(limit - waited)).await;
        }
        Err(not_active(name, self.options.active_within))
    }

    /// `None`: somebody else registers it at this moment, or the service is busy.
    async fn register(
        &self,
        name: &str,
        attempts: &mut u32,
    ) -> Result<Option<StreamConsumer>, SourceError> {
        *attempts += 1;
        match self.source.register_consumer(name).await {
            Ok(consumer) => {
                tracing::info!(
                    consumer = name,
                    arn = consumer.arn,
                    "registered a consumer of the stream"
                );
                Ok(Some(consumer))
            }
            Err(error) if error.kind() == SourceErrorKind::StreamInUse => Ok(None),
            Err(error) if error.kind() == SourceErrorKind::Throttled => {
                match *attempts >= LIMIT_ATTEMPTS {
                    true => Err(error.of_kind(SourceErrorKind::ConsumerLimit)),
                    false => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }
}

fn missing(name: &str) -> SourceError {
    SourceError::new(SourceErrorKind::ConsumerNotFound, "DescribeStreamConsumer")
        .about(format!("consumer {name}"))
}

fn not_active(name: &str, limit: Duration) -> SourceError {
    SourceError::new(SourceErrorKind::ConsumerNotActive, "DescribeStreamConsumer")
        .about(format!("consumer {name}"))
        .with_detail(format!("it was not ACTIVE within {limit:?}"))
}
