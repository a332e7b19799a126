//! The counters behind the events: what a worker did since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The live counters of a worker.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),+ }

        /// What a worker did since it started. All numbers only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WorkerCounters { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            pub(crate) fn snapshot(&self) -> WorkerCounters {
                WorkerCounters { $($name: self.$name.get()),+ }
            }
        }
    };
}

counters! {
    /// Leases granted to this worker.
    leases_granted,
    /// Leases lost to another worker or to the worker's own deadline.
    leases_lost,
    /// Shards processed to their end.
    shards_ended,
    /// Reads (`GetRecords`) that were answered, and events of subscriptions (`SubscribeToShard`), empty ones included.
    reads,
    /// Reads that the service throttled.
    reads_throttled,
    /// Reads that failed otherwise.
    reads_failed,
    /// Subscriptions that the service accepted.
    subscriptions,
    /// Times that a subscription was in use, as it is for a moment when a lease moves.
    subscriptions_in_use,
    /// Iterators that had expired.
    iterators_expired,
    /// Kinesis records read.
    kinesis_records,
    /// Bytes of payload read.
    bytes,
    /// User records completed by the processor, those declared complete by a checkpoint by hand included.
    records_processed,
    /// Aggregated records unpacked.
    aggregated_records,
    /// User records of aggregates whose key belongs to another shard.
    out_of_range_records,
    /// Such records that were withheld (only with that option).
    withheld_records,
    /// Records that look aggregated but are damaged; delivered as they are.
    damaged_aggregates,
    /// Calls of processors that failed or panicked.
    processor_failures,
    /// Calls of processors without progress, because of which their shard was given to another worker.
    calls_stalled,
    /// Records that were given up and passed over, as the failure policy says.
    records_skipped,
    /// Records that the dead-letter sink accepted, those of parked keys included.
    dead_letters,
    /// Calls of the dead-letter sink that failed or panicked.
    dead_letter_failures,
    /// Keys that were parked because a record of theirs was given up.
    keys_parked,
    /// Shards whose delivery was stopped because a record could not be processed, or some are gone.
    shards_stopped,
    /// Times that operators moved the reading of a shard to another place.
    seeks,
    /// Times that a shard jumped to its tip because it was too far behind.
    jumps,
    /// Gaps: times that records may have passed out of retention before they were read.
    gaps,
    /// Shards whose stored checkpoint lay ahead of their last record.
    checkpoints_ahead,
    /// Checkpoints stored.
    checkpoints,
}
