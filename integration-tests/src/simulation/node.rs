//! One simulated process with one worker in it: started, paused, killed, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kcl_core::{
    InitialPosition, Operator, Runtime, Worker, WorkerError, WorkerEvent, WorkerHandle,
};
use kcl_lease::runtime::Gate;
use std::time::Duration;

use super::answers::Handles;
use super::draw::between;
use super::gauge::Gauge;
use super::history::{Event, Exit, loss_name, repair_name, shard_number};
use super::processor::{Mood, SimulatedProcessor, Workplace};
use super::sink::SimulatedSink;
use super::swarm::MEMORY_BUDGET;
use super::world::{APPLICATION, Process, STREAM, SimulatedSource, SimulatedTable, World};

/// How the workers of a run reach the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// The emulator's engines are called directly.
    #[default]
    Direct,
    /// Through the AWS SDK, in process.
    Sdk,
}

/// One process.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number.
    pub process: Process,
    /// The worker's name; two processes may have had the same, one after the other.
    pub name: String,
    gate: Gate,
    handle: WorkerHandle,
    /// What its records take.
    pub gauge: Gauge,
    over: Arc<AtomicBool>,
}

impl Node {
    /// Starts a process.
    ///
    /// # Errors
    /// When the worker's options are refused.
    pub fn start(
        world: &World,
        mood: &Mood,
        process: Process,
        name: &str,
        path: Path,
    ) -> Result<Self, kcl_core::BuildError> {
        let gate = Gate::new();
        let gauge = Gauge::new(world, process);
        let worker = build(world, mood, &gauge, name, path, &gate)?;
        world.introduce(caller(name, process), process);
        let handle = worker.handle();
        gauge.attach(&handle);
        let over = Arc::new(AtomicBool::new(false));
        world.tell(Event::Started {
            process,
            name: name.to_owned(),
        });
        listen(world, process, &handle);
        let (teller, ended) = (world.clone(), Arc::clone(&over));
        let running = gate.guard(worker.run());
        world.spawn(async move {
            let Some(outcome) = running.await else {
                return;
            };
            ended.store(true, Ordering::Relaxed);
            let how = match outcome {
                Ok(report) if report.abandoned == 0 => Exit::Drained,
                Ok(_) => Exit::NotDrained,
                Err(error) => Exit::Error(describe(&error)),
            };
            teller.tell(Event::Exited { process, how });
        });
        Ok(Self {
            process,
            name: name.to_owned(),
            gate,
            handle,
            gauge,
            over,
        })
    }

    /// The name by which the emulator knows the process.
    #[must_use]
    pub fn caller(&self) -> String {
        caller(&self.name, self.process)
    }

