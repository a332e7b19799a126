//! The leases that are held: requests of their holders, their writes, and how they end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::calls::{Answer, CallError, Outcome};
use super::driver::Driver;
use super::event::CoordinatorEvent;
use crate::grant::{Grant, GrantError, GrantRequest, GrantShared, LossReason};
use crate::held::{Fate, HeldLease, Request, Response};
use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::mutant::{self, Mutant};
use crate::runtime::{Moment, Runtime};
use crate::shard_end::ShardEnd;
use crate::table::{Consistency, Transacted, Written};
use crate::view::View;

/// A worker that stops takes the children of what it finishes, so that somebody reads on, but does not wait for long for
/// those that cannot start.
pub(super) const CHILDREN_WHEN_STOPPING: Duration = Duration::from_secs(2);

/// A clock that is ahead by more than a year is not believed.
const CLOCKS_DIFFER_MILLIS: u64 = 366 * 24 * 60 * 60 * 1_000;

impl Driver {
    /// Holds a lease that was just granted.
    pub(super) fn hold(&mut self, lease: Lease, sent: Moment) -> Option<Grant> {
        let sent = match mutant::is(Mutant::GrantAcrossLapse) {
            true => self.runtime.now(),
            false => sent,
        };
        let stream = self.streams.identity(&lease.key)?;
        let running = self.running()?;
        let me = running.session.id.clone();
        let validity = running.validity.subscribe();
        let commands = self.commands.upgrade()?;
        let key = lease.key.clone();
        self.grants += 1;
        let shared = Arc::new(GrantShared::new(
            lease,
            stream,
            self.grants,
            sent,
            self.runtime.clone(),
            validity,
            commands,
        ));
        let held = HeldLease::new(Arc::clone(&shared), me, sent);
        self.busy.insert(key.clone());
        self.expectations.accepted(&key);
        self.wanted.remove(&key);
        self.own_children.remove(&key);
        self.held.insert(key.clone(), held);
        self.looks.want(key.clone());
        self.dirty.insert(key);
        Some(Grant::new(shared))
    }

    pub(super) fn on_request(
        &mut self,
        key: &LeaseKey,
        number: u64,
        era: u64,
        request: GrantRequest,
    ) {
        let view = &self.view;
        let Some(held) = self
            .held
            .get_mut(key)
            .filter(|held| held.shared.number() == number)
        else {
            // Dropping the request tells whoever waits that the grant is over.
            return;
        };
        match request {
            GrantRequest::Checkpoint(checkpoint, reply) => {
                held.want_checkpoint(era, checkpoint, reply);
            }
            GrantRequest::Prepare(pending, reply) => held.want_prepare(era, pending, reply),
            GrantRequest::Obey(obey, reply) => held.want_obey(era, obey, reply),
            GrantRequest::Release(checkpoint, reply) => {
                let to = self.giving.target(key).cloned();
                held.want_release(era, checkpoint, to, Some(reply));
            }
            GrantRequest::EndShard(children, reply) => {
                match ShardEnd::new(key, children, |other| view.has_row(other)) {
                    Ok(plan) => held.want_end(era, plan, reply),
                    Err((child, reason)) => {
                        let key = key.clone();
                        let error = GrantError::InvalidChild { key, child, reason };
                        let _ = reply.send(Err(error));
                    }
                }
            }
        }
        self.dirty.insert(key.clone());
    }

    /// Sends what the lease's holder wants, if anything.
    pub(super) fn send_row_write(&mut self, key: &LeaseKey, now: Moment) {
        let Some(validity) = self.running().map(|running| running.session.validity()) else {
            return;
        };
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        self.attempts += 1;
        let floor = self.streams.resets.counter_floor;
        let row_counter = || row_counter(&self.runtime, &self.view, floor);
        let Some(call) = held.next_call(validity, now, self.attempts, row_counter) else {
            return;
        };
        let (key, number, attempt) = (key.clone(), held.shared.number(), call.attempt);
        self.row_writes += 1;
        match call.request {
            Request::Write(write) => self.calls.write(write, move |result| Answer::Row {
                key,
                number,
                attempt,
                result: result.map(Outcome::Written),
            }),
            Request::Transact(writes) => self.calls.transact(writes, move |result| Answer::Row {
                key,
                number,
                attempt,
                result: result.map(Outcome::Transacted),
            }),
        }
    }

    pub(super) fn on_row(
        &mut self,
        key: &LeaseKey,
        number: u64,
        attempt: u64,
        result: Result<Outcome, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        let Some(validity) = self.running().map(|running| running.session.validity()) else {
            return;
        };
        let Some(held) = self
            .held
            .get_mut(key)
            .filter(|held| held.shared.number() == number)
        else {
            return;
        };
        let fate = held.answered(attempt, response(key, result), validity, now);
        if let Some(at) = held.retry_at() {
            self.retries.insert((at, key.clone()));
        }
        match fate {
            Fate::Held => {
                self.dirty.insert(key.clone());
            }
            Fate::Released { to } => self.on_released(key, to, now),
            Fate::Ended(plan) => self.on_ended(key, &plan, now),
            Fate::Lost(reason) => self.on_lost(key, reason),
        }
    }

