//! Whether a connection is in use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The requests that one connection is working on.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    busy: usize,
    last: Instant,
}

/// One request; it is being worked on until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            busy: 0,
            last: Instant::now(),
        })))
    }
}

impl Activity {
    pub(crate) fn begin(&self) -> Busy {
        self.with(|state| state.busy += 1);
        Busy(self.clone())
    }

    /// Waits until there has been no request for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let idle_at = self.with(|state| {
                if state.busy > 0 {
                    state.last = Instant::now();
                }
                state.last + limit
            });
            if idle_at <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(idle_at).await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.busy -= 1;
            state.last = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_requests() {
        let activity = Activity::default();
        let limit = Duration::from_secs(10);
        let start = Instant::now();
        let busy = activity.begin();
        let idle = async {
            activity.idle_for(limit).await;
            start.elapsed()
        };
        let work = async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            drop(busy);
        };
        let (idle_after, ()) = tokio::join!(idle, work);
        assert_eq!(idle_after, Duration::from_secs(35));
    }
}
