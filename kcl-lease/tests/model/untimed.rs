//! One lease without clocks: two workers with two ids each, and a network that delays, loses and repeats.
//!
//! "Expired" may be decided at any moment after a read, and a session may lapse at any moment. A request may land late,
//! twice, or with its answer lost. Of the workers, [`Holding`] is production code; so is every write and what it does to
//! an item. What a worker does without a lease is any take or accept of a version of the row that it may have read.
//!
//! Ghosts are what nobody in the protocol knows: they judge it.

use std::time::Duration;

use kcl_lease::internals::{Answer, Call, Holding, Moments, Turn, Validity, moment};
use kcl_lease::item::{Value, attribute};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;
use kcl_lease::write;

use crate::explore::{Model, Unordered};
use crate::intern::{Id, Interner, NONE};
use crate::table::{Row, Table, checkpoint};

const WORKERS: usize = 2;
const IDS: usize = 2 * WORKERS;
const IN_FLIGHT: usize = 2;
/// A worker of the Java library, which has no item of ours.
const JAVA: u8 = IDS as u8;
/// The first counter of a row that was deleted and made again: the epoch milliseconds are larger by then.
const AGAIN: u64 = 100;

const S1: u32 = 1;
const S2: u32 = 1 << 1;
const S3: u32 = 1 << 2;
const S4: u32 = 1 << 3;
const S5: u32 = 1 << 4;
const S6: u32 = 1 << 5;
const S7: u32 = 1 << 6;
const S8: u32 = 1 << 7;
const S9: u32 = 1 << 8;

const TWO_DELIVER: u32 = 1;
const DUPLICATE: u32 = 1 << 1;
const DONE: u32 = 1 << 2;
const CLEAN: u32 = 1 << 3;
const RECOVERED: u32 = 1 << 4;
const REGRANTED: u32 = 1 << 5;

/// What may happen, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) records: u8,
    pub(crate) counter: u64,
    pub(crate) in_flight: usize,
    /// The network may repeat a request on its own.
    pub(crate) copies: bool,
    /// Reads may be up to two versions old.
    pub(crate) stale_reads: bool,
    pub(crate) lapses: bool,
    pub(crate) hand_overs: u8,
    /// Crashes and graceful exits.
    pub(crate) faults: u8,
    pub(crate) exits: bool,
    /// Worker items cleaned up under a live worker, and late copies of registrations.
    pub(crate) clean_ups: u8,
    /// The row may be deleted and made again.
    pub(crate) made_again: bool,
    /// A Java leader may once change the owner, which it does without moving the counter.
    pub(crate) java: bool,
}

