//! What one worker knows, and how it changes: production values, and the driver's wiring between them.

use std::collections::BTreeSet;
use std::time::Duration;

use kcl_lease::internals::{
    Advice, Answer, Call, Holding, Knowledge, Moments, Pulse, Session, Turn, moment,
};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;
use kcl_lease::table::Consistency;
use kcl_lease::{WorkerItem, write};

use crate::explore::Unordered;
use crate::intern::{Id, Interner, NONE};
use crate::table::{LEASE_DURATION, Table, lease_key};

/// Time goes by in steps of this.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// The clock of a worker stands still; what it remembers moves into the past instead. So two situations that differ in
/// nothing but the time are one.
fn now() -> Moment {
    moment(Duration::from_secs(1_000))
}

/// In the same tick, but after what was done in it before: production tells the order of reads by a clock that never
/// stands still.
fn just_after() -> Moment {
    now().plus(Duration::from_millis(1))
}

/// Whatever began then has run out.
fn long_ago() -> Moment {
    moment(Duration::from_secs(100))
}

fn before_that() -> Moment {
    moment(Duration::from_secs(99))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Mind {
    number: u8,
    /// Its heartbeats are applied and answered as soon as they are due, and nobody looks at them.
    steady: bool,
    /// It takes leases from others.
    takes: bool,
    margin: Duration,
    session: Session,
    over: bool,
    knows: Knowledge,
    /// The row as it was last seen.
    row: Id,
    held: Option<Holding>,
    /// The heartbeat that is on its way.
    beat: Option<Flight>,
    /// Attempts at the current heartbeat that were given up.
    missed: u8,
    /// The take or accept that is on its way.
    take: Option<Flight>,
    /// The attempt of the holder's write that is on its way.
    writing: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flight {
    attempt: u8,
    sent: Moment,
}

/// Something that happens to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// So many ticks go by on its clock.
    Pass(u8),
    /// A tick goes by without a heartbeat.
    PassSilently,
    /// A heartbeat is sent, applied and answered at once.
    Beats,
    SendBeat,
    BeatTimesOut,
    /// The answer to a heartbeat: whether it was applied, and the item.
    BeatAnswered(u8, bool, Id),
    /// An eventually consistent read of the row.
    SeesRow(Id),
    /// A strongly consistent read of the row.
    ReadsRow(Id),
    SeesWorker(u8, Id),
    /// Somebody tells the first worker's heartbeat and for how many ticks it has been the same.
    IsTold(u8, u8),
    /// A strongly consistent read of the owner's item before a take.
    ChecksOwner(u8, Id),
    Takes(u8),
    TakeAnswered(u8, bool, Id),
    TakeTimesOut,
    Writes(u8),
    WriteAnswered(u8, bool, Id),
    WriteTimesOut,
}

/// What a worker is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// It may process records.
    pub(crate) current: bool,
    pub(crate) holds: bool,
    /// Its session is over.
    pub(crate) over: bool,
    /// The row as it last saw it.
    pub(crate) row: Id,
    /// The heartbeat that is on its way was sent just now.
    pub(crate) beat_is_fresh: bool,
    pub(crate) heartbeat: u64,
    pub(crate) missed: u8,
    /// The attempts whose answers it waits for.
    pub(crate) beat: Option<u8>,
    pub(crate) take: Option<u8>,
    pub(crate) writing: Option<u8>,
    /// What it would tell of the first worker: its heartbeat, and for how many ticks it has been the same.
    pub(crate) tells: Option<(u8, u8)>,
    /// The attempt of the next heartbeat.
    pub(crate) next_beat: u8,
    pub(crate) wish: Wish,
    /// The write that the holder would send.
    pub(crate) holder_writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    Take(Id),
    CheckOwner(u8),
    ReadRow,
}

/// All minds that were ever met.
#[derive(Debug, Default)]
pub(crate) struct Minds {
    minds: Interner<Mind>,
    facts: Vec<Facts>,
    steps: Unordered<(Id, Event), (Id, Id)>,
}

impl Mind {
    pub(crate) fn new(
        table: &Table,
        number: u8,
        steady: bool,
        takes: bool,
        margin: Duration,
    ) -> Self {
        let id = table.worker(number).clone();
        Self {
            number,
            steady,
            takes,
            margin,
            session: Session::registered(id, LEASE_DURATION, now(), now()),
            over: false,
            knows: Knowledge::new(LEASE_DURATION, margin),
            row: NONE,
            held: None,
            beat: None,
            missed: 0,
            take: None,
            writing: None,
        }
    }

    /// The same worker, holding the lease whose row this is.
    pub(crate) fn holding(mut self, table: &Table, row: Id) -> Self {
        let lease = table.lease(row).expect("a row");
        self.held = Some(Holding::new(&lease, self.session.id(), now()));
        self
    }

