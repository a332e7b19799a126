//! The completion watermark against a model that keeps one flag per record.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use kcl_checkpoint::{DeliveryId, Position, SequenceNumber, Watermark};
use proptest::prelude::*;

fn position(number: u64) -> Position {
    Position::new(SequenceNumber::parse(&number.to_string()).unwrap(), 0)
}

#[test]
fn batches_complete_in_any_order_and_the_watermark_waits_for_the_first() {
    let mut watermark = Watermark::new(None);
    assert_eq!(watermark.completed(), None);
    let first = watermark.deliver(position(10)).unwrap();
    let second = watermark.deliver(position(20)).unwrap();
    assert!(watermark.complete(second));
    assert_eq!((watermark.completed(), watermark.in_flight()), (None, 1));
    assert!(watermark.complete(first));
    assert_eq!(watermark.completed(), Some(&position(20)));
    assert!(watermark.is_complete());
    assert!(!watermark.complete(first), "a second completion is none");
}

#[test]
fn a_deferred_record_holds_the_watermark_at_the_record_before_it() {
    let mut watermark = Watermark::new(Some(position(2)));
    let batch = watermark.deliver(position(10)).unwrap();
    let record = watermark
        .defer(batch, Some(&position(5)), &position(6))
        .unwrap();
    assert!(watermark.complete(batch));
    assert_eq!(watermark.completed(), Some(&position(5)));
    assert!(watermark.complete(record));
    assert_eq!(watermark.completed(), Some(&position(10)));
}

#[test]
fn the_only_record_of_a_batch_can_be_deferred() {
    let mut watermark = Watermark::new(None);
    let batch = watermark.deliver(position(1)).unwrap();
    let record = watermark.defer(batch, None, &position(1)).unwrap();
    assert!(
        watermark.complete(batch),
        "the batch itself is still running"
    );
    assert_eq!(watermark.completed(), None);
    watermark.complete(record);
    assert_eq!(watermark.completed(), Some(&position(1)));
}

#[test]
fn a_record_is_deferred_once_and_only_by_its_own_batch() {
    let mut watermark = Watermark::new(None);
    let first = watermark.deliver(position(5)).unwrap();
    let second = watermark.deliver(position(9)).unwrap();
    assert!(watermark.defer(second, None, &position(3)).is_none());
    assert!(
        watermark
            .defer(first, Some(&position(2)), &position(3))
            .is_some()
    );
    assert!(
        watermark
            .defer(first, Some(&position(2)), &position(3))
            .is_none()
    );
    assert!(
        watermark
            .defer(first, Some(&position(9)), &position(10))
            .is_none()
    );
}

#[test]
fn after_a_redelivery_the_first_attempt_counts_no_more() {
    let mut watermark = Watermark::new(None);
    let first = watermark.deliver(position(10)).unwrap();
    let again = watermark.redeliver(first).unwrap();
    assert!(!watermark.complete(first));
    assert_eq!(watermark.completed(), None);
    assert_eq!(watermark.in_flight(), 1);
    assert!(watermark.complete(again));
    assert_eq!(watermark.redeliver(again), None);
}

#[test]
fn what_was_declared_complete_is_not_handed_out_again() {
    let mut watermark = Watermark::new(None);
    let batch = watermark.deliver(position(10)).unwrap();
    watermark.complete_through(&position(7));
    assert_eq!(watermark.completed(), Some(&position(7)));
    let again = watermark.redeliver(batch).unwrap();
    let left: Vec<_> = watermark.open_records(again).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].after, Some(position(7)));
    assert_eq!(left[0].through, position(10));
}

#[test]
fn a_part_of_a_batch_is_completed_on_its_own_or_given_back() {
    let mut watermark = Watermark::new(None);
    let batch = watermark.deliver(position(10)).unwrap();
    let deferred = watermark
        .defer(batch, Some(&position(2)), &position(3))
        .unwrap();
    let part = watermark.split(batch, &position(5)).unwrap();
    assert!(watermark.complete(batch), "what comes after the part");
    assert!(watermark.is_open(part) && !watermark.is_open(batch));
    let left: Vec<_> = watermark
        .open_records(part)
        .map(|open| open.through)
        .collect();
    assert_eq!(left, [position(2), position(5)]);
    assert!(watermark.give_back(part, batch));
    assert!(!watermark.give_back(part, batch) && !watermark.complete(part));
    assert!(watermark.complete(batch));
    assert_eq!(watermark.completed(), Some(&position(2)));
    assert!(watermark.complete(deferred));
    assert_eq!(watermark.completed(), Some(&position(10)));
    assert_eq!(watermark.split(batch, &position(10)), None);
}

#[test]
fn deliveries_come_in_order() {
    let mut watermark = Watermark::new(Some(position(10)));
    for number in [0, 9, 10] {
        assert!(watermark.deliver(position(number)).is_err(), "{number}");
    }
    assert_eq!(watermark.in_flight(), 0);
    assert!(watermark.deliver(position(11)).is_ok());
}

