//! The world around the workers: the emulator, the network between it and each worker, and the history of what happened.

mod encoding;
mod engine;
mod rows;
mod source;
mod subscription;
mod table;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::Runtime;
use kcl_emulator::faults::{FaultCall, Outcome, Plan};
use kcl_emulator::{ApiError, Caller, Emulator, Service, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::draw::{between, draw};
use super::history::{Event, History};
use super::swarm::Climate;

use rows::Rows;
pub use source::SimulatedSource;
use subscription::Connections;
pub use table::SimulatedTable;

/// The stream of every run.
pub const STREAM: &str = "orders";
/// The application, and so the lease table, of every run.
pub const APPLICATION: &str = "orders-app";

/// One simulated process: the number of its start, unique in a run.
pub type Process = u32;
/// Rows in one page of a scan. At the service a page holds a megabyte; so few let runs meet more than one page.
pub const SCAN_PAGE: u64 = 25;
/// The process number of whoever is no worker.
pub const NOBODY: Process = 0;

/// Everything outside of the workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seed: u64,
    climate: Climate,
    emulator: Emulator,
    runtime: Runtime,
    began: Instant,
    history: Mutex<History>,
    /// The lease table.
    rows: Mutex<Rows>,
    /// The table was created and takes calls.
    table_ready: AtomicBool,
    /// Calls to the lease table are carried out by the emulator's DynamoDB, too, and its answers compared.
    checked: bool,
    /// By how many milliseconds the stream's clock is ahead.
    skipped: AtomicI64,
    requests: AtomicU64,
    /// How often each request was sent in this millisecond.
    sent: Mutex<(u64, BTreeMap<u64, u64>)>,
    /// The processes by the names under which the emulator knows them, if their requests do not pass through here.
    callers: Option<Mutex<BTreeMap<String, Process>>>,
    connections: Mutex<Connections>,
    connection_broke: Notify,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service said no.
    Refused(ApiError),
    /// The connection broke.
    Broken,
}

/// A request as the network sees it.
pub(super) struct Request<'a> {
    pub(super) caller: &'a Caller,
    pub(super) service: Service,
    pub(super) operation: &'static str,
    pub(super) resources: &'a [String],
}

impl World {
    /// A world in which nothing has happened yet. Must be made inside the run's tokio runtime.
    #[must_use]
    pub fn new(seed: u64, climate: Climate, emulator: Emulator, history: History) -> Self {
        Self::with_callers(seed, climate, emulator, history, None)
    }

    /// A world whose workers talk to the emulator past it, through the SDK: it learns of writes from the emulator.
    #[must_use]
    pub fn observing(seed: u64, climate: Climate, emulator: Emulator, history: History) -> Self {
        let _nothing_yet = emulator.take_written();
        Self::with_callers(seed, climate, emulator, history, Some(Mutex::default()))
    }

    fn with_callers(
        seed: u64,
        climate: Climate,
        emulator: Emulator,
        history: History,
        callers: Option<Mutex<BTreeMap<String, Process>>>,
    ) -> Self {
        Self(Arc::new(Inner {
            callers,
            seed,
            rows: Mutex::new(Rows::new(climate.row_versions)),
            table_ready: AtomicBool::new(false),
            checked: false,
            climate,
            emulator,
            runtime: Runtime::virtual_time(seed),
            began: Instant::now(),
            history: Mutex::new(history),
            skipped: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            sent: Mutex::default(),
            connections: Mutex::default(),
            connection_broke: Notify::new(),
        }))
    }

