//! Trying again after a failure: the one place that knows the `backoff` crate.
//!
//! Only for whole operations that may be repeated. A single write to the lease table is repeated by the coordinator,
//! which must look at the answer in between.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// `first` doubled for each of so many failures before, at most `longest`: how long to wait after one more.
#[must_use]
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(longest)
}

/// How long to wait between attempts and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest first wait. It doubles with each retry.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
    /// How many retries follow the first attempt at most.
    pub retries_max: u32,
    /// No wait begins that would end later than this after the start; `None` for no such limit.
    pub elapsed_max: Option<Duration>,
}

impl RetryPolicy {
    /// Never gives up.
    #[must_use]
    pub const fn endless(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            retries_max: u32::MAX,
            elapsed_max: None,
        }
    }

    /// A schedule of waits. The same randomness gives the same waits.
    #[must_use]
    pub fn schedule(self, rng: fastrand::Rng) -> RetrySchedule {
        RetrySchedule {
            policy: self,
            rng,
            retries: 0,
            started: Instant::now(),
        }
    }
}

/// The waits between the attempts of one operation, each a random part of a bound that doubles ("full jitter"), so that
/// workers that failed together do not come back together.
///
/// Ends when the policy gives up.
#[derive(Clone)]
pub struct RetrySchedule {
    policy: RetryPolicy,
    rng: fastrand::Rng,
    retries: u32,
    started: Instant,
}

impl RetrySchedule {
    /// The next wait; the policy's longest once it has given up. For whoever goes on for as long as it takes.
    #[must_use]
    pub fn next_or_cap(&mut self) -> Duration {
        self.next().unwrap_or(self.policy.cap)
    }

    /// Begins anew, as after a success.
    pub fn reset(&mut self) {
        self.retries = 0;
        self.started = Instant::now();
    }
}

impl Iterator for RetrySchedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.retries >= self.policy.retries_max {
            return None;
        }
        let bound = doubled(self.policy.base, self.policy.cap, self.retries);
        let wait = bound.mul_f64(self.rng.f64());
        let total = self.started.elapsed().saturating_add(wait);
        if self.policy.elapsed_max.is_some_and(|max| total > max) {
            return None;
        }
        self.retries += 1;
        Some(wait)
    }
}

impl fmt::Debug for RetrySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetrySchedule")
            .field("policy", &self.policy)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Runs `operation` until it succeeds, fails for good (`is_retryable` says no) or the schedule ends; then returns the
/// last error. `notify` hears of each failure that is followed by a wait.
///
/// `operation` is called when its attempt begins, after the wait: what it reads is not older than that.
///
/// # Errors
/// The error of the last attempt.
pub async fn retry<T, E, Fut>(
    mut schedule: RetrySchedule,
    is_retryable: impl Fn(&E) -> bool,
    mut notify: impl FnMut(&E, Duration),
    operation: impl Fn() -> Fut,
) -> Result<T, E>
where
    Fut: Future<Output = Result<T, E>>,
{
    schedule.reset();
    driver::run(schedule, &is_retryable, &mut notify, &operation).await
}

#[cfg(feature = "backoff")]
mod driver {
    use super::{Duration, Future, RetrySchedule};

    /// Our own schedule, because the crate's can neither be seeded nor follow tokio's clock.
    impl backoff::backoff::Backoff for RetrySchedule {
        fn reset(&mut self) {
            Self::reset(self);
        }

        fn next_backoff(&mut self) -> Option<Duration> {
            self.next()
        }
    }

    pub(super) async fn run<T, E, Fut>(
        schedule: RetrySchedule,
        is_retryable: &impl Fn(&E) -> bool,
        notify: &mut impl FnMut(&E, Duration),
        operation: &impl Fn() -> Fut,
    ) -> Result<T, E>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        // The crate calls this closure *before* it sleeps; only the inside of the async block runs after the sleep.
        let attempt = || async {
            operation()
                .await
                .map_err(|error| match is_retryable(&error) {
                    true => backoff::Error::transient(error),
                    false => backoff::Error::permanent(error),
                })
        };
        backoff::future::retry_notify(schedule, attempt, |error, wait| notify(&error, wait)).await
    }
}

