//! From the start to the end of the worker: preparing the table, registering, heartbeats, leaving.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::event::{CoordinatorError, CoordinatorEvent};
use super::lookout::Lookout;
use super::outbox::Outbox;
use super::room::Room;
use super::setback::Setback;
use crate::digest;
use crate::expectation::Expectations;
use crate::giving::Giving;
use crate::grant::LossReason;
use crate::inbox::Inbox;
use crate::item::Item;
use crate::key::WorkerId;
use crate::runtime::Moment;
use crate::session::{Beat, Session, Validity};
use crate::table::{Prepared, Written};
use crate::worker_item::WorkerItem;
use crate::write;

/// A deletion of our own item that fails is tried this often: others clean up after us.
const FAREWELLS_MAX: u32 = 3;

/// How far the worker's session is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The table is being made usable.
    Preparing { on_its_way: bool, setback: Setback },
    /// A session is being registered.
    Registering(Registering),
    /// There is a session.
    Running(Box<Running>),
    /// The worker's own item is being deleted.
    Leaving {
        running: Box<Running>,
        attempts: u32,
    },
}

#[derive(Debug)]
pub(super) struct Registering {
    id: WorkerId,
    /// When the first call was sent: others count from there.
    first_sent: Option<Moment>,
    on_its_way: bool,
    setback: Setback,
    /// The worker had a session before this one.
    again: bool,
    /// Its item says how many leases it takes.
    has_room: bool,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) session: Session,
    pub(super) validity: watch::Sender<Validity>,
    pub(super) room: Room,
    heartbeat_on_its_way: bool,
}

impl Running {
    /// Whether `item` is this session's, with the heartbeat that it knows.
    fn is_stored_as(&self, item: &Item) -> bool {
        let stored = WorkerItem::from_item(item).ok().flatten();
        stored.is_some_and(|stored| {
            stored.id == self.session.id && stored.heartbeat == self.session.heartbeat()
        })
    }
}

impl Driver {
    /// The session, if there is one.
    pub(super) fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Whether leases may be taken now, as far as the worker is concerned.
    pub(super) fn may_take(&self) -> bool {
        let valid = |running: &Running| running.session.may_take(self.runtime.now());
        let known = match self.leadership.leads() {
            true => self.streams.is_open() && !self.streams.is_unchecked(),
            false => self.streams.is_open(),
        };
        !self.newer_protocol && known && self.running().is_some_and(valid)
    }

    /// No heartbeat succeeded for so long that nothing may be taken.
    pub(super) fn is_cut_off(&self, now: Moment) -> bool {
        self.running()
            .is_some_and(|running| !running.session.may_take(now))
    }

    pub(super) fn on_prepared(&mut self, result: Result<Prepared, CallError>, now: Moment) {
        self.heard(&result, now);
        let Phase::Preparing { mut setback, .. } = self.phase else {
            return;
        };
        match result {
            Ok(_) => self.begin_session(false),
            Err(error) if self.is_worth_another_try(&error, now) => {
                setback.failed(now);
                self.phase = Phase::Preparing {
                    on_its_way: false,
                    setback,
                };
            }
            Err(error) => self.fail(error.into()),
        }
    }

    pub(super) fn is_worth_another_try(&self, error: &CallError, now: Moment) -> bool {
        error.is_retryable() && now.since(self.started) < self.options.startup_timeout
    }

    fn begin_session(&mut self, again: bool) {
        let id = if again {
            match WorkerId::generate(&self.options.worker_name, &mut self.rng) {
                Ok(id) => id,
                Err(error) => return self.fail(error.into()),
            }
        } else {
            self.worker.borrow().clone()
        };
        self.worker.send_replace(id.clone());
        self.phase = Phase::Registering(Registering {
            id,
            first_sent: None,
            on_its_way: false,
            setback: Setback::default(),
            again,
            has_room: self.streams.was_open(),
        });
    }

