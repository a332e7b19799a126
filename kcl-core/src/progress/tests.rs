//! Bounds of checkpoints by hand, and what calls complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kcl_checkpoint::{DeliveryId, SequenceNumber};
use proptest::prelude::*;

use super::*;
use crate::ack::AckError;
use crate::call::CallFailure;
use crate::failure::{CallCounts, Failed, FailurePolicy, Plan, Verdict};
use crate::retrieval::{Batch, Record, RecordRef};
use crate::selection::Selection;

pub(super) fn at(number: u64, sub: u64) -> Position {
    Position::new(SequenceNumber::parse(&number.to_string()).unwrap(), sub)
}

/// The progress of a shard with one lane.
fn alone(start: Checkpoint) -> LaneProgress {
    let shard = Arc::new(ShardProgress::new(start, 1));
    shard.lanes().next().unwrap()
}

/// Begins a call that takes everything up to `end`.
fn call(progress: &LaneProgress, end: Position) {
    let (delivery, _) = progress.deliver(&end).unwrap();
    call_again(progress, delivery, end);
}

fn call_again(progress: &LaneProgress, delivery: DeliveryId, end: Position) {
    let records = Selection::new(Arc::new(Batch::empty()), 0..0);
    let whole = Whole {
        records: records.clone(),
        end: end.clone(),
    };
    let call = OpenCall {
        delivery,
        records,
        first: 0,
        end,
        plan: Plan::new(0, FailurePolicy::retry().bounds()),
        calls: CallCounts::default(),
        behind: None,
        deferred: Vec::new(),
        deferred_records: 0,
    };
    progress.begin_call(call, whole);
}

#[test]
fn a_checkpoint_beyond_what_was_delivered_is_refused() {
    let progress = alone(Checkpoint::TrimHorizon);
    call(&progress, at(100, 3));
    assert!(progress.complete_through(&at(100, 4)).is_err());
    assert!(progress.complete_through(&at(100, 3)).is_ok());
    assert_eq!(progress.shard().complete(), Checkpoint::At(at(100, 3)));
}

#[test]
fn a_checkpoint_beyond_what_the_processor_was_given_of_an_answer_is_refused() {
    let progress = alone(Checkpoint::TrimHorizon);
    let (delivery, _) = progress.deliver(&at(9, 0)).unwrap();
    assert!(progress.complete_through(&at(1, 0)).is_err());
    call_again(&progress, delivery, at(4, 0));
    assert!(progress.complete_through(&at(5, 0)).is_err());
    assert!(progress.prepare(&at(5, 0), None).is_err());
    assert!(progress.prepare(&at(4, 0), None).is_ok());
    assert!(progress.complete_through(&at(4, 0)).is_ok());
    progress.shard().replace_prepared();
    progress.end_call();
    // Given up.
    progress.settle(delivery, &at(6, 0));
    assert!(progress.complete_through(&at(7, 0)).is_err());
    assert!(progress.complete_through(&at(6, 0)).is_ok());
    // What comes after the last record goes with it, and is stored.
    progress.settle_all(delivery);
    let next = progress.shard().unstored().unwrap();
    assert_eq!(next, Checkpoint::At(at(9, 0)));
    assert!(progress.shard().stored(&next));
}

#[test]
fn a_checkpoint_before_what_is_stored_is_refused() {
    let progress = alone(Checkpoint::At(at(50, 0)));
    call(&progress, at(60, 0));
    assert!(progress.complete_through(&at(49, 0)).is_err());
    assert_eq!(progress.shard().unstored(), None);
}

#[test]
fn completing_less_than_before_changes_nothing() {
    let progress = alone(Checkpoint::TrimHorizon);
    call(&progress, at(9, 0));
    progress.complete_through(&at(8, 0)).unwrap();
    progress.complete_through(&at(7, 0)).unwrap();
    assert_eq!(progress.shard().unstored(), Some(Checkpoint::At(at(8, 0))));
}

#[test]
fn a_batch_whose_call_failed_cannot_be_completed_as_a_whole() {
    let progress = alone(Checkpoint::TrimHorizon);
    let (delivery, _) = progress.deliver(&at(9, 0)).unwrap();
    call_again(&progress, delivery, at(9, 0));
    progress.fail_call();
    progress.complete_call();
    assert_eq!(progress.shard().unstored(), None);
    progress.complete_through(&at(8, 0)).unwrap();
    assert_eq!(progress.shard().unstored(), Some(Checkpoint::At(at(8, 0))));
    call_again(&progress, delivery, at(9, 0));
    progress.end_call();
    assert_eq!(progress.shard().unstored(), Some(Checkpoint::At(at(9, 0))));
}

