//! How a worker stops: the phases, the operating system's signals, and what the exit code says.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::WorkerError;

/// Exit code of a second signal while draining, and of [`run_to_exit`](crate::Worker::run_to_exit) when the drain
/// budget ran out: some shards were not released, and what they had not checkpointed is delivered again.
pub const EXIT_NOT_DRAINED: u8 = 3;

/// The stop of one worker, watched by all its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Option<Instant>>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Begins the stop, to be complete within `budget`. Later calls change nothing.
    pub(crate) fn begin(&self, budget: Duration) -> bool {
        self.0.send_if_modified(|deadline| {
            let first = deadline.is_none();
            if first {
                *deadline = Some(Instant::now() + budget);
            }
            first
        })
    }

    /// When the drain budget ends, once the stop has begun.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until the stop begins and returns its deadline.
    pub(crate) async fn begun(&self) -> Instant {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(deadline) = *receiver.borrow_and_update() {
                return deadline;
            }
            if receiver.changed().await.is_err() {
                // The sender is in `self`, so this cannot happen; waiting for ever is the harmless answer.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// How a worker stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Shards whose final checkpoint was stored and whose lease was released.
    pub drained: usize,
    /// Shards that were cut off by the end of the drain budget. Their leases expire, and what they had not
    /// checkpointed is delivered again.
    pub abandoned: usize,
}

impl ShutdownReport {
    /// The exit code for this outcome: 0, or [`EXIT_NOT_DRAINED`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.abandoned == 0 {
            0
        } else {
            EXIT_NOT_DRAINED
        }
    }
}

/// The exit code of a run: 0 after a clean stop, 1 after an error, [`EXIT_NOT_DRAINED`] when the drain budget ran out.
#[must_use]
pub fn exit_code(outcome: &Result<ShutdownReport, WorkerError>) -> ExitCode {
    ExitCode::from(exit_number(outcome))
}

pub(crate) fn exit_number(outcome: &Result<ShutdownReport, WorkerError>) -> u8 {
    match outcome {
        Ok(report) => report.exit_code(),
        Err(_) => 1,
    }
}

/// Resolves at the first SIGINT or SIGTERM (Ctrl-C on other systems). A second one ends the process at once with
/// [`EXIT_NOT_DRAINED`].
///
/// # Panics
/// When called outside of a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let mut signals = Signals::listen();
    async move {
        signals.next().await;
        tracing::info!("signal received, draining; a second signal ends the process at once");
        // Detached: it watches for as long as the process lives.
        kcl_lease::runtime::Runtime::production()
            .spawn(async move {
                signals.next().await;
                tracing::error!("second signal received, ending without draining");
                std::process::exit(i32::from(EXIT_NOT_DRAINED));
            })
            .detach();
    }
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self(
            kinds
                .into_iter()
                .filter_map(|kind| signal(kind).ok())
                .collect(),
        )
    }

    async fn next(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        let _signal = futures_util::future::select_all(waits).await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
