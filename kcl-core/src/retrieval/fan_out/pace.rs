//! When to subscribe again: pure, no clock and no sleep.
//!
//! The service takes one `SubscribeToShard` call a second for each consumer and shard, and refuses one within five seconds
//! of the last that it accepted with `ResourceInUse` (API reference).

use std::time::Duration;

use kcl_lease::mutant::{self, Mutant};
use kcl_lease::retry::doubled;
use kcl_lease::runtime::Moment;

use crate::retrieval::error::SourceErrorKind;

const SECOND: Duration = Duration::from_secs(1);
/// An accepted call keeps others away for so long: whoever took the lease may have to wait for the subscription.
const IN_USE: Duration = Duration::from_secs(5);
/// More conflicts in a row than this are worth a report: somebody else subscribes with this consumer.
const QUIET_CONFLICTS: u32 = 10;
/// Nobody else wants a subscription that stood for so long.
const UNDISPUTED: Duration = Duration::from_secs(30);
/// Together with the silence by which a dead connection is noticed, less than 15 s.
const MAX_FAILURE_PAUSE: Duration = Duration::from_secs(4);
/// Nobody is helped by asking every few seconds while somebody has to change a policy.
const MAX_OPERATOR_PAUSE: Duration = Duration::from_secs(15);
/// The service ends a subscription after five minutes. It is renewed somewhat earlier, not all shards' at once.
const RENEW_AFTER: Duration = Duration::from_secs(255);
const RENEW_SPREAD: Duration = Duration::from_secs(30);
/// The service sends an event every five seconds at least, an empty one if need be. After this silence the connection is
/// taken for dead.
const SILENCE: Duration = Duration::from_secs(10);
/// So long a large event may take to come over a slow connection.
const MAX_SILENCE: Duration = Duration::from_secs(40);
/// How long events may wait for a slow processor or for room before the subscription is given up: what is not received
/// keeps other subscriptions on the same connection waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pace of one shard's subscriptions.
#[derive(Debug)]
pub(super) struct Pace {
    rng: fastrand::Rng,
    last_call: Option<Moment>,
    accepted: Option<Moment>,
    not_before: Option<Moment>,
    failures: u32,
    conflicts: u32,
    /// Events in a row that began to come and did not come to their end in time.
    slow_events: u32,
}

/// What to make of a conflict over a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Whether it goes on for longer than a lease takes to move.
    pub(super) lasts: bool,
    /// How many there were in a row.
    pub(super) times: u32,
    /// Until the next call.
    pub(super) retry_in: Duration,
}

/// What to make of the end of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The service does that.
    AsItMay,
    /// Nobody else can have subscribed so soon: whatever answers, it gives no subscriptions.
    AtOnce,
    Taken(Conflict),
}

