//! The one clock of the emulator: a wall time that advances with tokio's clock.
//!
//! Under a paused tokio runtime the emulator is therefore on virtual time, and every moment that a
//! client sees (arrival times, the `Date` header, iterator expiry) moves with it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use tokio::time::Instant;

use crate::Timestamp;

/// 2026-01-01T00:00:00Z: where the time of an emulator inside a test starts, so that runs are alike.
pub(crate) const TEST_EPOCH: Timestamp = Timestamp(1_767_225_600_000);

/// As far ahead as anybody waits; the clocks of all platforms can count so far.
const FAR: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// A wall time that starts at a given moment when it is first read.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Timestamp,
    origin: Arc<OnceLock<Instant>>,
}

impl Clock {
    /// A clock that shows `start` when it is first read and then follows tokio's clock.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            origin: Arc::default(),
        }
    }

    /// A clock that shows the real time of day.
    #[must_use]
    pub fn wall() -> Self {
        let since_epoch = system_time()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let clock = Self::starting_at(Timestamp(millis(since_epoch)));
        clock.origin();
        clock
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let origin = self.origin();
        self.start
            .plus(millis(Instant::now().saturating_duration_since(origin)))
    }

    /// The instant at which this clock shows `moment`; the present if that is past.
    pub(crate) fn instant_of(&self, moment: Timestamp) -> Instant {
        let ahead = u64::try_from(moment.since(self.start)).unwrap_or(0);
        self.origin() + Duration::from_millis(ahead).min(FAR)
    }

    /// How long this clock has been running.
    pub(crate) fn running(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().since(self.start)).unwrap_or(0))
    }

    fn origin(&self) -> Instant {
        *self.origin.get_or_init(Instant::now)
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let now = u64::try_from(Self::now(self).0).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_millis(now)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the server learns the time of day"
)]
fn system_time() -> SystemTime {
    SystemTime::now()
}
