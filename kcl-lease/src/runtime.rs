//! One clock, one randomness, one spawn: the only module that reads clocks, draws seeds and starts tasks or threads.
//!
//! Everything that waits uses tokio's timers; everything that *judges* time (deadlines, ages of heartbeats) uses
//! [`Moment`]s, which in production run on while the machine is suspended. A [`Runtime`] for tests has one thread and
//! tokio's clock, so that under a paused tokio runtime time is virtual and a seed replays.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

pub use crate::gate::Gate;

/// Wall time at the start of a run on virtual time: 2026-01-01T00:00:00Z.
const VIRTUAL_EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// A reading of the process's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    #[cfg(feature = "internals")]
    pub(crate) fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The moment `later` after this one.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// The moment `earlier` before this one.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }

    /// Time from `earlier` to this moment, zero if it lies after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Clock, randomness and task starting, handed to everything that needs one of them.
#[derive(Debug, Clone)]
pub struct Runtime {
    mode: Mode,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Mode {
    /// Coordination has its own thread; moments come from the boot-time clock.
    Production,
    /// All on the current thread; moments come from tokio's clock.
    Virtual(Virtual),
}

/// What belongs to one simulated process.
#[derive(Debug, Clone)]
struct Virtual {
    /// Moments count from here.
    start: tokio::time::Instant,
    gate: Option<Gate>,
    /// By how many millionths the process's clock is fast.
    drift: i32,
    /// By how many milliseconds the date that the process knows is ahead. All clones of a runtime share it.
    date_ahead: Arc<AtomicI64>,
}

impl Virtual {
    /// Time since the start as the process's own clock shows it.
    fn elapsed(&self) -> Duration {
        let elapsed = self.start.elapsed();
        let error = elapsed / 1_000_000 * self.drift.unsigned_abs();
        match self.drift < 0 {
            true => elapsed.saturating_sub(error),
            false => elapsed.saturating_add(error),
        }
    }
}

impl Virtual {
    /// Independent of the clock that measures intervals, as in a real process.
    fn date(&self) -> SystemTime {
        let right = SystemTime::UNIX_EPOCH + VIRTUAL_EPOCH + self.start.elapsed();
        let ahead = self.date_ahead.load(Ordering::Relaxed);
        let error = Duration::from_millis(ahead.unsigned_abs());
        match ahead < 0 {
            true => right - error,
            false => right + error,
        }
    }
}

impl Runtime {
    /// The runtime of a real worker: real clocks, a random seed, a thread of its own for coordination.
    #[must_use]
    pub fn production() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where randomness enters"
        )]
        let seed = fastrand::Rng::new().u64(..);
        Self {
            mode: Mode::Production,
            seed,
        }
    }

    /// A deterministic runtime: everything on the current thread, tokio's clock, randomness from `seed`.
    ///
    /// Meant for a current-thread tokio runtime with paused time (`#[tokio::test(start_paused = true)]`).
    /// Must be called inside that runtime.
    #[must_use]
    pub fn virtual_time(seed: u64) -> Self {
        Self {
            mode: Mode::Virtual(Virtual {
                start: tokio::time::Instant::now(),
                gate: None,
                drift: 0,
                date_ahead: Arc::default(),
            }),
            seed,
        }
    }

    /// Puts every task that this runtime starts behind `gate`. Without effect in production.
    #[must_use]
    pub fn behind(mut self, gate: Gate) -> Self {
        if let Mode::Virtual(process) = &mut self.mode {
            process.gate = Some(gate);
        }
        self
    }

    /// Lets this runtime's clock count from `start`, so that several processes agree about the date. Without effect in
    /// production.
    #[must_use]
    pub fn counting_from(mut self, start: tokio::time::Instant) -> Self {
        if let Mode::Virtual(process) = &mut self.mode {
            process.start = start;
        }
        self
    }

    /// Lets the date that this runtime knows be wrong by so many milliseconds, ahead or, if negative, behind. Without effect in
    /// production.
    #[must_use]
    pub fn with_date_ahead(mut self, millis: i64) -> Self {
        if let Mode::Virtual(process) = &mut self.mode {
            process.date_ahead = Arc::new(AtomicI64::new(millis));
        }
        self
    }

    /// Lets the date jump to so many milliseconds ahead or, if negative, behind; also for whoever has a clone of this runtime.
    /// Without effect in production.
    pub fn jump_to_date_ahead(&self, millis: i64) {
        if let Mode::Virtual(process) = &self.mode {
            process.date_ahead.store(millis, Ordering::Relaxed);
        }
    }

    /// Lets this runtime's clock be fast by so many millionths, or slow if negative. Without effect in production.
    /// What is waited for takes as long as ever, only what the clock shows is wrong.
    #[must_use]
    pub fn with_drift(mut self, millionths: i32) -> Self {
        if let Mode::Virtual(process) = &mut self.mode {
            process.drift = millionths;
        }
        self
    }

    /// Now, for judging deadlines and ages.
    ///
    /// In production this is `CLOCK_BOOTTIME`, which counts time in suspend: a laptop that wakes up after its lease
    /// ended must not deliver on as if no time had passed.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.mode {
            Mode::Production => Moment(boot_time()),
            Mode::Virtual(process) => Moment(process.elapsed()),
        }
    }

    /// Wall time. Only for numbers that no two machines compare (the first counter of a new row) and for display.
    #[must_use]
    pub fn wall_time(&self) -> SystemTime {
        match &self.mode {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place where wall time is read"
            )]
            Mode::Production => SystemTime::now(),
            Mode::Virtual(process) => process.date(),
        }
    }

    /// A source of randomness for one purpose. The same seed and purpose give the same numbers, whatever else is drawn.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> fastrand::Rng {
        let mixed = purpose
            .bytes()
            .fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        fastrand::Rng::with_seed(mixed)
    }

    /// Starts a task on the current tokio runtime. Dropping the handle aborts the task.
    pub fn spawn<F>(&self, task: F) -> AbortOnDropHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = match self.gate() {
            Some(gate) => {
                let guarded = gate.guard(task);
                spawn(async move {
                    match guarded.await {
                        Some(output) => output,
                        // Whoever waits for the output is killed, too, and drops the handle.
                        None => std::future::pending().await,
                    }
                })
            }
            None => spawn(task),
        };
        AbortOnDropHandle::new(handle)
    }

    /// Runs `work` on a thread that it may block, and waits for its end. On virtual time there is only one thread.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn on_blocking_thread<F>(&self, work: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.mode {
            Mode::Production => {
                let runtime = tokio::runtime::Handle::current();
                #[expect(clippy::disallowed_methods, reason = "the one place where tasks start")]
                let done = tokio::task::spawn_blocking(move || runtime.block_on(work));
                match done.await {
                    Ok(output) => output,
                    // The runtime is going away, and this task with it.
                    Err(_) => std::future::pending().await,
                }
            }
            Mode::Virtual(_) => work.await,
        }
    }

    /// Runs `task` where user code cannot starve it: in production on a thread and runtime of its own, else on the
    /// current runtime. The task should end by itself; it is not aborted when the caller goes away.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn spawn_isolated<F>(&self, name: &str, task: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match &self.mode {
            Mode::Production => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || runtime.block_on(task))?;
            }
            Mode::Virtual(Virtual { gate: None, .. }) => drop(spawn(task)),
            Mode::Virtual(Virtual {
                gate: Some(gate), ..
            }) => drop(spawn(gate.guard(task))),
        }
        Ok(())
    }

    fn gate(&self) -> Option<&Gate> {
        match &self.mode {
            Mode::Production => None,
            Mode::Virtual(process) => process.gate.as_ref(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where tasks start")]
fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

fn boot_time() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_drifts_is_fast_or_slow_by_its_share() {
        for (drift, millis) in [(0, 100_000), (10_000, 101_000), (-10_000, 99_000)] {
            let runtime = Runtime::virtual_time(0).with_drift(drift);
            let (began, wall) = (runtime.now(), runtime.wall_time());
            tokio::time::sleep(Duration::from_secs(100)).await;
            let passed = Duration::from_millis(millis);
            assert_eq!(runtime.now().since(began), passed);
            // The date is another clock's.
            let date_passed = runtime.wall_time().duration_since(wall).unwrap();
            assert_eq!(date_passed, Duration::from_secs(100));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dates_may_be_wrong() {
        let right = Runtime::virtual_time(0).wall_time();
        let ahead = Runtime::virtual_time(0).with_date_ahead(5_000).wall_time();
        let behind = Runtime::virtual_time(0).with_date_ahead(-5_000).wall_time();
        let error = Duration::from_secs(5);
        assert_eq!((ahead, behind), (right + error, right - error));
    }
}
