//! The policy for records that cannot be processed: how long they are tried, and what becomes of them then.

use std::time::Duration;

use super::plan::Bounds;
use crate::error::BuildError;

/// How many keys of one shard are parked at most, unless the policy says otherwise.
const MAX_PARKED_KEYS: usize = 1_000;

/// What happens with records that a processor fails on: [`WorkerBuilder::failure_policy`](crate::WorkerBuilder::failure_policy).
///
/// A failed batch is delivered again after a back-off, from the first record that is not complete. By default that goes on
/// for ever: nothing is skipped, the shard waits, and each failure is an event. With bounds and an outcome the record is
/// given up at last. Which one fails is then found by delivering halves (*bisecting*), in about log₂ of the batch's size
/// calls with one record or half of the rest each, unless the processor says it with a [`BatchFailure`](crate::BatchFailure).
/// A panic counts as an error.
///
/// Only `process_records` is under the policy. Errors of `initialize` and `shard_ended` are retried for ever.
///
/// ```
/// use std::time::Duration;
/// use kcl_core::{FailurePolicy, OnFailure};
///
/// let policy = FailurePolicy::retry()
///     .attempts(5)
///     .elapsed(Duration::from_secs(60))
///     .then(OnFailure::DeadLetter);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct FailurePolicy {
    attempts: Option<u32>,
    elapsed: Option<Duration>,
    max_record_age: Option<Duration>,
    outcome: Option<OnFailure>,
    bisect: bool,
    max_parked_keys: Option<usize>,
}

/// What becomes of a record whose processing failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It goes to the [dead-letter sink](crate::DeadLetterSink), and processing goes on after the sink accepted it.
    DeadLetter,
    /// It is counted, reported as an event, and passed over.
    Skip,
    /// It goes to the dead-letter sink, and so do later records of its partition key in this shard, in order, while those
    /// of other keys are processed.
    ///
    /// Keys are told apart by their MD5 hashes. The memory for it is bounded by
    /// [`max_parked_keys`](FailurePolicy::max_parked_keys); when a further key fails, the shard is stopped as with
    /// [`StopShard`](Self::StopShard).
    ParkKey(ParkTime),
    /// The shard's records are delivered no more, and its checkpoint stays before this record.
    ///
    /// The shard is marked in the lease table with the record and the error: whoever holds the lease later delivers nothing
    /// either, so that the record does not go round the fleet. [`ShardStopped`](crate::WorkerEvent::ShardStopped) names the
    /// cause, and [`WorkerHandle::stopped_shards`](crate::WorkerHandle::stopped_shards) and health show it, at each holder.
    /// [`Operator::resume`](crate::Operator::resume) of this shard by name lets it begin again at the checkpoint, with all
    /// attempts; [`Operator::seek`](crate::Operator::seek) moves it past the record first.
    StopShard,
    /// The worker shuts down gracefully, and `run` returns [`WorkerError::Processor`](crate::WorkerError::Processor). Other
    /// workers of the application take its shards, this one included, and fail on the same record.
    StopWorker,
}

/// How long later records of a failed record's key go to the dead-letter sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParkTime {
    /// Until this worker's lease of the shard ends. That is not stored: the next holder processes records of the key again.
    UntilLeaseEnds,
    /// This long, and at most until the lease ends.
    For(Duration),
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self::retry()
    }
}

impl FailurePolicy {
    /// Retries for ever, until bounds and an outcome are given.
    pub fn retry() -> Self {
        Self {
            attempts: None,
            elapsed: None,
            max_record_age: None,
            outcome: None,
            bisect: true,
            max_parked_keys: None,
        }
    }

    /// Gives up after this many calls that failed at the same place, at least 1. The calls that bisecting needs come on
    /// top. Only records that were in each of these calls are given up: others, for which there was no room in some of
    /// them, have all attempts yet.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Gives up rather than to try again later than this after the first failure at the same place.
    pub fn elapsed(mut self, elapsed: Duration) -> Self {
        self.elapsed = Some(elapsed);
        self
    }