    /// Whether it runs, possibly paused.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.gate.is_killed() && !self.over.load(Ordering::Relaxed)
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.gate.is_paused()
    }

    /// Ends it at once.
    pub fn kill(&self, world: &World) {
        if self.is_alive() {
            world.tell(Event::Killed {
                process: self.process,
            });
            self.gate.kill();
        }
    }

    /// Lets it stand still.
    pub fn pause(&self, world: &World) {
        self.gate.pause();
        world.tell(Event::Paused {
            process: self.process,
            paused: true,
        });
    }

    /// Lets it go on.
    pub fn resume(&self, world: &World) {
        if self.gate.is_paused() {
            world.tell(Event::Paused {
                process: self.process,
                paused: false,
            });
            self.gate.resume();
        }
    }

    /// An operator in this process.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.handle.operator()
    }

    /// A task of this process: it stands still and dies with it.
    pub fn guard<F>(&self, task: F) -> impl Future<Output = Option<F::Output>> + Send + use<F>
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.gate.guard(task)
    }

    /// Asks it to stop.
    pub fn stop(&self, world: &World) {
        world.tell(Event::Stopping {
            process: self.process,
        });
        self.handle.shutdown();
    }

    /// Waits until it is over, but not for ever.
    pub async fn ended(&self, patience: Duration) {
        let end = tokio::time::Instant::now() + patience;
        while self.is_alive() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// By how many milliseconds the date of a process is wrong.
fn date_ahead(seed: u64, at_most: Duration, process: Process) -> i64 {
    let most = u64::try_from(at_most.as_millis()).unwrap_or(0);
    let drawn = between(
        seed,
        "date of a process",
        u64::from(process),
        0..2 * most + 1,
    );
    i64::try_from(drawn).unwrap_or(0) - i64::try_from(most).unwrap_or(0)
}

fn caller(name: &str, process: Process) -> String {
    format!("{name}.{process}")
}

fn build(
    world: &World,
    mood: &Mood,
    gauge: &Gauge,
    name: &str,
    path: Path,
    gate: &Gate,
) -> Result<Worker, kcl_core::BuildError> {
    let (seed, climate, process) = (world.seed(), world.climate(), gauge.process());
    let spread = u64::from(climate.drift) * 2 + 1;
    let drift = between(seed, "drift of a clock", u64::from(process), 0..spread);
    let drift = i64::try_from(drift).unwrap_or(0) - i64::from(climate.drift);
    let runtime = Runtime::virtual_time(seed ^ (u64::from(process) << 32))
        .counting_from(world.began())
        .with_date_ahead(date_ahead(seed, climate.dates_differ, process))
        .behind(gate.clone())
        .with_drift(i32::try_from(drift).unwrap_or(0));
    let workplace = Workplace {
        world: world.clone(),
        mood: mood.clone(),
        process,
        gate: gate.clone(),
        handles: Handles::default(),
    };
    let practice = &climate.practice;
    let mut builder = Worker::builder(APPLICATION, STREAM, move |shard| {
        SimulatedProcessor::new(&workplace, shard)
    })
    .worker_name(name)
    .initial_position(match climate.latest {
        true => InitialPosition::Latest,
        false => InitialPosition::TrimHorizon,
    })
    .checkpoint_interval(climate.checkpoint_interval)
    .processor_backoff_max(Duration::from_secs(5))
    .lanes(practice.lanes_of(seed, process))
    .max_in_flight(practice.max_in_flight)
    .failure_policy(practice.policy())
    .retrieval(climate.reading.retrieval())
    .runtime(runtime);
    if let Some(limit) = practice.call_time_limit {
        builder = builder.call_time_limit(limit);
    }
    if let Some(timeout) = practice.stall_timeout {
        builder = builder.stall_timeout(timeout);
    }
    if practice.has_sink() {
        builder = builder.dead_letters(SimulatedSink::new(world, mood, process));
    }
    if climate.big_records {
        builder = builder.memory_budget(usize::try_from(MEMORY_BUDGET).unwrap_or(usize::MAX));
    }
    let caller = caller(name, process);
    match path {
        Path::Direct => builder.build_with(
            Arc::new(SimulatedSource::new(world, &caller, gauge)),
            Arc::new(SimulatedTable::new(world, process, &caller)),
        ),
        Path::Sdk => builder.build(&world.emulator().sdk_config(&caller)),
    }
}

/// Hands on what the worker tells.
fn listen(world: &World, process: Process, handle: &WorkerHandle) {
    let spawner = world.clone();
    let (world, mut events) = (world.clone(), handle.events());
    // Without a limit on what is read at a time: else a call could be logged between two events that came before it.
    let listening = tokio::task::unconstrained(async move {
        while let Some(event) = events.next().await {
            match event {
                WorkerEvent::LeaseLost { shard, reason } => world.tell(Event::LeaseLost {
                    process,
                    shard: shard_number(shard.as_str()),
                    reason: loss_name(reason),
                }),
                WorkerEvent::LeaseReleased { shard, .. } => world.tell(Event::Released {
                    process,
                    shard: shard_number(shard.as_str()),
                }),
                WorkerEvent::GapDetected {
                    shard,
                    from: Some(from),
                    to: Some(to),
                } => world.tell(Event::GapTold {
                    process,
                    shard: shard_number(shard.as_str()),
                    from: from.as_str().to_owned(),
                    to: to.as_str().to_owned(),
                }),
                WorkerEvent::CallStalled { .. } => {
                    let mut history = world.history();
                    history.checker.tally.note("shard given away for its call");
                }
                WorkerEvent::RecordSkipped {
                    shard,
                    position,
                    attempts,
                    ..
                } => world.tell(Event::Skipped {
                    process,
                    shard: shard_number(shard.as_str()),
                    sequence: position.sequence_number.as_str().to_owned(),
                    attempts,
                }),
                WorkerEvent::LeaseRowDeleted { shard, repair } => {
                    world.tell(Event::RowDeletionTold {
                        process,
                        shard: shard_number(shard.as_str()),
                        repair: repair_name(&repair),
                    });
                }
                _ => {}
            }
        }
    });
    spawner.spawn(listening);
}

fn describe(error: &WorkerError) -> String {
    error.to_string()
}
