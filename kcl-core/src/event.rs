//! Typed events: what happens in a worker, for logs, metrics and tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::{LeaseKey, LossReason, RowRepair, ShardId, StartPoint, StreamKey, WorkerId};
use tokio::sync::broadcast;

use crate::counters::Counters;

/// How many events a slow listener may lag behind before it misses some.
const BACKLOG: usize = 4096;

/// Something that happened in a worker. No payload and no partition key is ever part of an event.
///
/// A shard is named by the key of its lease: the shard's id, or with several streams
/// `<account>:<stream>:<creation epoch>:<shard>`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum WorkerEvent {
    /// The worker has a session; this is its id until the next event of this kind.
    SessionStarted {
        /// The worker's id.
        worker: WorkerId,
    },
    /// Leases were created for shards.
    LeasesCreated {
        /// How many.
        count: usize,
    },
    /// A lease was granted and its processor starts.
    ShardStarted {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The stored progress from which it starts.
        checkpoint: Checkpoint,
        /// The fencing token.
        epoch: u64,
    },
    /// A checkpoint was stored.
    Checkpointed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// What is stored.
        checkpoint: Checkpoint,
    },
    /// A checkpoint could not be stored and is tried again.
    CheckpointFailed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// Why.
        error: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// The processor failed or panicked; its records stay and are delivered again.
    ProcessorFailed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// Which call failed.
        call: &'static str,
        /// Which attempt, from 1.
        attempt: u32,
        /// The error's text.
        error: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// A call made no progress for [`stall_timeout`](crate::WorkerBuilder::stall_timeout), and the shard is given up because of
    /// it: the call sees its lease as lost, and when it has ended, or after `released_in`, the lease goes to another worker.
    /// Side effects of the call may not be over by then, and overlap with those of the next holder; on a thread of its own
    /// the call itself goes on.
    CallStalled {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The lane of the call.
        lane: usize,
        /// Which call.
        call: &'static str,
        /// For how long no record of the lane was completed.
        after: Duration,
        /// What is complete now: the next holder begins there, or later.
        complete: Checkpoint,
        /// When the lease is released at the latest.
        released_in: Duration,
    },
    /// A record was given up and passed over, as the failure policy says.
    RecordSkipped {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record.
        position: Position,
        /// How often it was delivered.
        attempts: u32,
        /// The last error's text.
        error: String,
    },
    /// The dead-letter sink accepted a record.
    DeadLettered {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record.
        position: Position,
        /// How often it was delivered, alone or with others.
        attempts: u32,
        /// The last error's text.
        error: String,
        /// Whether it went there only because its key is parked.
        parked: bool,
    },
    /// The dead-letter sink failed. The same record is sent again; until it is accepted the shard waits.
    DeadLetterFailed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record.
        position: Position,
        /// Which attempt, from 1.
        attempt: u32,
        /// The sink's error.
        error: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// Later records of a failed record's key go to the dead-letter sink from now on.
    KeyParked {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record that failed.
        position: Position,
        /// For how long; `None` until the lease ends.
        time: Option<Duration>,
    },
    /// A shard's records are delivered no more, because one could not be processed, or some are gone. The checkpoint stays
    /// before that. Each worker that holds the shard later tells so, too, until it is resumed.
    ShardStopped {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record that failed, or at which reading was to go on; `None` if nothing of the shard was complete.
        position: Option<Position>,
        /// Why.
        error: String,
    },
    /// Reading a shard failed and is tried again.
    ReadFailed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// Why, and what to do.
        error: String,
        /// Whether somebody has to act (rights, keys); else it is expected to pass.
        needs_operator: bool,
        /// Which failure in a row, from 1.
        attempt: u32,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// Reading a shard works again.
    ReadRecovered {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
    },
    /// There is no enhanced fan-out for this worker, and its shards are polled instead, as [`Retrieval::auto`] asks for.
    ///
    /// [`Retrieval::auto`]: crate::Retrieval::auto
    FanOutUnavailable {
        /// Why, and what to do.
        error: String,
    },
    /// There is enhanced fan-out again, and the shards go back to it.
    FanOutAvailable,
    /// The service would not start reading at the stored checkpoint; reading starts at the oldest record instead, and
    /// what was complete is passed over.
    CheckpointNotReadable {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The stored checkpoint.
        checkpoint: Checkpoint,
    },
    /// Records may have passed out of retention before they were read. What follows is what
    /// [`on_gap`](crate::WorkerBuilder::on_gap) says.
    GapDetected {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The record at which reading was to go on, and which is gone; `None`: the first one of the shard.
        from: Option<SequenceNumber>,
        /// The oldest record that was left; `None`: nothing was left up to the end of the shard.
        to: Option<SequenceNumber>,
    },
    /// The stored checkpoint lies ahead of the last record of the shard: all records up to it count as complete, and are
    /// passed over. Somebody wrote it by hand, or the stream is another one than it was.
    CheckpointAheadOfTip {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The checkpoint from which reading began.
        checkpoint: Checkpoint,
        /// The last record of the shard.
        tip: SequenceNumber,
    },
    /// Aggregated records were damaged and are delivered as they are.
    DamagedAggregates {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// How many in one answer.
        count: u64,
    },
    /// The shard was processed up to its tip for the first time under this grant, or since its reading was moved or was
    /// resumed after a stop.
    CaughtUp {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
    },
    /// A closed shard is complete; its children can start.
    ShardEnded {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The shard, by the key of its lease. that take over.
        children: Vec<ShardId>,
    },
    /// A closed shard is complete, and cannot be finished with the children that the service names. It is tried again with
    /// those that it lists; until then nobody reads them, and nothing is skipped.
    ShardEndRefused {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// Which child, and what is wrong with it.
        error: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// A lease was lost.
    LeaseLost {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// How.
        reason: LossReason,
    },
    /// A lease was released after a clean stop.
    LeaseReleased {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The final checkpoint, as it is stored: where the next holder begins.
        checkpoint: Checkpoint,
        /// Why.
        cause: ReleaseCause,
    },
    /// An operator has paused the shard: nothing is delivered from now on. Tells again when the lease moves.
    ShardPaused {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
    },
    /// A shard that was paused goes on.
    ShardResumed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
    },
    /// Reading was moved to another place, as an operator wanted. New processors begin there.
    ShardRepositioned {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// What was complete, and is stored no more.
        from: Checkpoint,
        /// Where reading goes on.
        to: StartPoint,
    },
    /// A shard was read to the end of a bounded [replay](crate::WorkerBuilder::replay).
    ShardReplayed {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// The last record that was in the window, or where reading began.
        complete: Checkpoint,
    },
    /// A shard was further behind than
    /// [`jump_to_latest_when_behind`](crate::WorkerBuilder::jump_to_latest_when_behind), and goes on at its tip: what lies in
    /// between is not read.
    JumpedToLatest {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// What was complete.
        from: Checkpoint,
        /// Where reading goes on.
        to: StartPoint,
        /// How far behind it was.
        lag: Duration,
    },
    /// A row of the lease table cannot be read. It is left alone; all others go on.
    LeaseRowUnreadable {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        error: String,
    },
    /// Somebody deleted the row of a lease.
    LeaseRowDeleted {
        /// The shard, by the key of its lease.
        shard: LeaseKey,
        /// What was done about it.
        repair: RowRepair,
    },
    /// The application was taken over to another stream, as
    /// [`reset_if_stream_changed`](crate::WorkerBuilder::reset_if_stream_changed) asks for: the leases and checkpoints of
    /// the former stream are deleted.
    ApplicationReset {
        /// The ARN of the former stream; the same as the present one's if the stream was created anew.
        stream_arn: String,
    },
    /// A stream of a list of several cannot be read: it is not there, or may not be read, or is given in a way that cannot work.
    /// All others are. The worker that leads tells so each time that it looks, about once a minute; a worker that was granted a
    /// lease of the stream as well.
    StreamUnavailable {
        /// The name or ARN, as it is in the list.
        stream: String,
        /// Why, and what to do.
        error: String,
    },
    /// The [tracker](crate::StreamTracker) could not say which streams there are. What is read stays as it is.
    StreamListFailed {
        /// Its error.
        error: String,
    },
    /// All leases of a stream were deleted that is not in the list any more, or was deleted and created anew. Told by the worker
    /// that leads.
    StreamRemoved {
        /// The stream: `<account>:<stream>:<creation epoch>`.
        stream: StreamKey,
    },
    /// The lease table does not answer.
    TableTrouble {
        /// Why.
        error: String,
    },
    /// The lease table answers again.
    TableHealed,
    /// A graceful shutdown began.
    ShutdownStarted,
    /// This listener was too slow: the oldest events that it had not heard are gone. Others may have heard them; the log and
    /// the counters have them.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Why a worker gave a lease away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseCause {
    /// The worker stops.
    WorkerStops,
    /// Another worker has fewer leases.
    LeaseMoves,
    /// The stream is not read any more, and its leases are about to be deleted.
    StreamRemoved,
    /// A call made no progress, as [`CallStalled`](WorkerEvent::CallStalled) told before. Its side effects may overlap with
    /// those of the next holder.
    CallStalled,
}

