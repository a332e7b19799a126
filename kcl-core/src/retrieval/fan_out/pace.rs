//! When to subscribe again: pure, no clock and no sleep.
//!
//! The service takes one `SubscribeToShard` call a second for each consumer and shard, and refuses one within five seconds
//! of the last that it accepted with `ResourceInUse` (API reference).

use std::time::Duration;

use kcl_lease::retry::doubled;
use kcl_lease::runtime::Moment;

use crate::retrieval::error::SourceErrorKind;

const SECOND: Duration = Duration::from_secs(1);
/// An accepted call keeps others away for so long: whoever took the lease may have to wait for the subscription.
const IN_USE: Duration = Duration::from_secs(5);
/// Being refused for longer than this is worth a report: somebody else subscribes with this consumer.
const QUIET_REFUSALS: u32 = 10;
const MAX_FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// Nobody is helped by asking every few seconds while somebody has to change a policy.
const MAX_OPERATOR_PAUSE: Duration = Duration::from_secs(15);
/// The service ends a subscription after five minutes. It is renewed somewhat earlier, not all shards' at once.
const RENEW_AFTER: Duration = Duration::from_secs(255);
const RENEW_SPREAD: Duration = Duration::from_secs(30);

/// The pace of one shard's subscriptions.
#[derive(Debug)]
pub(super) struct Pace {
    rng: fastrand::Rng,
    last_call: Option<Moment>,
    not_before: Option<Moment>,
    failures: u32,
    refusals: u32,
}

impl Pace {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self {
            rng,
            last_call: None,
            not_before: None,
            failures: 0,
            refusals: 0,
        }
    }

    /// How long to wait before the next call.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        [
            self.last_call.map(|call| call.plus(SECOND)),
            self.not_before,
        ]
        .into_iter()
        .flatten()
        .map(|moment| moment.since(now))
        .max()
        .unwrap_or_default()
    }

    /// Notes that a call goes out.
    pub(super) fn called(&mut self, now: Moment) {
        self.last_call = Some(now);
        self.not_before = None;
    }

    /// Notes an accepted call, and returns when to renew the subscription.
    pub(super) fn subscribed(&mut self, now: Moment) -> Moment {
        self.refusals = 0;
        now.plus(RENEW_AFTER + RENEW_SPREAD.mul_f64(self.rng.f64()))
    }

    /// Notes an event: what went wrong before is over.
    pub(super) fn received(&mut self) {
        self.failures = 0;
    }

    /// Notes that the consumer's subscription to the shard is in use, which passes by itself. Says whether it lasts too long
    /// for that.
    pub(super) fn refused(&mut self, now: Moment) -> (bool, Duration) {
        self.refusals = self.refusals.saturating_add(1);
        let lasts = self.refusals > QUIET_REFUSALS;
        let pause = match lasts {
            true => IN_USE,
            false => SECOND,
        };
        (lasts, self.wait(now, pause))
    }

    /// How often in a row the service said so.
    pub(super) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Notes a failed call or a broken subscription. Returns its number in a row and the pause.
    pub(super) fn failed(&mut self, now: Moment, kind: SourceErrorKind) -> (u32, Duration) {
        let longest = match kind.needs_operator() {
            true => MAX_OPERATOR_PAUSE,
            false => MAX_FAILURE_PAUSE,
        };
        // The first one is no reason to wait: a connection broke.
        let pause = match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(before) => doubled(SECOND, longest, before),
        };
        self.failures = self.failures.saturating_add(1);
        (self.failures, self.wait(now, pause))
    }

    /// Up to a tenth more, so that shards do not stay in step. Returns how long it is until the next call.
    fn wait(&mut self, now: Moment, pause: Duration) -> Duration {
        let pause = pause.mul_f64(1.0 + 0.1 * self.rng.f64());
        self.not_before = Some(now.plus(pause));
        self.pause(now)
    }
}
