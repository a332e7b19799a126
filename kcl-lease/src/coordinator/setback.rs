//! Waits after calls to the table that failed.

use std::time::Duration;

use crate::retry::doubled;
use crate::runtime::Moment;

/// A table that refuses is asked again after this long at first, and at the most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// How often in a row something failed, and until when it is left alone for that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setback {
    failures: u32,
    until: Option<Moment>,
}

impl Setback {
    /// Leaves something alone until then, whatever else happens to it.
    pub(super) fn wait_until(moment: Moment) -> Self {
        Self {
            failures: 0,
            until: Some(moment),
        }
    }

    /// Notes a failure. Of several calls on their way at once only the first counts.
    pub(super) fn failed(&mut self, now: Moment) {
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now.plus(doubled(FIRST, LONGEST, self.failures)));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Notes a success. A wait that has begun goes on: other calls may have failed at the same time.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Until when to wait; in the past once that is over.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// Whether there is nothing to wait for (any more).
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether the wait goes on, or ended after this moment.
    pub(super) fn counts(&self, since: Moment) -> bool {
        self.until.is_some_and(|until| until > since)
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_calls_that_fail_together_count_once() {
        let mut now = Runtime::virtual_time(0).now();
        let mut setback = Setback::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            setback.failed(now);
            setback.failed(now);
            assert!(!setback.is_over(now));
            let until = setback.until().unwrap();
            waits.push(until.since(now).as_millis());
            now = until;
            assert!(setback.is_over(now));
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        setback.succeeded();
        setback.failed(now);
        setback.succeeded();
        assert!(!setback.is_over(now), "a wait that has begun goes on");
    }
}