    /// Gives up on a failing record that reached the service longer than this ago, by the service's and this machine's
    /// clocks. Each record is tried once, however old it is.
    ///
    /// If nobody says which record failed, it is searched for as soon as the first record of the call is too old; a younger one
    /// that turns out to be the failing one is tried on. Without [bisecting](Self::bisect) a call is given up once all of its
    /// records are too old.
    pub fn max_record_age(mut self, age: Duration) -> Self {
        self.max_record_age = Some(age);
        self
    }

    /// What becomes of a record when one of the bounds is reached.
    pub fn then(mut self, outcome: OnFailure) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Whether the failing record is searched for once a bound is reached. Default: true. If not, the outcome is that of
    /// every record of the calls that failed, unless the processor says which one it was. Means nothing without an outcome.
    pub fn bisect(mut self, bisect: bool) -> Self {
        self.bisect = bisect;
        self
    }

    /// How many keys of one shard, in all of its lanes together, are parked at the same time with [`OnFailure::ParkKey`].
    /// Default: 1,000; at least 1.
    pub fn max_parked_keys(mut self, keys: usize) -> Self {
        self.max_parked_keys = Some(keys);
        self
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            attempts: self.attempts,
            elapsed: self.elapsed,
            record_age: self.max_record_age,
            bisect: self.bisect,
        }
    }

    /// What becomes of records that are given up; none is without one.
    pub(crate) fn outcome(&self) -> Option<OnFailure> {
        self.outcome
    }

    pub(crate) fn parked_keys_max(&self) -> usize {
        self.max_parked_keys.unwrap_or(MAX_PARKED_KEYS)
    }

    /// Checks the policy by itself and against the presence of a dead-letter sink.
    pub(crate) fn validate(&self, has_sink: bool) -> Result<(), BuildError> {
        self.validate_values()?;
        let bound = self.bound();
        match (self.outcome, bound) {
            (None, Some(bound)) => {
                let reason = "the bound needs an outcome: say then(...), or leave the bound out";
                return conflict(bound, THEN, reason);
            }
            (Some(_), None) => {
                let reason = "the outcome is never reached without a bound: say attempts(...) too, or leave it out";
                return conflict(THEN, "failure_policy.attempts", reason);
            }
            _ => {}
        }
        let parks = matches!(self.outcome, Some(OnFailure::ParkKey(_)));
        let needs_sink = parks || self.outcome == Some(OnFailure::DeadLetter);
        if needs_sink && !has_sink {
            return conflict(
                THEN,
                SINK,
                "the outcome needs a dead-letter sink: give one to dead_letters(...)",
            );
        }
        if has_sink && !needs_sink {
            let reason = "nothing is ever sent to the sink: say then(OnFailure::DeadLetter) or then(OnFailure::ParkKey(...)), or leave it out";
            return conflict(SINK, THEN, reason);
        }
        if parks && !self.bisect {
            let reason = "without bisecting the failing key is not known: leave bisect(false) out";
            return conflict(THEN, "failure_policy.bisect", reason);
        }
        if self.outcome.is_none() && !self.bisect {
            let reason = "without an outcome no record is ever searched for: say then(...) and a bound, or leave bisect(false) out";
            return conflict("failure_policy.bisect", THEN, reason);
        }
        if self.max_parked_keys.is_some() && !parks {
            let reason =
                "no key is ever parked: say then(OnFailure::ParkKey(...)), or leave it out";
            return conflict(MAX_PARKED, THEN, reason);
        }
        Ok(())
    }

    fn validate_values(&self) -> Result<(), BuildError> {
        let zero = |option, value: String| {
            Err(BuildError::InvalidOption {
                option,
                value,
                reason: "is too little: use more than zero".to_owned(),
            })
        };
        let none = Some(Duration::ZERO);
        if self.attempts == Some(0) {
            return zero("failure_policy.attempts", "0".to_owned());
        }
        if self.elapsed == none {
            return zero("failure_policy.elapsed", "0ns".to_owned());
        }
        if self.max_record_age == none {
            return zero("failure_policy.max_record_age", "0ns".to_owned());
        }
        if self.max_parked_keys == Some(0) {
            return zero(MAX_PARKED, "0".to_owned());
        }
        if self.outcome == Some(OnFailure::ParkKey(ParkTime::For(Duration::ZERO))) {
            return zero(THEN, "ParkKey(For(0ns))".to_owned());
        }
        Ok(())
    }

    /// The name of a bound that is set.
    fn bound(&self) -> Option<&'static str> {
        let set = [
            (self.attempts.is_some(), "failure_policy.attempts"),
            (self.elapsed.is_some(), "failure_policy.elapsed"),
            (
                self.max_record_age.is_some(),
                "failure_policy.max_record_age",
            ),
        ];
        set.iter().find(|(set, _)| *set).map(|(_, name)| *name)
    }
}

