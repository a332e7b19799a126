//! The one place where the emulator starts tasks.

use tokio::task::JoinHandle;

/// Runs a future on its own task: it goes on when whoever started it is gone.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place of this crate that starts tasks"
)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
