//! Streams that the application does not read any more: once the grace time is over, whoever leads has their leases given up and
//! deletes them, and then what is stored of the stream.
//!
//! A row is deleted only under the counter and owner that were read, and only if nobody has it or its owner expired, which is
//! found out as for a take. So nobody works on what is deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::audits::Audits;
use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::CoordinatorEvent;
use crate::grant::Recall;
use crate::hint::Hint;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::lease::Lease;
use crate::runtime::Moment;
use crate::table::Written;
use crate::take::{self, Judgement, Situation, Step};
use crate::view::KnownRow;
use crate::write;

/// What the leader knows of streams that are not read any more.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// This worker was told which streams are read since it leads: what it knew before may be old.
    pub(super) is_told: bool,
    /// Since when each of them is known to be one. The wait begins anew with each leader.
    since: BTreeMap<StreamKey, Moment>,
    /// Items that are being written or deleted.
    on_their_way: BTreeSet<StreamKey>,
    /// Rows that are being deleted.
    rows_on_their_way: BTreeSet<LeaseKey>,
    /// When holders were asked to give up their leases.
    asked: BTreeMap<LeaseKey, Moment>,
    /// Since when no row is known.
    emptied: BTreeMap<StreamKey, Moment>,
}

impl Former {
    /// The stream is gone, or the application is about to read it again.
    pub(super) fn forget(&mut self, stream: &StreamKey) {
        self.since.remove(stream);
        self.emptied.remove(stream);
        self.asked.retain(|key, _| key.stream_key() != *stream);
    }
}

/// What to do about a lease that nobody is to have any more.
enum Fate {
    Delete(Lease),
    GiveUp(Lease, WorkerId),
    Find(Step),
    Wait,
}

impl Driver {
    /// Notes after each reading of the table which of the streams in it are not read any more.
    pub(super) fn look_for_former(&mut self, now: Moment) {
        let several = self.streams.several.as_ref();
        if several.is_none_or(|several| !several.former.is_told) {
            return;
        }
        let rows = self.view.rows().keys().map(LeaseKey::stream_key);
        let mut known: BTreeSet<StreamKey> = rows.collect();
        known.extend(self.streams.stored().cloned());
        let Some(several) = &mut self.streams.several else {
            return;
        };
        known.retain(|stream| !several.keeps(stream));
        let since = &mut several.former.since;
        since.retain(|stream, _| known.contains(stream));
        for stream in known {
            since.entry(stream).or_insert(now);
        }
    }

    /// Another worker leads by now.
    pub(super) fn forget_former(&mut self) {
        if let Some(several) = &mut self.streams.several {
            several.former = Former::default();
        }
    }

    /// Whether rows or the item of a stream are being deleted at this moment.
    pub(super) fn is_being_removed(&self, stream: &StreamKey) -> bool {
        let Some(several) = &self.streams.several else {
            return false;
        };
        let former = &several.former;
        let rows = former.rows_on_their_way.iter();
        former.on_their_way.contains(stream)
            || rows.map(LeaseKey::stream_key).any(|key| key == *stream)
    }

    /// The streams whose leases are being removed.
    pub(super) fn removed_streams(&self, now: Moment) -> BTreeSet<StreamKey> {
        let grace = self.options.former_streams_after;
        let Some(several) = &self.streams.several else {
            return BTreeSet::new();
        };
        // One that came back a moment ago is not.
        let since = several.former.since.iter();
        let due = since.filter(|(key, since)| now.since(**since) >= grace && !several.keeps(key));
        due.map(|(stream, _)| stream.clone()).collect()
    }

    /// As the leader: does what can be done at this moment. Returns which owners have to be checked.
    pub(super) fn remove_former(
        &mut self,
        removed: &BTreeSet<StreamKey>,
        now: Moment,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for stream in removed {
            if self.begin_removal(stream) {
                steps.extend(self.remove_rows(stream, now));
            }
        }
        steps
    }

    /// Whether rows may be deleted: whoever reads what is stored then can tell why they are missing.
    fn begin_removal(&mut self, stream: &StreamKey) -> bool {
        let stored = self.streams.get(stream).and_then(|s| s.stored.as_ref());
        let Some(stored) = stored.filter(|stored| stored.leases_made) else {
            return true;
        };
        let write = write::begin_removal(stored);
        if self.is_free_for(stream) {
            tracing::info!(%stream, "the stream is not read any more: its leases are removed");
            let stream = stream.clone();
            self.calls
                .write(write, move |result| Answer::RemovalBegun { stream, result });
        }
        false
    }

    /// Notes that an item of the stream is about to be written, unless one is.
    fn is_free_for(&mut self, stream: &StreamKey) -> bool {
        let Some(several) = &mut self.streams.several else {
            return false;
        };
        let free =
            self.background < BACKGROUND_MAX && several.former.on_their_way.insert(stream.clone());
        if free {
            self.background += 1;
        }
        free
    }

    pub(super) fn on_removal_begun(
        &mut self,
        stream: &StreamKey,
        result: &Result<Written, CallError>,
        now: Moment,
    ) {
        self.former_item_done(stream, result, now);
        let Some(known) = self.streams.get_mut(stream) else {
            return;
        };
        match result {
            Ok(Written::Applied(_)) => {
                if let Some(stored) = &mut known.stored {
                    stored.leases_made = false;
                }
                // Rows that are deleted on purpose do not come back.
                known.audits = Audits::default();
            }
            Ok(Written::Refused(None)) => known.stored = None,
            // The next reading of the table shows what is stored.
            Ok(Written::Refused(Some(_))) | Err(_) => {}
        }
    }

