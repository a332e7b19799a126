//! The pauses that a shard's limits ask for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Five calls a second.
const BETWEEN_CALLS: Duration = Duration::from_millis(200);
/// Two megabytes a second.
const NANOS_PER_BYTE: u64 = 500;

/// Whether a loop rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It reads as fast as it can.
    None,
    /// It keeps the limits of a shard, as the framework does.
    OfTheService,
}

impl Pace {
    /// Rests after a call that began at this moment and brought so many bytes.
    pub(super) async fn rest(self, began: Instant, bytes: u64) {
        if self == Self::OfTheService {
            let by_bytes = Duration::from_nanos(bytes * NANOS_PER_BYTE);
            sleep_until(began + by_bytes.max(BETWEEN_CALLS)).await;
        }
    }
}
