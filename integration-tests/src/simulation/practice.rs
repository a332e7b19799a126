//! How the application of a run processes records: when they are complete, what becomes of those that cannot be processed,
//! and how many processors a shard has.

use std::time::Duration;

use kcl_core::{FailurePolicy, OnFailure, ParkTime};

use super::draw::{between, fraction};
use super::focus::Focus;
use super::world::Process;

/// Each habit is in this share of the runs.
const SHARE_OF_HABITS: f64 = 0.3;
/// Without a habit that says so, hardly any shard has so much in flight.
const UNBOUNDED: usize = 10_000;
/// Prompt answers come in this part of the time. However few records may be in flight, a shard gets through forty a second
/// then, which is four times what the fastest producer puts.
const PROMPT: u64 = 16;

/// Something that an application does or does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Shards have several lanes.
    Lanes,
    /// Records are acknowledged after the call.
    Deferring,
    /// Records that fail go to a dead-letter sink.
    DeadLetters,
    /// So do later ones of their keys.
    Parking,
    /// Records that fail are skipped.
    Skipping,
    /// Processors say which record failed.
    Naming,
}

/// What becomes of records that cannot be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GivenUp {
    /// They are tried again for ever.
    #[default]
    Never,
    /// They go to the dead-letter sink.
    Letter,
    /// They are passed over.
    Skipped,
    /// They go to the dead-letter sink, and so do later ones of their keys for this time, or the life of the grant.
    Parked(Option<Duration>),
}

/// What the application of a run does.
#[derive(Debug, Clone, PartialEq)]
pub struct Practice {
    /// A shard has at most so many lanes. How many is up to each process.
    pub lanes: u64,
    /// This share of records is acknowledged on its own, after the call.
    pub deferred: f64,
    /// Of this share of calls everything that is left is acknowledged together.
    pub deferred_together: f64,
    /// So many milliseconds later at most.
    pub answer_millis: u64,
    /// So many records are in flight at most.
    pub max_in_flight: usize,
    /// What becomes of records that fail.
    pub given_up: GivenUp,
    /// After so many calls.
    pub attempts: u32,
    /// Whether the failing record is searched for.
    pub bisect: bool,
    /// This share of failing calls says which record failed.
    pub named: f64,
    /// Calls are cut off after so long.
    pub call_time_limit: Option<Duration>,
    /// Shards whose calls make no progress for so long are given away.
    pub stall_timeout: Option<Duration>,
}

impl Default for Practice {
    fn default() -> Self {
        Self {
            lanes: 1,
            deferred: 0.0,
            deferred_together: 0.0,
            answer_millis: 1,
            max_in_flight: UNBOUNDED,
            given_up: GivenUp::Never,
            attempts: 1,
            bisect: true,
            named: 0.0,
            call_time_limit: None,
            stall_timeout: None,
        }
    }
}

impl Practice {
    /// What the seed draws; under a focus with habits exactly these.
    #[must_use]
    pub fn drawn(seed: u64, focus: Option<&Focus>) -> Self {
        let habits = focus.map_or(&[][..], |focus| focus.habits);
        let has = |habit: Habit, name| match habits.is_empty() {
            true => fraction(seed, name, 0) < SHARE_OF_HABITS,
            false => habits.contains(&habit),
        };
        let mut practice = Self {
            given_up: given_up(seed, habits),
            attempts: u32::try_from(between(seed, "attempts", 0, 1..5)).unwrap_or(1),
            ..Self::default()
        };
        practice.bisect = matches!(practice.given_up, GivenUp::Parked(_))
            || !habits.is_empty()
            || fraction(seed, "search", 0) < 0.8;
        if has(Habit::Lanes, "lanes") {
            practice.lanes = between(seed, "lanes", 1, 2..5);
        }
        if has(Habit::Naming, "named failures") {
            practice.named = fraction(seed, "named failures", 1);
        }
        if fraction(seed, "call time limit", 0) < SHARE_OF_HABITS / 2.0 {
            let seconds = between(seed, "call time limit", 1, 2..30);
            practice.call_time_limit = Some(Duration::from_secs(seconds));
        }
        if fraction(seed, "stall timeout", 0) < SHARE_OF_HABITS {
            let seconds = between(seed, "stall timeout", 1, 31..90);
            practice.stall_timeout = Some(Duration::from_secs(seconds));
        }
        if has(Habit::Deferring, "deferred") {
            practice.defer(seed);
        }
        practice
    }

