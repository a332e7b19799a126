//! Commands of operators: looking at those for the leases that are held, and the leader's care for all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::CoordinatorEvent;
use super::setback::Setback;
use crate::command_item::CommandItem;
use crate::hint::Hint;
use crate::item::Item;
use crate::key::{LeaseKey, WorkerId};
use crate::orders::{self, Care};
use crate::row_reader::RowError;
use crate::runtime::Moment;
use crate::table::Consistency;
use crate::write;

/// Looks on their way at once: each holds up the first delivery under a grant.
const LOOKS_MAX: usize = 64;

/// Which commands are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    wanted: BTreeSet<LeaseKey>,
    on_their_way: BTreeSet<LeaseKey>,
    setbacks: BTreeMap<LeaseKey, Setback>,
}

impl Looks {
    /// The lease was granted, or there may be a new command for it.
    pub(super) fn want(&mut self, key: LeaseKey) {
        self.wanted.insert(key);
    }

    /// An operator has just stored a command. Whatever was wrong with the one before is no reason to wait.
    pub(super) fn news(&mut self, key: LeaseKey) {
        self.setbacks.remove(&key);
        self.want(key);
    }

    /// The lease is not held any more.
    pub(super) fn forget(&mut self, key: &LeaseKey) {
        self.wanted.remove(key);
        self.setbacks.remove(key);
    }

    /// The next to look at.
    fn take(&mut self, now: Moment) -> Option<LeaseKey> {
        if self.on_their_way.len() >= LOOKS_MAX {
            return None;
        }
        let mut ready = self.wanted.iter().filter(|key| {
            let waits = self.setbacks.get(*key).is_some_and(|s| !s.is_over(now));
            !waits && !self.on_their_way.contains(*key)
        });
        let key = ready.next()?.clone();
        self.wanted.remove(&key);
        self.on_their_way.insert(key.clone());
        Some(key)
    }

    /// When a look that failed is repeated.
    pub(super) fn next(&self) -> Option<Moment> {
        if self.on_their_way.len() >= LOOKS_MAX {
            return None;
        }
        let idle = self.wanted.difference(&self.on_their_way);
        let waiting = idle.filter_map(|key| self.setbacks.get(key));
        waiting.filter_map(Setback::until).min()
    }
}

impl Driver {
    /// Begins as many looks as may be on their way.
    pub(super) fn read_orders(&mut self, now: Moment) {
        if self.running().is_none() {
            return;
        }
        while let Some(key) = self.looks.take(now) {
            let Some(number) = self.held.get(&key).map(|held| held.shared.number()) else {
                self.looks.on_their_way.remove(&key);
                continue;
            };
            let item = CommandItem::key_of(&key);
            self.calls
                .get(item, Consistency::Strong, move |result| Answer::Orders {
                    key,
                    number,
                    result,
                });
        }
    }

    pub(super) fn on_orders(
        &mut self,
        key: LeaseKey,
        number: u64,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        self.looks.on_their_way.remove(&key);
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        if held.shared.number() != number {
            // It says nothing of what was commanded before the grant that is held now.
            self.looks.want(key);
            return;
        }
        match result.map(|item| read_command(item.as_ref())) {
            Ok(Ok(command)) => {
                self.looks.setbacks.remove(&key);
                held.saw_command(command);
            }
            // It may say that the lease is paused: nothing is delivered on a guess.
            Ok(Err(error)) => {
                let again = Setback::wait_until(now.plus(self.options.scan_interval));
                self.looks.setbacks.insert(key.clone(), again);
                self.looks.want(key);
                self.tell(CoordinatorEvent::RowUnreadable {
                    key: error.key().to_owned(),
                    error: error.to_string(),
                });
            }
            Err(_) => {
                let setback = self.looks.setbacks.entry(key.clone()).or_default();
                setback.failed(now);
                self.looks.want(key);
            }
        }
    }

    /// As the leader: tells holders again of commands that they may not know of, and tidies up.
    pub(super) fn care_for_commands(&mut self, commands: &[CommandItem], now: Moment) {
        let removed = self.removed_streams(now);
        for item in commands {
            if removed.contains(&item.lease.stream_key()) {
                self.tidy(write::delete_command(item));
                continue;
            }
            let Some(known) = self.view.row(&item.lease) else {
                continue;
            };
            let lease = &known.lease;
            let owner = lease.owner.clone();
            match orders::care(item, lease.is_finished(), &lease.obeyed) {
                Care::Nothing => {}
                Care::Remind if self.held.contains_key(&item.lease) => {
                    self.looks.want(item.lease.clone());
                }
                Care::Remind => {
                    if let Some(owner) = owner.filter(WorkerId::is_session) {
                        let hint = Hint::ordered(item.lease.clone(), &mut self.rng);
                        self.outbox.push(&owner, &hint, now);
                    }
                }
                Care::Delete => self.tidy(write::delete_command(item)),
            }
        }
    }

    /// A write whose outcome changes nothing: the next scan shows what is left to do.
    pub(super) fn tidy(&mut self, write: write::RowWrite) {
        if self.background < BACKGROUND_MAX {
            self.background += 1;
            self.calls.write(write, Answer::Housekeeping);
        }
    }
}

/// The command in an item; an item of another kind at this key is an error.
fn read_command(item: Option<&Item>) -> Result<Option<CommandItem>, RowError> {
    item.map(CommandItem::expect_from).transpose()
}