#[test]
fn what_is_worked_on_is_not_delivered_again() {
    let progress = alone(Checkpoint::TrimHorizon);
    assert!(progress.deliver(&at(9, 0)).is_some());
    assert!(progress.deliver(&at(9, 0)).is_none());
    let (_, before) = progress.deliver(&at(12, 0)).unwrap();
    assert_eq!(before, Checkpoint::At(at(9, 0)));
}

#[test]
fn what_is_stored_is_not_stored_again() {
    let progress = alone(Checkpoint::TrimHorizon);
    call(&progress, at(9, 0));
    progress.end_call();
    let next = progress.shard().unstored().unwrap();
    assert!(progress.shard().stored(&next));
    assert!(!progress.shard().stored(&next));
    assert_eq!(progress.shard().unstored(), None);
}

pub(super) fn numbers(records: &Selection) -> Vec<u64> {
    let number = |record: RecordRef<'_>| record.sequence_number().parse().unwrap();
    records.iter().map(number).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// The next call, with what is left of an answer, or with a new one of so many records.
    Call {
        records: usize,
        /// They have sub-sequence numbers under one sequence number.
        aggregated: bool,
        calling: Calling,
    },
    Acknowledge(prop::sample::Index),
    Reject(prop::sample::Index),
    /// What failed is delivered again: in a call like this, and in calls that succeed.
    Redeliver(Calling),
    CompleteThrough(prop::sample::Index),
    Store,
}

/// What a call does.
#[derive(Debug, Clone)]
struct Calling {
    /// With so many records at most.
    most: usize,
    /// Which are deferred one by one.
    defers: Vec<prop::sample::Index>,
    defers_all: bool,
    /// Which handles are answered before it returns.
    answers: Vec<prop::sample::Index>,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    Succeeds,
    Fails,
    FailsAt(prop::sample::Index),
}

impl Calling {
    fn succeeds() -> Self {
        Self {
            most: usize::MAX,
            defers: Vec::new(),
            defers_all: false,
            answers: Vec::new(),
            outcome: Outcome::Succeeds,
        }
    }
}

