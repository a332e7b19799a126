//! A call of a processor that runs.

use std::ops::Range;
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, DeliveryId, OpenRecords, Position};

use crate::failure::{CallCounts, Plan};
use crate::parcel::Parcel;
use crate::retrieval::RecordRef;
use crate::selection::Selection;

/// Records that the lane works on one after the other, and what is complete once all of them are.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pub(crate) records: Selection,
    pub(crate) end: Position,
}

/// Records that are given to the processor, and where they come from.
#[derive(Debug)]
pub(crate) struct OpenCall {
    pub(crate) delivery: DeliveryId,
    pub(crate) records: Selection,
    /// The first of them in `plan`.
    pub(crate) first: usize,
    /// What is complete once all of them are.
    pub(crate) end: Position,
    pub(crate) plan: Plan,
    pub(crate) calls: CallCounts,
    pub(crate) behind: Option<Duration>,
    /// What the processor deferred.
    pub(crate) deferred: Vec<DeliveryId>,
    pub(crate) deferred_records: usize,
}

impl OpenCall {
    /// Up to where there is nothing else of the call, if its records up to `position` are complete.
    pub(super) fn reached(&self, position: &Position) -> Option<Position> {
        self.records.reached(position, &self.end)
    }

    /// The record at a place, to be acknowledged on its own.
    pub(super) fn single(&self, place: usize, end: Position) -> Parcel {
        let places = place..place + 1;
        Parcel {
            plan: self
                .plan
                .part(self.first + places.start..self.first + places.end),
            records: self.records.slice(places),
            end,
            calls: self.calls.clone(),
            behind: self.behind,
        }
    }

    /// The records that are left: neither deferred nor complete, as those are that were answered for before in a call that
    /// failed.
    pub(super) fn others(&self, open: impl Iterator<Item = OpenRecords>, end: Position) -> Parcel {
        let left: Vec<Range<usize>> = open.map(|open| self.places_of(open)).collect();
        let (records, plan) = match left.as_slice() {
            [all] if all.len() == self.records.len() => {
                let places = self.first..self.first + all.len();
                (self.records.clone(), self.plan.part(places))
            }
            _ => {
                let chosen = |place, _: RecordRef<'_>| {
                    let next = left.partition_point(|left| left.end <= place);
                    left.get(next).is_some_and(|left| left.contains(&place))
                };
                let (records, _) = self.records.clone().partition(chosen);
                // What is known of failures is not known of these.
                let plan = self.plan.part(0..records.len());
                (records, plan)
            }
        };
        Parcel {
            records,
            end,
            plan,
            calls: self.calls.clone(),
            behind: self.behind,
        }
    }

    fn places_of(&self, open: OpenRecords) -> Range<usize> {
        let after = open.after.map_or(Checkpoint::TrimHorizon, Checkpoint::At);
        self.records.through(&after)..self.records.through(&Checkpoint::At(open.through))
    }
}
