//! What to do after each call on a run of records: go on, try again, narrow down, or give up.

use std::ops::Range;
use std::time::Duration;

use kcl_lease::mutant::{self, Mutant};

/// How long a failing record is tried before it is given up; without any bound, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Calls that fail at the same place.
    pub(crate) attempts: Option<u32>,
    /// Time from the first failure at a place to the next attempt.
    pub(crate) elapsed: Option<Duration>,
    /// Time since the record reached the service.
    pub(crate) record_age: Option<Duration>,
    /// Whether the failing record is searched for when the bounds are reached and nobody said which one it is.
    pub(crate) bisect: bool,
}

/// The work on a run of records, in order. Places count from 0 in the run.
///
/// Each place is settled exactly once, from the first to the last: by a call that succeeded, by somebody who declared it
/// complete, or by being given up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    bounds: Bounds,
    /// All places before are settled.
    settled: usize,
    end: usize,
    /// Where the last call ended.
    called: usize,
    /// While a failing record is searched for.
    search: Option<Search>,
    failing: Option<Failing>,
}

/// The search for the failing one of several places.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// The places up to here failed together.
    end: usize,
    /// Whether it began only because some of them are too old: a younger one that fails is not given up.
    for_age: bool,
}

/// What is known of the first place that is not settled, after a failure.
#[derive(Debug, Clone, Copy)]
struct Failing {
    attempts: u32,
    since: Duration,
    /// The places before were in each of these calls. Further ones have not failed as often: not every call has room for the
    /// same number of records.
    end: usize,
}

/// How a call failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    /// All places before were declared complete.
    pub(crate) completed: usize,
    /// The place that failed, if the processor said so: those before it are complete.
    pub(crate) at: Option<usize>,
    /// When the call failed.
    pub(crate) now: Duration,
    /// When it would be tried again.
    pub(crate) retry_at: Duration,
}

/// What a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same again after a wait.
    Retry,
    /// Fewer records in the next call, to find the one that fails.
    Narrow,
    /// These places failed for good. They are settled by [`Plan::gave_up`].
    GiveUp(Range<usize>),
}

impl Plan {
    pub(crate) fn new(places: usize, bounds: Bounds) -> Self {
        Self {
            bounds,
            settled: 0,
            end: places,
            called: 0,
            search: None,
            failing: None,
        }
    }

    /// How many places are settled.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    /// How many calls in a row have failed at the first place that is not settled.
    pub(crate) fn failures(&self) -> u32 {
        self.failing.map_or(0, |failing| failing.attempts)
    }

    /// The plan of places of the last call that are worked on elsewhere from now on. What is known of failures goes with
    /// them if they are all of the call.
    pub(crate) fn part(&self, places: Range<usize>) -> Self {
        let mut part = Self::new(places.len(), self.bounds);
        part.called = places.len();
        if places == (self.settled..self.called) {
            part.failing = self.failing.map(|failing| Failing {
                end: failing.end - self.settled,
                ..failing
            });
            let end = places.len();
            part.search = self.search.map(|search| Search { end, ..search });
        }
        part
    }

    /// The places of the next call, at most so many, at least one; `None` when everything is settled.
    pub(crate) fn next_call(&mut self, most: usize) -> Option<Range<usize>> {
        if self.settled >= self.end {
            return None;
        }
        let end = match self.search {
            // The first half of those among which the failing one is.
            Some(search) => self.settled + ((search.end - self.settled) / 2).max(1),
            None => self.end,
        };
        self.called = end.min(self.settled.saturating_add(most.max(1)));
        Some(self.settled..self.called)
    }

    /// Notes that all places before `place` were declared complete, outside of a call.
    pub(crate) fn completed(&mut self, place: usize) {
        if place > self.settled {
            self.settle(place.min(self.end));
        }
    }

    /// Notes that the last call succeeded.
    pub(crate) fn succeeded(&mut self) {
        let search = self.search;
        self.settle(self.called);
        // The failing record is among those that are left, unless none is.
        self.search = search.filter(|search| search.end > self.settled);
    }

    /// Decides what follows a failed call. `age` tells how old a record is, as far as that is known.
    pub(crate) fn failed(
        &mut self,
        failed: Failed,
        age: impl Fn(usize) -> Option<Duration>,
    ) -> Verdict {
        let call_end = self.called.max(self.settled);
        let completed = failed.completed.clamp(self.settled, call_end);
        let named = failed
            .at
            .filter(|place| (completed..call_end).contains(place));
        let reached = named.unwrap_or(completed);
        if reached > self.settled {
            self.settle(reached);
        }
        if reached == call_end {
            return Verdict::Retry;
        }
        let failing = self.failing.get_or_insert(Failing {
            attempts: 0,
            since: failed.now,
            end: call_end,
        });
        failing.attempts = failing.attempts.saturating_add(1);
        failing.end = failing.end.min(call_end);
        let suspects = failing.end;
        let would_take = failed.retry_at.saturating_sub(failing.since);
        let tried = self.bounds.tried(failing.attempts, would_take)
            || mutant::is(Mutant::GiveUpAtOnce) && self.bounds.attempts.is_some();
        let is_found = named.is_some() || call_end - self.settled == 1;
        let searches = self.bounds.bisect && !mutant::is(Mutant::GiveUpWithoutSearch);
        let too_old = self.bounds.too_old(match is_found || searches {
            // The oldest comes first, and is reason enough for a search.
            true => age(self.settled),
            // All of them are given up together: the youngest comes last.
            false => age(call_end - 1),
        });
        let for_age = !tried && self.search.is_none_or(|search| search.for_age);
        if for_age && !too_old && (is_found || self.search.is_none()) {
            self.search = None;
            return Verdict::Retry;
        }
        if is_found {
            return Verdict::GiveUp(self.settled..self.settled + 1);
        }
        if !searches {
            return Verdict::GiveUp(self.settled..suspects);
        }
        let end = suspects;
        self.search = Some(Search { end, for_age });
        Verdict::Narrow
    }

    /// Notes that the places before `place` were given up, and that this is done with.
    pub(crate) fn gave_up(&mut self, place: usize) {
        self.settle(place);
    }

    fn settle(&mut self, place: usize) {
        self.settled = place;
        self.failing = None;
        self.search = None;
    }
}

impl Bounds {
    fn tried(self, attempts: u32, would_take: Duration) -> bool {
        self.attempts.is_some_and(|most| attempts >= most)
            || self.elapsed.is_some_and(|most| would_take > most)
    }

    fn too_old(self, age: Option<Duration>) -> bool {
        matches!((self.record_age, age), (Some(most), Some(age)) if age > most)
    }
}