    fn drop_lease(&mut self, key: &LeaseKey) -> Option<HeldLease> {
        self.busy.remove(key);
        self.dirty.remove(key);
        self.looks.forget(key);
        self.replan = true;
        self.giving.done(key);
        self.forget_unused_stream(&key.stream_key());
        self.held.remove(key)
    }

    fn on_released(&mut self, key: &LeaseKey, to: Option<WorkerId>, now: Moment) {
        let Some(held) = self.drop_lease(key) else {
            return;
        };
        match &to {
            Some(to) => self.on_handed_over(key, held.counter(), to, now),
            None if held.shared.is_recalled() => {
                self.on_left_alone(key, held.counter(), None, now);
            }
            // The holder gave it away for a reason of its own: others come first.
            None => self.refuse(key, held.counter(), now),
        }
        let row = Lease {
            owner: to,
            ..held.lease()
        };
        self.saw_row(row, Consistency::Strong, now);
    }

    /// A shard was finished: its children can be looked at right now.
    fn on_ended(&mut self, key: &LeaseKey, plan: &ShardEnd, now: Moment) {
        let Some(held) = self.drop_lease(key) else {
            return;
        };
        let row = Lease {
            children: plan.children(),
            ..held.lease()
        };
        self.saw_row(row, Consistency::Strong, now);
        for child in plan
            .made()
            .map(|child| child.key)
            .chain(plan.found().cloned())
        {
            let until = now.plus(match self.draining {
                true => CHILDREN_WHEN_STOPPING,
                false => self.options.lease_duration,
            });
            let claimed = self.busy.len() + self.own_children.len();
            if claimed >= self.options.max_leases {
                self.tell(CoordinatorEvent::ChildElsewhere { key: child });
                continue;
            }
            self.wanted.insert(child.clone(), until);
            self.own_children.insert(child.clone(), until);
            self.look_at_row(child);
        }
        if !plan.outcome().waiting.is_empty() || plan.children().is_empty() {
            self.ask_for_listing(key.stream_key(), now);
        }
    }

    /// Gives up children of finished shards that somebody else has, or that cannot start for long.
    pub(super) fn give_up_children(&mut self, now: Moment) {
        let me = self.worker.borrow().clone();
        let view = &self.view;
        let taken = |key: &LeaseKey| {
            let owner = view.row(key).and_then(|known| known.lease.owner.as_ref());
            owner.is_some_and(|owner| *owner != me)
        };
        let given_up: Vec<LeaseKey> = self
            .own_children
            .iter()
            .filter(|(key, until)| **until <= now || taken(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in given_up {
            self.own_children.remove(&key);
            self.tell(CoordinatorEvent::ChildElsewhere { key });
        }
    }

    pub(super) fn on_lost(&mut self, key: &LeaseKey, reason: LossReason) {
        tracing::warn!(%key, %reason, "a lease was lost");
        if let Some(mut held) = self.drop_lease(key) {
            held.end(reason);
            self.remember_lease(held.lease());
        }
        self.look_at_row(key.clone());
    }

    /// Has a row read before anything is decided about it.
    pub(super) fn look_at_row(&mut self, key: LeaseKey) {
        self.view.forget_row(&key);
        self.rows_wanted.insert(key);
        self.replan = true;
    }

    pub(super) fn row_counter(&self) -> u64 {
        row_counter(&self.runtime, &self.view, self.streams.resets.counter_floor)
    }
}

/// What the counter of a new row starts with: larger than that of any earlier row of the same key. Looks at every row.
fn row_counter(runtime: &Runtime, view: &View, floor: u64) -> u64 {
    let since = runtime.wall_time().duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0);
    // Clocks jump, and differ from worker to worker. A counter out of all reason is no clock's.
    let known = view.leases().map(|lease| lease.counter.saturating_add(1));
    let possible = known.filter(|counter| *counter < millis.saturating_add(CLOCKS_DIFFER_MILLIS));
    possible.fold(millis.max(floor), u64::max)
}

fn response(key: &LeaseKey, result: Result<Outcome, CallError>) -> Response {
    match result {
        Ok(Outcome::Written(Written::Applied(_)))
        | Ok(Outcome::Transacted(Transacted::Applied)) => Response::Applied,
        Ok(Outcome::Written(Written::Refused(item))) => Response::Refused(item),
        Ok(Outcome::Transacted(Transacted::Refused(refusals))) => {
            Response::TransactionRefused(refusals)
        }
        Err(error) => Response::Failed {
            may_be_applied: error.may_be_applied(),
            error: grant_error(key, &error),
        },
    }
}

fn grant_error(key: &LeaseKey, error: &CallError) -> GrantError {
    let key = key.clone();
    match error {
        _ if error.is_throttled() => GrantError::Throttled { key },
        _ if error.may_be_applied() => GrantError::Unknown { key },
        _ => GrantError::Unavailable {
            key,
            reason: error.reason(),
        },
    }
}