impl Pace {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self {
            rng,
            last_call: None,
            accepted: None,
            not_before: None,
            failures: 0,
            conflicts: 0,
            slow_events: 0,
        }
    }

    /// How long to wait before the next call.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        [
            self.last_call.map(|call| call.plus(SECOND)),
            self.accepted.map(|call| call.plus(IN_USE)),
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
        self.accepted = Some(now);
        now.plus(RENEW_AFTER + RENEW_SPREAD.mul_f64(self.rng.f64()))
    }

    /// How long the subscription may wait now: not shorter than the time in which it could not be replaced anyhow.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        let fresh = self.accepted.map(|call| call.plus(IN_USE).since(now));
        PATIENCE.max(fresh.unwrap_or_default())
    }

    /// How long to wait for an event before the connection is taken for dead.
    pub(super) fn silence(&self) -> Duration {
        match mutant::is(Mutant::TrustSilence) {
            true => Duration::MAX,
            false => doubled(SILENCE, MAX_SILENCE, self.slow_events),
        }
    }

    /// Notes that a part of an event came, and the rest did not in time. It is sent again from its beginning, so it needs
    /// longer, or it never comes.
    pub(super) fn event_was_slow(&mut self) {
        self.slow_events = self.slow_events.saturating_add(1);
    }

    /// Notes an event, with records or without: what went wrong before is over.
    pub(super) fn received(&mut self, now: Moment, has_records: bool) {
        self.failures = 0;
        let stood = self.stood(now);
        if stood >= UNDISPUTED {
            self.conflicts = 0;
        }
        // An empty event at the beginning says nothing of the large one that may follow.
        if has_records || stood >= IN_USE {
            self.slow_events = 0;
        }
    }

    /// Notes that somebody else has the subscription to the shard, or took it away. That passes by itself when a lease moves.
    pub(super) fn in_use(&mut self, now: Moment) -> Conflict {
        let lasts = self.count_conflict();
        self.conflict(now, lasts)
    }

    /// Counts one more conflict. Whether they go on for longer than a lease takes to move.
    fn count_conflict(&mut self) -> bool {
        self.conflicts = self.conflicts.saturating_add(1);
        self.conflicts > QUIET_CONFLICTS
    }

    fn conflict(&mut self, now: Moment, lasts: bool) -> Conflict {
        let pause = match lasts {
            true => IN_USE,
            false => SECOND,
        };
        Conflict {
            lasts,
            times: self.conflicts,
            retry_in: self.wait(now, pause),
        }
    }

    /// Notes that the service ended the subscription without an error. It may have its reasons, and the next one begins as soon
    /// as that is allowed. Only when subscriptions end early again and again does somebody else take them.
    pub(super) fn ended(&mut self, now: Moment) -> Ended {
        let stood = self.stood(now);
        if stood < IN_USE {
            return Ended::AtOnce;
        }
        if stood >= UNDISPUTED {
            self.conflicts = 0;
            return Ended::AsItMay;
        }
        match self.count_conflict() {
            true => Ended::Taken(self.conflict(now, true)),
            false => Ended::AsItMay,
        }
    }

    /// How long the last subscription has stood.
    fn stood(&self, now: Moment) -> Duration {
        let stood = self.accepted.map(|call| now.since(call));
        stood.unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    fn pace() -> (Pace, Moment) {
        let runtime = kcl_lease::runtime::Runtime::virtual_time(1);
        (Pace::new(fastrand::Rng::with_seed(1)), runtime.now())
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_call_keeps_the_next_one_away_for_five_seconds() {
        let (mut pace, start) = pace();
        assert_eq!(pace.pause(start), Duration::ZERO);
        pace.called(start);
        assert_eq!(pace.pause(start), SECOND);
        pace.subscribed(start);
        assert_eq!(pace.pause(start), IN_USE);
        assert_eq!(pace.patience(start), IN_USE);
        let later = start.plus(SECONDS(4));
        assert_eq!(
            (pace.pause(later), pace.patience(later)),
            (SECOND, PATIENCE)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_is_renewed_before_the_service_ends_it() {
        let (mut pace, start) = pace();
        for _ in 0..1_000 {
            let renewed = pace.subscribed(start).since(start);
            assert!(
                (SECONDS(255)..SECONDS(290)).contains(&renewed),
                "{renewed:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rival_is_waited_for_quietly_and_told_of_when_he_stays() {
        let (mut pace, mut now) = pace();
        for _ in 0..QUIET_CONFLICTS {
            let conflict = pace.in_use(now);
            assert!(!conflict.lasts && conflict.retry_in < SECONDS(2));
            now = now.plus(SECOND);
        }
        // Having it for a moment changes nothing: two that take it from one another would do so for ever.
        pace.subscribed(now);
        now = now.plus(SECONDS(6));
        pace.received(now, true);
        assert!(pace.in_use(now).lasts);
        assert!(pace.in_use(now).retry_in >= IN_USE);
        pace.subscribed(now);
        pace.received(now.plus(UNDISPUTED), true);
        assert!(!pace.in_use(now).lasts);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_no_conflict_unless_one_early_end_follows_the_other() {
        let (mut pace, mut now) = pace();
        for stood in [300, 20, 40, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 30, 6] {
            pace.subscribed(now);
            now = now.plus(SECONDS(stood));
            assert_eq!(pace.ended(now), Ended::AsItMay);
            // No longer than the service makes everybody wait.
            assert_eq!(pace.pause(now), Duration::ZERO);
        }
        for _ in 1..QUIET_CONFLICTS {
            pace.subscribed(now);
            now = now.plus(SECONDS(6));
            assert_eq!(pace.ended(now), Ended::AsItMay);
        }
        pace.subscribed(now);
        now = now.plus(SECONDS(6));
        assert!(matches!(pace.ended(now), Ended::Taken(conflict) if conflict.lasts));
        assert!(pace.pause(now) >= IN_USE);
        pace.subscribed(now);
        assert_eq!(pace.ended(now.plus(SECONDS(4))), Ended::AtOnce);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_came_in_part_gets_more_time_until_one_came_whole() {
        let (mut pace, start) = pace();
        pace.subscribed(start);
        let mut limits = Vec::new();
        for _ in 0..4 {
            limits.push(pace.silence());
            pace.event_was_slow();
        }
        assert_eq!(limits, [10, 20, 40, 40].map(SECONDS));
        pace.received(start, false);
        assert_eq!(pace.silence(), MAX_SILENCE);
        pace.received(start, true);
        assert_eq!(pace.silence(), SILENCE);
        pace.event_was_slow();
        pace.received(start.plus(IN_USE), false);
        assert_eq!(pace.silence(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_spaced_out_the_longer_the_less_waiting_helps() {
        let (mut pace, now) = pace();
        assert_eq!(
            pace.failed(now, SourceErrorKind::Unavailable).1,
            Duration::ZERO
        );
        for (kind, longest) in [
            (SourceErrorKind::Unavailable, MAX_FAILURE_PAUSE),
            (SourceErrorKind::AccessDenied, MAX_OPERATOR_PAUSE),
        ] {
            let pauses: Vec<Duration> = (0..20).map(|_| pace.failed(now, kind).1).collect();
            assert!(pauses.iter().all(|pause| *pause >= SECOND), "{pauses:?}");
            let last = pauses.last().unwrap();
            assert!(
                *last >= longest && *last <= longest.mul_f64(1.1),
                "{last:?}"
            );
        }
    }
}
