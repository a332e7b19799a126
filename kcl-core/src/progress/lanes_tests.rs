//! What lanes complete together.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kcl_checkpoint::DeliveryId;
use proptest::prelude::*;

use super::tests::{at, numbers};
use super::*;
use crate::failure::{CallCounts, FailurePolicy, Plan};
use crate::retrieval::{BatchBuilder, RawRecord};
use crate::selection::Selection;

/// Records that wait for a lane, and what they are part of.
type Waiting = VecDeque<(DeliveryId, Selection, Position)>;

#[derive(Debug, Clone)]
enum LaneStep {
    /// So many records are handed out, to these lanes in turn.
    HandOut(Vec<usize>),
    /// The lane is given what waits for it, and has this done with the places up to one of them: complete; deferred, and
    /// then answered in some order; deferred and answered one by one while the call runs; or failed.
    Work {
        lane: prop::sample::Index,
        through: prop::sample::Index,
        outcome: Outcome,
    },
    /// The processor of a lane says by hand that its records up to one are complete.
    ByHand(prop::sample::Index, prop::sample::Index),
    Acknowledge(prop::sample::Index),
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Done,
    Deferred { alone: usize },
    Answered { backwards: bool },
    Failed,
}

fn lane_step() -> impl Strategy<Value = LaneStep> {
    let index = any::<prop::sample::Index>;
    let outcome = prop_oneof![3 => Just(Outcome::Done), 2 => any::<usize>().prop_map(|alone| Outcome::Deferred { alone }), 1 => any::<bool>().prop_map(|backwards| Outcome::Answered { backwards }), 1 => Just(Outcome::Failed)];
    prop_oneof![
        3 => prop::collection::vec(0..3_usize, 1..8).prop_map(LaneStep::HandOut),
        5 => (index(), index(), outcome).prop_map(|(lane, through, outcome)| LaneStep::Work { lane, through, outcome }),
        1 => (index(), index()).prop_map(|(lane, record)| LaneStep::ByHand(lane, record)),
        3 => index().prop_map(LaneStep::Acknowledge),
    ]
}

/// What is complete, record by record.
#[derive(Default)]
struct Model {
    delivered: u64,
    complete: BTreeSet<u64>,
}

impl Model {
    fn watermark(&self) -> u64 {
        let complete = (1..=self.delivered).find(|number| !self.complete.contains(number));
        complete.unwrap_or(self.delivered + 1) - 1
    }

    fn checkpoint(&self) -> Checkpoint {
        match self.watermark() {
            0 => Checkpoint::TrimHorizon,
            number => Checkpoint::At(at(number, 0)),
        }
    }
}