impl Bounds {
    pub(crate) const BASE: Self = Self {
        records: 2,
        counter: 4,
        in_flight: 2,
        copies: true,
        stale_reads: true,
        lapses: true,
        hand_overs: 0,
        faults: 0,
        exits: false,
        clean_ups: 0,
        made_again: false,
        java: false,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    row: Id,
    /// Earlier versions of the row that a read may still show.
    old: [Id; 2],
    ghost: Ghost,
    /// The workers' items by id.
    items: [Id; IDS],
    workers: [Worker; WORKERS],
    net: [Option<Request>; IN_FLIGHT],
    /// Records that somebody processed, one bit each.
    delivered: u8,
    broken: u32,
    hand_overs: u8,
    faults: u8,
    clean_ups: u8,
    made_again: bool,
    java: bool,
}

/// What the row's history was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ghost {
    /// Changes of the owner.
    changes: u8,
    /// The checkpoint at the last one.
    start: u8,
    /// Up to here the last owner processed before it gave the lease away.
    clean: u8,
    /// The largest token of a grant.
    token: u64,
    /// The number of changes when the row was made.
    born: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Worker {
    up: bool,
    id: u8,
    draining: bool,
    held: Option<Held>,
    wait: Option<Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Held {
    holding: Id,
    /// Ghost: the change of owner that granted it.
    change: u8,
    /// How many records this grant's holder processed, counted from the first one.
    position: u8,
}

/// A call whose answer a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Wait {
    attempt: u8,
    write: Id,
    /// The row as it was read, for takes and accepts.
    read: Id,
    /// It was sent before a lapse.
    lapsed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Request {
    from: u8,
    id: u8,
    attempt: u8,
    write: Id,
    read: Id,
    change: u8,
    position: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker that holds nothing takes or accepts the row as it was so many versions ago.
    Take(u8, u8),
    /// The call that the holder wants to make anyway: a re-grant, or a write again.
    Send(u8),
    Checkpoint(u8),
    Release(u8),
    HandOver(u8, u8),
    Process(u8),
    Lapse(u8),
    /// An answer is not waited for any longer.
    GiveUp(u8),
    Copy(u8),
    /// A heartbeat shows the worker that its item is gone.
    SessionOver(u8),
    Crash(u8),
    Restart(u8),
    Drain(u8),
    Exit(u8),
    CleanUp(u8),
    LateRegistration(u8),
    MakeAgain,
    JavaMoves,
    Deliver(u8),
    LoseAnswer(u8),
    Lose(u8),
}

/// What a holder is asked, or what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Send(u8),
    Checkpoint(u8, u8),
    Release(u8, u8, Option<u8>),
    Applied(u8),
    Refused(u8, Id),
    Lost(u8),
    Lapse,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Calls(Id),
    Silent,
    Confirmed,
    Ended,
    Lost,
}

pub(crate) struct Untimed {
    bounds: Bounds,
    table: Table,
    holdings: Interner<Holding>,
    /// What the production code answered before.
    steps: Unordered<(Id, Event), (Id, Outcome)>,
}

fn before_lapse() -> Moment {
    moment(Duration::ZERO)
}

fn now() -> Moment {
    moment(Duration::from_secs(1))
}

fn validity() -> Validity {
    Validity::new(moment(Duration::from_secs(1_000)), now())
}

impl Untimed {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            table: Table::new(JAVA + 1),
            holdings: Interner::default(),
            steps: Unordered::default(),
        }
    }

    // --- production decisions, each computed once -------------------------------------------------------------------

    fn ask(&mut self, holding: Id, event: Event) -> (Id, Outcome) {
        if let Some(known) = self.steps.get(&(holding, event)) {
            return *known;
        }
        let mut after = self.holdings.get(holding).clone();
        let outcome = self.decide(&mut after, event);
        after.forget_failures();
        let result = (self.holdings.id(after), outcome);
        self.steps.insert((holding, event), result);
        result
    }

    fn decide(&mut self, holding: &mut Holding, event: Event) -> Outcome {
        let turn = match event {
            Event::Send(attempt) => return self.next_call(holding, attempt),
            Event::Checkpoint(attempt, at) => {
                holding.want_checkpoint(checkpoint(at));
                return self.next_call(holding, attempt);
            }
            Event::Release(attempt, at, to) => {
                let to = to.map(|to| self.table.worker(to).clone());
                holding.want_release(Some(checkpoint(at)), to);
                return self.next_call(holding, attempt);
            }
            Event::Lapse => {
                holding.each_moment(&mut |moment| *moment = before_lapse());
                return Outcome::Silent;
            }
            Event::Applied(attempt) => {
                holding.answered(attempt.into(), Answer::Applied, validity(), now())
            }
            Event::Refused(attempt, found) => {
                let found = self.table.items.find(found).cloned();
                holding.answered(attempt.into(), Answer::Refused(found), validity(), now())
            }
            Event::Lost(attempt) => {
                holding.answered(attempt.into(), Answer::Lost, validity(), now())
            }
        };
        match turn {
            Turn::Open | Turn::Delayed => Outcome::Silent,
            Turn::Confirmed => Outcome::Confirmed,
            Turn::Released(_) | Turn::Ended => Outcome::Ended,
            Turn::Lost => Outcome::Lost,
        }
    }

    fn next_call(&mut self, holding: &mut Holding, attempt: u8) -> Outcome {
        match holding.next_call(validity(), now(), attempt.into(), 0) {
            Some(Call::Write(write)) => Outcome::Calls(self.table.writes.id(write)),
            _ => Outcome::Silent,
        }
    }

    /// Whether the holder may process records now.
    fn is_current(&self, held: Held) -> bool {
        self.holdings
            .get(held.holding)
            .is_current(validity(), now())
    }

    fn row(&mut self, state: &State) -> Row {
        self.table.row(state.row)
    }

    // --- parts of steps ---------------------------------------------------------------------------------------------

    /// The row as it was so many versions ago.
    fn version(state: &State, age: u8) -> Id {
        match age {
            0 => state.row,
            age => state.old[usize::from(age) - 1],
        }
    }

    /// A number that no call of the worker has that is still on its way.
    fn attempt(state: &State, worker: u8) -> u8 {
        let used = |attempt: u8| {
            let on_its_way = state.net.iter().flatten();
            on_its_way
                .filter(|request| request.from == worker)
                .any(|request| request.attempt == attempt)
        };
        (1..).find(|attempt| !used(*attempt)).unwrap_or(u8::MAX)
    }

    fn send(state: &mut State, worker: u8, attempt: u8, write: Id, read: Id) {
        let who = &mut state.workers[usize::from(worker)];
        let (change, position) = who.held.map_or((0, 0), |h| (h.change, h.position));
        who.wait = Some(Wait {
            attempt,
            write,
            read,
            lapsed: false,
        });
        let request = Request {
            from: worker,
            id: who.id,
            attempt,
            write,
            read,
            change,
            position,
        };
        Self::put(state, request);
    }

    fn put(state: &mut State, request: Request) {
        if let Some(free) = state.net.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(request);
        }
        state.net.sort_unstable();
    }

    /// Drops requests that cannot be applied any more and whose answers nobody waits for: they change nothing.
    fn forget_what_is_too_late(&mut self, state: &mut State) {
        // Where counters can shrink, nothing is ever too late.
        if mutant::is(Mutant::NewRowCounterZero) {
            return;
        }
        for slot in 0..IN_FLIGHT {
            let Some(request) = state.net[slot] else {
                continue;
            };
            let sender = &state.workers[usize::from(request.from)];
            let awaited = sender.up
                && sender.id == request.id
                && sender
                    .wait
                    .is_some_and(|wait| wait.attempt == request.attempt);
            if !awaited && self.table.is_too_late(request.write, state.row) {
                state.net[slot] = None;
            }
        }
        state.net.sort_unstable();
    }

    fn call(&mut self, state: &mut State, worker: u8, event: Event, attempt: u8) {
        let who = &mut state.workers[usize::from(worker)];
        let Some(held) = who.held.as_mut() else {
            return;
        };
        let (after, outcome) = self.ask(held.holding, event);
        held.holding = after;
        if let Outcome::Calls(write) = outcome {
            Self::send(state, worker, attempt, write, NONE);
        }
    }

    /// The lease is not held any more.
    fn lose(&mut self, state: &mut State, worker: usize) {
        let row = self.row(state);
        let who = &mut state.workers[worker];
        if let Some(held) = who.held.take()
            && held.change == state.ghost.changes
            && row.owner == Some(who.id)
        {
            state.broken |= S9;
        }
    }

    /// A new session under a new id, as long as there is one.
    fn begin_session(&mut self, state: &mut State, worker: usize) {
        let who = &mut state.workers[worker];
        who.held = None;
        who.wait = None;
        who.draining = false;
        who.up = usize::from(who.id) + WORKERS < IDS;
        if who.up {
            who.id += WORKERS as u8;
            let id = who.id;
            state.items[usize::from(id)] = self.table.new_session(id);
        }
    }

    /// A request arrives at the table. Returns whether it was applied, and the row that it found.
    fn arrive(&mut self, state: &mut State, request: Request) -> (bool, Id) {
        let found = state.row;
        let Some(after) = self.table.apply(request.write, found) else {
            return (false, found);
        };
        let (old, new) = (self.table.row(found), self.table.row(after));
        let sender = &state.workers[usize::from(request.from)];
        // What the giver really processed under this grant, also after it sent the request.
        let position = match sender.held {
            Some(held) if held.change == request.change && sender.id == request.id => {
                held.position.max(request.position)
            }
            _ => request.position,
        };
        let ghost = &mut state.ghost;
        if request.read != NONE {
            let read = self.table.row(request.read);
            if (read.owner, read.counter) != (old.owner, old.counter) {
                state.broken |= S7;
            }
            if new.counter <= ghost.token {
                state.broken |= S8;
            }
            ghost.token = new.counter;
        } else if request.change != ghost.changes {
            state.broken |= S2;
        }
        if new.owner != old.owner {
            ghost.changes += 1;
            ghost.start = new.checkpoint;
            let taken = request.read != NONE;
            // A lease that was released clean is still clean when it is taken.
            ghost.clean = match (taken, old.owner) {
                (true, Some(_)) => 0,
                (true, None) => ghost.clean,
                (false, _) => position,
            };
        }
        if new.checkpoint < old.checkpoint {
            state.broken |= S1;
        }
        let covered = (1_u8 << new.checkpoint) - 1;
        if state.delivered & covered != covered {
            state.broken |= S6;
        }
        if self.bounds.stale_reads {
            state.old = [found, state.old[0]];
        }
        state.row = after;
        (true, after)
    }

    /// The answer arrives at the worker.
    fn hear(&mut self, state: &mut State, request: Request, applied: bool, row: Id) -> u32 {
        let worker = usize::from(request.from);
        let who = &mut state.workers[worker];
        let Some(wait) = who
            .wait
            .take_if(|wait| who.up && who.id == request.id && wait.attempt == request.attempt)
        else {
            return 0;
        };
        let Some(held) = who.held.as_mut() else {
            if applied {
                self.grant(state, worker, wait, row);
            }
            return 0;
        };
        let event = match applied {
            true => Event::Applied(wait.attempt),
            false => Event::Refused(wait.attempt, row),
        };
        let (after, outcome) = self.ask(held.holding, event);
        held.holding = after;
        let change = held.change;
        match (outcome, applied) {
            (Outcome::Confirmed, true) => REGRANTED,
            (Outcome::Confirmed, false) => {
                // It believes that the lease is still its own.
                if change != state.ghost.changes {
                    state.broken |= S3;
                }
                RECOVERED
            }
            (Outcome::Ended, _) => {
                state.workers[worker].held = None;
                CLEAN
            }
            (Outcome::Lost, _) => {
                self.lose(state, worker);
                0
            }
            _ => 0,
        }
    }

    /// A take or accept was applied.
    fn grant(&mut self, state: &mut State, worker: usize, wait: Wait, row: Id) {
        let lease = self.table.lease(row).expect("the row that was taken");
        let sent = match wait.lapsed && !mutant::is(Mutant::GrantAcrossLapse) {
            true => before_lapse(),
            false => now(),
        };
        let who = &mut state.workers[worker];
        let holding = Holding::new(&lease, self.table.worker(who.id), sent);
        who.held = Some(Held {
            holding: self.holdings.id(holding),
            change: state.ghost.changes,
            position: self.table.row(row).checkpoint,
        });
    }

    /// Mutant: a worker starts because a read row names it, without writing.
    fn start_without_accept(&mut self, state: &mut State, worker: usize, read: Id) {
        let (read_row, row) = (self.table.row(read), self.row(state));
        if (read_row.owner, read_row.counter) != (row.owner, row.counter) {
            state.broken |= S3;
        }
        if read_row.counter <= state.ghost.token {
            state.broken |= S8;
        }
        state.ghost.token = read_row.counter;
        let wait = Wait {
            attempt: 0,
            write: NONE,
            read,
            lapsed: false,
        };
        self.grant(state, worker, wait, read);
    }

    fn process(&mut self, state: &mut State, worker: usize) -> u32 {
        let Some(held) = state.workers[worker].held.as_mut() else {
            return 0;
        };
        let record = held.position;
        held.position += 1;
        let (held, mut sights) = (*held, 0);
        if held.change != state.ghost.changes {
            sights |= TWO_DELIVER;
        } else {
            if record < state.ghost.start {
                state.broken |= S4;
            }
            if record < state.ghost.clean {
                state.broken |= S5;
            }
        }
        if state.delivered >> record & 1 == 1 {
            sights |= DUPLICATE;
        }
        if held.change >= state.ghost.born {
            state.delivered |= 1 << record;
        }
        sights
    }
}

