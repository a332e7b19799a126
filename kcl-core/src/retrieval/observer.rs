//! What retrieval tells about itself while it works.

use std::fmt::Debug;
use std::time::Duration;

use kcl_checkpoint::SequenceNumber;

use super::deaggregate::DeaggregationCounts;
use super::error::SourceError;

/// One answer of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchReport {
    /// Kinesis records; 0 for an empty answer.
    pub kinesis_records: usize,
    /// User records in them, those included that are not delivered because they are complete already.
    pub user_records: usize,
    /// Data and partition keys, as the service counts them.
    pub payload_bytes: u64,
    /// Memory that the answer takes.
    pub resident_bytes: u64,
    /// How far the answer's end lies behind the tip, if the service said so. Zero: the shard is caught up.
    pub behind: Option<Duration>,
    /// Whether the shard is closed and this answer reached its end.
    pub at_end: bool,
    /// How long the call took.
    pub took: Duration,
}

impl FetchReport {
    /// Whether the answer says that there is nothing more to read for now.
    #[must_use]
    pub fn is_at_tip(&self) -> bool {
        let behind = self.behind.unwrap_or_default();
        self.kinesis_records == 0 && !self.at_end && behind.is_zero()
    }
}

/// Hears what happens while one shard is read, to count and to tell. Every method does nothing by default and must not
/// block.
pub trait RetrievalObserver: Debug + Send + Sync {
    /// An answer came, empty or not.
    fn fetched(&self, report: &FetchReport) {
        _ = report;
    }

    /// Aggregated records were taken apart, or turned out to be damaged.
    fn deaggregated(&self, counts: &DeaggregationCounts) {
        _ = counts;
    }

    /// The service refused a read for its limits.
    fn throttled(&self, error: &SourceError, retry_in: Duration) {
        _ = (error, retry_in);
    }

    /// The iterator was too old. A new one follows; nothing is lost.
    fn expired_iterator(&self) {}

    /// A call failed for the `attempt`th time in a row and will be repeated.
    fn failed(&self, error: &SourceError, attempt: u32, retry_in: Duration) {
        _ = (error, attempt, retry_in);
    }

    /// The service does not know the stored sequence number any more, so reading goes on at the oldest record.
    /// What lay between is no longer in the stream.
    fn restarted_at_trim_horizon(&self, unknown: &SequenceNumber, error: &SourceError) {
        _ = (unknown, error);
    }

    /// The shard was read to its tip, and what is complete lies ahead of that: every record up to there is passed over.
    fn ahead_of_tip(&self, last: &SequenceNumber) {
        _ = last;
    }

    /// What came last was handed over, or passed over because it is complete, and there is nothing more to read for now.
    fn reached_tip(&self) {}

    /// A subscription to the shard began.
    fn subscribed(&self) {}

    /// The subscription is in use, as it is for a moment when a lease moves. Another attempt follows.
    fn subscription_in_use(&self, error: &SourceError, retry_in: Duration) {
        _ = (error, retry_in);
    }

    /// There is no consumer to subscribe with, as another shard's observer was told. Another attempt follows.
    fn waits_for_consumer(&self, error: &SourceError, retry_in: Duration) {
        _ = (error, retry_in);
    }

    /// There is no enhanced fan-out for this worker, and all its shards are polled from now on. Told once.
    fn fell_back(&self, error: &SourceError) {
        _ = error;
    }

    /// There is enhanced fan-out again.
    fn fan_out_back(&self) {}

    /// The next call is made after this time.
    fn paused(&self, time: Duration) {
        _ = time;
    }

    /// A read had to wait for room in the byte budget.
    fn waited_for_room(&self, waited: Duration) {
        _ = waited;
    }
}

/// Hears and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl RetrievalObserver for Unobserved {}