/// One Kinesis record for each lane in the list, with that lane as the key.
fn batch_for(first: u64, lanes: &[usize]) -> Selection {
    let mut builder = BatchBuilder::with_capacity(lanes.len());
    for (number, lane) in (first..).zip(lanes) {
        let record = RawRecord {
            sequence_number: &number.to_string(),
            partition_key: &lane.to_string(),
            arrival_millis: None,
            encryption_type: None,
        };
        builder.push(record, Bytes::new()).unwrap();
    }
    Selection::new(Arc::new(builder.finish()), 0..lanes.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lanes do, in whatever order: each is given exactly its own records, in order, what would be stored is exactly
    /// the end of the records of all lanes that are complete without a gap, and what is in flight is counted.
    #[test]
    fn lanes_in_any_order_have_the_checkpoint_that_their_records_allow(
        steps in prop::collection::vec(lane_step(), 0..80)
    ) {
        const LANES: usize = 3;
        let shard = Arc::new(ShardProgress::new(Checkpoint::TrimHorizon, LANES));
        let lanes: Vec<LaneProgress> = shard.lanes().collect();
        let mut waiting: Vec<Waiting> = vec![Waiting::new(); LANES];
        let mut model = Model::default();
        let mut of_lane: Vec<Vec<u64>> = vec![Vec::new(); LANES];
        let mut given: Vec<u64> = vec![0; LANES];
        let mut handles: Vec<(usize, DeliveryId, Vec<u64>)> = Vec::new();
        for step in steps {
            match step {
                LaneStep::HandOut(keys) => {
                    let records = batch_for(model.delivered + 1, &keys);
                    model.delivered += keys.len() as u64;
                    let end = at(model.delivered, 0);
                    shard.hand_out(&end);
                    let parts = records.split(LANES, |key| key.parse().unwrap());
                    for (lane, part) in parts.into_iter().enumerate() {
                        of_lane[lane].extend(numbers(&part));
                        if let Some(delivery) = lanes[lane].queue(&part, &end) {
                            waiting[lane].push_back((delivery, part, end.clone()));
                        }
                    }
                }
                LaneStep::Work { lane, through, outcome } => {
                    let lane = lane.index(LANES);
                    let Some((delivery, records, end)) = waiting[lane].pop_front() else { continue };
                    lanes[lane].begin(records.len());
                    given[lane] = *numbers(&records).last().unwrap();
                    let (rest, places) = (records.len(), through.index(records.len()) + 1);
                    let call = records.slice(0..places);
                    let mut plan = Plan::new(rest, FailurePolicy::retry().bounds());
                    plan.next_call(places);
                    let whole = Whole { records: records.clone(), end: end.clone() };
                    let open = OpenCall {
                        delivery,
                        records: call.clone(),
                        first: 0,
                        end: records.before(places).unwrap_or_else(|| end.clone()),
                        plan,
                        calls: CallCounts::default(),
                        behind: None,
                        deferred: Vec::new(),
                        deferred_records: 0,
                    };
                    let call_id = lanes[lane].begin_call(open, whole);
                    match outcome {
                        Outcome::Done => model.complete.extend(numbers(&call)),
                        Outcome::Deferred { alone } => {
                            // One of them alone, the others together.
                            let place = alone % places;
                            let alone = numbers(&call)[place];
                            let handle = lanes[lane].defer(call_id, place);
                            handles.extend(handle.map(|id| (lane, id, vec![alone])));
                            let open = |number: &u64| *number != alone && !model.complete.contains(number);
                            let others = numbers(&call).into_iter().filter(open).collect();
                            handles.extend(lanes[lane].defer_all(call_id).map(|id| (lane, id, others)));
                        }
                        Outcome::Answered { backwards } => {
                            for step in 0..places {
                                let place = if backwards { places - 1 - step } else { step };
                                let number = numbers(&call)[place];
                                match lanes[lane].defer(call_id, place) {
                                    Ok(id) => prop_assert_eq!(lanes[lane].acknowledge(id), Ok(1)),
                                    Err(_) => prop_assert!(model.complete.contains(&number)),
                                }
                                model.complete.insert(number);
                                prop_assert_eq!(shard.complete(), model.checkpoint());
                            }
                        }
                        Outcome::Failed => {}
                    }
                    match outcome {
                        Outcome::Failed => drop(lanes[lane].fail_call()),
                        _ => drop(lanes[lane].end_call()),
                    }
                    // The rest is not done with: it is worked on next.
                    let rest = match outcome {
                        Outcome::Failed => records,
                        _ => records.slice(places..rest),
                    };
                    if !rest.is_empty() {
                        let left = lanes[lane].left_after(delivery);
                        prop_assert_eq!(left.map(|after| rest.through(&after)), Some(0));
                        model.complete.extend(numbers(&rest));
                    }
                    lanes[lane].settle_all(delivery);
                    lanes[lane].left(0);
                }
                LaneStep::ByHand(lane, record) if model.delivered > 0 => {
                    let lane = lane.index(LANES);
                    let number = record.index(model.delivered as usize) as u64 + 1;
                    let is_given = waiting[lane].is_empty() || waiting[lane][0].2 > at(number, 0) && number <= given[lane];
                    let accepted = lanes[lane].complete_through(&at(number, 0)).is_ok();
                    prop_assert!(accepted || !waiting[lane].is_empty());
                    prop_assert!(!is_given || accepted);
                    if accepted {
                        let first_waiting = waiting[lane].front().map_or(u64::MAX, |(_, records, _)| numbers(records)[0]);
                        prop_assert!(number < first_waiting, "records that wait are not complete");
                        model.complete.extend(of_lane[lane].iter().filter(|own| **own <= number));
                    }
                }
                LaneStep::Acknowledge(index) if !handles.is_empty() => {
                    let (lane, id, numbers) = handles.remove(index.index(handles.len()));
                    let is_over = numbers.iter().all(|number| model.complete.contains(number));
                    prop_assert_eq!(lanes[lane].acknowledge(id).is_err(), is_over);
                    model.complete.extend(numbers);
                }
                _ => {}
            }
            prop_assert_eq!(shard.complete(), model.checkpoint());
            let waits: usize = waiting.iter().flatten().map(|(_, records, _)| records.len()).sum();
            let held: usize = handles.iter().filter(|(_, _, held)| held.iter().any(|n| !model.complete.contains(n))).map(|(_, _, held)| held.len()).sum();
            prop_assert_eq!(shard.in_flight(), waits + held);
        }
    }
}

/// One lane has three records, the other one those between. The second of the three was answered for before its call failed;
/// then only the first one is tried again.
#[test]
fn what_was_complete_beyond_a_call_counts_with_all_that_is_of_other_lanes() {
    for answered_late in [false, true] {
        let shard = Arc::new(ShardProgress::new(Checkpoint::TrimHorizon, 2));
        let lanes: Vec<LaneProgress> = shard.lanes().collect();
        let end = at(5, 0);
        shard.hand_out(&end);
        let parts = batch_for(1, &[0, 1, 0, 1, 0]).split(2, |key| key.parse().unwrap());
        let work = |lane: usize| {
            let records = parts[lane].clone();
            let delivery = lanes[lane].queue(&records, &end).unwrap();
            lanes[lane].begin(records.len());
            (delivery, records)
        };
        let begin = |delivery, records: &Selection, places: usize| {
            let mut plan = Plan::new(records.len(), FailurePolicy::retry().bounds());
            plan.next_call(places);
            let whole = Whole {
                records: records.clone(),
                end: end.clone(),
            };
            let call = OpenCall {
                delivery,
                records: records.slice(0..places),
                first: 0,
                end: records.before(places).unwrap_or_else(|| end.clone()),
                plan,
                calls: CallCounts::default(),
                behind: None,
                deferred: Vec::new(),
                deferred_records: 0,
            };
            lanes[0].begin_call(call, whole)
        };
        let (first, records) = work(0);
        let (other, _) = work(1);
        lanes[1].settle_all(other);
        let call = begin(first, &records, 3);
        let handle = lanes[0].defer(call, 1).unwrap();
        assert_eq!(lanes[0].acknowledge(handle), Ok(1));
        lanes[0].fail_call();
        assert_eq!(shard.complete(), Checkpoint::TrimHorizon);
        let call = begin(first, &records, 1);
        match answered_late {
            false => drop(lanes[0].end_call()),
            true => {
                let handle = lanes[0].defer(call, 0).unwrap();
                lanes[0].end_call();
                assert_eq!(lanes[0].acknowledge(handle), Ok(1));
            }
        }
        assert_eq!(shard.complete(), Checkpoint::At(at(4, 0)));
    }
}