    /// The write that the event sends, if any.
    fn happen(&mut self, event: Event, table: &mut Table) -> Id {
        match event {
            Event::Pass(ticks) => self.pass(ticks),
            Event::PassSilently => self.age(TICK),
            Event::Beats => self.beats(),
            Event::SendBeat => {
                self.session.heartbeat_sent(now());
                self.beat = Some(Flight {
                    attempt: self.beat_attempt(),
                    sent: now(),
                });
                let (id, last) = (self.session.id(), self.session.heartbeat());
                let beat = write::heartbeat(id, last, 0, 0, &BTreeSet::new());
                return table.writes.id(beat);
            }
            Event::BeatTimesOut => {
                self.beat = None;
                self.missed += 1;
                self.session.heartbeat_failed(now());
            }
            Event::BeatAnswered(attempt, applied, item) => {
                self.beat_answered(attempt, applied, item, table);
            }
            Event::SeesRow(row) => {
                self.row = row;
                let row = table.items.find(row);
                self.knows.saw_row(row, Consistency::Eventual, just_after());
            }
            Event::ReadsRow(row) => {
                self.row = row;
                let row = table.items.find(row);
                self.knows.saw_row(row, Consistency::Strong, just_after());
            }
            Event::SeesWorker(worker, item) => {
                let (id, item) = (table.worker(worker), table.items.find(item));
                self.knows.saw_worker(id, item, now());
            }
            Event::IsTold(heartbeat, ticks) => {
                let age = TICK * u32::from(ticks);
                self.knows
                    .was_told(table.worker(0), heartbeat.into(), age, now());
            }
            Event::ChecksOwner(worker, item) => {
                let (id, item) = (table.worker(worker), table.items.find(item));
                self.knows.settle_reads(long_ago());
                self.knows.checked_owner(id, item, now(), now());
            }
            Event::Takes(attempt) => return self.takes(attempt, table),
            Event::TakeAnswered(attempt, applied, row) => {
                self.take_answered(attempt, applied, row, table);
            }
            Event::TakeTimesOut => {
                self.take = None;
                self.knows.doubt_row(&lease_key());
            }
            Event::Writes(attempt) => {
                let validity = self.session.validity();
                let held = self.held.as_mut();
                let call = held.and_then(|h| h.next_call(validity, now(), attempt.into(), 0));
                if let Some(Call::Write(write)) = call {
                    self.writing = Some(attempt);
                    return table.writes.id(write);
                }
            }
            Event::WriteAnswered(attempt, applied, row) => {
                let answer = match applied {
                    true => Answer::Applied,
                    false => Answer::Refused(table.items.find(row).cloned()),
                };
                if self.writing == Some(attempt) {
                    self.write_answered(answer);
                }
            }
            Event::WriteTimesOut => self.write_answered(Answer::Lost),
        }
        NONE
    }

    fn beat_attempt(&self) -> u8 {
        (self.session.heartbeat() as u8) << 1 | self.missed
    }

    fn beat_answered(&mut self, attempt: u8, applied: bool, item: Id, table: &Table) {
        let Some(flight) = self.beat.take_if(|beat| beat.attempt == attempt) else {
            return;
        };
        let pulse = if applied {
            self.session.heartbeat_applied(flight.sent, now())
        } else {
            let item = table.items.find(item);
            let item = item.and_then(|item| WorkerItem::from_item(item).ok().flatten());
            let found = item.map(|item| item.heartbeat);
            self.session.heartbeat_refused(found, now())
        };
        self.missed = 0;
        if pulse == Pulse::Over {
            self.over = true;
            self.held = None;
            self.take = None;
            self.writing = None;
        }
    }

    fn takes(&mut self, attempt: u8, table: &mut Table) -> Id {
        let Wish::Take(write) = self.wish(table) else {
            return NONE;
        };
        self.take = Some(Flight {
            attempt,
            sent: now(),
        });
        write
    }

    fn take_answered(&mut self, attempt: u8, applied: bool, row: Id, table: &Table) {
        let Some(flight) = self.take.take_if(|take| take.attempt == attempt) else {
            return;
        };
        self.row = row;
        self.knows
            .saw_row(table.items.find(row), Consistency::Strong, just_after());
        if applied {
            let lease = table.lease(row).expect("the row that was taken");
            let sent = match mutant::is(Mutant::GrantAcrossLapse) {
                true => now(),
                false => flight.sent,
            };
            self.held = Some(Holding::new(&lease, self.session.id(), sent));
        }
    }

    fn write_answered(&mut self, answer: Answer) {
        let validity = self.session.validity();
        let (Some(attempt), Some(held)) = (self.writing.take(), self.held.as_mut()) else {
            return;
        };
        if held.answered(attempt.into(), answer, validity, now()) == Turn::Lost {
            self.held = None;
        }
    }

    /// Time goes by: everything that is remembered moves into the past.
    fn pass(&mut self, ticks: u8) {
        let passed = TICK * u32::from(ticks);
        self.age(passed);
        if self.steady {
            self.beats();
        }
    }

    fn beats(&mut self) {
        self.session.heartbeat_sent(now());
        self.session.heartbeat_applied(now(), now());
    }

