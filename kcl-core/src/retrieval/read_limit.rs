//! A bound on what one worker reads in a second, over all of its shards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_lease::runtime::{Moment, Runtime};
use tokio::sync::Notify;

/// How many bytes of records a worker reads in a second, or no bound. Clones share it.
///
/// A read is charged for as much as the shard's last one brought before it goes out, and what it really brought is settled
/// after it: on average the bound is kept, and a burst is at most one answer of each shard that had nothing to read before.
/// Shards take turns in the order in which they ask.
#[derive(Debug, Clone, Default)]
pub struct ReadLimit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    bytes_per_second: u64,
    runtime: Runtime,
    begin: Moment,
    /// Held by the shard whose turn is next.
    turn: tokio::sync::Mutex<()>,
    /// Time since the beginning that the reads so far have used up.
    used: Mutex<Duration>,
    /// Some of it was given back, or more of it is used than was expected.
    settled: Notify,
}

impl ReadLimit {
    /// At most so many bytes in a second.
    #[must_use]
    pub fn new(bytes_per_second: u64, runtime: Runtime) -> Self {
        Self(Some(Arc::new(Shared {
            bytes_per_second: bytes_per_second.max(1),
            begin: runtime.now(),
            turn: tokio::sync::Mutex::default(),
            used: Mutex::default(),
            settled: Notify::new(),
            runtime,
        })))
    }

    /// Waits for a turn, and charges the read that follows for about so many bytes.
    ///
    /// # Cancellation
    /// Safe to drop at any time: the turn goes to the next shard.
    pub async fn wait(&self, expected: u64) -> Charge {
        if let Some(shared) = &self.0 {
            let _turn = shared.turn.lock().await;
            shared.until_paid().await;
            shared.begin_read(expected);
        }
        Charge {
            limit: self.0.clone(),
            bytes: expected,
        }
    }
}

impl Shared {
    /// Waits until the reads so far are paid for. That changes meanwhile, with what they bring: one that is refused brings
    /// nothing, and costs those who wait nothing.
    async fn until_paid(&self) {
        loop {
            let pause = self.pause();
            if pause.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.settled.notified() => {}
            }
        }
    }

    /// What is used up beyond the time that has passed.
    fn pause(&self) -> Duration {
        self.with_used(|used, passed| used.saturating_sub(passed))
    }

    fn begin_read(&self, expected: u64) {
        let cost = self.cost(expected);
        // Time in which nobody read is not saved up.
        self.with_used(|used, passed| *used = (*used).max(passed).saturating_add(cost));
    }

    fn settle(&self, expected: u64, came: u64) {
        let (expected, came) = (self.cost(expected), self.cost(came));
        self.with_used(|used, _| *used = used.saturating_sub(expected).saturating_add(came));
        // There is one at most whose turn it is.
        self.settled.notify_one();
    }

    fn cost(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn with_used<T>(&self, act: impl FnOnce(&mut Duration, Duration) -> T) -> T {
        let passed = self.runtime.now().since(self.begin);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut used, passed)
    }
}

/// What a read was charged. Given back when it is dropped: a read that failed brought nothing. The default is nothing.
#[derive(Debug, Default)]
pub struct Charge {
    limit: Option<Arc<Shared>>,
    bytes: u64,
}

impl Charge {
    /// The read brought so many bytes.
    pub fn settle(mut self, came: u64) {
        if let Some(limit) = self.limit.take() {
            limit.settle(self.bytes, came);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(limit) = self.limit.take() {
            limit.settle(self.bytes, 0);
        }
    }
}
