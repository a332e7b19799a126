//! The worker: wires coordination, reading and processing together.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use kcl_lease::runtime::Runtime;
use kcl_lease::{Coordinator, CoordinatorEvent, CoordinatorHandle, CoordinatorOptions, LeaseTable};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::board::ShardBoard;
use crate::builder::WorkerBuilder;
use crate::call::{Place, THREADS_MAX};
use crate::config::Config;
use crate::context::Context;
use crate::dead_letter::DeadLetterSink;
use crate::error::WorkerError;
use crate::event::{EventSink, Events};
use crate::handle::WorkerHandle;
use crate::many::{Keeper, Rules, StreamBook};
use crate::processor::{ProcessorFactory, RecordProcessor};
use crate::replay::{self, Replay, Window};
use crate::retrieval::{Budget, ConsumerOptions, ShardSource};
use crate::shard_info::ShardInfo;
use crate::shared_reading::SharedReading;
use crate::shutdown::{ShutdownReport, Stop, exit_number};
use crate::startup::{OpenStream, Startup};
use crate::stream::{ApplicationName, StreamList, StreamRef, Streams};
use crate::stream_reading::StreamReading;
use crate::supervisor::{Supervisor, stop_coordination};
use crate::upkeep::{OnlyStream, Upkeep};

/// Each call makes a connection of its own.
pub(crate) type TableFactory = Arc<dyn Fn() -> Arc<dyn LeaseTable> + Send + Sync>;

/// Everything that a worker is made of.
pub(crate) struct WorkerParts {
    pub(crate) application: ApplicationName,
    pub(crate) streams: StreamParts,
    pub(crate) config: Config,
    pub(crate) factory: ProcessorFactory,
    pub(crate) dead_letters: Option<Arc<dyn DeadLetterSink>>,
    pub(crate) table: TableFactory,
    pub(crate) runtime: Runtime,
}

/// What a worker reads.
#[derive(Debug)]
pub(crate) enum StreamParts {
    One(OneStream),
    Several(Rules, StreamList),
}

/// The only stream, and how it is reached.
#[derive(Debug)]
pub(crate) struct OneStream {
    pub(crate) stream: StreamRef,
    /// Who subscribes, if the worker does not only poll.
    pub(crate) consumer: Option<ConsumerOptions>,
    pub(crate) source: Arc<dyn ShardSource>,
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
            .field("streams", &self.parts.streams)
            .field("config", &self.parts.config)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts to describe a worker of `application` that consumes `streams` (a name or an ARN, or [several](Streams)) with the
    /// processors that `factory` makes, one for each shard.
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
            budget: Budget::new(parts.config.memory_budget as u64),
            unhealthy_after: parts.config.unhealthy_after,
            table: Arc::clone(&parts.table),
            runtime: parts.runtime.clone(),
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

