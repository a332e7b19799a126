//! A call of a processor that runs.

use std::collections::BTreeSet;
use std::time::Duration;

use kcl_checkpoint::{DeliveryId, Position};

use crate::failure::{CallCounts, Plan};
use crate::parcel::Parcel;
use crate::retrieval::RecordRef;
use crate::selection::Selection;

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
    /// What the processor deferred, and from which places, if these are single records.
    pub(crate) deferred: Vec<(DeliveryId, Option<usize>)>,
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

    /// All records that are not deferred one by one.
    pub(super) fn others(&self, end: Position) -> Parcel {
        let singles: BTreeSet<usize> = self.deferred.iter().filter_map(|(_, at)| *at).collect();
        let (records, plan) = match self.deferred.is_empty() {
            true => {
                let places = self.first..self.first + self.records.len();
                (self.records.clone(), self.plan.part(places))
            }
            false => {
                let chosen = |place, _: RecordRef<'_>| !singles.contains(&place);
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
}
