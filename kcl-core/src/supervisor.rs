//! The tasks of a running worker: one for each granted lease, started, watched and stopped in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::{CoordinatorEvent, CoordinatorHandle, LeaseKey};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::error::WorkerError;
use crate::event::WorkerEvent;
use crate::handle::StoppedShard;
use crate::shard_task::Outcome;
use crate::shutdown::ShutdownReport;
use crate::upkeep::Upkeep;

/// After the drain budget the coordination thread gets this long to delete the worker's own item.
const FAREWELL: Duration = Duration::from_millis(500);

/// Starts a task for each granted lease and sees every task end.
pub(crate) struct Supervisor {
    context: Arc<Context>,
    coordinator: CoordinatorHandle,
    shards: FuturesUnordered<AbortOnDropHandle<(LeaseKey, Outcome)>>,
    /// The shards that have a task.
    running: BTreeSet<LeaseKey>,
    /// New grants of shards whose task under an earlier, lost grant has not ended: its call may still run.
    held_back: BTreeMap<LeaseKey, kcl_lease::Grant>,
    upkeep: Arc<Upkeep>,
    drained: usize,
}

impl Supervisor {
    pub(crate) fn new(
        context: Arc<Context>,
        coordinator: CoordinatorHandle,
        upkeep: Upkeep,
    ) -> Self {
        Self {
            context,
            coordinator,
            shards: FuturesUnordered::new(),
            running: BTreeSet::new(),
            held_back: BTreeMap::new(),
            upkeep: Arc::new(upkeep),
            drained: 0,
        }
    }

    /// Runs until the worker was told to stop and has stopped, or cannot go on.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<CoordinatorEvent>,
    ) -> Result<ShutdownReport, WorkerError> {
        let stop = self.context.stop.clone();
        let (context, coordinator) = (Arc::clone(&self.context), self.coordinator.clone());
        let upkeep = Arc::clone(&self.upkeep);
        let mut keeping = std::pin::pin!(upkeep.run(&context, &coordinator));
        let mut deadline = None;
        let mut coordinated = true;
        // After the stop has begun: until coordination is over and every task has said how it ended.
        while coordinated || !self.shards.is_empty() {
            tokio::select! {
                biased;
                drain_until = stop.begun(), if deadline.is_none() => {
                    deadline = Some(drain_until);
                    self.coordinator.shutdown(drain_until.saturating_duration_since(Instant::now()));
                }
                event = events.recv(), if coordinated => match event {
                    Some(CoordinatorEvent::Stopped) | None if deadline.is_some() => coordinated = false,
                    Some(event) => self.on_event(event)?,
                    None => return Err(WorkerError::Internal("coordination".to_owned())),
                },
                Some(outcome) = self.shards.next() => self.on_outcome(outcome)?,
                () = until(deadline) => break,
                error = &mut keeping => return Err(error),
            }
        }
        let report = self.report().await;
        match context.failure.get().cloned() {
            Some(StoppedShard {
                shard,
                position: Some(position),
                error,
            }) => Err(WorkerError::Processor {
                shard,
                position,
                error,
            }),
            _ => Ok(report),
        }
    }

    /// Starts the task of a granted shard; never two for one shard at a time.
    fn start(&mut self, grant: kcl_lease::Grant) {
        let shard = grant.lease_key().clone();
        self.context.board.started(&shard);
        let beside = mutant::is(Mutant::NewTaskBesideOld);
        if !self.running.insert(shard.clone()) && !beside {
            self.held_back.insert(shard, grant);
            return;
        }
        let task = self.upkeep.shard_task(&self.context, grant);
        self.shards.push(
            self.context
                .runtime
                .spawn(async move { (shard, task.await) }),
        );
    }

    fn on_event(&mut self, event: CoordinatorEvent) -> Result<(), WorkerError> {
        let emit = |event| self.context.events.emit(event);
        match event {
            CoordinatorEvent::Granted(grant) => self.start(grant),
            CoordinatorEvent::Settled => self.context.board.settle(),
            CoordinatorEvent::ChildElsewhere { key } => self.context.board.elsewhere(&key),
            CoordinatorEvent::ListingWanted { stream, identity } => {
                self.upkeep.listing_wanted(&stream, identity);
            }
            CoordinatorEvent::StreamsWanted { anew } => self.upkeep.streams_wanted(anew),
            CoordinatorEvent::StreamRemoved { stream } => self.upkeep.removed(stream),
            CoordinatorEvent::Registered { worker } => emit(WorkerEvent::SessionStarted { worker }),
            CoordinatorEvent::RowUnreadable { key, error } => {
                emit(WorkerEvent::LeaseRowUnreadable { key, error });
            }
            CoordinatorEvent::LeaseRowDeleted { key, repair, .. } => {
                emit(WorkerEvent::LeaseRowDeleted { shard: key, repair });
            }
            CoordinatorEvent::ApplicationReset { before } => {
                let stream_arn = before.stream_arn;
                emit(WorkerEvent::ApplicationReset { stream_arn });
            }
            CoordinatorEvent::TableTrouble { error, .. } => {
                emit(WorkerEvent::TableTrouble { error });
            }
            CoordinatorEvent::TableHealed => emit(WorkerEvent::TableHealed),
            CoordinatorEvent::Fatal(error) => return Err(error.into()),
            _ => {}
        }
        Ok(())
    }

    fn on_outcome(
        &mut self,
        outcome: Result<(LeaseKey, Outcome), tokio::task::JoinError>,
    ) -> Result<(), WorkerError> {
        let (shard, outcome) = outcome.map_err(|error| WorkerError::Internal(error.to_string()))?;
        self.running.remove(&shard);
        match outcome {
            Outcome::Drained => self.drained += 1,
            Outcome::Ended | Outcome::Moved | Outcome::Lost => {}
            Outcome::StreamDeleted => {
                return Err(WorkerError::StreamDeleted {
                    stream: self.upkeep.name(),
                });
            }
            Outcome::Failed(what) => return Err(WorkerError::Internal(what.to_owned())),
        }
        if let Some(grant) = self.held_back.remove(&shard) {
            self.start(grant);
        }
        Ok(())
    }

    async fn report(mut self) -> ShutdownReport {
        let abandoned = self.shards.len();
        // Dropping the tasks cancels calls that still run, at their next await. Their leases are not released: the side
        // effects of such a call may not be over.
        self.shards.clear();
        if abandoned > 0 {
            self.coordinator.abandon();
        }
        stop_coordination(&self.coordinator).await;
        ShutdownReport {
            drained: self.drained,
            abandoned,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends coordination, which has little more to do than to delete the worker's own item.
pub(crate) async fn stop_coordination(coordinator: &CoordinatorHandle) {
    let deadline = Instant::now() + FAREWELL;
    coordinator.shutdown(Duration::ZERO);
    if tokio::time::timeout_at(deadline, coordinator.stopped())
        .await
        .is_err()
    {
        tracing::warn!(
            "the worker's own item could not be deleted in time; other workers clean it up"
        );
    }
}
