//! One lease with clocks: heartbeats, deadlines, lapses, and who takes what when.
//!
//! Time goes by in ticks; each worker has its own clock, which may lose or gain a tick. Requests and answers wait in the
//! network for as long as it likes, except those of a worker that is declared well connected. What a worker decides is
//! production code: [`Mind`] wires sessions, held leases, liveness, view and take together as coordination does.

mod mind;
mod outage;
mod runs;

use std::time::Duration;

use crate::explore::Model;
use crate::intern::{Id, NONE};
use crate::table::Table;
use mind::{Event, Facts, Mind, Minds, TICK, Wish};
use outage::{Outage, Weather};

const WORKERS: usize = 3;
const MESSAGES: usize = 3;

/// The first counter of the row.
const FIRST: u64 = 1;

const T1: u32 = 1;
const T2: u32 = 1 << 1;
const MOVE: u32 = 1 << 2;

const TAKEN: u32 = 1;
const TAKE_REFUSED: u32 = 1 << 1;
const CONFIRMED: u32 = 1 << 2;

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) workers: usize,
    /// The margin that observers wait beyond the lease duration, in ticks.
    pub(crate) margin: u32,
    /// How often a clock may lose or gain a tick.
    pub(crate) drift: u8,
    /// How many heartbeats each worker sends; steady ones send as many as they need.
    pub(crate) heartbeats: [u8; WORKERS],
    pub(crate) steady: [bool; WORKERS],
    pub(crate) may_take: [bool; WORKERS],
    pub(crate) counter: u64,
    pub(crate) messages: usize,
    /// The first worker's heartbeats are sent each tick, never lost, and answered within a tick.
    pub(crate) well_connected: bool,
    /// The holder's writes may be given up and sent again.
    pub(crate) row_timeouts: bool,
    /// The row names the first worker, which has not accepted it yet.
    pub(crate) offered: bool,
    /// The second worker tells the third what it knows of the first one's heartbeat; the third looks for itself only
    /// before a take.
    pub(crate) told: bool,
    /// The whole table goes away once, for so many ticks at least. Otherwise heartbeats are applied each tick.
    pub(crate) outage: Option<Outage>,
    /// Reads of heartbeats may be one value old.
    pub(crate) stale_checks: bool,
}

impl Bounds {
    /// A holder with slow heartbeats and a taker that is well.
    pub(crate) const BASE: Self = Self {
        workers: 2,
        margin: 0,
        drift: 0,
        heartbeats: [2, 0, 0],
        steady: [false, true, true],
        may_take: [false, true, true],
        counter: 2,
        messages: 2,
        well_connected: false,
        row_timeouts: false,
        offered: false,
        told: false,
        outage: None,
        stale_checks: false,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    row: Id,
    old_row: Id,
    items: [Id; WORKERS],
    old_items: [Id; WORKERS],
    minds: [Id; WORKERS],
    net: [Option<Message>; MESSAGES],
    /// What the second worker told last: it may be read at any later time.
    told: Option<(u8, u8)>,
    weather: Weather,
    drifted: u8,
    broken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    from: u8,
    kind: Kind,
    attempt: u8,
    write: Id,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Beat,
    Take,
    Holder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Answer {
    applied: bool,
    item: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    SendBeat(u8),
    BeatTimesOut(u8),
    /// A read of the row, current or one version old.
    SeeRow(u8, bool),
    /// A strongly consistent read of the row.
    ReadRow(u8),
    /// A read of a worker's item, current or one heartbeat old.
    SeeWorker(u8, u8, bool),
    CheckOwner(u8, u8, bool),
    Tell,
    IsTold,
    Take(u8),
    TakeTimesOut(u8),
    Write(u8),
    WriteTimesOut(u8),
    Arrive(u8),
    Hear(u8),
    Lose(u8),
    Tick,
    OutageBegins,
    OutageEnds,
    /// The first heartbeat after the outage.
    ComesBack(u8),
    /// A tick in which one worker's clock stands still or goes twice as far.
    Drift(u8, bool),
}

pub(crate) struct Timed {
    bounds: Bounds,
    table: Table,
    minds: Minds,
}

impl Timed {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            table: Table::new(WORKERS as u8),
            minds: Minds::default(),
        }
    }

    fn facts(&self, state: &State, worker: u8) -> Facts {
        self.minds.facts(state.minds[usize::from(worker)])
    }