const THEN: &str = "failure_policy.then";
const SINK: &str = "dead_letters";
const MAX_PARKED: &str = "failure_policy.max_parked_keys";

fn conflict(a: &'static str, b: &'static str, reason: &str) -> Result<(), BuildError> {
    Err(BuildError::Conflict {
        a,
        b,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARK: OnFailure = OnFailure::ParkKey(ParkTime::UntilLeaseEnds);

    #[test]
    fn policies_that_make_sense_are_taken() {
        let bounded = || FailurePolicy::retry().attempts(1);
        for (policy, has_sink) in [
            (FailurePolicy::default(), false),
            (bounded().then(OnFailure::Skip), false),
            (bounded().then(OnFailure::StopShard).bisect(false), false),
            (bounded().then(OnFailure::StopWorker), false),
            (bounded().then(OnFailure::DeadLetter), true),
            (bounded().then(PARK).max_parked_keys(1), true),
        ] {
            assert_eq!(policy.validate(has_sink), Ok(()), "{policy:?}");
        }
    }

    #[test]
    fn contradictions_are_refused_with_both_names() {
        let retry = FailurePolicy::retry;
        let second = Duration::from_secs(1);
        let bounded = || retry().attempts(1);
        let then = "failure_policy.then";
        for (policy, has_sink, a, b) in [
            (retry().attempts(3), false, "failure_policy.attempts", then),
            (
                retry().elapsed(second),
                false,
                "failure_policy.elapsed",
                then,
            ),
            (
                retry().max_record_age(second),
                false,
                "failure_policy.max_record_age",
                then,
            ),
            (
                retry().then(OnFailure::Skip),
                false,
                then,
                "failure_policy.attempts",
            ),
            (
                bounded().then(OnFailure::DeadLetter),
                false,
                then,
                "dead_letters",
            ),
            (bounded().then(PARK), false, then, "dead_letters"),
            (bounded().then(OnFailure::Skip), true, "dead_letters", then),
            (retry(), true, "dead_letters", then),
            (
                bounded().then(PARK).bisect(false),
                true,
                then,
                "failure_policy.bisect",
            ),
            (retry().bisect(false), false, "failure_policy.bisect", then),
            (
                bounded().then(OnFailure::Skip).max_parked_keys(5),
                false,
                "failure_policy.max_parked_keys",
                then,
            ),
        ] {
            let error = policy.validate(has_sink).unwrap_err();
            assert!(
                matches!(&error, BuildError::Conflict { a: one, b: other, .. } if (*one, *other) == (a, b)),
                "{policy:?}: {error}"
            );
            let text = error.to_string();
            assert!(text.contains(a) && text.contains(b), "{text}");
        }
    }

    #[test]
    fn nothing_is_refused_by_name() {
        let retry = FailurePolicy::retry;
        let park_no_time = OnFailure::ParkKey(ParkTime::For(Duration::ZERO));
        for (policy, option) in [
            (retry().attempts(0), "failure_policy.attempts"),
            (retry().elapsed(Duration::ZERO), "failure_policy.elapsed"),
            (
                retry().max_record_age(Duration::ZERO),
                "failure_policy.max_record_age",
            ),
            (retry().max_parked_keys(0), "failure_policy.max_parked_keys"),
            (
                retry().attempts(1).then(park_no_time),
                "failure_policy.then",
            ),
        ] {
            let error = policy.validate(true).unwrap_err();
            assert!(
                matches!(&error, BuildError::InvalidOption { option: named, .. } if *named == option),
                "{policy:?}: {error}"
            );
        }
    }
}
