//! Records that a processor deferred: delivered, and complete when it says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kcl_checkpoint::{DeliveryId, Position};
use tokio::time::Instant;

use crate::call::CallFailure;
use crate::failure::{CallCounts, Plan};
use crate::selection::Selection;

/// Records that are acknowledged together: one, or all that a call left to a handle.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) records: Selection,
    /// What is complete once all of them are.
    pub(crate) end: Position,
    pub(crate) plan: Plan,
    pub(crate) calls: CallCounts,
    pub(crate) behind: Option<Duration>,
}

/// All deferred records of one grant of a shard.
#[derive(Debug, Default)]
pub(crate) struct Parcels {
    parcels: BTreeMap<DeliveryId, (Parcel, Standing)>,
    /// Failed, in the order in which that happened. Some may be gone.
    failed: VecDeque<(DeliveryId, CallFailure)>,
    /// To be delivered again, by time.
    due: BTreeSet<(Instant, DeliveryId)>,
    records: usize,
    out: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// With the processor, since then.
    Out(Instant),
    /// Failed, and nobody has looked at it yet.
    Failed,
    /// To be delivered again.
    Due(Instant),
}

impl Parcels {
    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Whether any is with the processor.
    pub(crate) fn any_out(&self) -> bool {
        self.out > 0
    }

    /// The parcel that has been with the processor for longest, and since when: ids grow.
    pub(crate) fn oldest_out(&self) -> Option<(DeliveryId, &Parcel, Instant)> {
        let mut parcels = self.parcels.iter();
        parcels.find_map(|(id, (parcel, standing))| match standing {
            Standing::Out(since) => Some((*id, parcel, *since)),
            _ => None,
        })
    }

    /// Notes records that are with the processor from now on.
    pub(crate) fn add(&mut self, id: DeliveryId, parcel: Parcel) {
        self.records += parcel.records.len();
        self.out += 1;
        let standing = Standing::Out(Instant::now());
        self.parcels.insert(id, (parcel, standing));
    }

    /// Takes a parcel out, wherever it stands.
    pub(crate) fn remove(&mut self, id: DeliveryId) -> Option<Parcel> {
        let (parcel, standing) = self.parcels.remove(&id)?;
        self.records -= parcel.records.len();
        match standing {
            Standing::Out(_) => self.out -= 1,
            Standing::Failed => {}
            Standing::Due(due) => {
                self.due.remove(&(due, id));
            }
        }
        Some(parcel)
    }

    /// Takes a parcel out that is with the processor.
    pub(crate) fn remove_out(&mut self, id: DeliveryId) -> Option<Parcel> {
        match self.parcels.get(&id)? {
            (_, Standing::Out(_)) => self.remove(id),
            _ => None,
        }
    }

    /// Up to where there is nothing else of each parcel, if its records up to `position` are complete.
    pub(crate) fn reached(&self, position: &Position) -> Vec<(DeliveryId, Position)> {
        let parcels = self.parcels.iter();
        let reached = parcels.filter_map(|(id, (parcel, _))| {
            Some((*id, parcel.records.reached(position, &parcel.end)?))
        });
        reached.collect()
    }

    /// Takes out what is not open any more.
    pub(crate) fn retain(&mut self, is_open: impl Fn(DeliveryId) -> bool) {
        let ids = self.parcels.keys().copied();
        let over: Vec<DeliveryId> = ids.filter(|id| !is_open(*id)).collect();
        for id in over {
            self.remove(id);
        }
    }

    /// Notes that a parcel that is with the processor failed. False if there is none.
    pub(crate) fn fail(&mut self, id: DeliveryId, failure: CallFailure) -> bool {
        let Some((_, standing @ Standing::Out(_))) = self.parcels.get_mut(&id) else {
            return false;
        };
        *standing = Standing::Failed;
        self.out -= 1;
        self.failed.push_back((id, failure));
        true
    }

    /// Takes out the parcel that failed first.
    pub(crate) fn take_failed(&mut self) -> Option<(DeliveryId, Parcel, CallFailure)> {
        loop {
            let (id, failure) = self.failed.pop_front()?;
            if let Some(parcel) = self.remove(id) {
                return Some((id, parcel, failure));
            }
        }
    }

    /// Puts a parcel back, to be delivered again at `due`.
    pub(crate) fn wait(&mut self, id: DeliveryId, parcel: Parcel, due: Instant) {
        self.records += parcel.records.len();
        self.parcels.insert(id, (parcel, Standing::Due(due)));
        self.due.insert((due, id));
    }

    /// When the next parcel is to be delivered again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes out a parcel that is to be delivered again by `now`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(DeliveryId, Parcel)> {
        let (due, id) = *self.due.first()?;
        match due <= now {
            true => Some((id, self.remove(id)?)),
            false => None,
        }
    }
}
