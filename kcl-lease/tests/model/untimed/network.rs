//! Requests on their way, what they find at the table, and their answers; and the ghosts that judge all that.

use kcl_lease::internals::Holding;
use kcl_lease::mutant::{self, Mutant};

use super::holding::{Event, Outcome, before_lapse, now};
use super::*;
use crate::intern::NONE;

impl Untimed {
    /// The row as it was so many versions ago.
    pub(super) fn version(state: &State, age: u8) -> Id {
        match age {
            0 => state.row,
            age => state.old[usize::from(age) - 1],
        }
    }

    /// A number that no call of the worker has that is still on its way.
    pub(super) fn attempt(state: &State, worker: u8) -> u8 {
        let used = |attempt: u8| {
            let on_its_way = state.net.iter().flatten();
            on_its_way
                .filter(|request| request.from == worker)
                .any(|request| request.attempt == attempt)
        };
        (1..).find(|attempt| !used(*attempt)).unwrap_or(u8::MAX)
    }

    pub(super) fn send(state: &mut State, worker: u8, attempt: u8, write: Id, read: Id) {
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

    pub(super) fn put(state: &mut State, request: Request) {
        if let Some(free) = state.net.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(request);
        }
        state.net.sort_unstable();
    }

    /// Drops requests that cannot be applied any more and whose answers nobody waits for: they change nothing.
    pub(super) fn forget_what_is_too_late(&mut self, state: &mut State) {
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

    pub(super) fn call(&mut self, state: &mut State, worker: u8, event: Event, attempt: u8) {
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
    pub(super) fn lose(&mut self, state: &mut State, worker: usize) {
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
    pub(super) fn begin_session(&mut self, state: &mut State, worker: usize) {
        let who = &mut state.workers[worker];
        who.held = None;
        who.wait = None;
        who.hinted = false;
        who.draining = false;
        who.up = usize::from(who.id) + WORKERS < IDS;
        if who.up {
            who.id += WORKERS as u8;
            let id = who.id;
            state.items[usize::from(id)] = self.table.new_session(id);
        }
    }

    /// A request arrives at the table. Returns whether it was applied, and the row that it found.
    pub(super) fn arrive(&mut self, state: &mut State, request: Request) -> (bool, Id) {
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
        let seeks = self.note_obeyed(state, request.write, new.checkpoint);
        if new.checkpoint < old.checkpoint && !seeks {
            state.broken |= S1;
        }
        let covered = (1_u8 << new.checkpoint) - 1;
        if state.delivered & covered != covered {
            state.broken |= if state.commands.era > 0 { C2 } else { S6 };
        }
        if self.bounds.stale_reads {
            state.old = [found, state.old[0]];
        }
        state.row = after;
        (true, after)
    }

    /// The answer arrives at the worker.
    pub(super) fn hear(
        &mut self,
        state: &mut State,
        request: Request,
        applied: bool,
        row: Id,
    ) -> u32 {
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
        let sought = match outcome {
            Outcome::Confirmed => self.begin_anew(state, worker),
            _ => 0,
        };
        sought
            | match (outcome, applied) {
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
    pub(super) fn grant(&mut self, state: &mut State, worker: usize, wait: Wait, row: Id) {
        let lease = self.table.lease(row).expect("the row that was taken");
        let sent = match wait.lapsed && !mutant::is(Mutant::GrantAcrossLapse) {
            true => before_lapse(),
            false => now(),
        };
        let who = &mut state.workers[worker];
        let mut holding = Holding::new(&lease, self.table.worker(who.id), sent);
        if self.bounds.commands == 0 {
            holding.saw_command(None);
        }
        who.held = Some(Held {
            holding: self.holdings.id(holding),
            change: state.ghost.changes,
            position: self.table.row(row).checkpoint,
            era: state.commands.era,
        });
    }

    /// Mutant: a worker starts because a read row names it, without writing.
    pub(super) fn start_without_accept(&mut self, state: &mut State, worker: usize, read: Id) {
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

    pub(super) fn process(&mut self, state: &mut State, worker: usize) -> u32 {
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
            if state.commands.reported {
                state.broken |= C3;
            }
        }
        if state.delivered >> record & 1 == 1 {
            sights |= DUPLICATE;
        }
        if held.change >= state.ghost.born && held.era == state.commands.era {
            state.delivered |= 1 << record;
        }
        sights
    }
}