impl Model for Untimed {
    type State = State;
    type Action = Action;

    const PROPERTIES: &'static [&'static str] = &[
        "S1 the checkpoint never goes back",
        "S2 no write of an old grant is applied",
        "S3 nobody believes wrongly that it holds",
        "S4 a grant starts at the stored checkpoint",
        "S5 a clean hand-over means no duplicates",
        "S6 nothing is lost",
        "S7 the owner changes only on a current view",
        "S8 the fencing token grows",
        "S9 nobody drops a lease that is its own",
    ];
    const SIGHTS: &'static [&'static str] = &[
        "two deliver at once",
        "a duplicate",
        "all records done",
        "a clean end",
        "a recovered answer",
        "a write confirms the grant",
    ];

    fn start(&mut self) -> State {
        let worker = |id| Worker {
            up: true,
            id,
            draining: false,
            held: None,
            wait: None,
        };
        let mut items = [NONE; IDS];
        for (id, item) in items.iter_mut().enumerate().take(WORKERS) {
            *item = self.table.new_session(id as u8);
        }
        State {
            row: self.table.new_row(0),
            old: [NONE; 2],
            ghost: Ghost {
                changes: 0,
                start: 0,
                clean: 0,
                token: 0,
                born: 0,
            },
            items,
            workers: [worker(0), worker(1)],
            net: [None; IN_FLIGHT],
            delivered: 0,
            broken: 0,
            hand_overs: 0,
            faults: 0,
            clean_ups: 0,
            made_again: false,
            java: false,
        }
    }

    fn actions(&mut self, state: &State, actions: &mut Vec<Action>) {
        let on_its_way = state.net.iter().flatten().count();
        let room = on_its_way < self.bounds.in_flight;
        for number in 0..WORKERS as u8 {
            self.worker_actions(state, number, room, actions);
        }
        for id in 0..IDS {
            let exists = state.items[id] != NONE;
            if state.clean_ups < self.bounds.clean_ups {
                let registered = usize::from(state.workers[id % WORKERS].id) >= id;
                match exists {
                    true => actions.push(Action::CleanUp(id as u8)),
                    false if registered => actions.push(Action::LateRegistration(id as u8)),
                    false => {}
                }
            }
        }
        // Lost requests first: the slots are sorted, empty ones first.
        for slot in 0..IN_FLIGHT as u8 {
            if state.net[usize::from(slot)].is_some() {
                actions.extend([
                    Action::Deliver(slot),
                    Action::LoseAnswer(slot),
                    Action::Lose(slot),
                ]);
            }
        }
        let owned = self.row(state).owner.is_some();
        if self.bounds.made_again && !state.made_again && owned {
            actions.push(Action::MakeAgain);
        }
        if self.bounds.java && !state.java && owned {
            actions.push(Action::JavaMoves);
        }
    }

    fn step(&mut self, before: &State, action: Action) -> Option<(State, u32)> {
        let mut state = *before;
        let sights = self.act(&mut state, action);
        self.forget_what_is_too_late(&mut state);
        let done = self.row(&state).checkpoint == self.bounds.records;
        let sights = sights | if done { DONE } else { 0 };
        (state != *before).then_some((state, sights))
    }

    fn broken(&self, state: &State) -> u32 {
        state.broken
    }

    fn is_within(&self, state: &State) -> bool {
        // Rows were met before, or they could not be in a state.
        let counter = self.table.counter(state.row);
        counter <= self.bounds.counter || (AGAIN..=AGAIN + self.bounds.counter).contains(&counter)
    }

    fn checks_recovery(&self) -> bool {
        true
    }

    fn is_well(&mut self, state: &State) -> bool {
        let row = self.row(state);
        let held = |worker: &Worker| {
            let current = worker
                .held
                .filter(|held| held.change == state.ghost.changes)
                .is_some_and(|held| self.is_current(held));
            worker.up && current && row.owner == Some(worker.id)
        };
        let nobody_left = |worker: &Worker| !worker.up && usize::from(worker.id) + WORKERS >= IDS;
        self.bounds.records > 0 && row.checkpoint >= self.bounds.records
            || state.workers.iter().any(held)
            || state.workers.iter().all(nobody_left)
    }

    fn is_fair(&mut self, state: &State, action: Action) -> bool {
        match action {
            // Only what a current read shows, and only from an owner that is gone.
            Action::Take(worker, age) => {
                let row = self.row(state);
                let me = state.workers[usize::from(worker)].id;
                let lives = |owner: u8| {
                    let mut workers = state.workers.iter();
                    workers.any(|worker| worker.up && worker.id == owner)
                };
                age == 0 && row.owner.is_none_or(|owner| owner == me || !lives(owner))
            }
            Action::GiveUp(worker) => {
                let mut on_its_way = state.net.iter().flatten();
                !on_its_way.any(|request| request.from == worker)
            }
            Action::LoseAnswer(_)
            | Action::Lose(_)
            | Action::Copy(_)
            | Action::Crash(_)
            | Action::Drain(_)
            | Action::CleanUp(_)
            | Action::LateRegistration(_)
            | Action::MakeAgain
            | Action::JavaMoves => false,
            _ => true,
        }
    }
}

