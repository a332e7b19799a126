//! The worker: wires coordination, reading and processing together and stops them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Runtime;
use kcl_lease::{
    Coordinator, CoordinatorEvent, CoordinatorHandle, CoordinatorOptions, LeaseTable, ShardId,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::builder::WorkerBuilder;
use crate::call::{Place, THREADS_MAX};
use crate::config::Config;
use crate::context::Context;
use crate::error::WorkerError;
use crate::event::{EventSink, WorkerEvent};
use crate::handle::{ShardBoard, WorkerHandle};
use crate::processor::{ProcessorFactory, RecordProcessor};
use crate::retrieval::{Budget, PaceOptions, Polling, ShardSource};
use crate::shard_info::ShardInfo;
use crate::shard_task::{self, Outcome};
use crate::shutdown::{ShutdownReport, Stop, exit_number};
use crate::startup::{OpenStream, Startup};
use crate::stream::{ApplicationName, StreamRef, Streams};

pub(crate) type TableFactory = Box<dyn FnOnce() -> Arc<dyn LeaseTable> + Send>;

/// After the drain budget the coordination thread gets this long to delete the worker's own item.
const FAREWELL: Duration = Duration::from_millis(500);

/// Everything that a worker is made of.
pub(crate) struct WorkerParts {
    pub(crate) application: ApplicationName,
    pub(crate) stream: StreamRef,
    pub(crate) config: Config,
    pub(crate) factory: ProcessorFactory,
    pub(crate) source: Arc<dyn ShardSource>,
    pub(crate) table: TableFactory,
    pub(crate) runtime: Runtime,
}

/// One worker of an application: takes leases, reads their shards and runs a record processor for each.
#[must_use = "a worker does nothing until run() is awaited"]
#[doc(alias = "Scheduler")]
pub struct Worker {
    parts: WorkerParts,
    handle: WorkerHandle,
    triggers: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("application", &self.parts.application)
            .field("stream", &self.parts.stream)
            .field("config", &self.parts.config)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts to describe a worker of `application` that consumes `streams` (a name or an ARN) with the processors that
    /// `factory` makes, one for each shard.
    pub fn builder<F, P>(
        application: impl Into<ApplicationName>,
        streams: impl Into<Streams>,
        factory: F,
    ) -> WorkerBuilder
    where
        F: Fn(&ShardInfo) -> P + Send + Sync + 'static,
        P: RecordProcessor,
    {
        WorkerBuilder::new(application.into(), streams.into(), factory)
    }

    pub(crate) fn new(parts: WorkerParts) -> Self {
        let handle = WorkerHandle {
            events: EventSink::new(),
            stop: Stop::new(),
            drain_budget: parts.config.drain_budget,
            board: Arc::new(ShardBoard::new()),
        };
        Self {
            parts,
            handle,
            triggers: Vec::new(),
        }
    }

    /// A handle to watch and stop the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Begins a graceful shutdown when `signal` resolves. May be called several times: the first that resolves counts.
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.triggers.push(Box::pin(signal));
        self
    }

    /// Runs the worker until it is told to stop.
    ///
    /// A graceful shutdown takes no new leases and hands those that are held to other workers: each shard is delivered on
    /// until its receiver is ready, then the running processor call ends, `shutdown_requested` is called, the final
    /// checkpoint is stored and the lease changes its owner, all within the drain budget.
    ///
    /// # Errors
    /// See [`WorkerError`]. What is wrong at the start (no such stream, no rights) ends the run at once; what is
    /// transient is tried again for the startup timeout; later trouble is reported as events and tried again.
    ///
    /// # Cancellation
    /// Dropping the future ends the worker without draining: the leases expire, and nothing that was not checkpointed is
    /// skipped.
    pub async fn run(self) -> Result<ShutdownReport, WorkerError> {
        let Self {
            parts,
            handle,
            triggers,
        } = self;
        let runtime = parts.runtime.clone();
        let _end_guard = EndOnDrop(handle.clone());
        let _triggers: Vec<AbortOnDropHandle<()>> = triggers
            .into_iter()
            .map(|trigger| {
                let handle = handle.clone();
                runtime.spawn(async move {
                    trigger.await;
                    handle.shutdown();
                })
            })
            .collect();
        let (coordinator, mut events) =
            Coordinator::start(coordinator_options(&parts.config), runtime, parts.table)?;
        // Whatever way this function is left, coordination must not keep leases alive that nobody works on.
        let _stop_guard = StopOnDrop(coordinator.clone());
        let startup = Startup {
            stream: &parts.stream.name,
            config: &parts.config,
            source: parts.source.as_ref(),
            coordinator: &coordinator,
            events: &handle.events,
            runtime: &parts.runtime,
        };
        let opened = tokio::select! {
            biased;
            opened = startup.open() => opened.map_err(|error| why_coordination_ended(&mut events).unwrap_or(error))?,
            deadline = handle.stop.begun() => {
                return Ok(leave_before_start(&coordinator, &mut events, deadline).await);
            }
        };
        let context = Arc::new(Context {
            polling: polling(&parts.config, parts.source, parts.runtime.clone()),
            calls: Arc::new(Semaphore::new(concurrent_calls(&parts.config))),
            place: match parts.config.blocking_processor {
                true => Place::Thread(parts.runtime.clone()),
                false => Place::Task,
            },
            config: parts.config,
            factory: parts.factory,
            events: handle.events,
            board: handle.board,
            stop: handle.stop,
            runtime: parts.runtime,
            stream_name: parts.stream.name.into(),
            stream_arn: opened.arn.clone().into(),
            initial_time: opened.initial_time,
        });
        Supervisor {
            context,
            coordinator,
            shards: FuturesUnordered::new(),
            running: BTreeSet::new(),
            held_back: BTreeMap::new(),
            opened,
            drained: 0,
        }
        .run(events)
        .await
    }

    /// Runs the worker and ends the process with the documented exit code, even if a processor call never returns:
    /// 0 after a clean stop, 1 after an error, [`EXIT_NOT_DRAINED`](crate::EXIT_NOT_DRAINED) when the drain budget ran
    /// out.
    pub async fn run_to_exit(self) -> ! {
        let outcome = self.run().await;
        match &outcome {
            Ok(report) => tracing::info!(?report, "stopped"),
            Err(error) => tracing::error!(%error, "stopped"),
        }
        std::process::exit(i32::from(exit_number(&outcome)));
    }
}

