//! Starts the reading of one shard and tells its task what comes: batches, the tip, the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::{HashKeyRange, LeaseKey};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::event::{EventSink, WorkerEvent};
use crate::health::Monitor;
use crate::retrieval::{
    DeaggregationCounts, Delivery, FetchReport, PollEnd, RetrievalObserver, ShardRead, SourceError,
    StartPosition,
};
use crate::stream_reading::StreamReading;

/// What comes next of a shard.
#[derive(Debug)]
pub(crate) enum Next {
    /// A batch, or the shard's end.
    Delivery(Delivery),
    /// The shard was read to its tip, and nothing is waiting to be delivered.
    AtTip,
    /// Nothing more comes, and the shard did not end.
    Over(PollEnd),
    /// The stream was not there, one of several, and it is time to begin reading again.
    Again,
}

/// The receiving end of one shard's reader. Dropping it stops the reader.
#[derive(Debug)]
pub(crate) struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
    reader: AbortOnDropHandle<PollEnd>,
    observer: Arc<Observer>,
    /// Whether reading begins again when the stream is gone.
    goes_on: bool,
    /// When it does.
    again_at: Option<Instant>,
}

/// How soon a stream that is gone is looked at again. Its leases stay until it is removed from the list.
const STREAM_AGAIN: Duration = Duration::from_secs(60);

/// Starts to read `grant`'s shard after `complete`.
pub(crate) fn start(
    context: &Context,
    stream: &StreamReading,
    grant: &kcl_lease::Grant,
    complete: &Checkpoint,
    monitor: &Arc<Monitor>,
) -> Deliveries {
    let shard = grant.shard_id().clone();
    let observer = Arc::new(Observer {
        shard: grant.lease_key().clone(),
        checkpoint: complete.clone(),
        events: context.events.clone(),
        monitor: Arc::clone(monitor),
        failing: AtomicBool::new(false),
        is_at_tip: AtomicBool::new(false),
        at_tip: Notify::new(),
    });
    let read = ShardRead {
        shard,
        hash_range: grant.hash_range().unwrap_or(HashKeyRange::FULL),
        start: start_position(stream, grant.start_point().moment_ms, complete),
        skip_through: complete.position().cloned(),
        observer: Arc::clone(&observer) as Arc<dyn RetrievalObserver>,
    };
    // One answer is fetched ahead while another is processed.
    let (sender, receiver) = mpsc::channel(1);
    let reader = context
        .runtime
        .spawn(stream.reader.clone().read(read, sender));
    Deliveries {
        receiver,
        reader,
        observer,
        goes_on: stream.is_one_of_several,
        again_at: None,
    }
}

/// Where reading starts for a stored checkpoint.
///
/// A position is read again and passed over, because it may be in the middle of an aggregated record (interop §7.1).
/// LATEST is the moment of the application's first start, not of this grant, so that nothing put in between is lost.
///
/// A seek to a time has its moment in the lease's row.
fn start_position(
    stream: &StreamReading,
    sought: Option<u64>,
    complete: &Checkpoint,
) -> StartPosition {
    let sought = sought.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    match (complete, sought.or(stream.initial_time)) {
        (Checkpoint::At(position), _) => {
            StartPosition::AtSequenceNumber(position.sequence_number.clone())
        }
        (Checkpoint::Latest | Checkpoint::AtTimestamp, Some(time)) => {
            StartPosition::AtTimestamp(time)
        }
        _ => StartPosition::TrimHorizon,
    }
}

impl Deliveries {
    /// Waits for what comes next.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if let Some(at) = self.again_at {
                tokio::time::sleep_until(at).await;
                return Next::Again;
            }
            tokio::select! {
                biased;
                delivery = self.receiver.recv() => match delivery {
                    Some(delivery) => return Next::Delivery(delivery),
                    None => match self.end().await {
                        PollEnd::StreamGone(error) if self.goes_on => self.wait_for_stream(&error),
                        end => return Next::Over(end),
                    },
                },
                () = self.observer.at_tip.notified() => if self.is_at_tip() {
                    return Next::AtTip;
                },
            }
        }
    }

    /// Whether that was the last that was heard: since the tip was seen there may have been more.
    fn is_at_tip(&self) -> bool {
        self.receiver.is_empty() && self.observer.is_at_tip.load(Ordering::Relaxed)
    }

    fn wait_for_stream(&mut self, error: &SourceError) {
        self.observer.failed(error, 1, STREAM_AGAIN);
        self.again_at = Some(Instant::now() + STREAM_AGAIN);
    }

    async fn end(&mut self) -> PollEnd {
        match (&mut self.reader).await {
            Ok(end) => end,
            // The runtime is going away, and this task with it.
            Err(_) => PollEnd::ReceiverDropped,
        }
    }
}

