//! Standard output, shared by all shards.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use kcl_core::Runtime;
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::sync::{Mutex, Notify};

/// Writes whole lines and knows whether anybody still reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stdout: Mutex<Stdout>,
    runtime: Runtime,
    failure: OnceLock<String>,
    failed: Notify,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        Self(Arc::new(Inner {
            stdout: Mutex::new(tokio::io::stdout()),
            runtime: Runtime::production(),
            failure: OnceLock::new(),
            failed: Notify::new(),
        }))
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        let since = self
            .0
            .runtime
            .wall_time()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes lines and flushes them: when it returns, they have left the process.
    pub(crate) async fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut stdout = self.0.stdout.lock().await;
        let written = match stdout.write_all(lines).await {
            Ok(()) => stdout.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &written {
            // Only the first failure is told.
            let _later = self.0.failure.set(error.to_string());
            self.0.failed.notify_one();
        }
        written
    }

    /// Resolves when nothing can be written any more.
    pub(crate) async fn broken(self) {
        self.0.failed.notified().await;
    }

    /// An error if a write failed.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.failure.get() {
            None => Ok(()),
            Some(error) => Err(io::Error::other(format!(
                "cannot write to standard output: {error}; what was not written is not checkpointed"
            ))),
        }
    }
}
