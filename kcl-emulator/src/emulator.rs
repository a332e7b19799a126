//! The emulator: engines, clock, faults and counters behind one handle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::calls::{CallCounters, CallKey, Calls};
use crate::clock::Clock;
use crate::cloudwatch::CloudWatch;
use crate::dynamodb::{DynamoDb, DynamoDbConfig, ReadView, RowWritten};
use crate::faults::Faults;
use crate::kinesis::api::{CreateStreamInput, SubscriptionId};
use crate::kinesis::{self, Engine, EngineConfig, LoggedRecord, SubscriptionPoll};
use crate::request_id::{RequestId, RequestIds};
use crate::settings::Builder;
use crate::{ApiError, Caller, Timestamp};

/// An emulated account: Kinesis, DynamoDB and CloudWatch. Clones are handles to the same one.
#[derive(Clone)]
pub struct Emulator(Arc<Inner>);

struct Inner {
    clock: Clock,
    region: String,
    latency: Duration,
    kinesis: Mutex<Engine>,
    /// Wakes the tasks that drive subscriptions.
    wakers: Mutex<BTreeMap<SubscriptionId, Arc<Notify>>>,
    dynamodb: Mutex<DynamoDb>,
    cloudwatch: Mutex<CloudWatch>,
    faults: Faults,
    calls: CallCounters,
    request_ids: RequestIds,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Emulator")
            .field("clock", &self.0.clock)
            .field("faults", &self.0.faults)
            .finish_non_exhaustive()
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// An emulator with the settings of [`Builder`]'s defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets an emulator up.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with_settings(settings: Builder) -> Self {
        let kinesis = kinesis_config(&settings);
        let dynamodb = dynamodb_config(&settings);
        Self(Arc::new(Inner {
            faults: Faults::new(settings.seed, &settings.region, &settings.account),
            request_ids: RequestIds::new(settings.seed),
            clock: settings.clock,
            region: settings.region,
            latency: settings.latency,
            kinesis: Mutex::new(Engine::new(kinesis)),
            wakers: Mutex::default(),
            dynamodb: Mutex::new(DynamoDb::new(dynamodb)),
            cloudwatch: Mutex::new(CloudWatch::new()),
            calls: CallCounters::default(),
        }))
    }

    /// The clock by which streams, tables and answers age.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The region of its ARNs.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// The ARN of the stream called `name`, whether there is one or not.
    #[must_use]
    pub fn stream_arn(&self, name: &str) -> String {
        self.with_kinesis(|engine| engine.stream_arn(name))
    }

    /// The faults in force; rules may be added and removed at any time.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// How often each caller called each operation over HTTP or the in-process client.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.0.calls.snapshot()
    }

    /// Creates a provisioned stream that is `ACTIVE` at once.
    ///
    /// # Errors
    ///
    /// What `CreateStream` answers, for example `ResourceInUseException` if there is one of that name.
    pub fn create_stream(&self, name: &str, shards: u32) -> Result<(), ApiError> {
        let request = CreateStreamInput {
            stream_name: Some(name.to_owned()),
            shard_count: Some(shards.into()),
            ..CreateStreamInput::default()
        };
        let (now, caller) = (self.clock().now(), Caller::new("kcl-emulator"));
        self.with_kinesis(|engine| {
            engine.call(now, &caller, request.into())?;
            engine.finish_transition(name);
            Ok(())
        })
    }

    /// Calls Kinesis directly at the moment `now`, past faults and counters. Moments should not run
    /// backwards.
    ///
    /// # Errors
    ///
    /// What the service answers.
    pub fn kinesis(
        &self,
        now: Timestamp,
        caller: &Caller,
        request: kinesis::Request,
    ) -> Result<kinesis::Response, ApiError> {
        self.with_kinesis(|engine| engine.call(now, caller, request))
    }

    /// Calls DynamoDB directly at the moment `now`, past faults and counters: a JSON request in, a JSON
    /// answer out.
    ///
    /// # Errors
    ///
    /// What the service answers.
    pub fn dynamodb(
        &self,
        now: Timestamp,
        caller: &Caller,
        operation: &str,
        body: &[u8],
        view: ReadView,
    ) -> Result<Vec<u8>, ApiError> {
        lock(&self.0.dynamodb).call_with(now, caller, operation, body, view)
    }

    /// Takes what was written to rows since the last time, in the order of the commits: the truth that a history can be
    /// judged by. Nothing is kept before the first time.
    #[must_use]
    pub fn take_written(&self) -> Vec<RowWritten> {
        lock(&self.0.dynamodb).take_written()
    }

    /// Asks for the next event of a subscription.
    #[must_use]
    pub fn poll_subscription(&self, now: Timestamp, id: SubscriptionId) -> SubscriptionPoll {
        self.with_kinesis(|engine| engine.poll_subscription(now, id))
    }

    /// Ends a subscription.
    pub fn close_subscription(&self, id: SubscriptionId) {
        self.with_kinesis(|engine| engine.close_subscription(id));
        lock(&self.0.wakers).remove(&id);
    }

    /// Every record of a stream that is not trimmed yet, in the order in which they were put: the truth
    /// that a consumer's output can be compared with. None if there is no such stream.
    #[must_use]
    pub fn records(&self, stream: &str) -> Vec<LoggedRecord> {
        self.with_kinesis(|engine| engine.log(stream))
    }

    /// How many data of each metric arrived, by name space and metric name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<(String, String), u64> {
        self.with_cloudwatch(|cloudwatch| cloudwatch.counts().clone())
    }

    pub(crate) fn with_cloudwatch<T>(&self, act: impl FnOnce(&mut CloudWatch) -> T) -> T {
        act(&mut lock(&self.0.cloudwatch))
    }

    /// Notified when a call brought something for this subscription: whoever drives it then polls it.
    #[must_use]
    pub fn waker(&self, id: SubscriptionId) -> Arc<Notify> {
        Arc::clone(lock(&self.0.wakers).entry(id).or_default())
    }

    fn with_kinesis<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = lock(&self.0.kinesis);
        let outcome = act(&mut engine);
        let wakers = lock(&self.0.wakers);
        for woken in engine.take_woken() {
            if let Some(waker) = wakers.get(&woken) {
                waker.notify_one();
            }
        }
        outcome
    }

    pub(crate) fn count(&self, key: CallKey) {
        self.0.calls.count(key);
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        self.0.request_ids.next()
    }

    pub(crate) fn latency(&self) -> Duration {
        self.0.latency
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kinesis_config(settings: &Builder) -> EngineConfig {
    EngineConfig {
        account: settings.account.clone(),
        region: settings.region.clone(),
        throttle_reads: settings.throttling,
        throttle_writes: settings.throttling,
        transition: settings.transition,
        consumer_transition: settings.transition,
        subscription_lifetime: settings.subscription_lifetime,
        ..EngineConfig::default()
    }
}

fn dynamodb_config(settings: &Builder) -> DynamoDbConfig {
    let mut config = DynamoDbConfig::default();
    config.region.clone_from(&settings.region);
    config.account.clone_from(&settings.account);
    config.throttling = settings.throttling;
    let table_transition = settings.table_transition.unwrap_or(settings.transition);
    config.table_creation = table_transition;
    config.table_update = table_transition;
    config.table_deletion = table_transition;
    config.index_creation = settings.transition;
    if let Some(versions) = settings.row_versions {
        config.row_versions = versions;
    }
    config
}