#[derive(Debug, Clone)]
enum Action {
    Deliver(u64),
    Complete(prop::sample::Index),
    Defer(prop::sample::Index),
    Redeliver(prop::sample::Index),
    CompleteThrough(u64),
    Split(prop::sample::Index, u64),
    GiveBack(prop::sample::Index, prop::sample::Index),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1_u64..8).prop_map(Action::Deliver),
        3 => any::<prop::sample::Index>().prop_map(Action::Complete),
        3 => any::<prop::sample::Index>().prop_map(Action::Defer),
        1 => any::<prop::sample::Index>().prop_map(Action::Redeliver),
        1 => (1_u64..80).prop_map(Action::CompleteThrough),
        2 => (any::<prop::sample::Index>(), 1_u64..80).prop_map(|(id, through)| Action::Split(id, through)),
        1 => (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(part, whole)| Action::GiveBack(part, whole)),
    ]
}

/// Every record's delivery, if it is not complete. Records are numbered from 1 without gaps.
#[derive(Default)]
struct Model {
    delivered: u64,
    open: BTreeMap<u64, DeliveryId>,
    /// The first record of the batch that each record came in.
    batch_start: BTreeMap<u64, u64>,
}

impl Model {
    fn completed(&self) -> Option<Position> {
        let completed = match self.open.first_key_value() {
            Some((first, _)) => first - 1,
            None => self.delivered,
        };
        (completed > 0).then(|| position(completed))
    }

    /// The records of a delivery as ranges (after, through], joined where they touch.
    fn records_of(&self, delivery: DeliveryId) -> Vec<u64> {
        let mine = self.open.iter().filter(|(_, id)| **id == delivery);
        mine.map(|(record, _)| *record).collect()
    }
}

fn number_of(position: Option<&Position>) -> u64 {
    position.map_or(0, |p| p.sequence_number.as_str().parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_watermark_agrees_with_one_flag_per_record(actions in prop::collection::vec(action(), 0..80)) {
        let mut watermark = Watermark::new(None);
        let mut model = Model::default();
        let mut ids: Vec<DeliveryId> = Vec::new();
        for action in actions {
            match action {
                Action::Deliver(count) => {
                    let first = model.delivered + 1;
                    model.delivered += count;
                    let id = watermark.deliver(position(model.delivered)).unwrap();
                    for record in first..=model.delivered {
                        model.open.insert(record, id);
                        model.batch_start.insert(record, first);
                    }
                    ids.push(id);
                }
                Action::Complete(index) if !ids.is_empty() => {
                    let id = *index.get(&ids);
                    watermark.complete(id);
                    model.open.retain(|_, delivery| *delivery != id);
                }
                Action::Redeliver(index) if !ids.is_empty() => {
                    let id = *index.get(&ids);
                    if let Some(again) = watermark.redeliver(id) {
                        model.open.values_mut().filter(|d| **d == id).for_each(|d| *d = again);
                        ids.push(again);
                    } else {
                        prop_assert!(model.records_of(id).is_empty());
                    }
                }
                Action::Defer(index) if model.delivered > 0 => {
                    let record = index.index(model.delivered as usize) as u64 + 1;
                    let previous = (model.batch_start[&record] < record).then(|| position(record - 1));
                    let delivery = model.open.get(&record).copied();
                    let asked = delivery.or(ids.first().copied()).unwrap();
                    let deferred = watermark.defer(asked, previous.as_ref(), &position(record));
                    prop_assert_eq!(deferred.is_some(), delivery.is_some());
                    if let Some(id) = deferred {
                        model.open.insert(record, id);
                        ids.push(id);
                    }
                }
                Action::CompleteThrough(number) => {
                    watermark.complete_through(&position(number));
                    model.open.retain(|record, _| *record > number);
                }
                Action::Split(index, through) if !ids.is_empty() => {
                    let id = *index.get(&ids);
                    let of = |(record, delivery): (&u64, &mut DeliveryId)| {
                        (*record <= through && *delivery == id).then_some(*record)
                    };
                    let records: Vec<u64> = model.open.iter_mut().filter_map(of).collect();
                    let part = watermark.split(id, &position(through));
                    prop_assert_eq!(part.is_some(), !records.is_empty());
                    if let Some(part) = part {
                        model.open.extend(records.into_iter().map(|record| (record, part)));
                        ids.push(part);
                    }
                }
                Action::GiveBack(part, whole) if !ids.is_empty() => {
                    let (part, whole) = (*part.get(&ids), *whole.get(&ids));
                    watermark.give_back(part, whole);
                    model.open.values_mut().filter(|d| **d == part).for_each(|d| *d = whole);
                }
                _ => {}
            }
            prop_assert_eq!(watermark.completed().cloned(), model.completed());
            prop_assert_eq!(watermark.is_complete(), model.open.is_empty());
            for id in &ids {
                let left: Vec<u64> = watermark
                    .open_records(*id)
                    .flat_map(|open| number_of(open.after.as_ref()) + 1..=number_of(Some(&open.through)))
                    .collect();
                prop_assert_eq!(left, model.records_of(*id));
            }
        }
    }
}