    /// Lets something happen to a worker; returns the write that it sends.
    fn happen(&mut self, state: &mut State, worker: u8, event: Event) -> Id {
        let mind = &mut state.minds[usize::from(worker)];
        let (after, write) = self.minds.step(*mind, event, &mut self.table);
        *mind = after;
        write
    }

    fn send(&mut self, state: &mut State, from: u8, kind: Kind, attempt: u8, event: Event) {
        let write = self.happen(state, from, event);
        let free = state.net.iter_mut().find(|slot| slot.is_none());
        if let (Some(free), true) = (free, write != NONE) {
            *free = Some(Message {
                from,
                kind,
                attempt,
                write,
                answer: None,
            });
        }
    }

    /// A number that no row write of the worker has that is still on its way.
    fn attempt(state: &State, worker: u8) -> u8 {
        let used = |attempt: u8| {
            let mut messages = state.net.iter().flatten();
            messages.any(|m| m.from == worker && m.kind != Kind::Beat && m.attempt == attempt)
        };
        (1..).find(|attempt| !used(*attempt)).unwrap_or(u8::MAX)
    }

    fn arrive(&mut self, state: &mut State, slot: usize) -> u32 {
        let Some(message) = state.net[slot] else {
            return 0;
        };
        let worker = usize::from(message.from);
        let (target, old) = match message.kind {
            Kind::Beat => (&mut state.items[worker], &mut state.old_items[worker]),
            _ => (&mut state.row, &mut state.old_row),
        };
        let found = *target;
        let after = self.table.apply(message.write, found);
        let mut sights = 0;
        if let Some(after) = after {
            (*old, *target) = (found, after);
            if message.kind == Kind::Take {
                sights |= TAKEN;
                let owner = self.table.row(found).owner;
                if self.bounds.well_connected && owner == Some(0) && message.from != 0 {
                    state.broken |= T2;
                }
                if self.bounds.outage.is_some() && owner == Some(0) {
                    state.broken |= MOVE;
                }
            }
        } else if message.kind == Kind::Take {
            sights |= TAKE_REFUSED;
        }
        state.net[slot] = Some(Message {
            answer: Some(Answer {
                applied: after.is_some(),
                item: after.unwrap_or(found),
            }),
            ..message
        });
        sights
    }

    fn hear(&mut self, state: &mut State, slot: usize) -> u32 {
        let Some(message) = state.net[slot].take() else {
            return 0;
        };
        let Some(Answer { applied, item }) = message.answer else {
            return 0;
        };
        let attempt = message.attempt;
        let event = match message.kind {
            Kind::Beat => Event::BeatAnswered(attempt, applied, item),
            Kind::Take => Event::TakeAnswered(attempt, applied, item),
            Kind::Holder => Event::WriteAnswered(attempt, applied, item),
        };
        self.happen(state, message.from, event);
        match (message.kind, applied) {
            (Kind::Holder, true) => CONFIRMED,
            _ => 0,
        }
    }

    /// Drops messages that change nothing any more: refused from now on, and their answers not waited for.
    fn forget_what_is_too_late(&mut self, state: &mut State) {
        for slot in 0..MESSAGES {
            let Some(message) = state.net[slot] else {
                continue;
            };
            let facts = self.facts(state, message.from);
            let (awaited, target) = match message.kind {
                Kind::Beat => (facts.beat, state.items[usize::from(message.from)]),
                Kind::Take => (facts.take, state.row),
                Kind::Holder => (facts.writing, state.row),
            };
            let mut refused = || self.table.apply(message.write, target).is_none();
            if awaited != Some(message.attempt) && (message.answer.is_some() || refused()) {
                state.net[slot] = None;
            }
        }
        state.net.sort_unstable();
    }

    fn pass(&mut self, state: &mut State, drifting: Option<(u8, bool)>) {
        for worker in 0..self.bounds.workers as u8 {
            let ticks = match drifting {
                Some((who, fast)) if who == worker => 2 * u8::from(fast),
                _ => 1,
            };
            if ticks > 0 {
                self.happen(state, worker, Event::Pass(ticks));
            }
        }
    }

