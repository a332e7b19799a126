//! The loop that drives coordination: take in a request or an answer, then do whatever is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::CoordinatorOptions;
use super::calls::{Answer, Calls};
use super::drains::Drain;
use super::event::{CoordinatorError, CoordinatorEvent};
use super::handle::Command;
use super::joining::Joining;
use super::lookout::Lookout;
use super::orders::Looks;
use super::outbox::Outbox;
use super::sessions::Phase;
use super::setback::Setback;
use super::streams::Streams;
use super::trouble::Trouble;
use crate::advice::{Pending, Refusal};
use crate::expectation::Expectations;
use crate::giving::Giving;
use crate::grant::LossReason;
use crate::held::HeldLease;
use crate::hint::Hint;
use crate::inbox::Inbox;
use crate::key::{LeaseKey, WorkerId};
use crate::leadership::Leadership;
use crate::liveness::Liveness;
use crate::roster::Roster;
use crate::runtime::{Moment, Runtime};
use crate::table::LeaseTable;
use crate::take::Step;
use crate::view::View;

/// Takes, reads and other calls that are not urgent, on their way at once.
pub(super) const BACKGROUND_MAX: usize = 32;
/// Writes of holders on their way at once.
const ROW_WRITES_MAX: usize = 64;

/// What a driver is made of, prepared before its thread runs.
pub(super) struct Seat {
    pub(super) options: CoordinatorOptions,
    pub(super) runtime: Runtime,
    pub(super) rng: fastrand::Rng,
    pub(super) worker: watch::Sender<WorkerId>,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    pub(super) received: mpsc::UnboundedReceiver<Command>,
    pub(super) events: mpsc::UnboundedSender<CoordinatorEvent>,
}

/// Everything that one worker's coordination knows.
pub(super) struct Driver {
    pub(super) options: CoordinatorOptions,
    pub(super) runtime: Runtime,
    pub(super) rng: fastrand::Rng,
    pub(super) worker: watch::Sender<WorkerId>,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    received: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<CoordinatorEvent>,
    pub(super) calls: Calls,
    pub(super) started: Moment,
    pub(super) phase: Phase,
    pub(super) trouble: Option<Trouble>,
    pub(super) liveness: Liveness,
    pub(super) view: View,
    pub(super) roster: Roster,
    pub(super) joining: Joining,
    pub(super) lookout: Lookout,
    pub(super) leadership: Leadership,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    /// Hints for a leader that is gone, and which one that was.
    pub(super) untold: Vec<(Hint, WorkerId)>,
    pub(super) expectations: Expectations,
    pub(super) giving: Giving,
    pub(super) drain: Option<Drain>,
    /// Advice that this worker gave as the leader.
    pub(super) pending: BTreeMap<LeaseKey, Pending>,
    /// Workers whose leases differed from what the table says when it was last read, and how many times in a row.
    pub(super) differing: BTreeMap<WorkerId, usize>,
    /// Leases that this worker was advised to take, until when.
    pub(super) wanted: BTreeMap<LeaseKey, Moment>,
    /// Children of shards that this worker finished: it takes them itself.
    pub(super) own_children: BTreeMap<LeaseKey, Moment>,
    /// The first scan was read.
    pub(super) scanned: Option<Moment>,
    /// When the last strongly consistent one was.
    pub(super) scanned_surely: Option<Moment>,
    /// When the last scan that was read was begun.
    pub(super) scanned_begun: Option<Moment>,
    /// When this worker became the leader.
    pub(super) lead_since: Moment,
    pub(super) scanning: bool,
    pub(super) scan_due: Moment,
    pub(super) scan_not_before: Moment,
    /// Scans that failed.
    pub(super) scan_setback: Setback,
    /// Something is to be looked up in the whole table, not before then.
    pub(super) scan_wanted: Option<Moment>,
    pub(super) scan_begun: Moment,
    pub(super) table_was_empty: bool,
    pub(super) unreadable: BTreeSet<String>,
    pub(super) newer_protocol: bool,
    pub(super) streams: Streams,
    pub(super) held: BTreeMap<LeaseKey, HeldLease>,
    /// Leases that are held or being taken.
    pub(super) busy: BTreeSet<LeaseKey>,
    /// Held leases that may have something to write.
    pub(super) dirty: BTreeSet<LeaseKey>,
    pub(super) retries: BTreeSet<(Moment, LeaseKey)>,
    pub(super) row_writes: usize,
    pub(super) looks: Looks,
    pub(super) attempts: u64,
    pub(super) grants: u64,
    /// Set when something changed that what to take depends on.
    pub(super) replan: bool,
    pub(super) steps: VecDeque<Step>,
    /// Rows to read although the view does not hold them.
    pub(super) rows_wanted: BTreeSet<LeaseKey>,
    pub(super) reading: BTreeSet<Step>,
    pub(super) not_before: BTreeMap<LeaseKey, Moment>,
    /// Leases that a worker could not work on, as far as this one was told when it led.
    pub(super) refused: BTreeMap<LeaseKey, Refusal>,
    /// Reads that failed.
    pub(super) failed_reads: BTreeMap<Step, Setback>,
    /// Takes that failed.
    pub(super) failed_takes: BTreeMap<LeaseKey, Setback>,
    pub(super) plan_wake: Option<Moment>,
    pub(super) plan_not_before: Moment,
    /// The last advice left leases open that may have to be taken.
    pub(super) undecided: bool,
    pub(super) background: usize,
    pub(super) settled: bool,
    pub(super) draining: bool,
    /// Nobody can ask for anything any more.
    deserted: bool,
    pub(super) over: bool,
}