    /// Repeats a failed step of the start when its time has come.
    pub(super) fn drive_start(&mut self, now: Moment) {
        let duration = self.options.lease_duration;
        let published = self.options.published_max_leases();
        match &mut self.phase {
            Phase::Preparing {
                on_its_way,
                setback,
            } if !*on_its_way && setback.is_over(now) => {
                *on_its_way = true;
                self.calls.prepare();
            }
            Phase::Registering(registering) if !registering.on_its_way => {
                if !registering.setback.is_over(now) {
                    return;
                }
                registering.on_its_way = true;
                registering.first_sent.get_or_insert(now);
                // All attempts say the same: any of them may be the one that was applied.
                let item = WorkerItem {
                    max_leases: match registering.has_room {
                        true => published,
                        false => Some(0),
                    },
                    ..WorkerItem::new(registering.id.clone(), duration)
                };
                self.calls.write(write::register(&item), Answer::Registered);
            }
            _ => {}
        }
    }

    pub(super) fn on_registered(&mut self, result: Result<Written, CallError>, now: Moment) {
        self.heard(&result, now);
        let Phase::Registering(registering) = &mut self.phase else {
            return;
        };
        registering.on_its_way = false;
        let (again, retried) = (registering.again, registering.setback.has_failed());
        match result {
            // The id is random: an item that is there already is our own, unless no call went before this one.
            Ok(Written::Applied(_)) => self.run_session(now),
            Ok(Written::Refused(_)) if retried => self.run_session(now),
            Ok(Written::Refused(_)) => self.begin_session(true),
            Err(error) => {
                registering.setback.failed(now);
                if !again && !self.is_worth_another_try(&error, now) {
                    self.fail(error.into());
                }
            }
        }
    }

    fn run_session(&mut self, now: Moment) {
        let Phase::Registering(registering) = &self.phase else {
            return;
        };
        let worker = registering.id.clone();
        let sent = registering.first_sent.unwrap_or(now);
        let has_room = registering.has_room;
        let session = Session::registered(worker.clone(), self.options.lease_duration, sent, now);
        self.phase = Phase::Running(Box::new(Running {
            validity: watch::Sender::new(session.validity()),
            session,
            room: Room::new(has_room),
            heartbeat_on_its_way: false,
        }));
        self.lookout = Lookout::new(now);
        self.scan_due = now;
        self.replan = true;
        self.tell(CoordinatorEvent::Registered { worker });
    }

