//! What production code decides about a held lease, each question asked once.

use std::time::Duration;

use kcl_lease::Orders;
use kcl_lease::internals::{Answer, Call, Holding, Moments, Turn, Validity, moment};
use kcl_lease::runtime::Moment;

use super::{Held, State, Untimed};
use crate::intern::Id;
use crate::table::{Row, checkpoint};

/// What a holder is asked, or what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Send(u8),
    Checkpoint(u8, u8),
    Release(u8, u8, Option<u8>),
    Applied(u8),
    Refused(u8, Id),
    Lost(u8),
    Lapse,
    Look(Id),
    Obey(u8),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Calls(Id),
    Silent,
    Confirmed,
    Ended,
    Lost,
}

pub(super) fn before_lapse() -> Moment {
    moment(Duration::ZERO)
}

pub(super) fn now() -> Moment {
    moment(Duration::from_secs(1))
}

fn validity() -> Validity {
    Validity::new(moment(Duration::from_secs(1_000)), now())
}

impl Untimed {
    pub(super) fn ask(&mut self, holding: Id, event: Event) -> (Id, Outcome) {
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

    pub(super) fn decide(&mut self, holding: &mut Holding, event: Event) -> Outcome {
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
            Event::Look(item) => {
                holding.saw_command(self.table.items.find(item));
                return Outcome::Silent;
            }
            Event::Obey(attempt) => {
                holding.obey();
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

    pub(super) fn next_call(&mut self, holding: &mut Holding, attempt: u8) -> Outcome {
        match holding.next_call(validity(), now(), attempt.into(), 0) {
            Some(Call::Write(write)) => Outcome::Calls(self.table.writes.id(write)),
            _ => Outcome::Silent,
        }
    }

    /// Whether the lease is surely held now.
    pub(super) fn is_current(&self, held: Held) -> bool {
        self.holdings
            .get(held.holding)
            .is_current(validity(), now())
    }

    /// Whether the holder's orders let it process records.
    pub(super) fn may_deliver(&self, held: Held) -> bool {
        let orders = self.holdings.get(held.holding).orders();
        orders.is_some_and(Orders::allow_delivery)
    }

    pub(super) fn row(&mut self, state: &State) -> Row {
        self.table.row(state.row)
    }
}