    /// With `checked` every call to the lease table is carried out by the emulator's DynamoDB, too, and the two answers are
    /// compared. Without effect once the world is shared.
    #[must_use]
    pub fn checked(mut self, checked: bool) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.checked = checked;
        }
        self
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The fixed circumstances.
    #[must_use]
    pub fn climate(&self) -> &Climate {
        &self.0.climate
    }

    /// The emulated account.
    #[must_use]
    pub fn emulator(&self) -> &Emulator {
        &self.0.emulator
    }

    /// The start of the run.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// Since the start of the run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Since the start of the run, in milliseconds.
    #[must_use]
    pub fn millis(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The stream's clock.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        let skipped = self.0.skipped.load(Ordering::Relaxed);
        self.0.emulator.clock().now().plus(skipped)
    }

    /// Lets the stream's clock jump ahead.
    pub fn skip(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.0.skipped.fetch_add(millis, Ordering::Relaxed);
    }

    /// Notes what happened, after what was written before it.
    pub fn tell(&self, event: Event) {
        self.take_in_writes();
        let now = self.millis();
        self.history().record(now, event);
    }

    /// What happened so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.0
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease table as it is.
    pub(in crate::simulation) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        let connections = self.0.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests were sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Starts a task that belongs to no worker: it goes on whatever happens to them.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Under virtual time this cannot fail: no thread is started.
        let _started = self.0.runtime.spawn_isolated("world", task);
    }

    /// Sends a request: `act` is carried out when and if it arrives, with the versions that a stale read looks back. It is
    /// a task of the world: the caller may give up or be killed, the request arrives all the same.
    pub(super) async fn send<T, F>(&self, request: Request<'_>, act: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Self, u32) -> Result<T, ApiError> + Send + 'static,
    {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let emulator = &self.0.emulator;
        let plan = emulator.faults().plan(
            FaultCall {
                caller: request.caller,
                service: request.service,
                operation: request.operation,
                resources: request.resources,
                actions: &[],
            },
            self.elapsed(),
        );
        self.history().call(request.service, request.operation);
        let number = self.number(&request);
        let (there, back) = (self.latency(number), self.latency(number + 1));
        let (answer, answered) = oneshot::channel();
        let world = self.clone();
        let (refusable, name) = (request.operation, request.caller.0.clone());
        self.spawn(async move {
            let Plan {
                delay,
                outcome,
                stale_versions,
                ..
            } = plan;
            tokio::time::sleep(there + delay).await;
            let result = match outcome {
                Outcome::Proceed => act(&world, stale_versions).map_err(Failure::Refused),
                Outcome::Refuse(error) => Err(Failure::Refused(error)),
                Outcome::LoseRequest => Err(Failure::Broken),
                Outcome::LoseAnswer => {
                    let _lost = act(&world, stale_versions);
                    world.tell(Event::AnswerLost {
                        caller: name,
                        operation: refusable,
                    });
                    Err(Failure::Broken)
                }
                Outcome::ApplyLate(later) => {
                    tokio::time::sleep(later).await;
                    world.tell(Event::AppliesLate {
                        caller: name,
                        operation: refusable,
                    });
                    let _lost = act(&world, stale_versions);
                    Err(Failure::Broken)
                }
                // Never answered: whoever waits gives up by himself.
                _ => return answer_never(answer).await,
            };
            tokio::time::sleep(back).await;
            // The caller may be gone.
            let _sent = answer.send(result);
        });
        answered.await.unwrap_or(Err(Failure::Broken))
    }

    /// A number of the request for its draws: of what it is and when it is sent, not of how many there were before. So one
    /// request more or less shifts nothing, and neither does the order of two in the same moment.
    fn number(&self, request: &Request<'_>) -> u64 {
        let names = [request.caller.0.as_str(), request.operation];
        let names = names
            .into_iter()
            .chain(request.resources.iter().map(String::as_str));
        let key = names.fold(0, |key, name| draw(key, name, 0));
        let now = self.millis();
        let mut sent = self.0.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.0 != now {
            *sent = (now, BTreeMap::new());
        }
        let count = sent.1.entry(key).or_default();
        *count += 1;
        key ^ (now << 8 | (*count & 0x7f) << 1)
    }

    fn latency(&self, number: u64) -> Duration {
        let (low, high) = self.0.climate.latency;
        Duration::from_millis(between(self.0.seed, "request", number, low..high))
    }
}

/// Waits until nobody waits any more.
async fn answer_never<T>(mut answer: oneshot::Sender<T>) {
    answer.closed().await;
}
