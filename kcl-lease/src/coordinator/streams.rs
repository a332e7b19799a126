//! Which streams the application reads: storing that, and finding out when it changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::audits::Audits;
use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::{CoordinatorError, CoordinatorEvent};
use super::handle::{Answer as Reply, OpenedStream, StreamIdentity};
use super::resets::Resets;
use super::setback::Setback;
use super::several::Several;
use super::syncs::Syncs;
use crate::item::Item;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::row_reader::RowError;
use crate::runtime::Moment;
use crate::stream_item::StreamItem;
use crate::table::{Consistency, Written};
use crate::write;

/// One stream: requests that wait, and what is stored.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) stored: Option<StreamItem>,
    /// When that was found out.
    opened: Option<Moment>,
    /// When what is stored was read or written last.
    read_at: Option<Moment>,
    /// What is stored has to be read: it is not known, or it may have been deleted meanwhile, with everything else.
    doubted: bool,
    read_on_its_way: bool,
    /// It is not read before then: there was nothing to be found.
    read_not_before: Option<Moment>,
    opens: VecDeque<(StreamIdentity, Reply<OpenedStream>)>,
    open_on_its_way: bool,
    pub(super) syncs: Syncs,
    /// This worker has looked at the stream itself.
    checked: bool,
    pub(super) listing_asked: Option<Moment>,
    pub(super) audits: Audits,
}

impl Stream {
    /// Whether what is stored was found out longer ago than this.
    pub(super) fn is_older_than(&self, age: Duration, now: Moment) -> bool {
        self.read_at.is_none_or(|at| now.since(at) > age)
    }

    /// The identity is stored: leases may be created and taken.
    fn is_open(&self) -> bool {
        self.stored.is_some() && !self.doubted
    }

    fn is_in_doubt(&self) -> bool {
        self.stored.is_some() && self.doubted
    }

    /// Nobody waits for it, and nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        let asked = self.read_on_its_way || self.open_on_its_way || !self.opens.is_empty();
        !asked && self.syncs.is_idle()
    }
}

/// All streams of the application.
#[derive(Debug, Default)]
pub(super) struct Streams {
    of: BTreeMap<StreamKey, Stream>,
    /// There if the application reads several.
    pub(super) several: Option<Several>,
    /// The session under which what is stored was found out.
    session: Option<WorkerId>,
    pub(super) setback: Setback,
    pub(super) resets: Resets,
}

impl Streams {
    pub(super) fn new(several: bool) -> Self {
        Self {
            several: several.then(Several::default),
            ..Self::default()
        }
    }

    pub(super) fn get(&self, stream: &StreamKey) -> Option<&Stream> {
        self.of.get(stream)
    }

