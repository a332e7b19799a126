//! How an emulator is set up.

use std::time::Duration;

use crate::clock::{Clock, TEST_EPOCH};
use crate::kinesis::EngineConfig;
use crate::{Emulator, Timestamp};

/// Sets an emulator up; [`Emulator::builder`] makes one.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(crate) throttling: bool,
    pub(crate) transition: Duration,
    pub(crate) table_transition: Option<Duration>,
    pub(crate) seed: u64,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) latency: Duration,
    pub(crate) clock: Clock,
    pub(crate) row_versions: Option<usize>,
    pub(crate) subscription_lifetime: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            throttling: true,
            transition: Duration::ZERO,
            table_transition: None,
            seed: 0,
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            latency: Duration::ZERO,
            clock: Clock::starting_at(TEST_EPOCH),
            row_versions: None,
            subscription_lifetime: EngineConfig::default().subscription_lifetime,
        }
    }
}

impl Builder {
    /// Whether the limits of shards and tables are enforced (1 MiB/s and 1,000 records/s into a shard,
    /// 2 MiB/s and 5 calls/s out of it, provisioned tables); on by default, as at the service.
    #[must_use]
    pub fn throttling(mut self, enforced: bool) -> Self {
        self.throttling = enforced;
        self
    }

    /// How long streams, consumers and tables stay in CREATING, UPDATING and DELETING; by default not
    /// at all.
    #[must_use]
    pub fn transition(mut self, duration: Duration) -> Self {
        self.transition = duration;
        self
    }

    /// How long tables (not their indexes) stay in CREATING, UPDATING and DELETING, if not as long as
    /// everything else.
    #[must_use]
    pub fn table_transition(mut self, duration: Duration) -> Self {
        self.table_transition = Some(duration);
        self
    }

    /// The seed of everything that is drawn: request ids and the faults that have a probability.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The region in ARNs; `us-east-1` by default.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The account in ARNs; `000000000000` by default.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// How long a request and its answer travel together between an in-process client and the
    /// emulator; by default not at all.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// How many versions of each row DynamoDB keeps for stale reads; 64 by default. Without any, stale reads see the
    /// latest write, and writes take half the time.
    #[must_use]
    pub fn row_versions(mut self, versions: usize) -> Self {
        self.row_versions = Some(versions);
        self
    }

    /// How long a subscription of enhanced fan-out lasts before the service ends it; 5 minutes by default, as at the service.
    #[must_use]
    pub fn subscription_lifetime(mut self, duration: Duration) -> Self {
        self.subscription_lifetime = duration;
        self
    }

    /// The moment that the emulator's clock shows when it is first read. By default it is
    /// 2026-01-01T00:00:00Z, so that every run of a test sees the same times.
    #[must_use]
    pub fn starting_at(mut self, start: Timestamp) -> Self {
        self.clock = Clock::starting_at(start);
        self
    }

    /// Shows the real time of day.
    #[must_use]
    pub fn wall_clock(mut self) -> Self {
        self.clock = Clock::wall();
        self
    }

    /// An emulator without streams and tables.
    #[must_use]
    pub fn build(self) -> Emulator {
        Emulator::with_settings(self)
    }
}