fn calling() -> impl Strategy<Value = Calling> {
    let index = any::<prop::sample::Index>;
    let indexes = |most: usize| prop::collection::vec(index(), 0..most);
    let outcome = prop_oneof![
        2 => Just(Outcome::Succeeds),
        1 => Just(Outcome::Fails),
        2 => index().prop_map(Outcome::FailsAt),
    ];
    let defers_all = prop::bool::weighted(0.3);
    (1..8_usize, indexes(6), defers_all, indexes(2), outcome).prop_map(
        |(most, defers, defers_all, answers, outcome)| Calling {
            most,
            defers,
            defers_all,
            answers,
            outcome,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (1..8_usize, any::<bool>(), calling()).prop_map(
            |(records, aggregated, calling)| Step::Call { records, aggregated, calling }
        ),
        4 => index().prop_map(Step::Acknowledge),
        2 => index().prop_map(Step::Reject),
        2 => calling().prop_map(Step::Redeliver),
        1 => index().prop_map(Step::CompleteThrough),
        1 => Just(Step::Store),
    ]
}

/// Records that are delivered until all are settled.
struct Run {
    delivery: DeliveryId,
    records: Selection,
    end: Position,
    plan: Plan,
}

/// A handle that nobody has answered, and its records.
struct Handle {
    id: DeliveryId,
    numbers: Vec<usize>,
}

/// What is complete, record by record. A record's number is its index in `positions`.
struct Model {
    progress: LaneProgress,
    positions: Vec<Position>,
    complete: BTreeSet<usize>,
    /// The processor was given those before.
    given: usize,
    /// Those before are stored as complete.
    stored: usize,
    handles: Vec<Handle>,
    /// What failed, and was not delivered again yet.
    rejected: BTreeMap<DeliveryId, Vec<usize>>,
    /// What is left of the last answer.
    run: Option<Run>,
}

impl Model {
    fn new() -> Self {
        Self {
            progress: alone(Checkpoint::TrimHorizon),
            positions: Vec::new(),
            complete: BTreeSet::new(),
            given: 0,
            stored: 0,
            handles: Vec::new(),
            rejected: BTreeMap::new(),
            run: None,
        }
    }

    /// How many records are complete without a gap, among those of runs that go on or are over.
    fn watermark(&self) -> usize {
        let gap = (0..self.positions.len()).find(|number| !self.complete.contains(number));
        gap.unwrap_or(self.positions.len())
    }

    fn answer(&mut self, records: usize, aggregated: bool) -> Run {
        let first = 1 + self.positions.len() as u64;
        let numbers = first..first + records as u64;
        let positions = numbers.map(|number| match aggregated {
            true => at(first, number - first),
            false => at(number, 0),
        });
        let positions: Vec<Position> = positions.collect();
        let records: Vec<Record> = positions.iter().map(record).collect();
        let end = positions[positions.len() - 1].clone();
        self.positions.extend(positions);
        let (delivery, _) = self.progress.deliver(&end).unwrap();
        Run {
            delivery,
            end,
            plan: Plan::new(records.len(), FailurePolicy::retry().attempts(3).bounds()),
            records: Selection::new(
                Arc::new(Batch::from_records(&records).unwrap()),
                0..records.len(),
            ),
        }
    }

    fn numbers(&self, records: &Selection) -> Vec<usize> {
        let number = |record: RecordRef<'_>| self.positions.binary_search(&record.position());
        records.iter().map(|r| number(r).unwrap()).collect()
    }

    fn settled(&self, run: &Run) -> usize {
        let left = self.progress.left_after(run.delivery);
        left.map_or(run.records.len(), |left| run.records.through(&left))
    }

    /// One call of a run, as the shard's task makes it. Returns what may be left of the run.
    fn call(&mut self, mut run: Run, calling: &Calling) -> Option<Run> {
        run.plan.completed(self.settled(&run));
        let Some(places) = run.plan.next_call(calling.most) else {
            self.progress.settle_all(run.delivery);
            return None;
        };
        let records = run.records.slice(places.clone());
        let numbers = self.numbers(&records);
        self.given = self.given.max(numbers[numbers.len() - 1] + 1);
        let whole = Whole {
            records: run.records.clone(),
            end: run.end.clone(),
        };
        let call = OpenCall {
            delivery: run.delivery,
            end: match places.end == run.records.len() {
                true => run.end.clone(),
                false => records.position(records.len() - 1).unwrap(),
            },
            records,
            first: places.start,
            plan: run.plan.clone(),
            calls: CallCounts::default(),
            behind: None,
            deferred: Vec::new(),
            deferred_records: 0,
        };
        let call = self.progress.begin_call(call, whole);
        let (mut handles, left) = self.defer(call, &numbers, calling);
        for index in &calling.answers {
            if !handles.is_empty() {
                let handle = handles.remove(index.index(handles.len()));
                assert!(self.progress.acknowledge(handle.id).is_ok());
                self.complete.extend(handle.numbers);
            }
        }
        let named = match &calling.outcome {
            Outcome::Succeeds => {
                self.progress.end_call();
                self.complete.extend(left);
                self.handles.extend(handles);
                run.plan.succeeded();
                return Some(run);
            }
            Outcome::Fails => None,
            Outcome::FailsAt(index) => Some(numbers[index.index(numbers.len())]),
        };
        self.fail(&mut run, named, left, handles);
        assert_eq!(self.progress.defer(call, 0), Err(AckError::NotInCall));
        Some(run)
    }

    /// What a call defers, and what it does not.
    fn defer(
        &mut self,
        call: CallId,
        numbers: &[usize],
        calling: &Calling,
    ) -> (Vec<Handle>, BTreeSet<usize>) {
        let mut left: BTreeSet<usize> = numbers.iter().copied().collect();
        left.retain(|number| !self.complete.contains(number));
        let mut handles = Vec::new();
        for index in &calling.defers {
            let place = index.index(numbers.len());
            let deferred = self.progress.defer(call, place);
            assert_eq!(deferred.is_ok(), left.remove(&numbers[place]));
            handles.extend(deferred.map(|id| Handle {
                id,
                numbers: vec![numbers[place]],
            }));
        }
        if calling.defers_all {
            let deferred = self.progress.defer_all(call);
            assert_eq!(deferred.is_ok(), !left.is_empty());
            handles.extend(deferred.map(|id| Handle {
                id,
                numbers: std::mem::take(&mut left).into_iter().collect(),
            }));
        }
        (handles, left)
    }

    fn fail(
        &mut self,
        run: &mut Run,
        named: Option<usize>,
        left: BTreeSet<usize>,
        handles: Vec<Handle>,
    ) {
        let took_back = self.progress.fail_call();
        let is_over = |handle: &Handle| handle.numbers.iter().all(|n| self.complete.contains(n));
        assert_eq!(took_back, !handles.iter().all(is_over));
        for handle in handles {
            assert_eq!(self.progress.acknowledge(handle.id), Err(AckError::Over));
        }
        let named = named.filter(|_| !took_back);
        if let Some(named) = named {
            let before = left.into_iter().filter(|number| *number < named);
            self.complete.extend(before);
        }
        let failed = Failed {
            completed: self.settled(run),
            at: named.and_then(|named| run.records.place_of(&self.positions[named])),
            now: Duration::ZERO,
            retry_at: Duration::ZERO,
        };
        let verdict = run.plan.failed(failed, |_| None);
        self.settle_before(run, run.plan.settled());
        if let Verdict::GiveUp(places) = verdict {
            self.settle_before(run, places.end);
            let given_up = self.numbers(&run.records.slice(places.clone()));
            self.complete.extend(given_up);
            run.plan.gave_up(places.end);
        }
    }

    fn settle_before(&self, run: &Run, place: usize) {
        if let Some(last) = place.checked_sub(1) {
            let last = run.records.position(last).unwrap();
            self.progress.settle(run.delivery, &last);
        }
    }

    fn redeliver(&mut self, calling: &Calling) {
        while let Some((id, parcel, _)) = self.progress.take_failed() {
            let deferred = self.rejected.remove(&id);
            assert_eq!(Some(self.numbers(&parcel.records)), deferred);
            let run = Run {
                delivery: id,
                records: parcel.records,
                end: parcel.end,
                plan: parcel.plan,
            };
            let mut left = self.call(run, calling);
            while let Some(run) = left {
                left = self.call(run, &Calling::succeeds());
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Call {
                records,
                aggregated,
                calling,
            } => {
                let run = self.run.take();
                let run = run.unwrap_or_else(|| self.answer(records, aggregated));
                self.run = self.call(run, &calling);
            }
            Step::Acknowledge(index) if !self.handles.is_empty() => {
                let handle = self.handles.remove(index.index(self.handles.len()));
                let is_over = handle.numbers.iter().all(|n| self.complete.contains(n));
                assert_eq!(self.progress.acknowledge(handle.id).is_err(), is_over);
                assert_eq!(self.progress.acknowledge(handle.id), Err(AckError::Over));
                self.complete.extend(handle.numbers);
            }
            Step::Reject(index) if !self.handles.is_empty() => {
                let handle = self.handles.remove(index.index(self.handles.len()));
                let failure = CallFailure::text("no");
                if self.progress.reject(handle.id, failure).is_ok() {
                    self.rejected.insert(handle.id, handle.numbers);
                }
                assert_eq!(self.progress.acknowledge(handle.id), Err(AckError::Over));
            }
            Step::Redeliver(calling) => self.redeliver(&calling),
            Step::CompleteThrough(index) if !self.positions.is_empty() => {
                let number = index.index(self.positions.len());
                let is_fine = number < self.given && number + 1 >= self.stored;
                let completed = self.progress.complete_through(&self.positions[number]);
                assert_eq!(completed.is_ok(), is_fine);
                if is_fine {
                    self.complete.extend(0..=number);
                }
            }
            Step::Store => {
                if let Some(next) = self.progress.shard().unstored() {
                    assert!(
                        self.progress.shard().stored(&next),
                        "what is complete can be stored"
                    );
                    self.stored = self.watermark();
                }
            }
            _ => {}
        }
    }
}

fn record(position: &Position) -> Record {
    let mut record = Record::new(position.sequence_number.clone(), "key", Bytes::new());
    record.sub_sequence_number = position.sub_sequence_number;
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is deferred, answered, failed, given up and delivered again, in whatever order: what would be stored is
    /// exactly the end of the records that are complete without a gap.
    #[test]
    fn nothing_that_is_not_complete_lies_below_the_checkpoint(steps in prop::collection::vec(step(), 0..60)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            let expected = match model.watermark().checked_sub(1) {
                None => Checkpoint::TrimHorizon,
                Some(last) => Checkpoint::At(model.positions[last].clone()),
            };
            prop_assert_eq!(model.progress.shard().complete(), expected);
        }
    }
}
