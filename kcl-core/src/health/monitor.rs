//! What is known of one running shard, kept up to date by its task, its lanes and its reader.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Lag, LastError, OpenHandle, RunningCall, ShardHealth, ShardState};
use crate::progress::{ShardProgress, Standing};
use crate::retrieval::{FetchReport, one_line};

/// A read takes up to so long without anything being wrong.
const READ_TAKES: Duration = Duration::from_secs(10);

/// What the task of a shard is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Delivering,
    Stalled,
    Stopped,
    Replayed,
    Ending,
    Leaving,
}

/// Watches one grant of one shard.
#[derive(Debug)]
pub(crate) struct Monitor {
    grant: kcl_lease::Grant,
    progress: Arc<ShardProgress>,
    facts: Mutex<Facts>,
}

/// Watches one lane of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LaneMonitor {
    shard: Arc<Monitor>,
    lane: usize,
}

/// Ends what was noted as running when it is dropped.
#[derive(Debug)]
pub(crate) struct Watched(LaneMonitor);

#[derive(Debug)]
struct Facts {
    phase: Phase,
    phase_since: Instant,
    lanes: Vec<LaneFacts>,
    /// Whether the last read failed, or was refused for the service's limits.
    read_failing: bool,
    /// Whether the last answer said that there is nothing more.
    at_tip: bool,
    /// When the last answer came; at first, when reading began.
    read_at: Instant,
    /// When the next read is made.
    read_due: Instant,
    lag: Option<(Duration, Instant)>,
    error: Option<(&'static str, String, Instant)>,
}

#[derive(Debug, Clone, Default)]
struct LaneFacts {
    /// The call that runs, and since when.
    call: Option<(&'static str, Instant)>,
    /// Whether the last call failed.
    failing: bool,
    /// Whether nothing can be done before records are acknowledged.
    waiting: bool,
}

impl Monitor {
    pub(crate) fn new(grant: kcl_lease::Grant, progress: Arc<ShardProgress>, lanes: usize) -> Self {
        Self {
            grant,
            progress,
            facts: Mutex::new(Facts::new(lanes, Instant::now())),
        }
    }

