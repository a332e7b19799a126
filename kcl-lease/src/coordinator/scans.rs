//! Reading the whole table, and keeping it tidy.

use std::collections::BTreeSet;
use std::time::Duration;

use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::CoordinatorEvent;
use crate::item::{Item, Value, attribute};
use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::roster::Life;
use crate::row::Row;
use crate::runtime::Moment;
use crate::table::Consistency;
use crate::view::View;
use crate::worker_item::WorkerItem;
use crate::write;

/// Rows of finished shards looked at after one scan: tidying up is never urgent.
const LITTER_MAX: usize = 8;
/// A view older than this is not planned from.
pub(super) const SCAN_AGES_AFTER: Duration = Duration::from_secs(1);
/// Unreadable items that are told one by one.
const UNREADABLE_MAX: usize = 100;

impl Driver {
    pub(super) fn next_scan(&self) -> Option<Moment> {
        if self.scanning || self.running().is_none() {
            return None;
        }
        // Only the leader reads the table for all, and everybody once at the start.
        let regular = (self.leads() || self.scanned.is_none()).then_some(self.scan_due);
        let streams = self.is_scan_wanted().then_some(self.scan_not_before);
        let due = [regular, streams, self.scan_wanted].into_iter().flatten();
        due.min().map(|due| due.max(self.scan_not_before))
    }

    /// Has the whole table read soon.
    pub(super) fn want_scan(&mut self, now: Moment) {
        let due = match self.draining {
            true => now,
            false => now.max(self.scan_begun.plus(SCAN_AGES_AFTER)),
        };
        self.scan_wanted = Some(self.scan_wanted.map_or(due, |earlier| earlier.min(due)));
    }

    /// Rows are planned from a scan that is not older than what was asked for, and shows the table as it was: what an
    /// eventually consistent one shows of the rows that are left can make one that was tidied up look lost.
    fn is_scan_wanted(&self) -> bool {
        let aged = |at: Moment| self.runtime.now().since(at) > SCAN_AGES_AFTER;
        self.streams.wants_scan() && self.scanned.is_some() && self.scanned_surely.is_none_or(aged)
    }

    pub(super) fn begin_scan(&mut self, now: Moment) {
        if self.next_scan().is_none_or(|due| now < due) {
            return;
        }
        let wanted = self.scan_wanted.is_some_and(|at| at <= now);
        let consistency = match wanted || self.is_scan_wanted() || self.scanned.is_none() {
            true => Consistency::Strong,
            false => Consistency::Eventual,
        };
        self.scan_wanted.take_if(|at| *at <= now);
        self.scan_begun = now;
        self.scanning = true;
        self.scan_due = now.plus(self.options.scan_interval);
        self.calls.scan(consistency, now);
    }

    pub(super) fn on_scan(
        &mut self,
        begun: Moment,
        consistency: Consistency,
        result: Result<Vec<Item>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        self.scanning = false;
        let items = match result {
            Ok(items) => items,
            Err(error) => return self.on_scan_failed(error, now),
        };
        self.scan_setback.succeeded();
        let mut leases = Vec::new();
        let mut workers = Vec::new();
        let mut commands = Vec::new();
        let mut streams = BTreeSet::new();
        let mut foreign = Vec::new();
        let mut unreadable = BTreeSet::new();
        for item in &items {
            match Row::from_item(item) {
                Ok(Row::Lease(lease)) if self.is_of_other_kind(&lease.key.stream_key()) => {
                    foreign.push(lease.key.as_str().to_owned());
                }
                Ok(Row::Lease(lease)) => leases.push(lease),
                Ok(Row::Worker(worker)) => workers.push(worker),
                Ok(Row::Stream(stream)) if self.is_of_other_kind(&stream.stream) => {
                    foreign.push(stream.key());
                }
                Ok(Row::Stream(stream)) => {
                    streams.insert(stream.stream.clone());
                    self.saw_stream(stream, begun, now);
                }
                Ok(Row::Command(command)) => commands.push(command),
                Ok(_) => {}
                Err(error) => {
                    let key = key_of(item);
                    if unreadable.len() < UNREADABLE_MAX && unreadable.insert(key.clone()) {
                        self.tell_unreadable(key, error.to_string());
                    }
                }
            }
        }
        for key in foreign {
            let error = self.other_kind(key.clone());
            if self.scanned.is_none() {
                return self.fail(error);
            }
            if unreadable.len() < UNREADABLE_MAX && unreadable.insert(key.clone()) {
                self.tell_unreadable(key, error.to_string());
            }
        }
        self.unreadable = unreadable;
        if self.scanned.is_none() {
            self.table_was_empty = leases.is_empty();
        }
        self.note_workers(&workers);
        self.see_scan(leases, &workers, consistency, begun, now);
        self.scanned = Some(now);
        if consistency == Consistency::Strong {
            self.scanned_surely = Some(now);
        }
        self.scanned_begun = Some(begun);
        self.replan = true;
        self.judge_protocol(now);
        if let Some(drain) = &mut self.drain {
            drain.saw_scan(begun, self.roster.items());
        }
        self.note_commands(&commands);
        if self.leads() {
            self.restore_stream_items(&streams);
            self.look_for_former(now);
            self.care_for_commands(&commands, now);
            self.point_out_lost_leases(now);
            self.clean_up_workers(now);
            self.look_at_litter();
        }
    }