    fn age(&mut self, passed: Duration) {
        let start = moment(Duration::ZERO);
        let earlier = move |m: &mut Moment| {
            *m = moment(m.since(start).saturating_sub(passed));
        };
        let mut acts = Acts {
            session: &mut self.session,
            held: &mut self.held,
            flights: [&mut self.beat, &mut self.take],
        };
        acts.each_moment(&mut |m| earlier(m));
        self.knows.each_moment(&mut |m| earlier(m));
    }

    /// Makes situations that behave the same equal: the distance of a moment counts only as long as something depends on
    /// it.
    fn normalize(&mut self) {
        let chain_start = self.session.validity().chain_start();
        self.session.forget_the_past(now(), long_ago(), self.takes);
        if self.steady {
            self.session.count_from(0);
        }
        // When a grant was asked for counts only against the start of the chain, and against lapses of this very moment.
        let relative = |m: &mut Moment| {
            if *m != now() {
                *m = match *m >= chain_start {
                    true => long_ago(),
                    false => before_that(),
                };
            }
        };
        if let Some(held) = self.held.as_mut() {
            held.forget_failures();
            held.each_moment(&mut |m| relative(m));
        }
        if let Some(take) = self.take.as_mut() {
            relative(&mut take.sent);
        }
        let expired = LEASE_DURATION + self.margin;
        if let Some(beat) = self.beat.as_mut()
            && now().since(beat.sent) > LEASE_DURATION
        {
            beat.sent = long_ago();
        }
        self.knows.forget_the_past(now(), long_ago(), &self.session);
        self.knows.each_moment(&mut |m| {
            if now().since(*m) > expired {
                *m = long_ago();
            }
        });
    }

    fn wish(&self, table: &mut Table) -> Wish {
        if self.over || self.held.is_some() || self.take.is_some() {
            return Wish::Nothing;
        }
        if !self.session.may_take(now()) {
            return Wish::Nothing;
        }
        match self.knows.advice(&self.session, &lease_key(), now()) {
            Advice::Take(write) => Wish::Take(table.writes.id(write)),
            Advice::CheckOwner(owner) => {
                let owner = table.worker_number(&owner).expect("a known worker");
                Wish::CheckOwner(owner)
            }
            Advice::ReadRow(_) => Wish::ReadRow,
            Advice::Nothing => Wish::Nothing,
        }
    }

    fn tells(&self, table: &Table) -> Option<(u8, u8)> {
        let (heartbeat, age) = self.knows.age(table.worker(0), &self.session, now())?;
        let most = LEASE_DURATION + self.margin + TICK;
        let ticks = age.min(most).as_secs() / TICK.as_secs();
        Some((heartbeat as u8, ticks as u8))
    }

    fn facts(&self, table: &mut Table) -> Facts {
        let validity = self.session.validity();
        let writes = |held: &Holding| held.clone().next_call(validity, now(), 1, 0).is_some();
        let held = self.held.as_ref();
        Facts {
            current: held.is_some_and(|held| held.is_current(validity, now())),
            holds: held.is_some(),
            over: self.over,
            row: self.row,
            beat_is_fresh: self.beat.is_some_and(|beat| beat.sent == now()),
            heartbeat: self.session.heartbeat(),
            missed: self.missed,
            beat: self.beat.map(|beat| beat.attempt),
            take: self.take.map(|take| take.attempt),
            writing: self.writing,
            tells: self.tells(table),
            next_beat: self.beat_attempt(),
            wish: self.wish(table),
            holder_writes: held.is_some_and(writes),
        }
    }
}

/// What belongs to the session and its grant: these moments are compared with one another.
struct Acts<'a> {
    session: &'a mut Session,
    held: &'a mut Option<Holding>,
    flights: [&'a mut Option<Flight>; 2],
}

impl Moments for Acts<'_> {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        self.session.each_moment(visit);
        if let Some(held) = self.held.as_mut() {
            held.each_moment(visit);
        }
        for flight in self.flights.iter_mut().filter_map(|f| f.as_mut()) {
            visit(&mut flight.sent);
        }
    }
}

impl Minds {
    pub(crate) fn id(&mut self, mut mind: Mind, table: &mut Table) -> Id {
        mind.normalize();
        let id = self.minds.id(mind);
        if self.facts.len() < id as usize {
            let facts = self.minds.get(id).facts(table);
            self.facts.push(facts);
        }
        id
    }

    pub(crate) fn facts(&self, id: Id) -> Facts {
        self.facts[id as usize - 1]
    }

    /// The mind after the event, and the write that it sends.
    pub(crate) fn step(&mut self, id: Id, event: Event, table: &mut Table) -> (Id, Id) {
        if let Some(known) = self.steps.get(&(id, event)) {
            return *known;
        }
        let mut mind = self.minds.get(id).clone();
        let write = mind.happen(event, table);
        let result = (self.id(mind, table), write);
        self.steps.insert((id, event), result);
        result
    }
}
