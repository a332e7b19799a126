//! What one lane of a shard works on, and how much of it is complete.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kcl_checkpoint::{Checkpoint, CheckpointRuleError, DeliveryId, Position, Watermark};
use kcl_lease::PendingCheckpoint;
use kcl_lease::mutant::{self, Mutant};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::standing::Movement;
use super::{OpenCall, ShardProgress, Standing, Whole};
use crate::ack::AckError;
use crate::call::CallFailure;
use crate::parcel::{Parcel, Parcels};
use crate::selection::Selection;

/// The progress of one lane under one grant of a shard. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LaneProgress {
    shard: Arc<ShardProgress>,
    lane: Arc<LaneCell>,
}

/// Names a call, for those who defer records of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(u64);

/// What a lane shares with its shard.
#[derive(Debug)]
pub(super) struct LaneCell {
    state: Mutex<LaneState>,
    /// A deferred record was answered for.
    answered: Notify,
}

#[derive(Debug)]
struct LaneState {
    /// What is complete. Records of other lanes count as complete here.
    watermark: Watermark,
    /// What was worked on and is not complete.
    begun: BTreeMap<DeliveryId, Whole>,
    /// The call that runs.
    call: Option<OpenCall>,
    calls: u64,
    /// The number of the processor that is called.
    processor: u64,
    parcels: Parcels,
    /// Records that wait for the lane.
    queued: usize,
    /// Records that the lane works on.
    in_work: usize,
    /// Deferred records that failed, which the lane works on again.
    again: usize,
    /// What the lane has to work on, or worked on last, ends here.
    last: Option<Position>,
    /// Of that, everything up to here was given to the processor, or given up.
    given: Option<Position>,
    movement: Movement,
}

impl LaneState {
    /// Notes what has moved.
    fn look(&mut self) {
        self.pass_over_complete();
        self.movement.look(&self.watermark);
    }

    /// Notes that records were completed.
    fn completed(&mut self) {
        self.movement.completed = Some(Instant::now());
        self.look();
    }

    /// The deferred records that have waited for their answer for longest: the first that is not complete, and since when.
    fn oldest_deferred(&self) -> Option<(Position, Instant)> {
        let (id, parcel, since) = self.parcels.oldest_out()?;
        let open = self.watermark.open_records(id).next()?;
        let complete = open.after.map_or(Checkpoint::TrimHorizon, Checkpoint::At);
        let first = parcel.records.through(&complete);
        Some((parcel.records.position(first)?, since))
    }

    fn give(&mut self, position: &Position) {
        self.given = self.given.take().max(Some(position.clone()));
    }

    /// Whether the processor was given all records up to `position`, but those that were given up.
    fn is_given(&self, position: &Position) -> bool {
        self.given >= self.last || self.given.as_ref() >= Some(position)
    }

    /// Completes what is left of a delivery up to `position`. False if nothing was.
    fn settle(&mut self, delivery: DeliveryId, position: &Position) -> bool {
        match self.watermark.split(delivery, position) {
            Some(part) => self.watermark.complete(part),
            None => false,
        }
    }

    /// Completes all records up to `position`, and what comes before the next record of this lane. False if all of them were
    /// complete.
    fn complete_through(&mut self, position: &Position) -> bool {
        let before = self.watermark.completed().cloned();
        self.watermark.complete_through(position);
        let mut completes = self.watermark.completed() != before.as_ref();
        let mut reached = self.parcels.reached(position);
        let call = self.call.as_ref();
        reached.extend(call.and_then(|call| Some((call.delivery, call.reached(position)?))));
        for (delivery, next) in reached {
            completes |= self.settle(delivery, &next);
        }
        let watermark = &self.watermark;
        let is_open = |id| watermark.open_records(id).next().is_some();
        self.parcels.retain(is_open);
        completes
    }

    /// Completes what lies between records that are complete, and is of other lanes or was complete before: up to the first
    /// record that is left. Else it would count as this lane's until the next call, which may be another worker's.
    fn pass_over_complete(&mut self) {
        let mut begun = std::mem::take(&mut self.begun);
        begun.retain(|delivery, whole| self.pass_over(*delivery, whole));
        self.begun = begun;
    }

