//! An outage of the whole table.

use super::mind::Event;
use super::{Action, State, Timed};

/// An outage of the table, with the first worker as holder and the second as taker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) ticks: u8,
    /// The holder's first heartbeat after it is applied within so many ticks.
    pub(crate) back_within: u8,
}

/// How far the outage is, and for how many ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weather {
    Before,
    Out(u8),
    /// After it, and which workers have sent a heartbeat since.
    After(u8, [bool; 2]),
}

impl Timed {
    /// A heartbeat that is sent, applied and answered at once.
    pub(super) fn beat(&mut self, state: &mut State, worker: u8) {
        if self.bounds.steady[usize::from(worker)] {
            self.happen(state, worker, Event::Beats);
            return;
        }
        let attempt = self.facts(state, worker).next_beat;
        let write = self.happen(state, worker, Event::SendBeat);
        let number = usize::from(worker);
        let after = self.table.apply(write, state.items[number]);
        let after = after.expect("nobody else writes it");
        state.old_items[number] = state.items[number];
        state.items[number] = after;
        self.happen(state, worker, Event::BeatAnswered(attempt, true, after));
    }

    pub(super) fn weather_passes(&mut self, state: &mut State, outage: Outage) {
        let beating = match state.weather {
            Weather::Before => [true; 2],
            Weather::Out(_) => [false; 2],
            Weather::After(_, back) => back,
        };
        for (worker, beats) in (0_u8..).zip(beating) {
            self.happen(state, worker, Event::PassSilently);
            if beats {
                self.beat(state, worker);
            }
        }
        state.weather = match state.weather {
            Weather::Before => Weather::Before,
            Weather::Out(ticks) => Weather::Out((ticks + 1).min(outage.ticks)),
            Weather::After(ticks, back) => {
                Weather::After((ticks + 1).min(outage.back_within), back)
            }
        };
    }

    pub(super) fn weather_actions(&self, state: &State, outage: Outage, actions: &mut Vec<Action>) {
        let more = self.facts(state, 0).heartbeat < u64::from(self.bounds.heartbeats[0]);
        match state.weather {
            Weather::Before => {
                actions.push(Action::OutageBegins);
                if more {
                    actions.push(Action::Tick);
                }
            }
            Weather::Out(ticks) => {
                actions.push(Action::Tick);
                if ticks >= outage.ticks {
                    actions.push(Action::OutageEnds);
                }
            }
            Weather::After(ticks, back) => {
                let gone = (0_u8..).zip(back).filter(|(_, back)| !back);
                actions.extend(gone.map(|(worker, _)| Action::ComesBack(worker)));
                let in_time = if back[0] {
                    more
                } else {
                    ticks < outage.back_within
                };
                if in_time {
                    actions.push(Action::Tick);
                }
            }
        }
    }
}