impl Driver {
    pub(super) fn new(seat: Seat, table: Arc<dyn LeaseTable>) -> Self {
        let now = seat.runtime.now();
        let duration = seat.options.lease_duration;
        let streams = Streams::new(seat.options.many_streams);
        Self {
            calls: Calls::new(table, duration / 6, seat.options.startup_timeout),
            liveness: Liveness::new(duration, seat.options.drift_margin),
            options: seat.options,
            runtime: seat.runtime,
            rng: seat.rng,
            worker: seat.worker,
            commands: seat.commands,
            received: seat.received,
            events: seat.events,
            started: now,
            phase: Phase::Preparing {
                on_its_way: false,
                setback: Setback::default(),
            },
            trouble: None,
            view: View::default(),
            roster: Roster::default(),
            joining: Joining::default(),
            lookout: Lookout::new(now),
            leadership: Leadership::default(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            untold: Vec::new(),
            expectations: Expectations::default(),
            giving: Giving::default(),
            drain: None,
            pending: BTreeMap::new(),
            differing: BTreeMap::new(),
            wanted: BTreeMap::new(),
            own_children: BTreeMap::new(),
            scanned: None,
            scanned_surely: None,
            scanned_begun: None,
            lead_since: now,
            scanning: false,
            scan_due: now,
            scan_not_before: now,
            scan_setback: Setback::default(),
            scan_wanted: None,
            scan_begun: now,
            table_was_empty: false,
            unreadable: BTreeSet::new(),
            newer_protocol: false,
            streams,
            held: BTreeMap::new(),
            busy: BTreeSet::new(),
            dirty: BTreeSet::new(),
            retries: BTreeSet::new(),
            row_writes: 0,
            looks: Looks::default(),
            attempts: 0,
            grants: 0,
            replan: false,
            steps: VecDeque::new(),
            rows_wanted: BTreeSet::new(),
            reading: BTreeSet::new(),
            not_before: BTreeMap::new(),
            refused: BTreeMap::new(),
            failed_reads: BTreeMap::new(),
            failed_takes: BTreeMap::new(),
            plan_wake: None,
            plan_not_before: now,
            undecided: false,
            background: 0,
            settled: false,
            draining: false,
            deserted: false,
            over: false,
        }
    }

    pub(super) async fn run(mut self) {
        while !self.over {
            self.step().await;
        }
        for lease in self.held.values_mut() {
            lease.end(LossReason::Stopped);
        }
    }

    /// Does whatever is due, then takes in one thing that happens.
    pub(super) async fn step(&mut self) {
        let now = self.runtime.now();
        self.do_what_is_due(now);
        if self.over {
            return;
        }
        let wait = self.wake().map(|at| at.since(self.runtime.now()));
        tokio::select! {
            biased;
            answer = self.calls.next() => self.on_answer(answer),
            command = self.received.recv(), if !self.deserted => self.on_command(command),
            () = sleep(wait) => {}
        }
    }

    pub(super) fn tell(&self, event: CoordinatorEvent) {
        // Nobody who listens is no reason to stop: grants and handles still count.
        let _ = self.events.send(event);
    }

    /// Ends coordination because it cannot start.
    pub(super) fn fail(&mut self, error: CoordinatorError) {
        self.tell(CoordinatorEvent::Fatal(error));
        self.over = true;
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Grant {
                key,
                number,
                era,
                request,
            }) => self.on_request(&key, number, era, request),
            Some(Command::StoredStream(answer)) => self.joining.ask(self.runtime.now(), answer),
            Some(Command::JoinStream) => self.join_stream(self.runtime.now()),
            Some(Command::LooksForStreams(answer)) => {
                self.joining.ask_who_looks(self.runtime.now(), answer);
            }
            Some(Command::KeepAllStreams) => self.on_all_streams_kept(),
            Some(Command::KeepStreams { streams, unclear }) => {
                self.on_streams_kept(streams, unclear);
            }
            Some(Command::OpenStream(stream, proposed, answer)) => {
                self.streams.open(&stream, proposed, answer);
            }
            Some(Command::SyncShards {
                stream,
                listing,
                fresh,
                answer,
            }) => {
                let known = self.streams.entry(&stream);
                known.syncs.push(listing, fresh, answer);
            }
            Some(Command::Shutdown { budget }) => {
                let now = self.runtime.now();
                self.on_shutdown(budget, now);
            }
            Some(Command::Abandon) => self.on_abandon(),
            None => {
                self.deserted = true;
                self.on_abandon();
            }
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let now = self.runtime.now();
        match answer {
            Answer::Prepared(result) => self.on_prepared(result, now),
            Answer::Registered(result) => self.on_registered(result, now),
            Answer::RoomMade { session, result } => self.on_room_made(&session, &result, now),
            Answer::Heartbeat {
                session,
                sent,
                consumed,
                result,
            } => self.on_heartbeat(&session, sent, &consumed, result, now),
            Answer::Row {
                key,
                number,
                attempt,
                result,
            } => {
                self.row_writes -= 1;
                self.on_row(&key, number, attempt, result, now);
            }
            Answer::Orders {
                key,
                number,
                result,
            } => self.on_orders(key, number, result, now),
            Answer::Farewell(result) => self.on_farewell(result, now),
            Answer::Inbox(result) => self.on_inbox(result, now),
            Answer::Leader {
                sent,
                consistency,
                result,
            } => self.on_leader(sent, consistency, result, now),
            Answer::Led(result) => self.on_led(result, now),
            Answer::StoredStream(result) => self.on_stored_stream(result, now),
            Answer::Watched {
                worker,
                sent,
                consistency,
                result,
            } => self.on_watched(&worker, sent, consistency, result, now),
            Answer::Hinted {
                worker,
                hints,
                sent,
                result,
            } => self.on_hinted(&worker, hints, sent, result, now),
            Answer::Scan {
                begun,
                consistency,
                result,
            } => self.on_scan(begun, consistency, result, now),
            background => {
                self.background -= 1;
                self.on_background(background, now);
            }
        }
    }