fn concurrent_calls(config: &Config) -> usize {
    let most = match config.blocking_processor {
        true => THREADS_MAX,
        false => Semaphore::MAX_PERMITS,
    };
    config.max_concurrent_calls.min(most)
}

fn coordinator_options(config: &Config) -> CoordinatorOptions {
    let mut options = CoordinatorOptions::default();
    options.worker_name = config.worker_name.clone().unwrap_or_else(host_name);
    options.lease_duration = config.lease_duration;
    options.scan_interval = options.scan_interval.min(config.lease_duration);
    options.max_leases = config.max_leases;
    options.reset_if_stream_changed = config.reset_if_stream_changed;
    options.replay_deleted_leases = config.replay_deleted_leases;
    options.startup_timeout = config.startup_timeout;
    options
}

fn polling(config: &Config, source: Arc<dyn ShardSource>, runtime: Runtime) -> Polling {
    let budget = Budget::new(config.memory_budget as u64);
    Polling {
        pace: PaceOptions {
            max_idle_interval: config.idle_between_reads,
            idle_calls_per_second: config.idle_reads_per_second,
            ..PaceOptions::default()
        },
        max_records: config.max_records,
        out_of_range: config.out_of_range,
        ..Polling::new(source, budget, runtime)
    }
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name: String = system
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        .take(100)
        .collect();
    if name.is_empty() {
        "worker".to_owned()
    } else {
        name
    }
}

struct StopOnDrop(CoordinatorHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Ends what listeners of the worker wait for, whatever way the run ends.
struct EndOnDrop(WorkerHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.events.close();
        self.0.board.end();
    }
}

/// Starts a task for each granted lease and sees every task end.
struct Supervisor {
    context: Arc<Context>,
    coordinator: CoordinatorHandle,
    shards: FuturesUnordered<AbortOnDropHandle<(ShardId, Outcome)>>,
    /// The shards that have a task.
    running: BTreeSet<ShardId>,
    /// New grants of shards whose task under an earlier, lost grant has not ended: its call may still run.
    held_back: BTreeMap<ShardId, kcl_lease::Grant>,
    opened: OpenStream,
    drained: usize,
}

