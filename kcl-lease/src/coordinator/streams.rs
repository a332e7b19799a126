//! Which stream the application reads: storing that, and finding out when it changes.

use std::collections::VecDeque;

use super::audits::Audits;
use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::event::CoordinatorError;
use super::handle::{Answer as Reply, OpenedStream, StreamIdentity};
use super::resets::Resets;
use super::setback::Setback;
use super::syncs::Syncs;
use crate::item::Item;
use crate::key::WorkerId;
use crate::runtime::Moment;
use crate::stream_item::StreamItem;
use crate::table::{Consistency, Written};
use crate::write;

/// Requests that wait, and what is stored.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) stored: Option<StreamItem>,
    /// When that was found out.
    opened: Option<Moment>,
    /// The session under which it was found out.
    session: Option<WorkerId>,
    /// There is a new session: what is stored may have been deleted meanwhile, with everything else.
    doubted: bool,
    read_on_its_way: bool,
    opens: VecDeque<(StreamIdentity, Reply<OpenedStream>)>,
    open_on_its_way: bool,
    pub(super) syncs: Syncs,
    pub(super) setback: Setback,
    /// This worker has looked at the stream itself.
    checked: bool,
    pub(super) audits: Audits,
    pub(super) resets: Resets,
}

impl Streams {
    pub(super) fn open(&mut self, proposed: StreamIdentity, answer: Reply<OpenedStream>) {
        self.opens.push_back((proposed, answer));
    }

    /// Starts with what another worker has stored.
    pub(super) fn join(&mut self, stored: StreamItem, now: Moment) {
        self.stored.get_or_insert(stored);
        self.opened = Some(now);
    }

    /// The stream is known only from what another worker has stored: this one may not plan for others yet.
    pub(super) fn is_unchecked(&self) -> bool {
        self.is_open() && !self.checked
    }

    /// The identity is stored: leases may be created and taken.
    pub(super) fn is_open(&self) -> bool {
        self.stored.is_some() && !self.doubted
    }

    /// The stream was known once, in this session or an earlier one.
    pub(super) fn was_open(&self) -> bool {
        self.stored.is_some()
    }

    pub(super) fn wants_scan(&self) -> bool {
        (self.is_open() && self.syncs.has_next()) || self.resets.current.is_some()
    }

    /// When to go on after a failure.
    pub(super) fn retry_at(&self, now: Moment) -> Option<Moment> {
        self.setback.until().filter(|until| now < *until)
    }
}

impl Driver {
    /// Goes on with requests about the stream, once there is a session (it comes before every other write) and a scan.
    pub(super) fn drive_streams(&mut self, now: Moment) {
        let session = self.running().map(|running| running.session.id.clone());
        let Some(session) = session.filter(|_| self.scanned.is_some()) else {
            return;
        };
        self.doubt_stream(session);
        if !self.streams.setback.is_over(now) {
            return;
        }
        if self.streams.doubted {
            return self.read_stream();
        }
        self.drive_open();
        self.drive_reset(now);
        self.plan_sync(now);
        self.create_rows();
    }

    /// Notes whether a call succeeded that the stream's item or its leases wait for.
    pub(super) fn heard_of_stream<T>(&mut self, result: &Result<T, CallError>, now: Moment) {
        self.heard(result, now);
        if result.is_ok() {
            self.streams.setback.succeeded();
        }
    }

    fn drive_open(&mut self) {
        if self.streams.open_on_its_way {
            return;
        }
        let Some((proposed, _)) = self.streams.opens.front() else {
            return;
        };
        self.streams.open_on_its_way = true;
        self.background += 1;
        let put = write::put_stream(&proposed.to_item());
        self.calls.write(put, Answer::Stream);
    }

    /// The worker was cut off for longer than its lease duration: meanwhile the application may have been reset.
    pub(super) fn doubt_again(&mut self) {
        self.streams.doubted = self.streams.stored.is_some();
    }

    /// A new session follows one whose item was deleted: perhaps the whole table was, or the application was reset.
    fn doubt_stream(&mut self, session: WorkerId) {
        if self.streams.session.as_ref() == Some(&session) {
            return;
        }
        let again = self.streams.session.replace(session).is_some();
        self.streams.doubted = again && self.streams.stored.is_some();
        if again {
            self.streams.audits = Audits::default();
        }
    }