impl Untimed {
    fn worker_actions(&mut self, state: &State, number: u8, room: bool, actions: &mut Vec<Action>) {
        let worker = &state.workers[usize::from(number)];
        if !worker.up {
            if usize::from(worker.id) + WORKERS < IDS {
                actions.push(Action::Restart(number));
            }
            return;
        }
        if state.items[usize::from(worker.id)] == NONE {
            actions.push(Action::SessionOver(number));
        }
        if worker.wait.is_some() {
            actions.push(Action::GiveUp(number));
            let copies = state.net.iter().flatten();
            let copies = copies.filter(|request| request.from == number).count();
            if self.bounds.copies && room && copies < 2 {
                actions.push(Action::Copy(number));
            }
        }
        if state.faults < self.bounds.faults {
            actions.push(Action::Crash(number));
            if self.bounds.exits && !worker.draining {
                actions.push(Action::Drain(number));
            }
        }
        let idle = worker.wait.is_none();
        match worker.held {
            Some(held) => self.holder_actions(state, number, held, idle && room, actions),
            None if worker.draining && idle => actions.push(Action::Exit(number)),
            None if idle && room && !worker.draining => {
                let versions = (0..3).filter(|age| Self::version(state, *age) != NONE);
                actions.extend(versions.map(|age| Action::Take(number, age)));
            }
            None => {}
        }
        if self.bounds.lapses && (worker.held.is_some() || worker.wait.is_some()) {
            actions.push(Action::Lapse(number));
        }
    }

