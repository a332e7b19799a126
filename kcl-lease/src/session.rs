//! One session of this worker: when its deadline ends, what a lapse is, and when it was last disturbed.
//!
//! All moments come from the caller; nothing here reads a clock.

use std::time::Duration;

use crate::key::WorkerId;
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;

/// Waits between attempts at the same heartbeat. All stay below 0.2 s, so that a session that comes back after an outage
/// is seen to live before anybody takes its leases.
const HEARTBEAT_BACK_OFF: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
];

/// The part of a session that decides whether its grants may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Validity {
    /// Nothing is delivered from this moment on.
    pub(crate) deadline: Moment,
    /// Since when the session did not lapse. Grants that were confirmed earlier need a re-grant.
    pub(crate) chain_start: Moment,
}

impl Validity {
    /// Whether a grant whose last confirmation was asked for at `confirmed` may be used.
    pub(crate) fn allows(&self, confirmed: Moment, now: Moment) -> bool {
        (now < self.deadline || mutant::is(Mutant::DeadlineIgnored))
            && (confirmed >= self.chain_start || mutant::is(Mutant::NoRegrant))
    }
}

/// What an answer to a heartbeat means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The session goes on without a gap.
    Alive,
    /// The session goes on, but its deadline had passed: every lease needs a re-grant.
    Lapsed,
    /// The session's item is gone or belongs to somebody else.
    Over,
}

/// One session: from its registration until its item is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) id: WorkerId,
    duration: Duration,
    heartbeat: u64,
    validity: Validity,
    /// When the first call with the current heartbeat number was sent.
    first_sent: Option<Moment>,
    last_sent: Moment,
    good_sent: Moment,
    undisturbed_since: Moment,
    failures: usize,
    failed_at: Moment,
}

impl Session {
    /// A session whose registration was first sent at `sent` and is known at `now`.
    pub(crate) fn registered(id: WorkerId, duration: Duration, sent: Moment, now: Moment) -> Self {
        Self {
            id,
            duration,
            heartbeat: 0,
            validity: Validity {
                deadline: sent.plus(duration),
                chain_start: now,
            },
            first_sent: None,
            last_sent: sent,
            good_sent: sent,
            undisturbed_since: now,
            failures: 0,
            failed_at: sent,
        }
    }

    /// The number that the session's item should carry.
    pub(crate) fn heartbeat(&self) -> u64 {
        self.heartbeat
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    /// The end of the last interruption: no age counts from before this moment.
    pub(crate) fn undisturbed_since(&self) -> Moment {
        self.undisturbed_since
    }

    /// Whether this session may take leases: it is valid, and was heard not long ago.
    pub(crate) fn may_take(&self, now: Moment) -> bool {
        now < self.validity.deadline && now.since(self.good_sent) <= self.longest_silence()
    }

    /// How long after a heartbeat was sent takes are still allowed; a longer gap is an interruption.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.duration / 2
    }

    /// When the next heartbeat should be sent, if none is on its way.
    pub(crate) fn heartbeat_due(&self) -> Moment {
        match self.failures {
            0 => self.last_sent.plus(self.duration / 3),
            n => {
                let wait = HEARTBEAT_BACK_OFF.get(n - 1).or(HEARTBEAT_BACK_OFF.last());
                self.failed_at.plus(wait.copied().unwrap_or_default())
            }
        }
    }

    /// Whether a heartbeat may be sent before its time, to tidy the session's item up.
    pub(crate) fn may_beat_early(&self, now: Moment) -> bool {
        self.failures == 0 && now.since(self.last_sent) >= self.duration / 30
    }

    /// Notes that a call with the current heartbeat number is sent.
    pub(crate) fn heartbeat_sent(&mut self, now: Moment) {
        self.first_sent.get_or_insert(now);
        self.last_sent = now;
    }

    /// The call was not answered, or was not carried out.
    pub(crate) fn heartbeat_failed(&mut self, now: Moment) {
        self.failures += 1;
        self.failed_at = now;
    }

    /// The call that was sent at `sent` was applied.
    pub(crate) fn heartbeat_applied(&mut self, sent: Moment, now: Moment) -> Beat {
        match mutant::is(Mutant::DeadlineFromAnswer) {
            true => self.beat(now, now),
            false => self.beat(sent, now),
        }
    }

    /// The call's condition failed; `found` is the heartbeat of the item as it is.
    ///
    /// One more than expected means that an earlier call with the same number was applied, and observers count from that
    /// one: the deadline does too.
    pub(crate) fn heartbeat_refused(&mut self, found: Option<u64>, now: Moment) -> Beat {
        match (found, self.first_sent) {
            (Some(found), Some(first)) if found == self.heartbeat + 1 => {
                match mutant::is(Mutant::DeadlineFromLastAttempt) {
                    true => self.beat(self.last_sent, now),
                    false => self.beat(first, now),
                }
            }
            _ => Beat::Over,
        }
    }

    fn beat(&mut self, sent: Moment, now: Moment) -> Beat {
        // Judged against the old deadline, when the answer is handled: what happened meanwhile cannot be taken back.
        let lapsed = now >= self.validity.deadline && !mutant::is(Mutant::LapseUnnoticed);
        if lapsed {
            self.validity.chain_start = now;
        }
        if lapsed || now.since(self.good_sent) > self.longest_silence() {
            self.undisturbed_since = now;
        }
        self.validity.deadline = self.validity.deadline.max(sent.plus(self.duration));
        self.good_sent = self.good_sent.max(sent);
        self.heartbeat += 1;
        self.first_sent = None;
        self.failures = 0;
        match lapsed {
            true => Beat::Lapsed,
            false => Beat::Alive,
        }
    }
}