    pub(crate) fn lane(self: &Arc<Self>, lane: usize) -> LaneMonitor {
        LaneMonitor {
            shard: Arc::clone(self),
            lane,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let mut facts = self.lock();
        if facts.phase != phase {
            (facts.phase, facts.phase_since) = (phase, Instant::now());
        }
    }

    /// Notes an answer of the stream.
    pub(crate) fn fetched(&self, report: &FetchReport) {
        let now = Instant::now();
        let mut facts = self.lock();
        facts.read_failing = false;
        (facts.read_at, facts.read_due) = (now, now);
        facts.at_tip = report.is_at_tip();
        if let Some(behind) = report.behind {
            facts.lag = Some((behind, now));
        }
    }

    /// Notes when the next read is made.
    pub(crate) fn read_in(&self, time: Duration) {
        let now = Instant::now();
        self.lock().read_due = now.checked_add(time).unwrap_or(now);
    }

    /// Notes that reading failed or was refused, and is tried again.
    pub(crate) fn read_failed(&self, error: &str) {
        let mut facts = self.lock();
        facts.read_failing = true;
        facts.note("read", error);
    }

    /// Notes an error that is told in another place, too.
    pub(crate) fn note(&self, what: &'static str, error: &str) {
        self.lock().note(what, error);
    }

    pub(crate) fn health(&self) -> ShardHealth {
        let standing = self.progress.standing();
        let (checkpoint, complete) = (self.progress.last_stored(), self.progress.complete());
        let stopped = self.grant.stop_cause();
        let facts = self.lock();
        // A pause is obeyed when no call runs any more: until then it hides nothing.
        let paused = self.grant.is_paused() && facts.longest_call().is_none();
        let now = Instant::now();
        let age = |since: Instant| now.saturating_duration_since(since);
        ShardHealth {
            shard: self.grant.lease_key().clone(),
            state: match facts.state(&standing, self.grant.is_current(), now) {
                ShardState::Starting
                | ShardState::Running
                | ShardState::Retrying
                | ShardState::WaitingForAcknowledgements
                | ShardState::WaitingForRead
                    if paused =>
                {
                    match stopped {
                        Some(_) => ShardState::Stopped,
                        None => ShardState::Paused,
                    }
                }
                state => state,
            },
            epoch: self.grant.epoch(),
            checkpoint,
            complete,
            lag: facts.lag.map(|(behind, at)| Lag {
                behind,
                age: age(at),
            }),
            in_flight: standing.in_flight,
            deferred: standing.deferred,
            unmoved_for: facts
                .unmoved_since(&standing, now)
                .filter(|_| !paused)
                .map(age),
            last_progress: standing.completed.map(age),
            longest_call: facts.longest_call().map(|(call, since)| RunningCall {
                call,
                age: age(since),
            }),
            oldest_open: standing
                .oldest_deferred
                .map(|(position, since)| OpenHandle {
                    position,
                    age: age(since),
                }),
            last_error: match (&facts.error, stopped) {
                (Some((what, error, at)), _) => Some(LastError {
                    what,
                    error: error.clone(),
                    age: age(*at),
                }),
                (None, Some(cause)) => Some(LastError {
                    what: "another holder",
                    error: one_line(&cause.to_string()),
                    age: age(facts.phase_since),
                }),
                (None, None) => None,
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneMonitor {
    /// Notes that user code succeeded.
    pub(crate) fn succeeded(&self) {
        self.note(|lane| lane.failing = false);
    }

    /// Notes that user code failed, and is called again.
    pub(crate) fn failed(&self, what: &'static str, error: &str) {
        self.note(|lane| lane.failing = true);
        self.shard.note(what, error);
    }

    /// Notes that a call made no progress, and the shard is given up because of it.
    pub(crate) fn stalled(&self, what: &'static str, error: &str) {
        self.shard.enter(Phase::Stalled);
        self.shard.note(what, error);
    }

    /// Notes a call until what this returns is dropped.
    pub(crate) fn calls(&self, call: &'static str) -> Watched {
        self.note(|lane| lane.call = Some((call, Instant::now())));
        Watched(self.clone())
    }

    /// Notes that the lane waits for acknowledgements until what this returns is dropped.
    pub(crate) fn waits(&self) -> Watched {
        self.note(|lane| lane.waiting = true);
        Watched(self.clone())
    }

    fn note(&self, note: impl FnOnce(&mut LaneFacts)) {
        if let Some(lane) = self.shard.lock().lanes.get_mut(self.lane) {
            note(lane);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A lane does one thing at a time.
        self.0
            .note(|lane| (lane.call, lane.waiting) = (None, false));
    }
}

impl Facts {
    fn new(lanes: usize, now: Instant) -> Self {
        Self {
            phase: Phase::Starting,
            phase_since: now,
            lanes: vec![LaneFacts::default(); lanes],
            read_failing: false,
            at_tip: false,
            read_at: now,
            read_due: now,
            lag: None,
            error: None,
        }
    }

    fn note(&mut self, what: &'static str, error: &str) {
        self.error = Some((what, one_line(error), Instant::now()));
    }

    fn longest_call(&self) -> Option<(&'static str, Instant)> {
        let calls = self.lanes.iter().filter_map(|lane| lane.call);
        calls.min_by_key(|(_, since)| *since)
    }

    fn state(&self, standing: &Standing, is_current: bool, now: Instant) -> ShardState {
        let any = |is: fn(&LaneFacts) -> bool| self.lanes.iter().any(is);
        match self.phase {
            Phase::Stalled => ShardState::Stalled,
            Phase::Stopped => ShardState::Stopped,
            Phase::Replayed => ShardState::Replayed,
            Phase::Leaving => ShardState::Leaving,
            _ if !is_current => ShardState::WaitingForLease,
            _ if any(|lane| lane.failing) => ShardState::Retrying,
            Phase::Starting => ShardState::Starting,
            Phase::Ending => ShardState::Ending,
            Phase::Delivering if any(|lane| lane.waiting) => ShardState::WaitingForAcknowledgements,
            Phase::Delivering if self.read_failing => ShardState::ReadFailing,
            Phase::Delivering if standing.open_since.is_none() && self.is_read_overdue(now) => {
                ShardState::WaitingForRead
            }
            Phase::Delivering => ShardState::Running,
        }
    }

    fn is_read_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read_due) > READ_TAKES
    }

    /// Since when there has been something to do without anything having moved.
    fn unmoved_since(&self, standing: &Standing, now: Instant) -> Option<Instant> {
        if standing.open_since.is_some() {
            return standing.open_since;
        }
        if self.phase == Phase::Replayed {
            return None;
        }
        if self.phase != Phase::Delivering {
            return Some(self.phase_since);
        }
        if self.at_tip && !self.read_failing && !self.is_read_overdue(now) {
            return None;
        }
        // An answer is progress, even if there was nothing in it: the place in the shard moves on.
        Some(standing.completed.unwrap_or(self.read_at).max(self.read_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivering(now: Instant) -> Facts {
        Facts {
            phase: Phase::Delivering,
            ..Facts::new(2, now)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a25_what_has_something_to_do_and_since_when() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut facts = delivering(start);
        let mut standing = Standing::default();
        let now = after(12);
        assert_eq!(facts.unmoved_since(&standing, now), Some(start), "no read");
        (facts.read_at, facts.read_due) = (after(5), after(5));
        assert_eq!(facts.unmoved_since(&standing, now), Some(after(5)), "more");
        standing.completed = Some(after(7));
        assert_eq!(facts.unmoved_since(&standing, now), Some(after(7)));
        facts.at_tip = true;
        assert_eq!(facts.unmoved_since(&standing, now), None, "nothing to do");
        facts.read_failing = true;
        assert_eq!(
            facts.unmoved_since(&standing, now),
            Some(after(7)),
            "who knows"
        );
        facts.read_failing = false;
        let late = after(16);
        assert_eq!(
            facts.unmoved_since(&standing, late),
            Some(after(7)),
            "overdue"
        );
        facts.read_due = after(60);
        assert_eq!(facts.unmoved_since(&standing, late), None, "it is not due");
        standing.open_since = Some(after(9));
        assert_eq!(facts.unmoved_since(&standing, now), Some(after(9)), "open");
        standing.open_since = None;
        (facts.phase, facts.phase_since) = (Phase::Ending, after(11));
        assert_eq!(facts.unmoved_since(&standing, now), Some(after(11)), "end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_names_what_keeps_the_shard_from_running() {
        let start = Instant::now();
        let late = start + 2 * READ_TAKES;
        let mut facts = delivering(start);
        let mut standing = Standing::default();
        assert_eq!(facts.state(&standing, true, start), ShardState::Running);
        assert_eq!(
            facts.state(&standing, true, late),
            ShardState::WaitingForRead
        );
        standing.open_since = Some(start);
        assert_eq!(facts.state(&standing, true, late), ShardState::Running);
        facts.read_failing = true;
        assert_eq!(facts.state(&standing, true, late), ShardState::ReadFailing);
        facts.lanes[1].waiting = true;
        let waiting = ShardState::WaitingForAcknowledgements;
        assert_eq!(facts.state(&standing, true, late), waiting);
        facts.lanes[1].failing = true;
        assert_eq!(facts.state(&standing, true, late), ShardState::Retrying);
        assert_eq!(
            facts.state(&standing, false, late),
            ShardState::WaitingForLease
        );
        facts.phase = Phase::Stopped;
        assert_eq!(facts.state(&standing, false, late), ShardState::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_call_of_all_lanes_is_named() {
        let start = Instant::now();
        let mut facts = delivering(start);
        assert_eq!(facts.longest_call(), None);
        facts.lanes[0].call = Some(("process_records", start + READ_TAKES));
        facts.lanes[1].call = Some(("shard_ended", start));
        assert_eq!(facts.longest_call(), Some(("shard_ended", start)));
    }
}
