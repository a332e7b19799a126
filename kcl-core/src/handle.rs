//! A worker from outside, while it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kcl_checkpoint::Position;
use kcl_lease::LeaseKey;
use kcl_lease::operator::Operator;
use kcl_lease::runtime::Runtime;

use crate::board::ShardBoard;
use crate::counters::WorkerCounters;
use crate::event::{EventSink, Events, WorkerEvent};
use crate::health::{Health, WorkerState};
use crate::retrieval::Budget;
use crate::shutdown::Stop;
use crate::worker::TableFactory;

/// Watches and stops a worker. Cheap to clone; made by [`Worker::handle`](crate::Worker::handle).
#[derive(Clone)]
pub struct WorkerHandle {
    pub(crate) events: EventSink,
    pub(crate) stop: Stop,
    pub(crate) drain_budget: Duration,
    pub(crate) board: Arc<ShardBoard>,
    pub(crate) budget: Budget,
    pub(crate) unhealthy_after: Duration,
    pub(crate) table: TableFactory,
    pub(crate) runtime: Runtime,
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

impl WorkerHandle {
    /// The events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// What the worker did so far.
    #[must_use]
    pub fn counters(&self) -> WorkerCounters {
        self.events.counters().snapshot()
    }

    /// The shards whose leases the worker holds now.
    #[must_use]
    pub fn shards(&self) -> Vec<LeaseKey> {
        self.board.held()
    }

    /// The held shards whose delivery was stopped because a record could not be processed or some are gone, each with its
    /// cause, whichever worker stopped them.
    #[must_use]
    pub fn stopped_shards(&self) -> Vec<StoppedShard> {
        self.board.stopped()
    }

    /// The worker and each of its shards as they are now: what each does, how far it is, and whether it moves.
    ///
    /// Looks at every shard, and waits for nothing.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            worker: match (self.board.worker_state(), self.stop.deadline()) {
                (WorkerState::Starting | WorkerState::Running, Some(_)) => WorkerState::Stopping,
                (state, _) => state,
            },
            shards: self.board.health(),
            buffered_bytes: self.buffered_bytes(),
            caught_up: self.board.is_caught_up(),
            unhealthy_after: self.unhealthy_after,
        }
    }

    /// Bytes of memory that records which were fetched and are not processed yet take now, in all shards together, and the
    /// room that is kept for the answers of running reads: what
    /// [`memory_budget`](crate::WorkerBuilder::memory_budget) limits.
    ///
    /// An answer counts until the last slice of it that a processor keeps is dropped. Above the budget only by what running
    /// reads brought beyond the room kept for them. A value that stays near the budget means that processors are slower
    /// than the stream, or keep what they were given.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Commands the holders of leases of this application, whoever they are: pauses, resumes and moves the reading of shards.
    /// It needs this worker only to find the lease table, over a connection of its own.
    ///
    /// A tool without a worker makes one with [`Operator::new`].
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new((self.table)(), self.runtime.clone())
    }

    /// Begins a graceful shutdown, as the future given to
    /// [`with_graceful_shutdown`](crate::Worker::with_graceful_shutdown) does.
    pub fn shutdown(&self) {
        if self.stop.begin(self.drain_budget) {
            self.events.emit(WorkerEvent::ShutdownStarted);
        }
    }

    /// Waits until every shard that the worker could take is processed up to its tip, or the worker has ended.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn caught_up(&self) {
        self.board.caught_up().await;
    }
}

/// A shard whose delivery was stopped, as [`OnFailure::StopShard`](crate::OnFailure::StopShard) or
/// [`GapPolicy::StopShard`](crate::GapPolicy::StopShard) says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedShard {
    /// The shard, by the key of its lease.
    pub shard: LeaseKey,
    /// The record that could not be processed, or at which reading was to go on; `None` if nothing of the shard was
    /// complete. The checkpoint does not pass it.
    pub position: Option<Position>,
    /// The text of the last error; of what another worker was told, the first 1,000 bytes.
    pub error: String,
}

impl StoppedShard {
    pub(crate) fn event(&self) -> WorkerEvent {
        WorkerEvent::ShardStopped {
            shard: self.shard.clone(),
            position: self.position.clone(),
            error: self.error.clone(),
        }
    }
}
