//! How far one shard is: delivered, complete, stored. Shared by the shard's task, its checkpointer, its automatic
//! checkpoints and the handles of deferred records.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_checkpoint::{
    Checkpoint, CheckpointRuleError, DeliveryId, Position, Progress, Step, Watermark,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ack::AckError;
use crate::call::CallFailure;
use crate::failure::{CallCounts, Plan};
use crate::parcel::{Parcel, Parcels};
use crate::retrieval::RecordRef;
use crate::selection::Selection;

/// The progress of one grant of one shard.
#[derive(Debug)]
pub(crate) struct ShardProgress {
    state: Mutex<State>,
    /// Something is complete.
    advanced: Notify,
    /// A deferred record was answered for.
    answered: Notify,
}

#[derive(Debug)]
struct State {
    /// What the lease row says, and what may be stored next.
    rules: Progress,
    /// What is complete.
    watermark: Watermark,
    /// The call that runs.
    call: Option<OpenCall>,
    calls: u64,
    parcels: Parcels,
    /// The checkpoint that is prepared and not committed: nothing is stored meanwhile, which would remove it.
    prepared: Option<u64>,
    prepares: u64,
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
    /// What the processor deferred, and from which places, if these are single records.
    pub(crate) deferred: Vec<(DeliveryId, Option<usize>)>,
    pub(crate) deferred_records: usize,
}