    fn former_item_done(
        &mut self,
        stream: &StreamKey,
        result: &Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(result, now);
        if let Some(several) = &mut self.streams.several {
            several.former.on_their_way.remove(stream);
        }
        // What was refused or failed is tried again after the next reading of the table.
        self.replan |= matches!(result, Ok(Written::Applied(_)));
    }

    fn remove_rows(&mut self, stream: &StreamKey, now: Moment) -> Vec<Step> {
        let fates: Vec<Fate> = match self.situation(now) {
            Some(situation) => {
                let rows = self.view.rows_of(stream);
                rows.map(|known| fate(&situation, known)).collect()
            }
            None => return Vec::new(),
        };
        match (fates.is_empty(), &mut self.streams.several) {
            (true, _) => self.remove_stream(stream, now),
            (false, Some(several)) => {
                several.former.emptied.remove(stream);
            }
            (false, None) => {}
        }
        let mut steps = Vec::new();
        for fate in fates {
            match fate {
                Fate::Delete(lease) => self.delete_former_row(&lease),
                Fate::GiveUp(lease, owner) => self.ask_to_give_up(&lease, &owner, now),
                Fate::Find(step) => steps.push(step),
                Fate::Wait => {}
            }
        }
        steps
    }

    fn delete_former_row(&mut self, lease: &Lease) {
        let Some(several) = &mut self.streams.several else {
            return;
        };
        let key = lease.key.clone();
        let full = self.background >= BACKGROUND_MAX || self.busy.contains(&key);
        if full || !several.former.rows_on_their_way.insert(key.clone()) {
            return;
        }
        self.background += 1;
        self.calls.write(write::delete_lease(lease), move |result| {
            Answer::FormerRow { key, result }
        });
    }

    pub(super) fn on_former_row(
        &mut self,
        key: &LeaseKey,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        if let Some(several) = &mut self.streams.several {
            several.former.rows_on_their_way.remove(key);
        }
        match result {
            Ok(Written::Applied(_) | Written::Refused(None)) => self.saw_no_row(key, now),
            Ok(Written::Refused(item)) => self.saw_item(key, item.as_ref(), now),
            // The next reading of the table tells what is left.
            Err(_) => {}
        }
    }

    /// Asks a holder that lives, as often as the table is read.
    fn ask_to_give_up(&mut self, lease: &Lease, owner: &WorkerId, now: Moment) {
        if let Some(held) = self.held.get(&lease.key) {
            return held.shared.recall(Recall::StreamRemoved);
        }
        if *owner == *self.worker.borrow() {
            return self.delete_former_row(lease);
        }
        let each = self.options.scan_interval;
        let Some(several) = &mut self.streams.several else {
            return;
        };
        let asked = &mut several.former.asked;
        if asked
            .get(&lease.key)
            .is_some_and(|at| now.since(*at) < each)
        {
            return;
        }
        asked.insert(lease.key.clone(), now);
        let hint = Hint::Removed {
            key: lease.key.clone(),
            counter: lease.counter,
        };
        self.outbox.push(owner, &hint, now);
    }

    /// The leader says that nobody is to have the lease any more.
    pub(super) fn on_removed(&mut self, key: &LeaseKey) {
        if let Some(held) = self
            .held
            .get(key)
            .filter(|_| self.streams.several.is_some())
        {
            held.shared.recall(Recall::StreamRemoved);
        }
    }

    /// No row of the stream is left, as far as is known: once a reading of the table has shown that, what is stored of the stream
    /// is deleted.
    fn remove_stream(&mut self, stream: &StreamKey, now: Moment) {
        let Some(several) = &mut self.streams.several else {
            return;
        };
        let emptied = *several.former.emptied.entry(stream.clone()).or_insert(now);
        let surely = self.scanned_surely == self.scanned;
        if !surely || self.scanned_begun <= Some(emptied) {
            return self.want_scan(now);
        }
        let known = self.streams.get(stream);
        let Some(stored) = known.and_then(|known| known.stored.clone()) else {
            return self.stream_is_gone(stream);
        };
        if self.is_free_for(stream) {
            let stream = stream.clone();
            self.calls
                .write(write::delete_stream(&stored), move |result| {
                    Answer::FormerStream { stream, result }
                });
        }
    }

    pub(super) fn on_former_stream(
        &mut self,
        stream: &StreamKey,
        result: &Result<Written, CallError>,
        now: Moment,
    ) {
        self.former_item_done(stream, result, now);
        match result {
            Ok(Written::Applied(_) | Written::Refused(None)) => {
                let stream = stream.clone();
                self.stream_is_gone(&stream);
                self.tell(CoordinatorEvent::StreamRemoved { stream });
            }
            // Somebody reads it again; what is stored is read with the table.
            Ok(Written::Refused(Some(_))) | Err(_) => {}
        }
    }

    fn stream_is_gone(&mut self, stream: &StreamKey) {
        self.view.forget_stream(stream);
        if let Some(several) = &mut self.streams.several {
            several.former.forget(stream);
        }
        // Whoever wants it again opens it as one that was never read.
        self.streams.clear(stream);
    }
}

fn fate(situation: &Situation<'_>, known: &KnownRow) -> Fate {
    let lease = &known.lease;
    let Some(owner) = lease.owner.as_ref().filter(|_| !lease.is_finished()) else {
        return Fate::Delete(lease.clone());
    };
    if owner == situation.me {
        return Fate::GiveUp(lease.clone(), owner.clone());
    }
    match take::judge_owned(situation, known, owner) {
        Judgement::Do(Step::Take(_)) => Fate::Delete(lease.clone()),
        Judgement::Do(step) => Fate::Find(step),
        Judgement::Wait(_) if owner.is_session() => Fate::GiveUp(lease.clone(), owner.clone()),
        _ => Fate::Wait,
    }
}