    /// Everything waits for the first scan; later ones only repeat it.
    fn on_scan_failed(&mut self, error: CallError, now: Moment) {
        self.scan_setback.failed(now);
        let again = self.scan_setback.until().unwrap_or(now);
        if self.drain.is_some() {
            // Without it nobody is known who could receive the leases.
            self.scan_not_before = again;
            self.want_scan(now);
        } else if self.scanned.is_some() {
            self.scan_not_before = again.max(now.plus(SCAN_AGES_AFTER));
        } else if self.is_worth_another_try(&error, now) {
            self.scan_not_before = again;
            self.scan_due = now;
        } else {
            self.fail(error.into());
        }
    }

    fn tell_unreadable(&self, key: String, error: String) {
        if !self.unreadable.contains(&key) {
            self.tell(CoordinatorEvent::RowUnreadable { key, error });
        }
    }

    fn see_scan(
        &mut self,
        leases: Vec<Lease>,
        workers: &[WorkerItem],
        consistency: Consistency,
        begun: Moment,
        now: Moment,
    ) {
        for worker in workers {
            self.liveness.saw_worker(worker, now);
        }
        for lease in &leases {
            self.liveness.saw_row(lease, now);
        }
        let me = self.worker.borrow().clone();
        for lease in &leases {
            self.expectations.saw_row(lease, &me);
        }
        self.view.saw_scan(leases, consistency, begun, now);
        self.roster.saw_scan(workers, &me);
        let present = self.roster.ids();
        let view = &self.view;
        self.liveness
            .retain(|id| present.contains(id), |key| view.has_row(key));
        self.not_before.retain(|key, _| view.has_row(key));
        self.refused.retain(|key, _| view.has_row(key));
        let long_ago = now.minus(self.options.lease_duration);
        self.failed_reads
            .retain(|_, setback| setback.counts(long_ago));
        self.failed_takes
            .retain(|_, setback| setback.counts(long_ago));
    }

    /// A worker with a newer protocol may follow rules that this one does not know.
    pub(super) fn judge_protocol(&mut self, now: Moment) {
        if self.running().is_none() {
            return;
        }
        let lives = |worker: &WorkerId| self.life(worker, now) != Some(Life::Expired);
        let newer = self.roster.newer(lives);
        if let Some(worker) = newer.filter(|_| !self.newer_protocol) {
            self.tell(CoordinatorEvent::NewerProtocol {
                worker: worker.id.clone(),
                protocol: worker.protocol,
            });
        }
        self.newer_protocol = newer.is_some();
    }

    /// Deletes the items of workers that are long dead.
    fn clean_up_workers(&mut self, now: Moment) {
        let Some(running) = self.running() else {
            return;
        };
        let me = running.session.id.clone();
        let dead = self
            .liveness
            .long_dead(now, running.session.undisturbed_since());
        for (worker, heartbeat) in dead {
            if worker != me && self.background < BACKGROUND_MAX {
                self.background += 1;
                let delete = write::delete_worker(&worker, heartbeat);
                self.calls.write(delete, Answer::Housekeeping);
            }
        }
    }

    /// Reads what decides about rows of finished shards that may be deleted.
    fn look_at_litter(&mut self) {
        let candidates: Vec<_> = self
            .view
            .rows()
            .values()
            .filter(|known| self.view.is_deletable(known))
            .take(LITTER_MAX)
            .map(|known| (known.lease.key.clone(), family(&known.lease)))
            .collect();
        for (key, keys) in candidates {
            self.background += 1;
            self.calls
                .get_all(keys, move |result| Answer::Litter { key, result });
        }
    }

    /// Deletes a finished row if consistent reads say that it can go.
    pub(super) fn on_litter(
        &mut self,
        key: &LeaseKey,
        result: Result<Vec<(LeaseKey, Option<Item>)>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        let Ok(read) = result else {
            return;
        };
        for (key, item) in read {
            self.saw_item(&key, item.as_ref(), now);
        }
        let Some(known) = self.view.row(key) else {
            return;
        };
        if View::is_deletable(&self.view, known) {
            let delete = write::delete_finished(key, known.lease.counter);
            self.background += 1;
            self.calls.write(delete, Answer::Housekeeping);
        }
    }

    /// Takes in a strongly consistent read of a row.
    pub(super) fn saw_item(&mut self, key: &LeaseKey, item: Option<&Item>, now: Moment) {
        match item.map(Lease::from_item) {
            None => self.saw_no_row(key, now),
            Some(Ok(Some(lease))) => self.saw_row(lease, Consistency::Strong, now),
            // Not a lease, or not readable: the next scan tells. It is not absent either.
            Some(_) => self.view.forget_row(key),
        }
    }

    pub(super) fn saw_row(&mut self, lease: Lease, consistency: Consistency, now: Moment) {
        self.note_row(lease, consistency, now);
        self.replan = true;
    }

    /// Takes in a row that changes nothing about what else to take.
    pub(super) fn note_row(&mut self, lease: Lease, consistency: Consistency, now: Moment) {
        self.expectations.saw_row(&lease, &self.worker.borrow());
        self.liveness.saw_row(&lease, now);
        self.view.saw_row(lease, consistency, now);
    }

    pub(super) fn saw_no_row(&mut self, key: &LeaseKey, now: Moment) {
        self.view.saw_no_row(key.clone(), now);
        self.replan = true;
    }
}

/// The row itself, its children and its parents.
fn family(lease: &Lease) -> Vec<LeaseKey> {
    let relatives = lease.children.iter().chain(&lease.parents);
    let relatives = relatives.map(|shard| lease.key.relative(shard));
    std::iter::once(lease.key.clone())
        .chain(relatives)
        .collect()
}

pub(super) fn key_of(item: &Item) -> String {
    match item.get(attribute::KEY) {
        Some(Value::S(key)) => key.chars().take(256).collect(),
        _ => String::new(),
    }
}