    fn defer(&mut self, seed: u64) {
        self.deferred = fraction(seed, "deferred", 1);
        self.deferred_together = fraction(seed, "deferred together", 0) * 0.5;
        let most = between(seed, "in flight", 0, 1..65);
        self.max_in_flight = usize::try_from(most).unwrap_or(1);
        // A shard gets through two and a half records a second at least. Merged ones get more than that.
        let longest = most.min(20) * 800;
        self.answer_millis = between(seed, "answers", 0, 20..longest.max(21));
    }

    /// Answers come within so many milliseconds.
    #[must_use]
    pub fn longest_answer(&self, prompt: bool) -> u64 {
        match prompt {
            true => self.answer_millis / PROMPT,
            false => self.answer_millis,
        }
    }

    /// How many lanes a process has.
    #[must_use]
    pub fn lanes_of(&self, seed: u64, process: Process) -> usize {
        let lanes = match self.lanes {
            0..=1 => 1,
            most => between(seed, "lanes of a process", u64::from(process), 1..most + 1),
        };
        // More than may be in flight could never all work, and are refused.
        usize::try_from(lanes).unwrap_or(1).min(self.max_in_flight)
    }

    /// As a worker's option.
    pub fn policy(&self) -> FailurePolicy {
        let bounded = || FailurePolicy::retry().attempts(self.attempts);
        match self.given_up {
            GivenUp::Never => FailurePolicy::retry(),
            GivenUp::Letter => bounded().then(OnFailure::DeadLetter).bisect(self.bisect),
            GivenUp::Skipped => bounded().then(OnFailure::Skip).bisect(self.bisect),
            GivenUp::Parked(time) => {
                let time = time.map_or(ParkTime::UntilLeaseEnds, ParkTime::For);
                bounded().then(OnFailure::ParkKey(time))
            }
        }
    }

    /// Whether records go to a sink.
    #[must_use]
    pub fn has_sink(&self) -> bool {
        matches!(self.given_up, GivenUp::Letter | GivenUp::Parked(_))
    }
}

fn given_up(seed: u64, habits: &[Habit]) -> GivenUp {
    let parked = || {
        let for_a_time = fraction(seed, "parked for a time", 0) < 0.5;
        let seconds = between(seed, "parked for a time", 1, 5..120);
        GivenUp::Parked(for_a_time.then(|| Duration::from_secs(seconds)))
    };
    if !habits.is_empty() {
        let kinds = [
            (Habit::DeadLetters, GivenUp::Letter),
            (Habit::Skipping, GivenUp::Skipped),
            (Habit::Parking, parked()),
        ];
        let chosen = kinds.iter().find(|(habit, _)| habits.contains(habit));
        return chosen.map_or(GivenUp::Never, |(_, given_up)| *given_up);
    }
    match between(seed, "failure policy", 0, 0..10) {
        0..=4 => GivenUp::Never,
        5..=6 => GivenUp::Letter,
        7..=8 => parked(),
        _ => GivenUp::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;
    use crate::simulation::focus;
    use crate::simulation::schedule::Temper;

    #[test]
    fn every_practice_is_one_that_a_worker_takes() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let focus = focus::drawn(seed, Reading::Polling);
            let practice = Practice::drawn(seed, focus);
            seen.insert(format!("{:?}", std::mem::discriminant(&practice.given_up)));
            assert!((1..=4).contains(&practice.lanes), "seed {seed}");
            assert!((1..=4).contains(&practice.lanes_of(seed, 3)), "seed {seed}");
            assert!(practice.max_in_flight > 0, "seed {seed}");
            let gives_up = practice.given_up != GivenUp::Never;
            assert_eq!(practice.policy() != FailurePolicy::retry(), gives_up);
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn after_the_healing_every_practice_catches_up() {
        let deferring =
            (0..400).map(|seed| Practice::drawn(seed, focus::drawn(seed, Reading::Polling)));
        let deferring = deferring.filter(|practice| practice.deferred > 0.0);
        let mut slow = 0;
        for practice in deferring {
            // An answer takes half of the longest time on average.
            let in_flight = practice.max_in_flight as u64;
            let a_second = |longest: u64| in_flight * 2_000 / longest.max(1);
            assert!(
                a_second(practice.longest_answer(Temper::healed().prompt)) >= 40,
                "{practice:?}"
            );
            slow += u32::from(a_second(practice.longest_answer(false)) < 10);
        }
        assert!(slow > 10, "before it many are slow");
    }
}