#[cfg(feature = "internals")]
impl Session {
    /// Moves moments whose distance from `now` does not matter any more to `long_ago`, and forgets what only the pace of
    /// heartbeats depends on. With `takes` off also what only takes depend on.
    pub(crate) fn forget_the_past(&mut self, now: Moment, long_ago: Moment, takes: bool) {
        let forget = |moment: &mut Moment, matters: bool| {
            if !matters {
                *moment = long_ago;
            }
        };
        let recent = |moment: Moment, age| now.since(moment) <= age;
        self.failures = 0;
        forget(&mut self.failed_at, false);
        forget(
            &mut self.last_sent,
            mutant::is(Mutant::DeadlineFromLastAttempt),
        );
        let silence = self.longest_silence();
        let (good, undisturbed) = (self.good_sent, self.undisturbed_since);
        forget(&mut self.good_sent, takes && recent(good, silence));
        forget(
            &mut self.undisturbed_since,
            takes && recent(undisturbed, self.duration * 2),
        );
        if let Some(first) = &mut self.first_sent {
            let matters = recent(*first, self.duration);
            forget(first, matters);
        }
        let Validity {
            deadline,
            chain_start,
        } = self.validity;
        forget(&mut self.validity.deadline, now < deadline);
        forget(&mut self.validity.chain_start, chain_start == now);
    }

    /// Counts heartbeats from here.
    pub(crate) fn count_from(&mut self, heartbeat: u64) {
        self.heartbeat = heartbeat;
    }
}

#[cfg(feature = "internals")]
impl crate::internals::Moments for Session {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        [
            &mut self.validity.deadline,
            &mut self.validity.chain_start,
            &mut self.last_sent,
            &mut self.good_sent,
            &mut self.undisturbed_since,
            &mut self.failed_at,
        ]
        .into_iter()
        .chain(&mut self.first_sent)
        .for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    const L: Duration = Duration::from_secs(10);

    async fn start() -> Moment {
        Runtime::virtual_time(0).now()
    }

    fn session(at: Moment) -> Session {
        Session::registered(WorkerId::from("w/0"), L, at, at)
    }

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_the_send_time() {
        let t0 = start().await;
        let mut session = session(t0);
        session.heartbeat_sent(after(t0, 3_000));
        assert_eq!(
            session.heartbeat_applied(after(t0, 3_000), after(t0, 4_900)),
            Beat::Alive
        );
        assert_eq!(session.validity().deadline, after(t0, 13_000));
        assert_eq!(session.heartbeat(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_recovered_heartbeat_counts_from_the_first_call_with_its_number() {
        let t0 = start().await;
        let mut session = session(t0);
        session.heartbeat_sent(after(t0, 3_000));
        session.heartbeat_failed(after(t0, 4_600));
        session.heartbeat_sent(after(t0, 4_600));
        assert_eq!(
            session.heartbeat_refused(Some(1), after(t0, 4_700)),
            Beat::Alive
        );
        assert_eq!(session.validity().deadline, after(t0, 13_000));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_after_the_deadline_is_a_lapse_even_if_sent_before() {
        let t0 = start().await;
        let mut session = session(t0);
        session.heartbeat_sent(after(t0, 9_000));
        assert_eq!(
            session.heartbeat_applied(after(t0, 9_000), after(t0, 10_000)),
            Beat::Lapsed
        );
        let validity = session.validity();
        assert_eq!(validity.chain_start, after(t0, 10_000));
        assert!(!validity.allows(after(t0, 9_999), after(t0, 10_001)));
        assert!(validity.allows(after(t0, 10_000), after(t0, 10_001)));
        assert!(!validity.allows(after(t0, 10_000), after(t0, 19_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn any_other_heartbeat_or_none_ends_the_session() {
        let t0 = start().await;
        for found in [None, Some(0), Some(2), Some(u64::MAX)] {
            let mut session = session(t0);
            session.heartbeat_sent(after(t0, 3_000));
            assert_eq!(
                session.heartbeat_refused(found, after(t0, 3_100)),
                Beat::Over
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_of_more_than_half_the_duration_is_an_interruption() {
        let t0 = start().await;
        for (handled, interrupted) in [(5_000, false), (5_001, true)] {
            let mut session = session(t0);
            session.heartbeat_sent(after(t0, 3_000));
            session.heartbeat_applied(after(t0, 3_000), after(t0, handled));
            let since = session.undisturbed_since();
            assert_eq!(since == after(t0, handled), interrupted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn takes_need_a_heartbeat_sent_not_long_ago() {
        let t0 = start().await;
        let session = session(t0);
        assert!(session.may_take(after(t0, 5_000)));
        assert!(!session.may_take(after(t0, 5_001)));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_one_heartbeat_follow_each_other_within_a_fifth_of_a_second() {
        let t0 = start().await;
        let mut session = session(t0);
        for failure in 0..20 {
            session.heartbeat_failed(t0);
            let wait = session.heartbeat_due().since(t0);
            assert!(wait < Duration::from_millis(200));
            assert_eq!(wait.is_zero(), failure == 0);
        }
    }
}
