//! Bounds of checkpoints by hand, and what calls complete.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kcl_checkpoint::{DeliveryId, SequenceNumber};
use proptest::prelude::*;

use super::*;
use crate::ack::AckError;
use crate::call::CallFailure;
use crate::failure::{CallCounts, FailurePolicy, Plan};
use crate::retrieval::{Batch, BatchBuilder, RawRecord, RecordRef};
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
    progress.begin_call(OpenCall {
        delivery,
        records: Selection::new(Arc::new(Batch::empty()), 0..0),
        first: 0,
        end,
        plan: Plan::new(0, FailurePolicy::retry().bounds()),
        calls: CallCounts::default(),
        behind: None,
        deferred: Vec::new(),
        deferred_records: 0,
    });
}

#[test]
fn a_checkpoint_beyond_what_was_delivered_is_refused() {
    let progress = alone(Checkpoint::TrimHorizon);
    progress.deliver(&at(100, 3));
    assert!(progress.complete_through(&at(100, 4)).is_err());
    assert!(progress.complete_through(&at(100, 3)).is_ok());
    assert_eq!(progress.shard().complete(), Checkpoint::At(at(100, 3)));
}

#[test]
fn a_checkpoint_before_what_is_stored_is_refused() {
    let progress = alone(Checkpoint::At(at(50, 0)));
    progress.deliver(&at(60, 0));
    assert!(progress.complete_through(&at(49, 0)).is_err());
    assert_eq!(progress.shard().unstored(), None);
}

#[test]
fn completing_less_than_before_changes_nothing() {
    let progress = alone(Checkpoint::TrimHorizon);
    progress.deliver(&at(9, 0));
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

/// Records 1 to `records`, each a Kinesis record of its own.
fn batch(first: u64, records: usize) -> Selection {
    let mut builder = BatchBuilder::with_capacity(records);
    for number in first..first + records as u64 {
        let record = RawRecord {
            sequence_number: &number.to_string(),
            partition_key: "key",
            arrival_millis: None,
            encryption_type: None,
        };
        builder.push(record, Bytes::new()).unwrap();
    }
    Selection::new(Arc::new(builder.finish()), 0..records)
}

pub(super) fn numbers(records: &Selection) -> Vec<u64> {
    let number = |record: RecordRef<'_>| record.sequence_number().parse().unwrap();
    records.iter().map(number).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// A new batch of so many records is delivered; whole, or these places one by one, are deferred; the call may fail.
    Call {
        records: usize,
        defers: Vec<prop::sample::Index>,
        defers_all: bool,
        fails: bool,
    },
    Acknowledge(prop::sample::Index),
    Reject(prop::sample::Index),
    /// What failed is delivered again in a call that succeeds.
    Redeliver,
    CompleteThrough(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (1..8_usize, prop::collection::vec(index(), 0..6), any::<bool>(), any::<bool>()).prop_map(
            |(records, defers, defers_all, fails)| Step::Call { records, defers, defers_all, fails }
        ),
        4 => index().prop_map(Step::Acknowledge),
        2 => index().prop_map(Step::Reject),
        1 => Just(Step::Redeliver),
        1 => (1..60_u64).prop_map(Step::CompleteThrough),
    ]
}

/// What is complete, record by record.
#[derive(Default)]
pub(super) struct Model {
    pub(super) delivered: u64,
    pub(super) complete: BTreeSet<u64>,
    /// Handles that nobody has answered, and their records.
    handles: Vec<(DeliveryId, Vec<u64>)>,
}

impl Model {
    pub(super) fn watermark(&self) -> u64 {
        let complete = (1..=self.delivered).find(|number| !self.complete.contains(number));
        complete.unwrap_or(self.delivered + 1) - 1
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is deferred, answered, failed and delivered again, in whatever order: what would be stored is exactly the end
    /// of the records that are complete without a gap.
    #[test]
    fn nothing_that_is_not_complete_lies_below_the_checkpoint(steps in prop::collection::vec(step(), 0..60)) {
        let progress = alone(Checkpoint::TrimHorizon);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Call { records, defers, defers_all, fails } => {
                    let selection = batch(model.delivered + 1, records);
                    model.delivered += records as u64;
                    let end = at(model.delivered, 0);
                    let (delivery, _) = progress.deliver(&end).unwrap();
                    let mut plan = Plan::new(records, FailurePolicy::retry().bounds());
                    plan.next_call(usize::MAX);
                    let call = progress.begin_call(OpenCall {
                        delivery,
                        records: selection.clone(),
                        first: 0,
                        end,
                        plan,
                        calls: CallCounts::default(),
                        behind: None,
                        deferred: Vec::new(),
                        deferred_records: 0,
                    });
                    let mut left: BTreeSet<u64> = numbers(&selection).into_iter().collect();
                    let mut handles = Vec::new();
                    for index in defers {
                        let place = index.index(records);
                        let number = numbers(&selection)[place];
                        let deferred = progress.defer(call, place);
                        prop_assert_eq!(deferred.is_ok(), left.remove(&number));
                        handles.extend(deferred.map(|id| (id, vec![number])));
                    }
                    if defers_all {
                        let deferred = progress.defer_all(call);
                        prop_assert_eq!(deferred.is_ok(), !left.is_empty());
                        let all = std::mem::take(&mut left).into_iter().collect();
                        handles.extend(deferred.map(|id| (id, all)));
                    }
                    if fails {
                        progress.fail_call();
                        for (id, _) in handles {
                            prop_assert_eq!(progress.acknowledge(id), Err(AckError::Over));
                        }
                    } else {
                        let deferred: usize = handles.iter().map(|(_, numbers)| numbers.len()).sum();
                        prop_assert_eq!(progress.end_call(), deferred);
                        model.complete.extend(left);
                        model.handles.extend(handles);
                    }
                    prop_assert_eq!(progress.defer(call, 0), Err(AckError::NotInCall));
                }
                Step::Acknowledge(index) if !model.handles.is_empty() => {
                    let (id, numbers) = model.handles.remove(index.index(model.handles.len()));
                    let is_over = numbers.iter().all(|n| model.complete.contains(n));
                    prop_assert_eq!(progress.acknowledge(id).is_err(), is_over);
                    prop_assert_eq!(progress.acknowledge(id), Err(AckError::Over));
                    model.complete.extend(numbers);
                }
                Step::Reject(index) if !model.handles.is_empty() => {
                    let (id, _) = model.handles.remove(index.index(model.handles.len()));
                    let _over = progress.reject(id, CallFailure::Error("no".into()));
                    prop_assert_eq!(progress.acknowledge(id), Err(AckError::Over));
                }
                Step::Redeliver => {
                    while let Some((id, parcel, _)) = progress.take_failed() {
                        progress.settle_all(id);
                        model.complete.extend(numbers(&parcel.records));
                    }
                }
                Step::CompleteThrough(number) => {
                    let stored = model.delivered >= number;
                    prop_assert_eq!(progress.complete_through(&at(number, 0)).is_ok(), stored);
                    if stored {
                        model.complete.extend(1..=number);
                    }
                }
                _ => {}
            }
            let expected = match model.watermark() {
                0 => Checkpoint::TrimHorizon,
                number => Checkpoint::At(at(number, 0)),
            };
            prop_assert_eq!(progress.shard().complete(), expected);
        }
    }
}