/// Turns what the reader tells into events and counters.
#[derive(Debug)]
struct Observer {
    shard: LeaseKey,
    checkpoint: Checkpoint,
    events: EventSink,
    monitor: Arc<Monitor>,
    failing: AtomicBool,
    /// Whether it was told that nothing more comes for now, and nothing came since.
    is_at_tip: AtomicBool,
    at_tip: Notify,
}

impl RetrievalObserver for Observer {
    fn fetched(&self, report: &FetchReport) {
        let counters = self.events.counters();
        counters.reads.add(1);
        counters.kinesis_records.add(report.kinesis_records as u64);
        counters.bytes.add(report.payload_bytes);
        if self.failing.swap(false, Ordering::Relaxed) {
            self.events.emit(WorkerEvent::ReadRecovered {
                shard: self.shard.clone(),
            });
        }
        self.monitor.fetched(report);
        match report.is_at_tip() {
            true => self.reached_tip(),
            false => self.is_at_tip.store(false, Ordering::Relaxed),
        }
    }

    fn deaggregated(&self, counts: &DeaggregationCounts) {
        let counters = self.events.counters();
        counters.aggregated_records.add(counts.aggregated);
        counters.out_of_range_records.add(counts.out_of_range);
        counters.withheld_records.add(counts.withheld);
        counters.damaged_aggregates.add(counts.damaged);
        if counts.damaged > 0 {
            self.events.emit(WorkerEvent::DamagedAggregates {
                shard: self.shard.clone(),
                count: counts.damaged,
            });
        }
    }

    fn throttled(&self, error: &SourceError, retry_in: Duration) {
        self.events.counters().reads_throttled.add(1);
        // One now and then is nothing; health is about those that no success follows.
        self.monitor.read_failed(&error.to_string());
        tracing::debug!(shard = %self.shard, %error, ?retry_in, "a read was throttled");
    }

    fn subscribed(&self) {
        self.events.counters().subscriptions.add(1);
    }

    fn subscription_in_use(&self, error: &SourceError, retry_in: Duration) {
        self.events.counters().subscriptions_in_use.add(1);
        self.monitor.read_failed(&error.to_string());
        tracing::debug!(shard = %self.shard, %error, ?retry_in, "the subscription is in use");
    }

    fn waits_for_consumer(&self, error: &SourceError, retry_in: Duration) {
        self.monitor.read_failed(&error.to_string());
        tracing::debug!(shard = %self.shard, %error, ?retry_in, "there is no consumer yet");
    }

    fn fell_back(&self, error: &SourceError) {
        let error = error.to_string();
        self.events.emit(WorkerEvent::FanOutUnavailable { error });
    }

    fn fan_out_back(&self) {
        self.events.emit(WorkerEvent::FanOutAvailable);
    }

    fn reached_tip(&self) {
        self.is_at_tip.store(true, Ordering::Relaxed);
        self.at_tip.notify_one();
    }

    fn paused(&self, time: Duration) {
        self.monitor.read_in(time);
    }

    fn expired_iterator(&self) {
        self.events.counters().iterators_expired.add(1);
    }

    fn failed(&self, error: &SourceError, attempt: u32, retry_in: Duration) {
        self.failing.store(true, Ordering::Relaxed);
        self.events.counters().reads_failed.add(1);
        self.monitor.read_failed(&error.to_string());
        self.events.emit(WorkerEvent::ReadFailed {
            shard: self.shard.clone(),
            error: error.to_string(),
            needs_operator: error.needs_operator(),
            attempt,
            retry_in,
        });
    }

    fn restarted_at_trim_horizon(&self, unknown: &SequenceNumber, error: &SourceError) {
        let unknown = Position::new(unknown.clone(), 0);
        tracing::warn!(shard = %self.shard, %unknown, %error, "the service does not know this sequence number");
        self.events.emit(WorkerEvent::CheckpointNotReadable {
            shard: self.shard.clone(),
            checkpoint: self.checkpoint.clone(),
        });
    }

    fn ahead_of_tip(&self, last: &SequenceNumber) {
        self.events.counters().checkpoints_ahead.add(1);
        self.events.emit(WorkerEvent::CheckpointAheadOfTip {
            shard: self.shard.clone(),
            checkpoint: self.checkpoint.clone(),
            tip: last.clone(),
        });
    }
}