    /// False if nothing is left of it.
    fn pass_over(&mut self, delivery: DeliveryId, whole: &Whole) -> bool {
        loop {
            let Some(left) = self.watermark.open_records(delivery).next() else {
                return false;
            };
            let complete = left.after;
            let next = complete.and_then(|complete| whole.records.reached(&complete, &whole.end));
            if !next.is_some_and(|next| self.settle(delivery, &next)) {
                return true;
            }
        }
    }

    fn running(&mut self, call: CallId) -> Result<&mut OpenCall, AckError> {
        let is_last = call.0 == self.calls;
        let running = self.call.as_mut().filter(|_| is_last);
        running.ok_or(AckError::NotInCall)
    }
}

impl LaneCell {
    pub(super) fn new(complete: Option<Position>) -> Self {
        Self {
            state: Mutex::new(LaneState {
                movement: Movement::new(complete.clone()),
                watermark: Watermark::new(complete),
                begun: BTreeMap::new(),
                call: None,
                calls: 0,
                processor: 0,
                parcels: Parcels::default(),
                queued: 0,
                in_work: 0,
                again: 0,
                last: None,
                given: None,
            }),
            answered: Notify::new(),
        }
    }

    /// The lane's records up to here are complete.
    pub(super) fn completed(&self) -> Option<Position> {
        self.lock().watermark.completed().cloned()
    }

    pub(super) fn in_flight(&self) -> usize {
        let state = self.lock();
        state.queued + state.in_work + state.again + state.parcels.records()
    }

    pub(super) fn standing(&self) -> Standing {
        let in_flight = self.in_flight();
        let state = self.lock();
        Standing {
            open_since: state.movement.open_since,
            completed: state.movement.completed,
            in_flight,
            deferred: state.parcels.records(),
            oldest_deferred: state.oldest_deferred(),
        }
    }

    pub(super) fn adopt(&self, position: &Position) {
        let mut state = self.lock();
        // Refused only if it was delivered.
        let _delivery = state.watermark.deliver(position.clone());
        state.watermark.complete_through(position);
        state.look();
    }