impl Supervisor {
    async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<CoordinatorEvent>,
    ) -> Result<ShutdownReport, WorkerError> {
        let stop = self.context.stop.clone();
        let listing_wanted = tokio::sync::Notify::new();
        let (context, coordinator) = (Arc::clone(&self.context), self.coordinator.clone());
        let startup = Startup {
            stream: &context.stream_name,
            config: &context.config,
            source: context.polling.source.as_ref(),
            coordinator: &coordinator,
            events: &context.events,
            runtime: &context.runtime,
        };
        let mut sync = std::pin::pin!(startup.keep_listing(&listing_wanted, self.opened.checked));
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
                    Some(CoordinatorEvent::ListingWanted) => listing_wanted.notify_one(),
                    Some(CoordinatorEvent::Stopped) | None if deadline.is_some() => coordinated = false,
                    Some(event) => self.on_event(event)?,
                    None => return Err(WorkerError::Internal("coordination".to_owned())),
                },
                Some(outcome) = self.shards.next() => self.on_outcome(outcome)?,
                () = until(deadline) => break,
                error = &mut sync => return Err(error),
            }
        }
        Ok(self.report().await)
    }

    /// Starts the task of a granted shard; never two for one shard at a time.
    fn start(&mut self, grant: kcl_lease::Grant) {
        let shard = grant.shard_id().clone();
        self.context.board.started(&shard);
        let beside = mutant::is(Mutant::NewTaskBesideOld);
        if !self.running.insert(shard.clone()) && !beside {
            self.held_back.insert(shard, grant);
            return;
        }
        let task = shard_task::run(Arc::clone(&self.context), grant);
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
            CoordinatorEvent::ChildElsewhere { shard } => self.context.board.elsewhere(&shard),
            CoordinatorEvent::Registered { worker } => emit(WorkerEvent::SessionStarted { worker }),
            CoordinatorEvent::RowUnreadable { key, error } => {
                emit(WorkerEvent::LeaseRowUnreadable { key, error });
            }
            CoordinatorEvent::LeaseRowDeleted { key, repair, .. } => {
                let shard = key.shard();
                emit(WorkerEvent::LeaseRowDeleted { shard, repair });
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
        outcome: Result<(ShardId, Outcome), tokio::task::JoinError>,
    ) -> Result<(), WorkerError> {
        let (shard, outcome) = outcome.map_err(|error| WorkerError::Internal(error.to_string()))?;
        self.running.remove(&shard);
        match outcome {
            Outcome::Drained => self.drained += 1,
            Outcome::Ended | Outcome::Moved | Outcome::Lost => {}
            Outcome::StreamDeleted => {
                return Err(WorkerError::StreamDeleted {
                    stream: self.opened.arn.clone(),
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
        stop_coordination(&self.coordinator, Instant::now() + FAREWELL).await;
        ShutdownReport {
            drained: self.drained,
            abandoned,
        }
    }
}

/// Stops a worker that has not started to work: what it was granted meanwhile is given back.
async fn leave_before_start(
    coordinator: &CoordinatorHandle,
    events: &mut mpsc::UnboundedReceiver<CoordinatorEvent>,
    deadline: Instant,
) -> ShutdownReport {
    let mut report = ShutdownReport {
        drained: 0,
        abandoned: 0,
    };
    coordinator.shutdown(Duration::ZERO);
    while let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.recv()).await {
        match event {
            CoordinatorEvent::Granted(grant) => {
                match tokio::time::timeout_at(deadline, grant.release(None)).await {
                    Ok(Ok(())) => report.drained += 1,
                    _ => report.abandoned += 1,
                }
            }
            CoordinatorEvent::Stopped | CoordinatorEvent::Fatal(_) => break,
            _ => {}
        }
    }
    stop_coordination(coordinator, Instant::now() + FAREWELL).await;
    report
}

/// The reason, if coordination gave up: whoever asks it for something afterwards learns only that it is gone.
fn why_coordination_ended(
    events: &mut mpsc::UnboundedReceiver<CoordinatorEvent>,
) -> Option<WorkerError> {
    while let Ok(event) = events.try_recv() {
        if let CoordinatorEvent::Fatal(error) = event {
            return Some(error.into());
        }
    }
    None
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn stop_coordination(coordinator: &CoordinatorHandle, deadline: Instant) {
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