    pub(super) fn next_start_or_heartbeat(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Preparing {
                on_its_way: true, ..
            } => None,
            Phase::Preparing { setback, .. } => setback.until(),
            Phase::Registering(r) if r.on_its_way => None,
            Phase::Registering(r) => r.setback.until(),
            Phase::Running(r) if r.heartbeat_on_its_way => None,
            Phase::Running(r) => Some(r.session.heartbeat_due()),
            Phase::Leaving { .. } => None,
        }
    }

    pub(super) fn send_heartbeat(&mut self, now: Moment) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let full = self.inbox.is_full() && running.session.may_beat_early(now);
        if running.heartbeat_on_its_way || (now < running.session.heartbeat_due() && !full) {
            return;
        }
        running.heartbeat_on_its_way = true;
        running.session.heartbeat_sent(now);
        let session = running.session.id.clone();
        let digest = digest::of_keys(self.held.keys());
        let consumed = self.inbox.consumed();
        let write = write::heartbeat(
            &session,
            running.session.heartbeat(),
            self.held.len() as u64,
            digest,
            &consumed,
        );
        self.calls.write(write, move |result| Answer::Heartbeat {
            session,
            sent: now,
            consumed,
            result,
        });
    }

    pub(super) fn on_heartbeat(
        &mut self,
        session: &WorkerId,
        sent: Moment,
        consumed: &BTreeSet<String>,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        if let Ok(Written::Applied(item)) = &result {
            self.inbox.removed(consumed);
            self.see_inbox(item, now);
        }
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if running.session.id != *session {
            return;
        }
        running.heartbeat_on_its_way = false;
        let beat = match result {
            Ok(Written::Applied(_)) => running.session.heartbeat_applied(sent, now),
            Ok(Written::Refused(item)) => {
                let item = item.and_then(|item| WorkerItem::from_item(&item).ok().flatten());
                let found = item.map(|item| item.heartbeat);
                running.session.heartbeat_refused(found, now)
            }
            Err(_) => return running.session.heartbeat_failed(now),
        };
        match beat {
            Beat::Alive | Beat::Lapsed => {
                running.validity.send_replace(running.session.validity());
                self.replan = true;
                self.forget_the_gone(now);
                if beat == Beat::Lapsed {
                    tracing::warn!("the session lapsed; every lease is granted again");
                    self.doubt_again();
                    self.dirty.extend(self.held.keys().cloned());
                }
            }
            Beat::Over => self.on_session_over(),
        }
    }

    /// Somebody deleted or replaced our item: nothing that was granted to that session counts any more.
    fn on_session_over(&mut self) {
        let worker = self.worker.borrow().clone();
        self.drop_leases(LossReason::SessionOver);
        self.tell(CoordinatorEvent::SessionOver { worker });
        if self.draining {
            self.leave();
        } else {
            self.begin_session(true);
        }
    }

    /// Ends all grants without writing anything.
    fn drop_leases(&mut self, reason: LossReason) {
        for lease in self.held.values_mut() {
            lease.end(reason);
        }
        self.held.clear();
        self.busy.clear();
        self.dirty.clear();
        self.retries.clear();
        self.steps.clear();
        self.leadership.resign();
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        self.untold.clear();
        self.expectations = Expectations::default();
        self.giving = Giving::default();
        self.pending.clear();
        self.wanted.clear();
        for (key, _) in std::mem::take(&mut self.own_children) {
            self.tell(CoordinatorEvent::ChildElsewhere { key });
        }
    }

    pub(super) fn on_abandon(&mut self) {
        self.draining = true;
        let held = !self.held.is_empty() || !self.busy.is_empty();
        self.drop_leases(LossReason::Abandoned);
        // An item that stays lets the leases expire; without it others would start at once.
        if held {
            self.leave();
        }
    }

    /// Ends coordination once nothing is held or being taken.
    pub(super) fn finish(&mut self) {
        let idle = self.busy.is_empty() && self.own_children.is_empty();
        let told = self.outbox.is_empty() && self.untold.is_empty();
        if !self.draining || !idle || !told {
            return;
        }
        match self.take_phase() {
            Phase::Running(running) if !running.heartbeat_on_its_way => {
                self.phase = Phase::Leaving {
                    running,
                    attempts: 0,
                };
                self.say_goodbye();
            }
            Phase::Preparing { .. } => self.leave(),
            Phase::Registering(registering) if !registering.on_its_way => self.leave(),
            other => self.phase = other,
        }
    }

    /// The phase, to be replaced by the next one.
    fn take_phase(&mut self) -> Phase {
        let between = Phase::Preparing {
            on_its_way: true,
            setback: Setback::default(),
        };
        std::mem::replace(&mut self.phase, between)
    }

    fn say_goodbye(&mut self) {
        if let Phase::Leaving { running, attempts } = &mut self.phase {
            *attempts += 1;
            let session = &running.session;
            let known = self.inbox.consumed();
            let goodbye = write::farewell(&session.id, session.heartbeat(), &known);
            self.calls.write(goodbye, Answer::Farewell);
        }
    }

    pub(super) fn on_farewell(&mut self, result: Result<Written, CallError>, now: Moment) {
        self.heard(&result, now);
        match (&self.phase, result) {
            (Phase::Leaving { attempts, .. }, Err(_)) if *attempts < FAREWELLS_MAX => {
                self.say_goodbye();
            }
            (Phase::Leaving { running, .. }, Ok(Written::Refused(Some(item))))
                if running.is_stored_as(&item) =>
            {
                self.stay_for(&item, now);
            }
            // Refused means: deleted by an earlier attempt, or an unanswered heartbeat was applied. Others clean up.
            _ => self.leave(),
        }
    }

    /// The inbox holds something else than what was read of it: a row may name this worker.
    fn stay_for(&mut self, item: &Item, now: Moment) {
        self.phase = match self.take_phase() {
            Phase::Leaving { running, .. } => Phase::Running(running),
            other => other,
        };
        self.see_inbox(item, now);
        if !self.busy.is_empty() {
            self.announce_drain(now);
        }
        if let Ok(Some(item)) = WorkerItem::from_item(item) {
            self.inbox.holds(&item.inbox);
        }
    }

    fn leave(&mut self) {
        if !self.over {
            self.over = true;
            self.tell(CoordinatorEvent::Stopped);
        }
    }
}

impl From<CallError> for CoordinatorError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TimedOut { operation } => Self::NoAnswer { operation },
            CallError::Table(error) => Self::Table(error),
        }
    }
}