    pub(super) fn forget_deferred(&self) {
        let keep = mutant::is(Mutant::AnswerAfterLoss);
        self.lock().parcels.retain(|_| keep);
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneProgress {
    pub(super) fn new(shard: Arc<ShardProgress>, lane: Arc<LaneCell>) -> Self {
        Self { shard, lane }
    }

    /// The progress of all lanes together.
    pub(crate) fn shard(&self) -> &ShardProgress {
        &self.shard
    }

    /// When a record of the lane was completed last.
    pub(crate) fn last_completed(&self) -> Option<Instant> {
        self.lock().movement.completed
    }

    /// Notes that the lane works on all records up to `last` from now on. Returns after which others these come; `None` if
    /// all of them are worked on already.
    pub(crate) fn deliver(&self, last: &Position) -> Option<(DeliveryId, Checkpoint)> {
        let before = self.shard.hand_out(last)?;
        let mut state = self.lock();
        let delivery = state.watermark.deliver(last.clone()).ok()?;
        state.last = Some(last.clone());
        state.look();
        drop(state);
        Some((delivery, before))
    }

    /// Notes that of what was handed out up to `last` these records wait for this lane. `None` if there is none, or what was
    /// handed out before reaches as far.
    pub(crate) fn queue(&self, records: &Selection, last: &Position) -> Option<DeliveryId> {
        let mut state = self.lock();
        let delivery = state.watermark.deliver(last.clone()).ok()?;
        if records.is_empty() {
            state.watermark.complete(delivery);
            state.look();
            drop(state);
            self.shard.advance();
            return None;
        }
        if let Some(others) = records.before(0) {
            state.settle(delivery, &others);
        }
        state.queued += records.len();
        state.last = Some(last.clone());
        state.look();
        Some(delivery)
    }

    /// Notes that the lane works on records now that waited for it.
    pub(crate) fn begin(&self, records: usize) {
        let mut state = self.lock();
        state.queued = state.queued.saturating_sub(records);
        state.in_work = records;
    }

    /// Notes how many of the records that the lane works on are left.
    pub(crate) fn left(&self, records: usize) {
        self.lock().in_work = records;
        self.shard.lightened.notify_one();
    }

    /// Notes that records are given to the processor now, which may declare them complete, or defer them. They are a part of
    /// `whole`.
    pub(crate) fn begin_call(&self, call: OpenCall, whole: Whole) -> CallId {
        let mut state = self.lock();
        state.give(&call.end);
        state.begun.insert(call.delivery, whole);
        state.call = Some(call);
        state.calls += 1;
        CallId(state.calls)
    }

    /// Notes that everything of a delivery up to `position` is complete, but what was deferred.
    pub(crate) fn settle(&self, delivery: DeliveryId, position: &Position) {
        let mut state = self.lock();
        state.give(position);
        match state.settle(delivery, position) {
            true => state.completed(),
            false => state.look(),
        }
        drop(state);
        self.shard.advance();
    }

    /// Notes that everything of a delivery is complete, but what was deferred.
    pub(crate) fn settle_all(&self, delivery: DeliveryId) {
        let mut state = self.lock();
        let end = state.watermark.open_records(delivery).last();
        if let Some(end) = end {
            state.give(&end.through);
        }
        state.watermark.complete(delivery);
        state.look();
        drop(state);
        self.shard.advance();
    }

    /// What is left of a delivery comes after this; `None` if nothing is left.
    pub(crate) fn left_after(&self, delivery: DeliveryId) -> Option<Checkpoint> {
        let state = self.lock();
        let first = state.watermark.open_records(delivery).next()?;
        Some(first.after.map_or(Checkpoint::TrimHorizon, Checkpoint::At))
    }

    /// Notes, as the processor says it, that all records of the lane up to `position` are complete, deferred or not.
    ///
    /// # Errors
    /// When `position` lies before what is stored, or beyond what this lane's processor was given or was given up (the Java
    /// library's rule, interop §6.4).
    pub(crate) fn complete_through(&self, position: &Position) -> Result<(), CheckpointRuleError> {
        let mut state = self.check(position)?;
        match state.complete_through(position) {
            true => state.completed(),
            false => state.look(),
        }
        drop(state);
        self.shard.advance();
        self.lane.answered.notify_one();
        Ok(())
    }

    /// Begins a checkpoint in two phases, in place of any other. Nothing is stored by itself until it ends.
    ///
    /// # Errors
    /// As for [`complete_through`](Self::complete_through).
    pub(crate) fn prepare(
        &self,
        position: &Position,
        state: Option<Vec<u8>>,
    ) -> Result<u64, CheckpointRuleError> {
        drop(self.check(position)?);
        let checkpoint = Checkpoint::At(position.clone());
        Ok(self.shard.prepare(PendingCheckpoint { checkpoint, state }))
    }

    /// The lane, in which nothing else can be given meanwhile.
    fn check(&self, position: &Position) -> Result<MutexGuard<'_, LaneState>, CheckpointRuleError> {
        let wanted = Checkpoint::At(position.clone());
        self.shard.row().rules.check(&wanted)?;
        let state = self.lock();
        if state.is_given(position) {
            return Ok(state);
        }
        let given = state.given.clone().map(Checkpoint::At);
        drop(state);
        let delivered = given.unwrap_or_else(|| self.shard.row().rules.last().clone());
        Err(CheckpointRuleError::NotDelivered { wanted, delivered })
    }

    /// Notes that a new processor takes the place of the one before. Returns its number.
    pub(crate) fn replace_processor(&self) -> u64 {
        let mut state = self.lock();
        state.processor += 1;
        state.processor
    }

    /// As [`complete_call`](Self::complete_call), as this processor says. False if it is gone.
    pub(crate) fn complete_call_of(&self, processor: u64) -> bool {
        let is_there = self.lock().processor == processor;
        if is_there {
            self.complete_call();
        }
        is_there
    }

    /// Notes that the records of the call that runs are complete, but what was deferred. Does nothing after a failed call.
    pub(crate) fn complete_call(&self) {
        let mut state = self.lock();
        if let Some(call) = &state.call {
            let (delivery, end) = (call.delivery, call.end.clone());
            let all_deferred = call.records.len() == call.deferred_records;
            state.settle(delivery, &end);
            match all_deferred {
                true => state.look(),
                false => state.completed(),
            }
            drop(state);
            self.shard.advance();
        }
    }

    /// Notes that the call that ran succeeded. Returns how many of its records it deferred.
    pub(crate) fn end_call(&self) -> usize {
        self.complete_call();
        let call = self.lock().call.take();
        call.map_or(0, |call| call.deferred_records)
    }

    /// Notes that the call failed: its records are complete only as far as that was declared, or answered, and what else it
    /// deferred is to be delivered again with the others. Returns whether there was any of that.
    pub(crate) fn fail_call(&self) -> bool {
        let mut state = self.lock();
        let Some(call) = state.call.take() else {
            return false;
        };
        let mut took_back = false;
        for id in &call.deferred {
            if !mutant::is(Mutant::FailedCallKeepsDeferred) && state.parcels.remove(*id).is_some() {
                state.watermark.give_back(*id, call.delivery);
                took_back = true;
            }
        }
        state.look();
        drop(state);
        self.shard.advance();
        took_back
    }

    /// Takes the record at a place of a call out of it.
    pub(crate) fn defer(&self, call: CallId, place: usize) -> Result<DeliveryId, AckError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let running = state.running(call)?;
        let delivery = running.delivery;
        let previous = running.records.before(place);
        let position = running.records.position(place);
        let position = position.ok_or(AckError::NotInCall)?;
        let deferred = state
            .watermark
            .defer(delivery, previous.as_ref(), &position)
            .ok_or(AckError::Over)?;
        if mutant::is(Mutant::DeferredCounts) {
            state.watermark.complete(deferred);
        }
        let running = state.running(call)?;
        let parcel = running.single(place, position);
        running.deferred.push(deferred);
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
        let running = state.call.as_ref().ok_or(AckError::NotInCall)?;
        let parcel = running.others(state.watermark.open_records(delivery), end.clone());
        if parcel.records.is_empty() {
            return Err(AckError::Over);
        }
        let deferred = state
            .watermark
            .split(delivery, &end)
            .ok_or(AckError::Over)?;
        // What comes before the first of them is of other lanes, complete, or deferred one by one.
        if let Some(others) = parcel.records.before(0) {
            state.settle(deferred, &others);
        }
        let running = state.running(call)?;
        running.deferred.push(deferred);
        running.deferred_records += parcel.records.len();
        state.parcels.add(deferred, parcel);
        Ok(deferred)
    }