    fn holder_actions(
        &mut self,
        state: &State,
        number: u8,
        held: Held,
        free: bool,
        actions: &mut Vec<Action>,
    ) {
        let worker = &state.workers[usize::from(number)];
        let current = self.is_current(held);
        if current && held.position < self.bounds.records {
            actions.push(Action::Process(number));
        }
        if !free {
            return;
        }
        let attempt = Self::attempt(state, number);
        let (_, sends) = self.ask(held.holding, Event::Send(attempt));
        if matches!(sends, Outcome::Calls(_)) {
            actions.push(Action::Send(number));
        }
        if !self.is_current(held) {
            return;
        }
        if checkpoint(held.position) > *self.holdings.get(held.holding).committed() {
            actions.push(Action::Checkpoint(number));
        }
        if state.hand_overs < self.bounds.hand_overs || worker.draining {
            actions.push(Action::Release(number));
            let others = (0..IDS as u8).filter(|id| *id != worker.id);
            actions.extend(others.map(|to| Action::HandOver(number, to)));
        }
    }

    fn act(&mut self, state: &mut State, action: Action) -> u32 {
        match action {
            Action::Take(number, age) => {
                let read = Self::version(state, age);
                let worker = usize::from(number);
                let me = state.workers[worker].id;
                let names_me = self.table.row(read).owner == Some(me);
                if names_me && mutant::is(Mutant::StartWithoutAccept) {
                    self.start_without_accept(state, worker, read);
                } else {
                    let write = self.table.take(read, me);
                    Self::send(state, number, Self::attempt(state, number), write, read);
                }
            }
            Action::Send(number) => {
                let attempt = Self::attempt(state, number);
                self.call(state, number, Event::Send(attempt), attempt);
            }
            Action::Checkpoint(number) => {
                let attempt = Self::attempt(state, number);
                let at = state.workers[usize::from(number)]
                    .held
                    .map_or(0, |h| h.position);
                self.call(state, number, Event::Checkpoint(attempt, at), attempt);
            }
            Action::Release(number) => self.give_away(state, number, None),
            Action::HandOver(number, to) => self.give_away(state, number, Some(to)),
            Action::Process(number) => return self.process(state, number.into()),
            Action::Lapse(number) => self.lapse(state, number.into()),
            Action::GiveUp(number) => self.give_up(state, number.into()),
            Action::Copy(number) => Self::copy(state, number),
            Action::Deliver(slot) | Action::LoseAnswer(slot) => {
                let Some(request) = state.net[usize::from(slot)].take() else {
                    return 0;
                };
                state.net.sort_unstable();
                let (applied, row) = self.arrive(state, request);
                if matches!(action, Action::Deliver(_)) {
                    return self.hear(state, request, applied, row);
                }
            }
            Action::Lose(slot) => {
                state.net[usize::from(slot)] = None;
                state.net.sort_unstable();
            }
            fault => self.befall(state, fault),
        }
        0
    }