    fn on_background(&mut self, answer: Answer, now: Moment) {
        match answer {
            Answer::Take {
                key,
                session,
                sent,
                result,
            } => self.on_take(key, &session, sent, result, now),
            Answer::Owner {
                worker,
                sent,
                result,
            } => self.on_owner(worker, sent, result, now),
            Answer::RowRead { key, result } => self.on_row_read(&key, result, now),
            Answer::Stream { stream, result } => self.on_stream(&stream, result, now),
            Answer::StreamRead { stream, result } => self.on_stream_read(&stream, result, now),
            Answer::RemovalBegun { stream, result } => self.on_removal_begun(&stream, &result, now),
            Answer::FormerRow { key, result } => self.on_former_row(&key, result, now),
            Answer::FormerStream { stream, result } => self.on_former_stream(&stream, &result, now),
            Answer::ResetRow(lease, result) => self.on_reset_row(*lease, result, now),
            Answer::ResetStream(result) => self.on_reset_stream(result, now),
            Answer::Created { key, result } => self.on_created(&key, result, now),
            Answer::Litter { key, result } => self.on_litter(&key, result, now),
            Answer::Housekeeping(result) => {
                self.heard(&result, now);
            }
            // The others are handled before.
            _ => {}
        }
    }

    /// Does everything whose time has come. Each part leaves alone what is on its way already.
    fn do_what_is_due(&mut self, now: Moment) {
        self.drive_start(now);
        self.send_heartbeat(now);
        self.send_row_writes(now);
        self.read_orders(now);
        self.begin_scan(now);
        self.drive_streams(now);
        self.ask_for_streams(now);
        self.audit(now);
        self.make_room(now);
        self.look_out(now);
        self.drive_joining(now);
        self.meet_expectations(now);
        self.drive_drain(now);
        self.give_up_children(now);
        self.take_steps(now);
        self.recall_holders(now);
        self.send_hints(now);
        self.settle(now);
        self.finish();
    }