/// A listener's end of the events of one worker.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<WorkerEvent>);

impl Events {
    /// The next event; `None` when the worker is gone. A listener that lags more than 4,096 events behind misses the
    /// oldest, and hears [`Missed`](WorkerEvent::Missed) in their place.
    ///
    /// # Cancellation
    /// Safe to drop at any time: no event is lost.
    pub async fn next(&mut self) -> Option<WorkerEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(WorkerEvent::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where events go: to all listeners, to the log and into the counters.
#[derive(Debug, Clone)]
pub(crate) struct EventSink {
    /// Taken when the worker ends, so that listeners learn of it although handles live on.
    sender: Arc<Mutex<Option<broadcast::Sender<WorkerEvent>>>>,
    counters: Arc<Counters>,
}

impl EventSink {
    pub(crate) fn new() -> Self {
        Self {
            sender: Arc::new(Mutex::new(Some(broadcast::Sender::new(BACKLOG)))),
            counters: Arc::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        match self.lock().as_ref() {
            Some(sender) => Events(sender.subscribe()),
            // The sender is dropped at once: the listener hears that the worker is gone.
            None => Events(broadcast::Sender::new(1).subscribe()),
        }
    }

    /// Tells every listener, after what it has not heard yet, that the worker is gone.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<broadcast::Sender<WorkerEvent>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn emit(&self, event: WorkerEvent) {
        log(&event);
        let sender = self.lock();
        let Some(sender) = sender.as_ref() else {
            return;
        };
        // Nobody listening is fine.
        let _listeners = sender.send(event);
    }
}

const MAY_OVERLAP: &str =
    "side effects of the call that made no progress may overlap with those of the next holder";

/// Levels: ERROR means that an operator must act, WARN that something unexpected happened and nothing is lost.
fn log(event: &WorkerEvent) {
    use WorkerEvent as E;
    match event {
        E::CallStalled { .. } => tracing::error!(?event, "worker: {MAY_OVERLAP}"),
        E::LeaseReleased {
            cause: ReleaseCause::CallStalled,
            ..
        } => tracing::warn!(?event, "worker: {MAY_OVERLAP}"),
        E::ReadFailed {
            needs_operator: true,
            ..
        }
        | E::LeaseRowDeleted {
            repair: RowRepair::ProgressUnknown,
            ..
        }
        | E::ShardEndRefused { .. }
        | E::CheckpointAheadOfTip { .. }
        | E::GapDetected { .. }
        | E::ShardStopped { .. }
        | E::StreamUnavailable { .. }
        | E::LeaseRowUnreadable { .. } => {
            tracing::error!(?event, "worker");
        }
        // One for each record of a parked key, as many as producers put.
        E::DeadLettered { parked: true, .. } => tracing::debug!(?event, "worker"),
        E::CheckpointFailed { .. }
        | E::DeadLettered { .. }
        | E::ProcessorFailed { .. }
        | E::RecordSkipped { .. }
        | E::DeadLetterFailed { .. }
        | E::KeyParked { .. }
        | E::ReadFailed { .. }
        | E::FanOutUnavailable { .. }
        | E::CheckpointNotReadable { .. }
        | E::DamagedAggregates { .. }
        | E::LeaseLost { .. }
        | E::LeaseRowDeleted { .. }
        | E::ApplicationReset { .. }
        | E::StreamListFailed { .. }
        | E::TableTrouble { .. } => tracing::warn!(?event, "worker"),
        E::Checkpointed { .. } | E::CaughtUp { .. } => tracing::debug!(?event, "worker"),
        _ => tracing::info!(?event, "worker"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_is_too_slow_hears_how_much_it_missed() {
        let sink = EventSink::new();
        let mut events = sink.subscribe();
        for count in 0..BACKLOG + 7 {
            sink.emit(WorkerEvent::LeasesCreated { count });
        }
        let missed = WorkerEvent::Missed { count: 7 };
        assert_eq!(events.next().await, Some(missed));
        let oldest = WorkerEvent::LeasesCreated { count: 7 };
        assert_eq!(events.next().await, Some(oldest));
        sink.close();
        for _ in 0..BACKLOG - 1 {
            assert!(events.next().await.is_some());
        }
        assert_eq!(events.next().await, None);
    }
}
