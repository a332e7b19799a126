//! When to read a shard again: pure pacing, no clock and no sleep.
//!
//! The service allows five `GetRecords` calls and 2 MB a second for each shard, shared by everybody who polls it.

use std::collections::VecDeque;
use std::time::Duration;

use kcl_lease::retry::doubled;
use kcl_lease::runtime::Moment;

use super::error::SourceErrorKind;

/// Calls per second and shard that the service allows.
const ALLOWED_CALLS: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);
/// 2 MB per second and shard.
const NANOS_PER_BYTE: u64 = 500;
/// Behind the tip by less than this is as good as at the tip: the next answer would be tiny.
const NEAR_THE_TIP: Duration = Duration::from_secs(1);
/// Slowest that throttling makes us: one call a second, which leaves room for four others.
const SLOWEST: Duration = SECOND;
const FIRST_FAILURE_PAUSE: Duration = Duration::from_millis(200);
const MAX_FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// Nobody is helped by asking every few seconds while somebody has to change a policy.
const MAX_OPERATOR_PAUSE: Duration = Duration::from_secs(15);

/// How polling spends its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaceOptions {
    /// How often one shard is read in a second, 1 to 5: what this application takes of the five calls and the 2 MB that the
    /// service allows all of a shard's pollers together.
    pub calls_per_second: u32,
    /// Longest pause on a shard without records, unless very many shards are idle.
    pub max_idle_interval: Duration,
    /// Calls per second that all idle shards of the worker may take together: beyond `max_idle_interval` times this many
    /// idle shards, pauses grow further.
    pub idle_calls_per_second: u32,
}

impl PaceOptions {
    fn calls_per_second(&self) -> u32 {
        self.calls_per_second.clamp(1, ALLOWED_CALLS)
    }

    /// Pause between reads at the tip while records come.
    fn poll_interval(&self) -> Duration {
        SECOND / self.calls_per_second()
    }

    /// How long this application takes to read so many bytes of a shard.
    fn byte_time(&self, bytes: u64) -> Duration {
        let alone = Duration::from_nanos(bytes.saturating_mul(NANOS_PER_BYTE));
        alone.saturating_mul(ALLOWED_CALLS) / self.calls_per_second()
    }
}

impl Default for PaceOptions {
    fn default() -> Self {
        Self {
            calls_per_second: ALLOWED_CALLS,
            max_idle_interval: SECOND,
            idle_calls_per_second: 500,
        }
    }
}

/// What one answer says about when to ask again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) bytes: u64,
    pub(super) records: usize,
    pub(super) limit: u16,
    pub(super) behind: Option<Duration>,
    /// Idle shards of the worker, this one included if it is idle.
    pub(super) idle_shards: usize,
}

impl Answer {
    /// Whether there is more to read right now.
    pub(super) fn has_more(&self) -> bool {
        self.records >= usize::from(self.limit)
            || self.behind.is_some_and(|behind| behind >= NEAR_THE_TIP)
    }
}

/// The pace of one shard.
#[derive(Debug)]
pub(super) struct Pacer {
    options: PaceOptions,
    rng: fastrand::Rng,
    /// The last calls, as many as a second allows.
    calls: VecDeque<Moment>,
    /// When the bytes read so far are paid for.
    bytes_paid: Option<Moment>,
    not_before: Option<Moment>,
    idle_pause: Option<Duration>,
    /// 1 when alone on the shard, more when others read it too.
    slowdown: f64,
    failures: u32,
}

impl Pacer {
    pub(super) fn new(options: PaceOptions, rng: fastrand::Rng) -> Self {
        Self {
            options,
            rng,
            calls: VecDeque::with_capacity(ALLOWED_CALLS as usize),
            bytes_paid: None,
            not_before: None,
            idle_pause: None,
            slowdown: 1.0,
            failures: 0,
        }
    }

    /// How long to wait before the next call. Zero for the first one.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        let by_calls = (self.calls.len() >= self.most_calls())
            .then(|| self.calls.front())
            .flatten()
            .map(|first| first.plus(SECOND.mul_f64(self.slowdown)));
        [by_calls, self.bytes_paid, self.not_before]
            .into_iter()
            .flatten()
            .map(|moment| moment.since(now))
            .max()
            .unwrap_or_default()
    }

    /// In a second.
    fn most_calls(&self) -> usize {
        self.options.calls_per_second() as usize
    }

    /// Notes that a read goes out.
    pub(super) fn called(&mut self, now: Moment) {
        if self.calls.len() >= self.most_calls() {
            self.calls.pop_front();
        }
        self.calls.push_back(now);
    }

    /// Notes an answer to the last call.
    pub(super) fn answered(&mut self, now: Moment, answer: &Answer) {
        self.failures = 0;
        self.slowdown = (self.slowdown * 0.97).max(1.0);
        let sent = self.calls.back().copied().unwrap_or(now);
        let cost = self.options.byte_time(answer.bytes);
        let paid = self.bytes_paid.map_or(sent, |paid| paid.max(sent));
        self.bytes_paid = Some(paid.plus(cost));
        let interval = self.options.poll_interval().mul_f64(self.slowdown);
        if answer.has_more() {
            self.idle_pause = None;
            self.not_before = None;
        } else if answer.records > 0 {
            self.idle_pause = None;
            self.not_before = Some(sent.plus(interval));
        } else {
            let pause = self.next_idle_pause(interval, answer.idle_shards);
            self.not_before = Some(sent.plus(self.spread(pause)));
        }
    }

    /// Notes that the service refused the last call for its limits, and returns the pause.
    pub(super) fn throttled(&mut self, now: Moment) -> Duration {
        let slowest = SLOWEST.div_duration_f64(self.options.poll_interval());
        self.slowdown = (self.slowdown * 1.5).min(slowest);
        let pause = self.options.poll_interval().mul_f64(self.slowdown);
        self.wait(now, pause)
    }

    /// Notes a failed call, and returns its number in a row and the pause.
    pub(super) fn failed(&mut self, now: Moment, kind: SourceErrorKind) -> (u32, Duration) {
        let longest = if kind.needs_operator() {
            MAX_OPERATOR_PAUSE
        } else {
            MAX_FAILURE_PAUSE
        };
        let pause = doubled(FIRST_FAILURE_PAUSE, longest, self.failures);
        self.failures = self.failures.saturating_add(1);
        (self.failures, self.wait(now, pause))
    }

    fn next_idle_pause(&mut self, interval: Duration, idle_shards: usize) -> Duration {
        let longest = self.options.max_idle_interval.max(interval);
        let pause = self
            .idle_pause
            .map_or(interval, |before| before.saturating_mul(2))
            .clamp(interval, longest);
        self.idle_pause = Some(pause);
        let shards = u32::try_from(idle_shards).unwrap_or(u32::MAX);
        let fair = SECOND.saturating_mul(shards) / self.options.idle_calls_per_second.max(1);
        pause.max(fair)
    }

    fn wait(&mut self, now: Moment, pause: Duration) -> Duration {
        let pause = self.spread(pause);
        self.not_before = Some(now.plus(pause));
        pause
    }

    /// Up to a tenth more, so that shards do not stay in step.
    fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + 0.1 * self.rng.f64())
    }
}