    /// Notes that deferred records are complete.
    pub(crate) fn acknowledge(&self, id: DeliveryId) -> Result<usize, AckError> {
        let mut state = self.lock();
        let parcel = state.parcels.remove_out(id).ok_or(AckError::Over)?;
        state.watermark.complete(id);
        state.completed();
        drop(state);
        self.shard.advance();
        self.lane.answered.notify_one();
        Ok(parcel.records.len())
    }

    /// Notes that deferred records failed.
    pub(crate) fn reject(&self, id: DeliveryId, failure: CallFailure) -> Result<(), AckError> {
        let known = self.lock().parcels.fail(id, failure);
        self.lane.answered.notify_one();
        known.then_some(()).ok_or(AckError::Over)
    }

    /// Waits until somebody answered for deferred records.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn answered(&self) {
        self.lane.answered.notified().await;
    }

    /// Waits until somebody answered for deferred records, or some that failed are to be delivered again.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub(crate) async fn deferred_changed(&self) {
        let due = self.lock().parcels.next_due();
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.answered() => {}
            () = is_due => {}
        }
    }

    /// How many records are deferred and not complete.
    pub(crate) fn deferred(&self) -> usize {
        self.lock().parcels.records()
    }

    /// Whether records are with the processor, which has not answered for them.
    pub(crate) fn any_out(&self) -> bool {
        self.lock().parcels.any_out()
    }

    /// Takes deferred records that failed, and the failure. They are in flight until this was [served](Self::served).
    pub(crate) fn take_failed(&self) -> Option<(DeliveryId, Parcel, CallFailure)> {
        let mut state = self.lock();
        let taken = state.parcels.take_failed()?;
        state.again = taken.1.records.len();
        Some(taken)
    }

    /// Takes deferred records that are to be delivered again by now. They are in flight until this was
    /// [served](Self::served).
    pub(crate) fn take_due(&self) -> Option<(DeliveryId, Parcel)> {
        let mut state = self.lock();
        let taken = state.parcels.take_due(Instant::now())?;
        state.again = taken.1.records.len();
        Some(taken)
    }

    /// Notes that what was to be done about the deferred records that were taken is done.
    pub(crate) fn served(&self) {
        self.lock().again = 0;
        self.shard.lightened.notify_one();
    }

    /// Puts deferred records back, to be delivered again at `due`.
    pub(crate) fn deliver_again(&self, id: DeliveryId, parcel: Parcel, due: Instant) {
        self.lock().parcels.wait(id, parcel, due);
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.lane.lock()
    }
}