    fn worker_actions(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
        let number = usize::from(worker);
        let facts = self.facts(state, worker);
        let room = state.net.iter().flatten().count() < self.bounds.messages;
        if !self.bounds.steady[number] && self.bounds.outage.is_none() {
            let more = facts.heartbeat < u64::from(self.bounds.heartbeats[number]);
            if facts.beat.is_none() && !facts.over && more && room {
                actions.push(Action::SendBeat(worker));
            }
            let patient = self.bounds.well_connected && worker == 0;
            if facts.beat.is_some() && facts.missed < 1 && !patient {
                actions.push(Action::BeatTimesOut(worker));
            }
        }
        if facts.holds {
            if facts.holder_writes && room {
                actions.push(Action::Write(worker));
            }
            if self.bounds.row_timeouts && facts.writing.is_some() {
                actions.push(Action::WriteTimesOut(worker));
            }
        } else if self.bounds.may_take[number] || self.bounds.offered || self.bounds.told {
            self.taker_actions(worker, facts, room, actions);
        }
    }

    fn taker_actions(&self, worker: u8, facts: Facts, room: bool, actions: &mut Vec<Action>) {
        if facts.take.is_some() {
            if self.bounds.row_timeouts {
                actions.push(Action::TakeTimesOut(worker));
            }
            return;
        }
        match facts.wish {
            Wish::Take(_) if room => actions.push(Action::Take(worker)),
            Wish::CheckOwner(owner) => {
                actions.push(Action::CheckOwner(worker, owner, false));
                if self.bounds.stale_checks {
                    actions.push(Action::CheckOwner(worker, owner, true));
                }
            }
            Wish::ReadRow => actions.push(Action::ReadRow(worker)),
            _ => {}
        }
        if self.bounds.may_take[usize::from(worker)] {
            actions.extend([Action::SeeRow(worker, false), Action::SeeRow(worker, true)]);
        }
        let looks = self.bounds.may_take[usize::from(worker)] && !self.bounds.told;
        if looks || self.bounds.told && worker == 1 {
            for other in (0..self.bounds.workers as u8).filter(|other| *other != worker) {
                if !self.bounds.steady[usize::from(other)] {
                    actions.extend([false, true].map(|old| Action::SeeWorker(worker, other, old)));
                }
            }
        }
    }
}

impl Model for Timed {
    type State = State;
    type Action = Action;

    const PROPERTIES: &'static [&'static str] = &[
        "T1 nobody is granted a lease before the other holder's own deadline",
        "T2 a live, well-connected holder is never robbed",
        "A6 a holder that is back in time after an outage keeps its lease",
    ];
    const SIGHTS: &'static [&'static str] = &[
        "a take is applied",
        "a take is refused",
        "a re-grant or checkpoint is applied",
    ];

    fn start(&mut self) -> State {
        let margin: Duration = TICK * self.bounds.margin;
        let mut state = State {
            row: self.table.new_row(FIRST - 1),
            old_row: NONE,
            items: [NONE; WORKERS],
            old_items: [NONE; WORKERS],
            minds: [NONE; WORKERS],
            net: [None; MESSAGES],
            told: None,
            weather: Weather::Before,
            drifted: 0,
            broken: 0,
        };
        let take = self.table.take(state.row, 0);
        state.row = self.table.apply(take, state.row).expect("it is free");
        for worker in 0..self.bounds.workers {
            let number = worker as u8;
            let steady = self.bounds.steady[worker];
            let takes = self.bounds.may_take[worker] || self.bounds.offered;
            let mut mind = Mind::new(&self.table, number, steady, takes, margin);
            if worker == 0 && !self.bounds.offered {
                mind = mind.holding(&self.table, state.row);
            }
            state.minds[worker] = self.minds.id(mind, &mut self.table);
            state.items[worker] = self.table.new_session(number);
        }
        if self.bounds.offered {
            let row = state.row;
            self.happen(&mut state, 0, Event::ReadsRow(row));
        }
        state
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        if let Some(outage) = self.bounds.outage {
            self.weather_actions(state, outage, actions);
            if matches!(state.weather, Weather::Out(_)) {
                return;
            }
        }
        for worker in 0..self.bounds.workers as u8 {
            self.worker_actions(state, worker, actions);
            if state.drifted < self.bounds.drift {
                actions.extend([Action::Drift(worker, false), Action::Drift(worker, true)]);
            }
        }
        if self.bounds.told {
            actions.extend([Action::Tell, Action::IsTold]);
        }
        for (slot, message) in state.net.iter().enumerate() {
            let Some(message) = message else {
                continue;
            };
            let slot = slot as u8;
            actions.push(match message.answer {
                Some(_) => Action::Hear(slot),
                None => Action::Arrive(slot),
            });
            let sure =
                self.bounds.well_connected && message.from == 0 && message.kind == Kind::Beat;
            if !sure {
                actions.push(Action::Lose(slot));
            }
        }
        let waits = self.bounds.well_connected && !self.facts(state, 0).beat_is_fresh;
        if self.bounds.outage.is_none() && !waits {
            actions.push(Action::Tick);
        }
    }

    fn step(&mut self, before: &State, action: Action) -> Option<(State, u32)> {
        let mut state = *before;
        let sights = self.act(&mut state, action);
        self.forget_what_is_too_late(&mut state);
        let row = self.table.row(state.row);
        for worker in 0..self.bounds.workers as u8 {
            if row.owner != Some(worker) && self.facts(&state, worker).current {
                state.broken |= T1;
            }
        }
        (state != *before).then_some((state, sights))
    }

    fn broken(&self, state: &State) -> u32 {
        state.broken
    }

    fn is_within(&self, state: &State) -> bool {
        self.table.counter(state.row) < FIRST + self.bounds.counter
    }
}

