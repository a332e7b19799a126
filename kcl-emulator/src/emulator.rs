//! The emulator: engines, clock, faults and counters behind one handle.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::calls::{CallCounters, CallKey, Calls};
use crate::clock::Clock;
use crate::cloudwatch::CloudWatch;
use crate::dynamodb::{DynamoDb, DynamoDbConfig, ReadView};
use crate::faults::Faults;
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
        let dynamodb = dynamodb_config(&settings);
        Self(Arc::new(Inner {
            faults: Faults::new(settings.seed, &settings.region, &settings.account),
            request_ids: RequestIds::new(settings.seed),
            clock: settings.clock,
            region: settings.region,
            latency: settings.latency,
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

    /// How many data of each metric arrived, by name space and metric name.
    #[must_use]
    pub fn metrics(&self) -> std::collections::BTreeMap<(String, String), u64> {
        self.with_cloudwatch(|cloudwatch| cloudwatch.counts().clone())
    }

    pub(crate) fn with_cloudwatch<T>(&self, act: impl FnOnce(&mut CloudWatch) -> T) -> T {
        act(&mut lock(&self.0.cloudwatch))
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

fn dynamodb_config(settings: &Builder) -> DynamoDbConfig {
    let mut config = DynamoDbConfig::default();
    config.region.clone_from(&settings.region);
    config.account.clone_from(&settings.account);
    config
}