    fn befall(&mut self, state: &mut State, fault: Action) {
        match fault {
            Action::SessionOver(number) | Action::Restart(number) => {
                self.begin_session(state, number.into());
            }
            Action::Crash(number) => {
                state.faults += 1;
                let worker = &mut state.workers[usize::from(number)];
                worker.up = false;
                worker.held = None;
                worker.wait = None;
                worker.draining = false;
            }
            Action::Drain(number) => {
                state.faults += 1;
                let worker = &mut state.workers[usize::from(number)];
                worker.draining = true;
                let id = worker.id;
                if state.items[usize::from(id)] != NONE {
                    let drain = write::drain(self.table.worker(id));
                    let item = state.items[usize::from(id)];
                    state.items[usize::from(id)] = self.table.change(item, drain);
                }
            }
            Action::Exit(number) => {
                let worker = &mut state.workers[usize::from(number)];
                worker.up = false;
                worker.draining = false;
                let id = worker.id;
                self.delete_worker(state, id);
            }
            Action::CleanUp(id) => {
                state.clean_ups += 1;
                self.delete_worker(state, id);
            }
            Action::LateRegistration(id) => {
                state.clean_ups += 1;
                state.items[usize::from(id)] = self.table.new_session(id);
            }
            Action::MakeAgain => self.make_again(state),
            Action::JavaMoves => self.java_moves(state),
            _ => {}
        }
    }

