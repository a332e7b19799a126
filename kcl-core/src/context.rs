//! What all shards of one worker share.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

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
use crate::replay::Replay;
use crate::retrieval::{Reader, ShardSource};
use crate::shard_info::ShardInfo;
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
    pub(crate) source: Arc<dyn ShardSource>,
    pub(crate) reader: Reader,
    pub(crate) replay: Option<Arc<Replay>>,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) place: Place,
    pub(crate) events: EventSink,
    pub(crate) board: Arc<ShardBoard>,
    pub(crate) stop: Stop,
    pub(crate) table: TableFactory,
    pub(crate) runtime: Runtime,
    pub(crate) application: Arc<str>,
    pub(crate) stream_name: Arc<str>,
    pub(crate) stream_arn: Arc<str>,
    /// Where a shard without a checkpoint of its own starts, as stored with the stream's identity.
    pub(crate) initial_time: Option<SystemTime>,
}

impl Context {
    /// How failed calls of user code are spaced out.
    pub(crate) fn processor_retry(&self) -> RetryPolicy {
        RetryPolicy::endless(PROCESSOR_BACKOFF, self.config.processor_backoff_max)
    }

    pub(crate) fn shard_info(&self, grant: &kcl_lease::Grant) -> ShardInfo {
        ShardInfo::new(
            Arc::clone(&self.stream_name),
            Arc::clone(&self.stream_arn),
            grant.shard_id().clone(),
            grant.parents().iter().cloned().collect(),
            grant.hash_range(),
        )
    }
}
