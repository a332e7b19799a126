//! Leading: advice for the whole fleet, and finding leases that their owners do not know of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::driver::Driver;
use super::scans::SCAN_AGES_AFTER;
use crate::advice::{self, Order, Pending, Situation};
use crate::digest;
use crate::hint::Hint;
use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::roster::Life;
use crate::runtime::Moment;
use crate::take::Step;
use crate::view::KnownRow;

/// How long a worker may take to follow a hint to take a lease, before the table is looked at again.
const TAKES_WITHIN: Duration = Duration::from_secs(4);
/// Rows of one worker that are pointed out after one scan.
const LOST_MAX: usize = 50;

impl Driver {
    /// Whether the table was read since this worker leads, or just before: an older view would move leases to and fro.
    pub(super) fn knows_the_table(&self) -> bool {
        let since = self.lead_since.minus(SCAN_AGES_AFTER);
        self.scanned_begun.is_some_and(|begun| begun >= since)
    }

    /// Plans for the whole fleet, and tells everybody what concerns him. Returns which owners have to be checked.
    pub(super) fn advise(&mut self, now: Moment) -> Vec<Step> {
        let Some(session) = self.running().map(|running| &running.session) else {
            return Vec::new();
        };
        let (me, undisturbed_since) = (session.id.clone(), session.undisturbed_since());
        let heartbeat = session.heartbeat();
        self.forget_followed_advice(now);
        let claimed = self.busy.iter().chain(self.own_children.keys());
        let claimed: BTreeSet<LeaseKey> = claimed.cloned().collect();
        let removed = self.removed_streams(now);
        let advice = advice::advise(&Situation {
            me: &me,
            now,
            undisturbed_since,
            view: &self.view,
            liveness: &self.liveness,
            roster: &self.roster,
            pending: &self.pending,
            refused: &self.refused,
            heartbeat,
            busy: &claimed,
            max_leases: self.options.max_leases,
            removed: &removed,
        });
        self.wanted
            .retain(|key, _| self.own_children.contains_key(key));
        for order in advice.orders {
            self.carry_out(&me, order, now);
        }
        self.undecided = advice.undecided;
        self.plan_wake = advice.wake;
        self.rows_wanted.extend(advice.rows_to_read);
        if advice.scan_wanted {
            self.want_scan(now);
        }
        for stream in advice.listings_wanted {
            self.ask_for_listing(stream, now);
        }
        let owners = advice.owners_to_check.into_iter();
        let former = self.remove_former(&removed, now);
        owners.map(Step::CheckOwner).chain(former).collect()
    }

    fn carry_out(&mut self, me: &WorkerId, order: Order, now: Moment) {
        match order {
            Order::Take { to, key, .. } if to == *me => {
                let until = now.plus(self.options.lease_duration * 2);
                self.wanted.insert(key, until);
            }
            Order::Take {
                to,
                key,
                counter,
                dead,
            } => {
                self.note_advice(&key, &to, false, now);
                self.outbox
                    .push(&to, &Hint::Take { key, counter, dead }, now);
            }
            Order::Give {
                from,
                to,
                key,
                counter,
                newcomer,
            } => {
                self.note_advice(&key, &to, true, now);
                if from == *me {
                    self.begin_giving(&key, &to, newcomer, now);
                } else {
                    let hint = Hint::Give {
                        key,
                        counter,
                        to,
                        newcomer,
                    };
                    self.outbox.push(&from, &hint, now);
                }
            }
        }
    }

    fn note_advice(&mut self, key: &LeaseKey, to: &WorkerId, gives: bool, now: Moment) {
        let within = match gives {
            true => self.options.lease_duration,
            false => TAKES_WITHIN,
        };
        let owner = self
            .view
            .row(key)
            .and_then(|known| known.lease.owner.clone());
        let pending = Pending {
            to: to.clone(),
            from: owner,
            gives,
            until: now.plus(within),
        };
        self.pending.insert(key.clone(), pending);
    }

    /// Advice counts until the row has another owner, or was seen unchanged after everybody had his time.
    fn forget_followed_advice(&mut self, now: Moment) {
        let view = &self.view;
        let open = |known: &KnownRow, pending: &Pending| {
            let expired = now >= pending.until && known.read_at >= pending.until;
            known.lease.owner == pending.from && !expired
        };
        self.pending
            .retain(|key, pending| view.row(key).is_some_and(|known| open(known, pending)));
    }

    /// Points out the rows of workers that publish other leases than the table names them for, twice in a row: a hint of
    /// theirs was lost.
    pub(super) fn point_out_lost_leases(&mut self, now: Moment) {
        let mut leases: BTreeMap<&WorkerId, Vec<&Lease>> = BTreeMap::new();
        let rows = self.view.rows().values().map(|known| &known.lease);
        for lease in rows.filter(|lease| !lease.is_finished()) {
            if let Some(owner) = &lease.owner {
                leases.entry(owner).or_default().push(lease);
            }
        }
        let mut differing = BTreeMap::new();
        for item in self.roster.items() {
            if self.life(&item.id, now) != Some(Life::Alive) {
                continue;
            }
            let rows = leases.get(&item.id).map_or(&[][..], Vec::as_slice);
            let digest = digest::of_keys(rows.iter().map(|lease| &lease.key));
            if (item.held_count, item.held_digest) == (rows.len() as u64, digest) {
                continue;
            }
            let seen_before = self.differing.get(&item.id).copied().unwrap_or(0);
            differing.insert(item.id.clone(), seen_before + 1);
            if seen_before == 0 {
                continue;
            }
            // Each time other rows, if there are many.
            let mut parts = rows.chunks(LOST_MAX);
            let part = seen_before.checked_rem(parts.len());
            for lease in part.and_then(|n| parts.nth(n)).unwrap_or_default() {
                let hint = Hint::Yours {
                    key: lease.key.clone(),
                    counter: lease.counter,
                };
                self.outbox.push(&item.id, &hint, now);
            }
        }
        self.differing = differing;
    }
}