    fn delete_worker(&mut self, state: &mut State, id: u8) {
        let item = state.items[usize::from(id)];
        if item != NONE {
            let delete = write::delete_worker(self.table.worker(id), 0);
            state.items[usize::from(id)] = self.table.change(item, delete);
        }
    }

    /// The row is deleted by hand and made again from a listing.
    fn make_again(&mut self, state: &mut State) {
        state.made_again = true;
        state.row = self.table.new_row(AGAIN);
        state.old = [NONE; 2];
        state.delivered = 0;
        let ghost = &mut state.ghost;
        ghost.changes += 1;
        ghost.born = ghost.changes;
        ghost.start = 0;
        ghost.clean = 0;
    }

    /// The owner changes under the same counter.
    fn java_moves(&mut self, state: &mut State) {
        let mut item = self.table.items.get(state.row).clone();
        let java = self.table.worker(JAVA).as_str().to_owned();
        item.insert(attribute::OWNER.to_owned(), Value::text(java));
        state.java = true;
        state.row = self.table.items.id(item);
        let ghost = &mut state.ghost;
        ghost.changes += 1;
        ghost.clean = 0;
        ghost.start = self.table.row(state.row).checkpoint;
    }

    fn give_away(&mut self, state: &mut State, number: u8, to: Option<u8>) {
        state.hand_overs = (state.hand_overs + 1).min(self.bounds.hand_overs);
        let attempt = Self::attempt(state, number);
        let at = state.workers[usize::from(number)]
            .held
            .map_or(0, |h| h.position);
        self.call(state, number, Event::Release(attempt, at, to), attempt);
    }

    fn lapse(&mut self, state: &mut State, worker: usize) {
        let who = &mut state.workers[worker];
        if let (Some(wait), None) = (who.wait.as_mut(), who.held) {
            wait.lapsed = true;
        }
        if let Some(held) = who.held {
            let (after, _) = self.ask(held.holding, Event::Lapse);
            state.workers[worker].held = Some(Held {
                holding: after,
                ..held
            });
        }
    }

    fn give_up(&mut self, state: &mut State, worker: usize) {
        let who = &mut state.workers[worker];
        let (Some(wait), Some(held)) = (who.wait.take(), who.held) else {
            return;
        };
        let (after, _) = self.ask(held.holding, Event::Lost(wait.attempt));
        state.workers[worker].held = Some(Held {
            holding: after,
            ..held
        });
    }

    fn copy(state: &mut State, number: u8) {
        let worker = state.workers[usize::from(number)];
        if let Some(wait) = worker.wait {
            let (change, position) = worker.held.map_or((0, 0), |h| (h.change, h.position));
            let request = Request {
                from: number,
                id: worker.id,
                attempt: wait.attempt,
                write: wait.write,
                read: wait.read,
                change,
                position,
            };
            Self::put(state, request);
        }
    }
}