impl OpenCall {
    /// The record at a place, to be acknowledged on its own.
    fn single(&self, place: usize, end: Position) -> Parcel {
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
    fn others(&self, end: Position) -> Parcel {
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

/// Names a call, for those who defer records of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(u64);

impl State {
    fn complete(&self) -> Checkpoint {
        match self.watermark.completed() {
            Some(position) => Checkpoint::At(position.clone()),
            None => self.rules.last().clone(),
        }
    }

    fn unstored(&self) -> Option<Checkpoint> {
        if self.prepared.is_some() {
            return None;
        }
        Some(self.complete()).filter(|complete| complete > self.rules.last())
    }

    /// Completes what is left of a delivery up to `position`.
    fn settle(&mut self, delivery: DeliveryId, position: &Position) {
        if let Some(part) = self.watermark.split(delivery, position) {
            self.watermark.complete(part);
        }
    }

    fn running(&mut self, call: CallId) -> Result<&mut OpenCall, AckError> {
        let is_last = call.0 == self.calls;
        let running = self.call.as_mut().filter(|_| is_last);
        running.ok_or(AckError::NotInCall)
    }
}

impl ShardProgress {
    /// Progress of a grant whose row stores `start`.
    pub(crate) fn new(start: Checkpoint) -> Self {
        let watermark = Watermark::new(start.position().cloned());
        Self {
            state: Mutex::new(State {
                rules: Progress::new(start),
                watermark,
                call: None,
                calls: 0,
                parcels: Parcels::default(),
                prepared: None,
                prepares: 0,
            }),
            advanced: Notify::new(),
            answered: Notify::new(),
        }
    }

    /// Notes that the records up to `last` are worked on from now on. Returns after which others these come; `None` if all
    /// of them are worked on already.
    pub(crate) fn deliver(&self, last: &Position) -> Option<(DeliveryId, Checkpoint)> {
        let mut state = self.lock();
        let before = state.rules.delivered().clone();
        state.rules.deliver(last);
        let delivery = state.watermark.deliver(last.clone()).ok()?;
        Some((delivery, before))
    }

    /// Notes that records are given to the processor now, which may declare them complete, or defer them.
    pub(crate) fn begin_call(&self, call: OpenCall) -> CallId {
        let mut state = self.lock();
        state.call = Some(call);
        state.calls += 1;
        CallId(state.calls)
    }

    /// Notes that everything of a delivery up to `position` is complete, but what was deferred.
    pub(crate) fn settle(&self, delivery: DeliveryId, position: &Position) {
        self.lock().settle(delivery, position);
        self.advanced.notify_one();
    }

    /// Notes that everything of a delivery is complete, but what was deferred.
    pub(crate) fn settle_all(&self, delivery: DeliveryId) {
        self.lock().watermark.complete(delivery);
        self.advanced.notify_one();
    }

    /// What is left of a delivery comes after this; `None` if nothing is left.
    pub(crate) fn left_after(&self, delivery: DeliveryId) -> Option<Checkpoint> {
        let state = self.lock();
        let first = state.watermark.open_records(delivery).next()?;
        Some(first.after.map_or(Checkpoint::TrimHorizon, Checkpoint::At))
    }

    /// Notes, as the processor says it, that everything up to `position` is complete, deferred or not.
    ///
    /// # Errors
    /// When `position` lies before what is stored or beyond what was delivered (the Java library's rule, interop §6.4).
    pub(crate) fn complete_through(&self, position: &Position) -> Result<(), CheckpointRuleError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.rules.check(&Checkpoint::At(position.clone()))?;
        state.watermark.complete_through(position);
        state.parcels.retain(|id| state.watermark.is_open(id));
        drop(guard);
        self.advanced.notify_one();
        self.answered.notify_one();
        Ok(())
    }

    /// Notes that the records of the call that runs are complete, but what was deferred. Does nothing after a failed call.
    pub(crate) fn complete_call(&self) {
        let mut state = self.lock();
        if let Some(call) = &state.call {
            let (delivery, end) = (call.delivery, call.end.clone());
            state.settle(delivery, &end);
            drop(state);
            self.advanced.notify_one();
        }
    }

    /// Notes that the call that ran succeeded. Returns how many of its records it deferred.
    pub(crate) fn end_call(&self) -> usize {
        self.complete_call();
        let call = self.lock().call.take();
        call.map_or(0, |call| call.deferred_records)
    }

    /// Notes that the call failed: its records are complete only as far as that was declared, and what it deferred is to be
    /// delivered again with the others.
    pub(crate) fn fail_call(&self) {
        let mut state = self.lock();
        if let Some(call) = state.call.take() {
            for (id, _) in call.deferred {
                if state.parcels.remove(id).is_some() {
                    state.watermark.give_back(id, call.delivery);
                }
            }
        }
    }

    /// Begins a checkpoint in two phases, in place of any other. Nothing is stored by itself until it ends.
    ///
    /// # Errors
    /// As for [`complete_through`](Self::complete_through).
    pub(crate) fn prepare(&self, position: &Position) -> Result<u64, CheckpointRuleError> {
        let mut state = self.lock();
        state.rules.check(&Checkpoint::At(position.clone()))?;
        state.prepares += 1;
        state.prepared = Some(state.prepares);
        Ok(state.prepares)
    }

    /// Ends a prepared checkpoint, if no other took its place.
    pub(crate) fn end_prepared(&self, id: u64) {
        let mut state = self.lock();
        if state.prepared == Some(id) {
            state.prepared = None;
        }
        drop(state);
        self.advanced.notify_one();
    }

    /// Ends whatever is prepared: a checkpoint by hand takes its place.
    pub(crate) fn replace_prepared(&self) {
        self.lock().prepared = None;
    }

    /// Whether a checkpoint is prepared and not committed.
    pub(crate) fn is_prepared(&self) -> bool {
        self.lock().prepared.is_some()
    }

    /// Whether the row still says what it said when the lease was granted.
    pub(crate) fn is_stored(&self, checkpoint: &Checkpoint) -> bool {
        self.lock().rules.last() == checkpoint
    }

    /// Notes that records up to `position` are complete although they were not delivered under this grant.
    pub(crate) fn adopt(&self, position: &Position) {
        let mut state = self.lock();
        state.rules.deliver(position);
        // Refused only if it was delivered.
        let _delivery = state.watermark.deliver(position.clone());
        state.watermark.complete_through(position);
        drop(state);
        self.advanced.notify_one();
    }

    /// Takes the record at a place of a call out of it.
    pub(crate) fn defer(&self, call: CallId, place: usize) -> Result<DeliveryId, AckError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let running = state.running(call)?;
        let delivery = running.delivery;
        let previous = place
            .checked_sub(1)
            .and_then(|place| running.records.position(place));
        let position = running.records.position(place);
        let position = position.ok_or(AckError::NotInCall)?;
        let deferred = state
            .watermark
            .defer(delivery, previous.as_ref(), &position)
            .ok_or(AckError::Over)?;
        let running = state.running(call)?;
        let parcel = running.single(place, position);
        running.deferred.push((deferred, Some(place)));
        running.deferred_records += 1;
        state.parcels.add(deferred, parcel);
        Ok(deferred)
    }

    /// Takes all records of a call out of it that are left.
    pub(crate) fn defer_all(&self, call: CallId) -> Result<DeliveryId, AckError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let running = state.running(call)?;
        let (delivery, end) = (running.delivery, running.end.clone());
        let deferred = state
            .watermark
            .split(delivery, &end)
            .ok_or(AckError::Over)?;
        let running = state.running(call)?;
        let parcel = running.others(end);
        running.deferred.push((deferred, None));
        running.deferred_records += parcel.records.len();
        state.parcels.add(deferred, parcel);
        Ok(deferred)
    }

