//! An application of several streams: which they are, as whoever leads was told, and tables of the other kind.

use std::collections::BTreeSet;
use std::time::Duration;

use super::driver::Driver;
use super::event::{CoordinatorError, CoordinatorEvent};
use super::former::Former;
use super::streams::Stream;
use crate::key::{LeaseKey, ShardId, StreamKey};
use crate::runtime::Moment;
use crate::write::{self, RowWrite};

/// How often whoever leads looks which streams there are (the Java library's interval).
const STREAMS_WANTED_EACH: Duration = Duration::from_secs(60);

/// A lease is taken soon after what is stored of its stream was read, or that is read again.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Which streams the application reads.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) streams: BTreeSet<StreamKey>,
    /// Names of streams of which it could not be found out whether they are the ones that are in the table.
    unclear: BTreeSet<String>,
}

/// What is known of the streams together.
#[derive(Debug, Default)]
pub(super) struct Several {
    /// Whoever uses this worker is ready for leases.
    pub(super) begun: bool,
    /// What the application reads, as this worker was told last.
    pub(super) kept: Option<Kept>,
    /// When it was asked for that.
    asked: Option<Moment>,
    pub(super) former: Former,
}

impl Several {
    /// Whether the application reads the stream, or may do so.
    pub(super) fn keeps(&self, stream: &StreamKey) -> bool {
        let unclear = |kept: &Kept| {
            stream
                .name()
                .is_some_and(|name| kept.unclear.contains(name))
        };
        let keeps = |kept: &Kept| kept.streams.contains(stream) || unclear(kept);
        self.kept.as_ref().is_some_and(keeps)
    }
}

impl Driver {
    /// As the leader: asks which streams the application reads.
    pub(super) fn want_streams(&mut self, anew: bool, now: Moment) {
        let leads = self.leadership.leads();
        if let Some(several) = self.streams.several.as_mut().filter(|_| leads) {
            several.asked = Some(now);
            self.tell(CoordinatorEvent::StreamsWanted { anew });
        }
    }

    /// This worker has come to lead: what it knew of the list may be old.
    pub(super) fn doubt_list(&mut self) {
        if let Some(several) = &mut self.streams.several {
            several.kept = None;
            several.former = Former::default();
        }
    }

    pub(super) fn ask_for_streams(&mut self, now: Moment) {
        if self.next_streams_wanted().is_some_and(|due| due <= now) {
            self.want_streams(false, now);
        }
    }

    /// When to ask again: the first time is when this worker came to lead.
    pub(super) fn next_streams_wanted(&self) -> Option<Moment> {
        let asked = self.streams.several.as_ref()?.asked?;
        let due = asked.plus(STREAMS_WANTED_EACH);
        Some(due).filter(|_| self.leadership.leads())
    }

    pub(super) fn on_streams_kept(
        &mut self,
        streams: BTreeSet<StreamKey>,
        unclear: BTreeSet<String>,
    ) {
        if let Some(several) = &mut self.streams.several {
            several.kept = Some(Kept { streams, unclear });
            several.former.is_told = true;
            self.replan = true;
        }
    }

    /// What was known before may be old by now. To plan for the leases that there are, no list is needed.
    pub(super) fn on_all_streams_kept(&mut self) {
        if let Some(several) = &mut self.streams.several {
            several.kept.get_or_insert_default();
            several.former = Former::default();
            self.replan = true;
        }
    }

    /// Makes items again that were deleted by hand: without them nobody knows where reading begins. `found` are those that a
    /// reading of the table found.
    pub(super) fn restore_stream_items(&mut self, found: &BTreeSet<StreamKey>) {
        let Some(kept) = self.streams.several.as_ref().and_then(|s| s.kept.as_ref()) else {
            return;
        };
        let lost = kept.streams.difference(found);
        let stored = lost.filter_map(|stream| self.streams.get(stream)?.stored.as_ref());
        let writes: Vec<RowWrite> = stored.map(write::put_stream).collect();
        for write in writes {
            self.tidy(write);
        }
    }

    /// Whether a key belongs to an application of one stream while this worker reads several, or the other way round.
    pub(super) fn is_of_other_kind(&self, stream: &StreamKey) -> bool {
        self.streams.several.is_some() != stream.as_str().is_some()
    }

    /// The table holds an item of an application of the other kind. A worker that starts does not begin to write there; for one
    /// that works it is a row that it cannot use.
    pub(super) fn other_kind(&self, key: String) -> CoordinatorError {
        CoordinatorError::OtherKind {
            key,
            several: self.streams.several.is_none(),
        }
    }

    /// Whether it is known what is stored of the lease's stream; if not, that is read, and what to take is planned again.
    pub(super) fn knows_stream_of(&mut self, lease: &LeaseKey) -> bool {
        let stream = lease.stream_key();
        let now = self.runtime.now();
        let known = self.streams.get(&stream).filter(|s| s.stored.is_some());
        let is_old = known.map(|known| known.is_older_than(KNOWN_FOR, now));
        match is_old {
            Some(false) => return true,
            Some(true) if !self.forget_unused_stream(&stream) => return true,
            Some(true) | None => {}
        }
        self.want_stream(&stream);
        false
    }

    /// What is stored of a stream may change while this worker has no lease of it: it is read again before the next one. The
    /// leader reads it with the table. Returns whether it was forgotten.
    pub(super) fn forget_unused_stream(&mut self, stream: &StreamKey) -> bool {
        if self.streams.several.is_none() || self.leadership.leads() {
            return false;
        }
        // Keys of one stream stand together.
        let mut after = self.busy.range(stream.lease_key(&ShardId::from(""))..);
        let used = after.next().is_some_and(|key| key.stream_key() == *stream);
        if !used && self.streams.get(stream).is_some_and(Stream::is_idle) {
            self.streams.clear(stream);
            return true;
        }
        false
    }
}