    pub(super) fn get_mut(&mut self, stream: &StreamKey) -> Option<&mut Stream> {
        self.of.get_mut(stream)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &StreamKey> {
        self.of.keys()
    }

    /// The streams of which is known what is stored.
    pub(super) fn stored(&self) -> impl Iterator<Item = &StreamKey> {
        let stored = self.of.iter().filter(|(_, stream)| stream.stored.is_some());
        stored.map(|(key, _)| key)
    }

    /// Nothing is known of the stream any more, but who waits for it.
    pub(super) fn clear(&mut self, stream: &StreamKey) {
        let Some(known) = self.of.get_mut(stream) else {
            return;
        };
        if known.is_idle() {
            self.of.remove(stream);
            return;
        }
        known.stored = None;
        known.opened = None;
        known.doubted = false;
        known.checked = false;
        known.audits = Audits::default();
        known.syncs.begin_anew();
    }

    /// The stream, which need not be known yet.
    pub(super) fn entry(&mut self, stream: &StreamKey) -> &mut Stream {
        self.of.entry(stream.clone()).or_default()
    }

    pub(super) fn open(
        &mut self,
        stream: &StreamKey,
        proposed: StreamIdentity,
        answer: Reply<OpenedStream>,
    ) {
        if let Some(several) = &mut self.several {
            several.former.forget(stream);
        }
        self.entry(stream).opens.push_back((proposed, answer));
    }

    /// Starts with what another worker has stored.
    pub(super) fn join(&mut self, stored: StreamItem, now: Moment) {
        let only = self.entry(&StreamKey::ONLY);
        only.stored.get_or_insert(stored);
        only.opened = Some(now);
    }

    /// What is stored of the stream of a lease that is to be granted.
    pub(super) fn identity(&self, lease: &LeaseKey) -> Option<Arc<StreamIdentity>> {
        let stored = self.of.get(&lease.stream_key())?.stored.clone()?;
        Some(Arc::new(StreamIdentity::from_item(stored)))
    }

    /// What the application reads is known only from what another worker has stored: this one may not plan for others yet.
    pub(super) fn is_unchecked(&self) -> bool {
        let only = self.of.get(&StreamKey::ONLY);
        let checked = only.is_some_and(|only| only.checked);
        // To plan for the leases of several streams, no list is needed.
        self.several.is_none() && self.is_open() && !checked
    }

    /// Leases may be created and taken.
    pub(super) fn is_open(&self) -> bool {
        let in_doubt = self.of.values().any(Stream::is_in_doubt);
        self.was_open() && !in_doubt
    }

    /// What the application reads was known once, in this session or an earlier one.
    pub(super) fn was_open(&self) -> bool {
        match &self.several {
            Some(several) => several.begun,
            None => self.of.values().any(|stream| stream.stored.is_some()),
        }
    }

    /// At least one listing of each stream was turned into leases, and none is in work.
    pub(super) fn are_listed(&self) -> bool {
        let listed = |stream: &StreamKey| self.of.get(stream).is_some_and(|s| s.syncs.is_done());
        match &self.several {
            None => listed(&StreamKey::ONLY),
            Some(several) => several
                .kept
                .as_ref()
                .is_some_and(|kept| kept.streams.iter().all(listed)),
        }
    }

    pub(super) fn wants_scan(&self) -> bool {
        let wants = |stream: &Stream| stream.is_open() && stream.syncs.has_next();
        self.of.values().any(wants) || self.resets.current.is_some()
    }

    /// When to go on after a failure.
    pub(super) fn retry_at(&self, now: Moment) -> Option<Moment> {
        let setback = self.setback.until();
        let reads = self.of.values().filter(|stream| stream.doubted);
        let reads = reads.filter_map(|stream| stream.read_not_before);
        setback
            .into_iter()
            .chain(reads)
            .filter(|at| now < *at)
            .min()
    }
}

impl Driver {
    /// Goes on with requests about streams, once there is a session (it comes before every other write) and a scan.
    pub(super) fn drive_streams(&mut self, now: Moment) {
        let session = self.running().map(|running| running.session.id.clone());
        let Some(session) = session.filter(|_| self.scanned.is_some()) else {
            return;
        };
        self.doubt_streams(session);
        if !self.streams.setback.is_over(now) {
            return;
        }
        if !self.streams.of.values().any(Stream::is_in_doubt) {
            self.drive_reset(now);
        }
        let busy = |stream: &Stream| stream.doubted || !stream.is_idle();
        let busy = self.streams.of.iter().filter(|(_, stream)| busy(stream));
        let busy: Vec<StreamKey> = busy.map(|(key, _)| key.clone()).collect();
        for stream in &busy {
            self.drive_stream(stream, now);
        }
    }

    fn drive_stream(&mut self, stream: &StreamKey, now: Moment) {
        if self.streams.entry(stream).doubted {
            self.read_stream(stream, now);
        }
        if self.streams.entry(stream).is_in_doubt() {
            return;
        }
        self.drive_open(stream);
        self.refuse_syncs(stream, now);
        self.plan_sync(stream, now);
        self.create_rows(stream);
    }