    /// Notes that deferred records are complete.
    pub(crate) fn acknowledge(&self, id: DeliveryId) -> Result<usize, AckError> {
        let mut state = self.lock();
        let parcel = state.parcels.remove_out(id).ok_or(AckError::Over)?;
        state.watermark.complete(id);
        drop(state);
        self.advanced.notify_one();
        self.answered.notify_one();
        Ok(parcel.records.len())
    }

    /// Notes that deferred records failed.
    pub(crate) fn reject(&self, id: DeliveryId, failure: CallFailure) -> Result<(), AckError> {
        let known = self.lock().parcels.fail(id, failure);
        self.answered.notify_one();
        known.then_some(()).ok_or(AckError::Over)
    }

    /// Waits until somebody answered for deferred records.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// When deferred records that failed are to be delivered again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.lock().parcels.next_due()
    }

    /// How many records are deferred and not complete.
    pub(crate) fn in_flight(&self) -> usize {
        self.lock().parcels.records()
    }

    /// Whether records are with the processor, which has not answered for them.
    pub(crate) fn any_out(&self) -> bool {
        self.lock().parcels.any_out()
    }

    /// Takes deferred records that failed, and the failure.
    pub(crate) fn take_failed(&self) -> Option<(DeliveryId, Parcel, CallFailure)> {
        self.lock().parcels.take_failed()
    }

    /// Takes deferred records that are to be delivered again by now.
    pub(crate) fn take_due(&self) -> Option<(DeliveryId, Parcel)> {
        self.lock().parcels.take_due(Instant::now())
    }

    /// Puts deferred records back, to be delivered again at `due`.
    pub(crate) fn deliver_again(&self, id: DeliveryId, parcel: Parcel, due: Instant) {
        self.lock().parcels.wait(id, parcel, due);
    }

    /// Forgets deferred records, whose lease is over: nobody delivers them again here.
    pub(crate) fn forget_deferred(&self) {
        self.lock().parcels.retain(|_| false);
    }

    /// Everything up to here is complete.
    pub(crate) fn complete(&self) -> Checkpoint {
        self.lock().complete()
    }

    /// What should be stored next, unless it is stored already.
    pub(crate) fn unstored(&self) -> Option<Checkpoint> {
        self.lock().unstored()
    }

    /// Notes that the row says `checkpoint` now. False if that was known already, from a call at the same time.
    pub(crate) fn stored(&self, checkpoint: &Checkpoint) -> bool {
        matches!(self.lock().rules.store(checkpoint), Ok(Step::Forward))
    }

    /// Waits until something is complete that is not stored.
    pub(crate) async fn wait_unstored(&self) -> Checkpoint {
        loop {
            if let Some(checkpoint) = self.unstored() {
                return checkpoint;
            }
            self.advanced.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
