//! Coordination of leases for one worker: its session, and the leases that it holds.
//!
//! One task on a thread of its own drives everything (user code that blocks cannot starve it). What to do is decided by
//! the pure modules of this crate (`session`, `liveness`, `take`, `held`, `graph`, `shard_end`, `answer`); this one makes
//! the calls and hands the answers over.

mod audits;
mod calls;
mod drains;
mod driver;
mod event;
mod forgetting;
mod former;
mod handle;
mod handovers;
mod hints;
mod joining;
mod leading;
mod lookout;
mod orders;
mod outbox;
mod resets;
mod room;
mod rows;
mod scans;
mod sessions;
mod setback;
mod several;
mod standing;
mod steps;
mod streams;
mod syncs;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use event::{CoordinatorError, CoordinatorEvent, RowRepair};
pub(crate) use handle::Command;
pub use handle::{CoordinatorHandle, OpenedStream, StreamIdentity, SyncOutcome};

use crate::key::WorkerId;
use crate::runtime::Runtime;
use crate::table::LeaseTable;

/// How a worker coordinates.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CoordinatorOptions {
    /// The name that operators see in the lease table: 1 to 128 visible ASCII characters without `/` and `|`. A random
    /// part is added for each session.
    pub worker_name: String,
    /// How long a worker that shows no sign of life keeps its leases. The same for all workers of an application.
    pub lease_duration: Duration,
    /// By how much others wait longer than the lease duration: covers how far two clocks drift apart in that time.
    pub drift_margin: Duration,
    /// How often the leader reads the whole table. At most the lease duration.
    pub scan_interval: Duration,
    /// How often a worker looks into its inbox and at the leader, and the leader at everybody's heartbeat.
    pub watch_interval: Duration,
    /// How many leases the worker holds at most.
    pub max_leases: usize,
    /// How long transient failures of the table are tried again at the start.
    pub startup_timeout: Duration,
    /// Whether the leases of another stream, or of an earlier stream of the same name, are deleted when this worker starts.
    /// Otherwise it refuses to start.
    pub reset_if_stream_changed: bool,
    /// Whether a lease whose row was deleted, and whose progress no running worker knows, is read again from where the
    /// application began.
    pub replay_deleted_leases: bool,
    /// Whether the application reads several streams: keys of leases then begin with the stream's. The same for all workers of
    /// an application.
    pub many_streams: bool,
    /// How long the leases of one of several streams stay that the application does not read any more.
    pub former_streams_after: Duration,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            worker_name: "worker".to_owned(),
            lease_duration: Duration::from_secs(10),
            drift_margin: Duration::from_millis(250),
            scan_interval: Duration::from_secs(10),
            watch_interval: Duration::from_secs(1),
            max_leases: usize::MAX,
            startup_timeout: Duration::from_secs(120),
            reset_if_stream_changed: false,
            replay_deleted_leases: false,
            many_streams: false,
            former_streams_after: Duration::from_secs(60 * 60),
        }
    }
}

impl CoordinatorOptions {
    /// As the worker's item says it: `None` for any number, which is also what no reader would accept.
    fn published_max_leases(&self) -> Option<u64> {
        let limit = u64::try_from(self.max_leases).ok();
        limit.filter(|limit| i64::try_from(*limit).is_ok())
    }

    fn validate(&self) -> Result<(), CoordinatorError> {
        let invalid = |option, reason| Err(CoordinatorError::InvalidOption { option, reason });
        if self.lease_duration < Duration::from_millis(100) {
            return invalid("lease_duration", "must be at least 100 ms; 10 s is usual");
        }
        if self.lease_duration > Duration::from_secs(60 * 60) {
            return invalid("lease_duration", "must be at most an hour; 10 s is usual");
        }
        if self.scan_interval.is_zero() || self.scan_interval > self.lease_duration {
            return invalid(
                "scan_interval",
                "must be more than zero and at most the lease duration",
            );
        }
        if self.watch_interval.is_zero() {
            return invalid("watch_interval", "must be more than zero; 1 s is usual");
        }
        if self.many_streams && self.reset_if_stream_changed {
            return invalid(
                "reset_if_stream_changed",
                "is for an application of one stream",
            );
        }
        if self.max_leases == 0 {
            return invalid("max_leases", "must be at least 1");
        }
        Ok(())
    }
}

/// Starts coordination.
#[derive(Debug)]
#[non_exhaustive]
pub struct Coordinator;

impl Coordinator {
    /// Starts coordination, in production on a thread of its own, under virtual time as a task. `table` makes the lease
    /// table there, so that its client and connections belong to that thread.
    ///
    /// The table is prepared and the session registered at once; leases are taken after
    /// [`open_stream`](CoordinatorHandle::open_stream). What happens is told through the receiver. Coordination ends
    /// after [`shutdown`](CoordinatorHandle::shutdown) or [`abandon`](CoordinatorHandle::abandon), after
    /// [`CoordinatorEvent::Fatal`], and when nobody holds a handle or grant any more.
    ///
    /// # Errors
    /// When an option has a value that cannot work, or the operating system refuses a thread.
    pub fn start<F>(
        options: CoordinatorOptions,
        runtime: Runtime,
        table: F,
    ) -> Result<(CoordinatorHandle, mpsc::UnboundedReceiver<CoordinatorEvent>), CoordinatorError>
    where
        F: FnOnce() -> Arc<dyn LeaseTable> + Send + 'static,
    {
        options.validate()?;
        // Two workers of one process may share a seed; they do not start in the same instant under the same name.
        let mut rng = runtime.rng(&format!("worker id {:?}", runtime.wall_time()));
        let first = WorkerId::generate(&options.worker_name, &mut rng)?;
        let (commands, received) = mpsc::unbounded_channel();
        let (events, told) = mpsc::unbounded_channel();
        let (worker, current_worker) = watch::channel(first);
        let handle = CoordinatorHandle::new(commands.clone(), current_worker);
        let spawner = runtime.clone();
        let seat = driver::Seat {
            options,
            runtime,
            rng,
            worker,
            // Held weakly: the driver must notice when nobody else can send any more.
            commands: commands.downgrade(),
            received,
            events,
        };
        spawner
            .spawn_isolated("kcl-coordination", async move {
                driver::Driver::new(seat, table()).run().await;
            })
            .map_err(|error| CoordinatorError::NoThread {
                reason: error.to_string(),
            })?;
        Ok((handle, told))
    }
}

#[cfg(test)]
mod tests;
