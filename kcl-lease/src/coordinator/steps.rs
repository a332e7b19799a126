//! Carrying out the plan of what to take: reads, takes, accepts.

use std::time::Duration;

use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::CoordinatorEvent;
use super::setback::Setback;
use crate::item::Item;
use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;
use crate::table::{Consistency, Written};
use crate::take::{self, Judgement, Situation, Step};
use crate::view::{OwnerCheck, OwnerFound};
use crate::write::RowWrite;

/// Somebody else wrote to the row: the plan has time to take in by whom.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);
/// A plan looks at every row: with thousands of them it is not made anew for each single answer.
const PLAN_PAUSE_PER_ROW: Duration = Duration::from_micros(10);

impl Driver {
    pub(super) fn situation(&self, now: Moment) -> Option<Situation<'_>> {
        let session = &self.running()?.session;
        Some(Situation {
            me: &session.id,
            now,
            undisturbed_since: session.undisturbed_since(),
            check_ages_after: session.longest_silence(),
            view: &self.view,
            liveness: &self.liveness,
            busy: &self.busy,
            not_before: &self.not_before,
            wanted: &self.wanted,
            room: self.options.max_leases.saturating_sub(self.busy.len()),
        })
    }

    /// Plans when something changed, and begins as many steps as may be on their way.
    pub(super) fn take_steps(&mut self, now: Moment) {
        if !self.may_take() {
            self.steps.clear();
            return;
        }
        if self.next_plan().is_some_and(|at| at <= now) {
            self.make_plan(now);
        }
        while self.background < BACKGROUND_MAX {
            let Some(step) = self.steps.pop_front() else {
                break;
            };
            self.begin_step(step, now);
        }
    }

    /// When to plan next.
    pub(super) fn next_plan(&self) -> Option<Moment> {
        let due = match self.replan {
            true => Some(self.plan_not_before),
            false => self.plan_wake,
        };
        due.map(|at| at.max(self.plan_not_before))
            .filter(|_| self.may_take())
    }

    fn make_plan(&mut self, now: Moment) {
        self.plan_wake = None;
        let checks = match self.leads() && self.knows_the_table() {
            true => self.advise(now),
            false => Vec::new(),
        };
        let Some(situation) = self.situation(now) else {
            return;
        };
        let plan = take::plan(&situation);
        self.replan = false;
        let rows = u32::try_from(self.view.rows().len()).unwrap_or(u32::MAX);
        self.plan_not_before = now.plus(PLAN_PAUSE_PER_ROW * rows);
        let wanted = self.rows_wanted.iter().cloned().map(Step::ReadRow);
        self.steps = wanted.chain(checks).chain(plan.steps).collect();
        self.plan_wake = [self.plan_wake, plan.wake].into_iter().flatten().min();
        for stream in plan.listings_wanted {
            self.ask_for_listing(stream, now);
        }
    }

    fn begin_step(&mut self, step: Step, now: Moment) {
        match &step {
            Step::CheckOwner(_) | Step::ReadRow(_) => self.begin_read(step, now),
            Step::Accept(key) | Step::Take(key) => {
                let key = key.clone();
                if !self.knows_stream_of(&key) {
                    return;
                }
                // The plan may be older than the latest answers.
                let Some(situation) = self.situation(now) else {
                    return;
                };
                let Some(known) = self.view.row(&key) else {
                    return;
                };
                if take::judge(&situation, known) != Judgement::Do(step.clone()) {
                    self.replan = true;
                    return;
                }
                if mutant::is(Mutant::StartWithoutAccept) && matches!(step, Step::Accept(_)) {
                    let lease = known.lease.clone();
                    return self.grant(lease, now, now);
                }
                let write = take::take_write(&known.lease, situation.me);
                self.send_take(key, write, now);
            }
        }
    }

    /// Sends a take or an accept.
    pub(super) fn send_take(&mut self, key: LeaseKey, write: RowWrite, now: Moment) {
        let session = self.worker.borrow().clone();
        self.busy.insert(key.clone());
        self.background += 1;
        self.calls.write(write, move |result| Answer::Take {
            key,
            session,
            sent: now,
            result,
        });
    }

    fn begin_read(&mut self, step: Step, now: Moment) {
        let setback = self.failed_reads.get(&step);
        if let Some(until) = setback.and_then(Setback::until).filter(|at| now < *at) {
            self.plan_wake = Some(self.plan_wake.map_or(until, |wake| wake.min(until)));
            return;
        }
        if !self.reading.insert(step.clone()) {
            return;
        }
        self.background += 1;
        match step {
            Step::CheckOwner(worker) => {
                let key = worker.as_str().to_owned();
                let consistency = match mutant::is(Mutant::ExpiredOnEventualRead) {
                    true => Consistency::Eventual,
                    false => Consistency::Strong,
                };
                self.calls
                    .get(key, consistency, move |result| Answer::Owner {
                        worker,
                        sent: now,
                        result,
                    });
            }
            Step::ReadRow(key) | Step::Accept(key) | Step::Take(key) => {
                let name = key.as_str().to_owned();
                self.calls
                    .get(name, Consistency::Strong, move |result| Answer::RowRead {
                        key,
                        result,
                    });
            }
        }
    }

    fn read_done<T>(&mut self, step: Step, result: &Result<T, CallError>, now: Moment) {
        self.heard(result, now);
        self.reading.remove(&step);
        self.replan = true;
        match result {
            Ok(_) => {
                self.failed_reads.remove(&step);
            }
            Err(_) => self.failed_reads.entry(step).or_default().failed(now),
        }
    }

    pub(super) fn on_row_read(
        &mut self,
        key: &LeaseKey,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.read_done(Step::ReadRow(key.clone()), &result, now);
        if let Ok(item) = result {
            self.rows_wanted.remove(key);
            self.saw_item(key, item.as_ref(), now);
            if item.is_some() && self.view.row(key).is_none() {
                // It cannot be read: reading it again before somebody mends it is of no use.
                let later = Setback::wait_until(now.plus(self.options.scan_interval));
                self.failed_reads.insert(Step::ReadRow(key.clone()), later);
            }
        }
    }

    pub(super) fn on_owner(
        &mut self,
        worker: WorkerId,
        sent: Moment,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.read_done(Step::CheckOwner(worker.clone()), &result, now);
        if let Ok(item) = result {
            match self.see_worker(&worker, item.as_ref(), now) {
                OwnerFound::Nothing => self.on_worker_gone(&worker, sent),
                found => self.view.saw_owner(worker, OwnerCheck { sent, found }),
            }
        }
    }

    pub(super) fn on_take(
        &mut self,
        key: LeaseKey,
        session: &WorkerId,
        sent: Moment,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        let current = self.running().map(|running| &running.session.id) == Some(session);
        if current {
            self.busy.remove(&key);
        }
        match result {
            Ok(Written::Applied(item)) => match Lease::from_item(&item) {
                Ok(Some(lease)) if current => self.grant(lease, sent, now),
                Ok(Some(lease)) => self.saw_row(lease, Consistency::Strong, now),
                _ => self.view.forget_row(&key),
            },
            Ok(Written::Refused(item)) => {
                self.saw_item(&key, item.as_ref(), now);
                self.forget_unused_stream(&key.stream_key());
                self.failed_takes.remove(&key);
                self.not_before.insert(key, now.plus(AFTER_REFUSAL));
                self.replan = true;
            }
            // A worker that never had a lease and may not take any is no use: better it says so and stops.
            Err(error) if self.grants == 0 && error.is_denied() => self.fail(error.into()),
            Err(error) => {
                // Never again blindly: the row is read first, then its owner.
                tracing::debug!(%key, reason = error.reason(), "a take was not answered");
                self.replan = true;
                self.forget_unused_stream(&key.stream_key());
                self.view.doubt_row(&key);
                self.rows_wanted.insert(key.clone());
                let setback = self.failed_takes.entry(key.clone()).or_default();
                setback.failed(now);
                let until = setback.until().unwrap_or(now);
                self.not_before.insert(key, until);
            }
        }
    }

    fn grant(&mut self, lease: Lease, sent: Moment, now: Moment) {
        let key = lease.key.clone();
        self.not_before.remove(&key);
        self.failed_takes.remove(&key);
        self.note_row(lease.clone(), Consistency::Strong, now);
        if let Some(grant) = self.hold(lease, sent) {
            self.tell(CoordinatorEvent::Granted(grant));
        }
    }
}