#[cfg(not(feature = "backoff"))]
mod driver {
    use super::{Duration, Future, RetrySchedule};

    pub(super) async fn run<T, E, Fut>(
        mut schedule: RetrySchedule,
        is_retryable: &impl Fn(&E) -> bool,
        notify: &mut impl FnMut(&E, Duration),
        operation: &impl Fn() -> Fut,
    ) -> Result<T, E>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            let error = match operation().await {
                Ok(done) => return Ok(done),
                Err(error) if !is_retryable(&error) => return Err(error),
                Err(error) => error,
            };
            let Some(wait) = schedule.next() else {
                return Err(error);
            };
            notify(&error, wait);
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(5),
        retries_max: 6,
        elapsed_max: None,
    };

    fn schedule(policy: RetryPolicy) -> RetrySchedule {
        policy.schedule(fastrand::Rng::with_seed(7))
    }

    #[test]
    fn waits_double_up_to_the_longest_however_many_failures_there_were() {
        let wait = |failures| doubled(POLICY.base, POLICY.cap, failures).as_secs();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(wait), [1, 2, 4, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_stay_under_a_doubling_bound_and_the_seed_repeats_them() {
        let waits: Vec<_> = schedule(POLICY).collect();
        assert_eq!(waits, schedule(POLICY).collect::<Vec<_>>());
        let bounds = [1, 2, 4, 5, 5, 5].map(Duration::from_secs);
        assert_eq!(waits.len(), bounds.len());
        for (wait, bound) in waits.iter().zip(bounds) {
            assert!(*wait < bound, "{wait:?} of {bound:?}");
        }
        let other: Vec<_> = POLICY.schedule(fastrand::Rng::with_seed(8)).collect();
        assert_ne!(waits, other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_begins_with_short_waits_again() {
        let mut schedule = schedule(POLICY);
        assert_eq!(schedule.by_ref().count(), 6);
        schedule.reset();
        assert!(schedule.next().unwrap() < POLICY.base);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_limit_follows_the_virtual_clock() {
        let policy = RetryPolicy {
            retries_max: u32::MAX,
            elapsed_max: Some(Duration::from_secs(60)),
            ..POLICY
        };
        let start = Instant::now();
        let result: Result<(), _> = retry(
            schedule(policy),
            |_| true,
            |_, _| {},
            || async { Err("down") },
        )
        .await;
        assert_eq!(result, Err("down"));
        let took = start.elapsed();
        assert!(
            took > Duration::from_secs(50) && took <= Duration::from_secs(60),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_begins_after_its_wait() {
        let start = Instant::now();
        let waits = RefCell::new(Vec::new());
        let begun = RefCell::new(Vec::new());
        let attempts = Cell::new(0);
        let result = retry(
            schedule(POLICY),
            |_: &&str| true,
            |_, wait| waits.borrow_mut().push(wait),
            || {
                // Seen outside the async block: what a caller computes here must not be stale by one wait.
                begun.borrow_mut().push(start.elapsed());
                attempts.set(attempts.get() + 1);
                let done = attempts.get() == 4;
                async move { if done { Ok(()) } else { Err("not yet") } }
            },
        )
        .await;
        assert_eq!(result, Ok(()));
        let mut expected = Duration::ZERO;
        for (begun, wait) in begun
            .borrow()
            .iter()
            .zip([Duration::ZERO].iter().chain(&*waits.borrow()))
        {
            expected += *wait;
            assert!(
                begun.abs_diff(expected) < Duration::from_millis(5),
                "{begun:?} {expected:?}"
            );
        }
        assert_eq!((begun.borrow().len(), waits.borrow().len()), (4, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_is_final_is_not_tried_again() {
        let attempts = Cell::new(0);
        let result: Result<(), _> = retry(
            schedule(POLICY),
            |error: &&str| *error != "denied",
            |_, _| {},
            || {
                attempts.set(attempts.get() + 1);
                async { Err("denied") }
            },
        )
        .await;
        assert_eq!((result, attempts.get()), (Err("denied"), 1));
    }
}