    fn read_stream(&mut self) {
        let Some(stored) = self.streams.stored.as_ref() else {
            return;
        };
        if !self.streams.read_on_its_way {
            self.streams.read_on_its_way = true;
            self.background += 1;
            self.calls
                .get(stored.key.clone(), Consistency::Strong, Answer::StreamRead);
        }
    }

    pub(super) fn on_stream_read(&mut self, result: Result<Option<Item>, CallError>, now: Moment) {
        self.heard_of_stream(&result, now);
        self.streams.read_on_its_way = false;
        match result {
            Err(_) => self.streams.setback.failed(now),
            Ok(None) => self.fail(CoordinatorError::StreamItemDeleted),
            Ok(Some(item)) => match StreamItem::from_item(&item) {
                Ok(Some(stream)) => {
                    self.streams.doubted = false;
                    self.replan = true;
                    self.compare_stream(stream);
                }
                Ok(None) => self.fail(CoordinatorError::StreamItemDeleted),
                Err(error) => self.fail(error.into()),
            },
        }
    }

    /// A reading of the table found the stream item.
    pub(super) fn saw_stream(&mut self, stream: StreamItem, begun: Moment) {
        // Soon after the item was written a reading may still show the one before.
        let settled = |at: Moment| at.plus(self.options.lease_duration) <= begun;
        if self.streams.opened.is_some_and(settled) {
            self.compare_stream(stream);
        }
    }

    /// Ends the worker if the application belongs to another stream by now.
    fn compare_stream(&mut self, found: StreamItem) {
        let Some(own) = self.streams.stored.as_ref() else {
            return;
        };
        let [own, found] = [own.clone(), found].map(StreamIdentity::from_item);
        if !own.is_same_stream(&found) {
            self.fail(CoordinatorError::StreamMismatch {
                stored: Box::new(found),
                found: Box::new(own),
            });
        }
    }

    pub(super) fn on_stream(&mut self, result: Result<Written, CallError>, now: Moment) {
        self.heard_of_stream(&result, now);
        self.streams.open_on_its_way = false;
        let Some((proposed, answer)) = self.streams.opens.pop_front() else {
            return;
        };
        let patient = now.since(self.started) < self.options.startup_timeout;
        let opened = match result {
            Ok(Written::Applied(_)) => Ok(proposed.to_item()),
            Ok(Written::Refused(item)) => match stored_stream(item.as_ref(), &proposed) {
                Ok(Stored::Same(stored)) => Ok(stored),
                Ok(Stored::Other(stored)) => {
                    return self.begin_reset(stored, proposed, answer, now);
                }
                Err(error) => Err(error),
            },
            Err(error) if error.is_retryable() && patient => {
                self.streams.setback.failed(now);
                self.streams.opens.push_front((proposed, answer));
                return;
            }
            Err(error) => Err(error.into()),
        };
        if let Ok(stored) = &opened {
            self.streams.stored = Some(stored.clone());
            self.streams.opened = Some(now);
            self.streams.checked = true;
            self.replan = true;
        }
        let fresh = self.table_was_empty;
        let _ = answer.send(opened.map(|stored| OpenedStream {
            identity: StreamIdentity::from_item(stored),
            fresh,
        }));
    }
}

/// The stream that is stored.
enum Stored {
    Same(StreamItem),
    Other(StreamItem),
}

/// Compares what is stored with what was proposed.
fn stored_stream(
    item: Option<&Item>,
    proposed: &StreamIdentity,
) -> Result<Stored, CoordinatorError> {
    let no_stream = || CoordinatorError::NoStreamItem {
        key: proposed.to_item().key,
    };
    let item = item.ok_or_else(no_stream)?;
    let stored = StreamItem::from_item(item)?.ok_or_else(no_stream)?;
    let identity = StreamIdentity::from_item(stored.clone());
    Ok(match identity.is_same_stream(proposed) {
        true => Stored::Same(stored),
        false => Stored::Other(stored),
    })
}