    /// Notes whether a call succeeded that a stream's item or its leases wait for.
    pub(super) fn heard_of_stream<T>(&mut self, result: &Result<T, CallError>, now: Moment) {
        self.heard(result, now);
        if result.is_ok() {
            self.streams.setback.succeeded();
        }
    }

    fn drive_open(&mut self, stream: &StreamKey) {
        // A stream that comes back while its rows are being deleted waits for that.
        if self.is_being_removed(stream) {
            return;
        }
        let known = self.streams.entry(stream);
        if known.open_on_its_way {
            return;
        }
        let Some((proposed, _)) = known.opens.front() else {
            return;
        };
        let put = write::put_stream(&proposed.to_item(stream.clone()));
        known.open_on_its_way = true;
        self.background += 1;
        let stream = stream.clone();
        self.calls
            .write(put, move |result| Answer::Stream { stream, result });
    }

    /// The worker was cut off for longer than its lease duration: meanwhile the application may have been reset.
    pub(super) fn doubt_again(&mut self) {
        for stream in self.streams.of.values_mut() {
            stream.doubted |= stream.stored.is_some();
        }
    }

    /// A new session follows one whose item was deleted: perhaps the whole table was, or the application was reset.
    fn doubt_streams(&mut self, session: WorkerId) {
        if self.streams.session.as_ref() == Some(&session) {
            return;
        }
        if self.streams.session.replace(session).is_none() {
            return;
        }
        self.doubt_again();
        for stream in self.streams.of.values_mut() {
            stream.audits = Audits::default();
        }
    }

    /// Listings of a stream that nobody has opened: what is stored is read, and if there is nothing, they are refused.
    fn refuse_syncs(&mut self, stream: &StreamKey, now: Moment) {
        if self.streams.several.is_none() {
            return;
        }
        let known = self.streams.entry(stream);
        let asked = known.doubted || known.open_on_its_way || !known.opens.is_empty();
        if known.stored.is_some() || asked || !known.syncs.has_next() {
            return;
        }
        match known.read_not_before.is_some_and(|at| now < at) {
            false => known.doubted = true,
            true => known.syncs.refuse(|| CoordinatorError::NoStreamItem {
                key: StreamItem::key_of(stream),
            }),
        }
    }

    /// Has what is stored of a stream read before a lease of it is taken.
    pub(super) fn want_stream(&mut self, stream: &StreamKey) {
        self.streams.entry(stream).doubted = true;
    }

    fn read_stream(&mut self, stream: &StreamKey, now: Moment) {
        let full = self.background >= BACKGROUND_MAX;
        let known = self.streams.entry(stream);
        let later = known.read_not_before.is_some_and(|at| now < at);
        if known.read_on_its_way || full || later {
            return;
        }
        known.read_on_its_way = true;
        self.background += 1;
        let (key, stream) = (StreamItem::key_of(stream), stream.clone());
        self.calls
            .get(key, Consistency::Strong, move |result| Answer::StreamRead {
                stream,
                result,
            });
    }

    pub(super) fn on_stream_read(
        &mut self,
        stream: &StreamKey,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.heard_of_stream(&result, now);
        let Some(known) = self.streams.get_mut(stream) else {
            return;
        };
        known.read_on_its_way = false;
        let item = match result {
            Err(_) => return self.streams.setback.failed(now),
            Ok(item) => item.as_ref().map(StreamItem::from_item).transpose(),
        };
        match item.map(Option::flatten) {
            Ok(Some(item)) if item.stream == *stream => {
                known.doubted = false;
                self.replan = true;
                self.compare_stream(item, now);
            }
            Ok(_) => self.on_no_stream(stream, None, now),
            Err(error) => self.on_no_stream(stream, Some(error), now),
        }
    }

