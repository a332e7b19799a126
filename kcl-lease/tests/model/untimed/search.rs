//! What can happen in a state, and what must hold in it.

use super::holding::{Event, Outcome};
use super::*;
use crate::explore::Model;
use crate::intern::NONE;
use crate::table::checkpoint;

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
        "C1 a seek is applied once",
        "C2 progress of the time before a seek is not stored after it",
        "C3 nothing is delivered after a pause was reported",
    ];
    const SIGHTS: &'static [&'static str] = &[
        "two deliver at once",
        "a duplicate",
        "all records done",
        "a clean end",
        "a recovered answer",
        "a write confirms the grant",
        "a seek is applied",
        "a pause is reported",
        "a command arrives again",
    ];

    fn start(&mut self) -> State {
        let worker = |id| Worker {
            up: true,
            id,
            draining: false,
            held: None,
            wait: None,
            hinted: false,
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
            commands: Commands::default(),
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
        self.command_actions(state, actions);
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
        let well = self.bounds.records > 0 && row.checkpoint >= self.bounds.records
            || state.workers.iter().any(held);
        well && self.is_obeyed(state) || state.workers.iter().all(nobody_left)
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
            | Action::JavaMoves
            | Action::Command(..)
            | Action::LateCommand => false,
            // Only what a current look at the row shows.
            Action::Care(age) => age == 0,
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
        if self.bounds.commands > 0 {
            let knows = self.holdings.get(held.holding).orders().is_some();
            if !knows || worker.hinted {
                actions.push(Action::Look(number));
            }
        }
        if current && self.may_deliver(held) && held.position < self.bounds.records {
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
        if self.obeys(held, attempt) {
            actions.push(Action::Obey(number));
        }
        if !self.is_current(held) {
            return;
        }
        let holding = self.holdings.get(held.holding);
        if checkpoint(held.position) > *holding.committed() && !holding.is_obeying() {
            actions.push(Action::Checkpoint(number));
        }
        if state.hand_overs < self.bounds.hand_overs || worker.draining {
            actions.push(Action::Release(number));
            let others = (0..IDS as u8).filter(|id| *id != worker.id);
            actions.extend(others.map(|to| Action::HandOver(number, to)));
        }
    }
}