    /// The events from now on, none of the start left out.
    #[must_use]
    pub fn events(&self) -> Events {
        self.handle.events()
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
        let table = parts.table;
        let (coordinator, mut events) = Coordinator::start(
            coordinator_options(
                &parts.config,
                matches!(parts.streams, StreamParts::Several(..)),
            ),
            runtime.clone(),
            move || table(),
        )?;
        // Whatever way this function is left, coordination must not keep leases alive that nobody works on.
        let _stop_guard = StopOnDrop(coordinator.clone());
        let shared = SharedReading::new(&parts.config, handle.budget.clone(), runtime.clone());
        let mut _until_replayed = None;
        let upkeep = match parts.streams {
            StreamParts::Several(rules, list) => {
                let book = Arc::new(StreamBook::new(rules, list, shared));
                let keeper = Keeper::new(
                    Arc::clone(&book),
                    &parts.config,
                    coordinator.clone(),
                    handle.events.clone(),
                    runtime.clone(),
                );
                Upkeep::Several(Box::new(keeper), book)
            }
            StreamParts::One(one) => {
                let startup = Startup {
                    stream: &one.stream.name,
                    config: &parts.config,
                    source: one.source.as_ref(),
                    coordinator: &coordinator,
                    events: &handle.events,
                    runtime: &runtime,
                };
                let opened = tokio::select! {
                    biased;
                    opened = startup.open() => opened.map_err(|error| why_coordination_ended(&mut events).unwrap_or(error))?,
                    deadline = handle.stop.begun() => {
                        return Ok(leave_before_start(&coordinator, &mut events, deadline).await);
                    }
                };
                if let Some(window) = parts.config.replay {
                    if opened.initial_time.map(to_millis) != Some(to_millis(window.from)) {
                        return Err(WorkerError::ReplayBegunElsewhere);
                    }
                    let done = replay::stop_when_done(window, handle.operator(), handle.clone());
                    _until_replayed = Some(runtime.spawn(done));
                }
                Upkeep::One(OnlyStream {
                    reading: Arc::new(only_reading(
                        one,
                        &opened,
                        parts.config.replay,
                        &shared,
                        &runtime,
                    )),
                    opened,
                    listing_wanted: Notify::new(),
                })
            }
        };
        let context = Arc::new(Context {
            calls: Arc::new(Semaphore::new(concurrent_calls(&parts.config))),
            place: match parts.config.blocking_processor {
                true => Place::Thread(parts.runtime.clone()),
                false => Place::Task,
            },
            config: parts.config,
            factory: parts.factory,
            dead_letters: parts.dead_letters,
            failure: OnceLock::new(),
            events: handle.events,
            board: handle.board,
            stop: handle.stop,
            table: handle.table,
            runtime: parts.runtime,
            application: parts.application.as_str().into(),
        });
        Supervisor::new(context, coordinator, upkeep)
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

fn to_millis(time: SystemTime) -> u128 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

fn concurrent_calls(config: &Config) -> usize {
    let most = match config.blocking_processor {
        true => THREADS_MAX,
        false => Semaphore::MAX_PERMITS,
    };
    config.max_concurrent_calls.min(most)
}

fn coordinator_options(config: &Config, many_streams: bool) -> CoordinatorOptions {
    let mut options = CoordinatorOptions::default();
    options.worker_name = config.worker_name.clone().unwrap_or_else(host_name);
    options.lease_duration = config.lease_duration;
    options.scan_interval = options.scan_interval.min(config.lease_duration);
    options.max_leases = config.max_leases;
    options.reset_if_stream_changed = config.reset_if_stream_changed;
    options.replay_deleted_leases = config.replay_deleted_leases;
    options.startup_timeout = config.startup_timeout;
    options.many_streams = many_streams;
    options.former_streams_after = config.former_streams_after;
    options
}

/// How the only stream is read. A bounded replay polls.
fn only_reading(
    one: OneStream,
    opened: &OpenStream,
    window: Option<Window>,
    shared: &SharedReading,
    runtime: &Runtime,
) -> StreamReading {
    let replay = window.map(|window| {
        let (stream, runtime) = (Arc::clone(&one.source), runtime.clone());
        Arc::new(Replay::new(window, stream, runtime))
    });
    let (source, consumer) = match &replay {
        Some(replay) => (Arc::clone(replay) as Arc<dyn ShardSource>, None),
        None => (one.source, one.consumer),
    };
    StreamReading {
        name: one.stream.name.into(),
        arn: opened.arn.as_str().into(),
        initial_time: opened.initial_time,
        reader: shared.reader(&source, consumer),
        source,
        replay,
        is_one_of_several: false,
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
                    Ok(Ok(_)) => report.drained += 1,
                    _ => report.abandoned += 1,
                }
            }
            CoordinatorEvent::Stopped | CoordinatorEvent::Fatal(_) => break,
            _ => {}
        }
    }
    stop_coordination(coordinator).await;
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
