//! Carrying out one action.

use kcl_lease::item::{Value, attribute};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::write;

use super::holding::Event;
use super::*;
use crate::intern::NONE;

impl Untimed {
    pub(super) fn act(&mut self, state: &mut State, action: Action) -> u32 {
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
            Action::Command(command, hint) => self.command(state, command, hint),
            Action::Look(number) => self.look(state, number.into()),
            Action::Obey(number) => {
                let attempt = Self::attempt(state, number);
                self.call(state, number, Event::Obey(attempt), attempt);
            }
            Action::Care(age) => self.care(state, age),
            Action::Tidy => self.tidy(state),
            Action::LateCommand => return self.late_command(state),
            fault => self.befall(state, fault),
        }
        0
    }

    pub(super) fn befall(&mut self, state: &mut State, fault: Action) {
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

    pub(super) fn delete_worker(&mut self, state: &mut State, id: u8) {
        let item = state.items[usize::from(id)];
        if item != NONE {
            let delete = write::delete_worker(self.table.worker(id), 0);
            state.items[usize::from(id)] = self.table.change(item, delete);
        }
    }

    /// The row is deleted by hand and made again from a listing.
    pub(super) fn make_again(&mut self, state: &mut State) {
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
    pub(super) fn java_moves(&mut self, state: &mut State) {
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

    pub(super) fn give_away(&mut self, state: &mut State, number: u8, to: Option<u8>) {
        state.hand_overs = (state.hand_overs + 1).min(self.bounds.hand_overs);
        let attempt = Self::attempt(state, number);
        let at = state.workers[usize::from(number)]
            .held
            .map_or(0, |h| h.position);
        self.call(state, number, Event::Release(attempt, at, to), attempt);
    }

    pub(super) fn lapse(&mut self, state: &mut State, worker: usize) {
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

    pub(super) fn give_up(&mut self, state: &mut State, worker: usize) {
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

    pub(super) fn copy(state: &mut State, number: u8) {
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