impl Timed {
    fn act(&mut self, state: &mut State, action: Action) -> u32 {
        match action {
            Action::SendBeat(worker) => {
                let attempt = self.facts(state, worker).next_beat;
                self.send(state, worker, Kind::Beat, attempt, Event::SendBeat);
            }
            Action::BeatTimesOut(worker) => {
                self.happen(state, worker, Event::BeatTimesOut);
            }
            Action::SeeRow(worker, old) => {
                let row = if old { state.old_row } else { state.row };
                let facts = self.facts(state, worker);
                // A scan says nothing of a row that is in doubt.
                if row != NONE && row != facts.row && facts.wish != Wish::ReadRow {
                    self.happen(state, worker, Event::SeesRow(row));
                }
            }
            Action::ReadRow(worker) => {
                let row = state.row;
                self.happen(state, worker, Event::ReadsRow(row));
            }
            Action::SeeWorker(worker, other, old) => {
                let item = Self::item(state, other, old);
                if item != NONE {
                    self.happen(state, worker, Event::SeesWorker(other, item));
                }
            }
            Action::CheckOwner(worker, other, old) => {
                let item = Self::item(state, other, old);
                self.happen(state, worker, Event::ChecksOwner(other, item));
            }
            Action::Tell => state.told = self.facts(state, 1).tells.or(state.told),
            Action::IsTold => {
                if let Some((heartbeat, age)) = state.told {
                    self.happen(state, 2, Event::IsTold(heartbeat, age));
                }
            }
            Action::Take(worker) => {
                let attempt = Self::attempt(state, worker);
                self.send(state, worker, Kind::Take, attempt, Event::Takes(attempt));
            }
            Action::TakeTimesOut(worker) => {
                self.happen(state, worker, Event::TakeTimesOut);
            }
            Action::Write(worker) => {
                let attempt = Self::attempt(state, worker);
                self.send(state, worker, Kind::Holder, attempt, Event::Writes(attempt));
            }
            Action::WriteTimesOut(worker) => {
                self.happen(state, worker, Event::WriteTimesOut);
            }
            Action::Arrive(slot) => return self.arrive(state, slot.into()),
            Action::Hear(slot) => return self.hear(state, slot.into()),
            Action::Lose(slot) => state.net[usize::from(slot)] = None,
            Action::Tick => match self.bounds.outage {
                Some(outage) => self.weather_passes(state, outage),
                None => self.pass(state, None),
            },
            Action::OutageBegins => state.weather = Weather::Out(0),
            Action::OutageEnds => state.weather = Weather::After(0, [false; 2]),
            Action::ComesBack(worker) => {
                self.beat(state, worker);
                if let Weather::After(_, back) = &mut state.weather {
                    back[usize::from(worker)] = true;
                }
            }
            Action::Drift(worker, fast) => {
                state.drifted += 1;
                self.pass(state, Some((worker, fast)));
            }
        }
        0
    }

    fn item(state: &State, worker: u8, old: bool) -> Id {
        let worker = usize::from(worker);
        match old && state.old_items[worker] != NONE {
            true => state.old_items[worker],
            false => state.items[worker],
        }
    }
}
