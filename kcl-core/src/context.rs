//! What all shards of one worker share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kcl_lease::retry::RetryPolicy;
use kcl_lease::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::board::ShardBoard;
use crate::call::Place;
use crate::config::Config;
use crate::dead_letter::DeadLetterSink;
use crate::event::EventSink;
use crate::handle::StoppedShard;
use crate::processor::ProcessorFactory;
use crate::shutdown::Stop;
use crate::worker::TableFactory;

/// The longest first wait after a failed call of user code.
pub(crate) const PROCESSOR_BACKOFF: Duration = Duration::from_millis(100);

/// The parts of a worker that its shards use.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) factory: ProcessorFactory,
    /// There is one if the failure policy sends records there.
    pub(crate) dead_letters: Option<Arc<dyn DeadLetterSink>>,
    /// Why the worker stops, if a record is the reason.
    pub(crate) failure: OnceLock<StoppedShard>,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) place: Place,
    pub(crate) events: EventSink,
    pub(crate) board: Arc<ShardBoard>,
    pub(crate) stop: Stop,
    pub(crate) table: TableFactory,
    pub(crate) runtime: Runtime,
    pub(crate) application: Arc<str>,
}

impl Context {
    /// How failed calls of user code are spaced out.
    pub(crate) fn processor_retry(&self) -> RetryPolicy {
        RetryPolicy::endless(PROCESSOR_BACKOFF, self.config.processor_backoff_max)
    }
}