    /// There is no item of the stream, or none that can be read.
    fn on_no_stream(&mut self, stream: &StreamKey, error: Option<RowError>, now: Moment) {
        if self.streams.several.is_none() {
            return self.fail(match error {
                Some(error) => error.into(),
                None => CoordinatorError::StreamItemDeleted,
            });
        }
        let was_known = self.streams.entry(stream).stored.is_some();
        let error = match error {
            Some(error) => Some(error.to_string()),
            None if was_known => {
                Some("was deleted; the worker that leads stores it again".to_owned())
            }
            None => None,
        };
        if let Some(error) = error {
            let key = StreamItem::key_of(stream);
            self.tell(CoordinatorEvent::RowUnreadable { key, error });
        }
        // Whoever leads stores it again if the application still reads it.
        let later = now.plus(self.options.scan_interval);
        let known = self.streams.entry(stream);
        known.stored = None;
        known.doubted = false;
        known.read_not_before = Some(later);
        self.want_streams(true, now);
    }

    /// A reading of the table found a stream item.
    pub(super) fn saw_stream(&mut self, found: StreamItem, begun: Moment, now: Moment) {
        // Soon after the item was written a reading may still show the one before.
        let settled = |at: Moment| at.plus(self.options.lease_duration) <= begun;
        let known = self.streams.get(&found.stream);
        let opened = known.and_then(|stream| stream.opened);
        let is_news = opened.is_none() && self.streams.several.is_some() && self.leads();
        if opened.is_some_and(settled) || is_news {
            self.compare_stream(found, now);
        }
    }

    /// Ends the worker if the application belongs to another stream by now.
    fn compare_stream(&mut self, found: StreamItem, now: Moment) {
        let several = self.streams.several.is_some();
        let known = self.streams.entry(&found.stream);
        let same = known.stored.as_ref().map(|own| {
            let [own, found] = [own.clone(), found.clone()].map(StreamIdentity::from_item);
            (own.is_same_stream(&found), own, found)
        });
        match same {
            // One among several may have been removed and opened again.
            _ if several => {
                known.stored = Some(found);
                known.read_at = Some(now);
                known.opened.get_or_insert(now);
            }
            Some((false, own, found)) => self.fail(CoordinatorError::StreamMismatch {
                stored: Box::new(found),
                found: Box::new(own),
            }),
            _ => {}
        }
    }

    pub(super) fn on_stream(
        &mut self,
        stream: &StreamKey,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard_of_stream(&result, now);
        let patient = now.since(self.started) < self.options.startup_timeout;
        let known = self.streams.entry(stream);
        known.open_on_its_way = false;
        let Some((proposed, answer)) = known.opens.pop_front() else {
            return;
        };
        let opened = match result {
            Ok(Written::Applied(_)) => Ok(proposed.to_item(stream.clone())),
            Ok(Written::Refused(item)) => match stored_stream(stream, item.as_ref(), &proposed) {
                Ok(Stored::Same(stored)) => Ok(stored),
                Ok(Stored::Other(stored)) => {
                    return self.begin_reset(stored, proposed, answer, now);
                }
                Err(error) => Err(error),
            },
            Err(error) if error.is_retryable() && patient => {
                known.opens.push_front((proposed, answer));
                return self.streams.setback.failed(now);
            }
            Err(error) => Err(error.into()),
        };
        if let Ok(stored) = &opened {
            known.stored = Some(stored.clone());
            known.opened = Some(now);
            known.read_at = Some(now);
            known.doubted = false;
            known.checked = true;
            self.replan = true;
        }
        let fresh = match self.streams.several {
            Some(_) => self.view.rows_of(stream).next().is_none(),
            None => self.table_was_empty,
        };
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
    stream: &StreamKey,
    item: Option<&Item>,
    proposed: &StreamIdentity,
) -> Result<Stored, CoordinatorError> {
    let no_stream = || CoordinatorError::NoStreamItem {
        key: StreamItem::key_of(stream),
    };
    let item = item.ok_or_else(no_stream)?;
    let stored = StreamItem::from_item(item)?.ok_or_else(no_stream)?;
    let identity = StreamIdentity::from_item(stored.clone());
    Ok(match identity.is_same_stream(proposed) {
        true => Stored::Same(stored),
        false => Stored::Other(stored),
    })
}