    /// Sends the writes that holders want, as many as may be on their way.
    fn send_row_writes(&mut self, now: Moment) {
        while self.retries.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.retries.pop_first() {
                self.dirty.insert(key);
            }
        }
        while self.row_writes < ROW_WRITES_MAX {
            let Some(key) = self.dirty.pop_first() else {
                break;
            };
            self.send_row_write(&key, now);
        }
    }

    /// When to look again if nothing happens.
    fn wake(&self) -> Option<Moment> {
        let heartbeat = self.next_start_or_heartbeat();
        let scan = self.next_scan();
        let retry = self.retries.first().map(|(at, _)| *at);
        let plan = self.next_plan();
        let now = self.runtime.now();
        let look = self.next_look(now);
        let hints = self.running().and_then(|_| self.outbox.next());
        let recall = self.giving.next_recall();
        let children = self.own_children.values().min().copied();
        let drain = self.next_drain(now);
        let settled = self.next_settling(now);
        let streams = self.running().and_then(|_| self.streams.retry_at(now));
        let list = self.next_streams_wanted();
        let joining = self.running().and_then(|_| self.joining.next());
        let room = self.next_room(now);
        let orders = self.running().and_then(|_| self.looks.next());
        [
            heartbeat, scan, retry, plan, look, hints, recall, children, drain, settled, streams,
            list, joining, room, orders,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The first round of takes is over: for the leader when nothing is left to do or on its way and every owner of a lease
    /// lives or does not; for others when the leader had time to give them something.
    fn settle(&mut self, now: Moment) {
        if self.settled || !self.may_take() {
            return;
        }
        let idle = self.steps.is_empty() && self.background == 0 && !self.replan;
        let decided = match self.leads() {
            true => !self.undecided && self.streams.are_listed(),
            false => self.settles_at().is_some_and(|at| at <= now) && self.expectations.is_empty(),
        };
        if idle && decided {
            self.settled = true;
            self.tell(CoordinatorEvent::Settled);
        }
    }

    fn next_settling(&self, now: Moment) -> Option<Moment> {
        self.settles_at()
            .filter(|at| !self.settled && !self.leads() && now < *at)
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
