//! Creating the leases that the shards of a listing need.

use std::collections::{BTreeMap, VecDeque};

use super::audits::repair_write;
use super::calls::{Answer, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::{CoordinatorError, CoordinatorEvent};
use super::handle::{Answer as Reply, StreamIdentity, SyncOutcome};
use super::scans::SCAN_AGES_AFTER;
use crate::audit::Repair;
use crate::graph;
use crate::key::{LeaseKey, StreamKey};
use crate::lease::Lease;
use crate::listed_shard::ListedShard;
use crate::runtime::Moment;
use crate::table::{Consistency, Written};
use crate::write;

/// Listings that wait, and the one whose leases are being made.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    waiting: VecDeque<SyncRequest>,
    current: Option<Sync>,
    done_once: bool,
}

/// A listing that waits to be turned into leases.
#[derive(Debug)]
struct SyncRequest {
    listing: Vec<ListedShard>,
    fresh: bool,
    answer: Reply<SyncOutcome>,
}

/// A synchronisation whose rows are being created.
#[derive(Debug)]
struct Sync {
    waiting: VecDeque<Repair>,
    on_their_way: BTreeMap<LeaseKey, Repair>,
    /// The first failure that will not pass by itself.
    error: Option<CoordinatorError>,
    created: usize,
    begun: Moment,
    answer: Reply<SyncOutcome>,
}

impl Syncs {
    pub(super) fn push(
        &mut self,
        listing: Vec<ListedShard>,
        fresh: bool,
        answer: Reply<SyncOutcome>,
    ) {
        self.waiting.push_back(SyncRequest {
            listing,
            fresh,
            answer,
        });
    }

    /// No listing waits or is in work.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// A listing waits, and none is in work.
    pub(super) fn has_next(&self) -> bool {
        !self.waiting.is_empty() && self.current.is_none()
    }

    /// Answers all listings that wait.
    pub(super) fn refuse(&mut self, error: impl Fn() -> CoordinatorError) {
        for request in self.waiting.drain(..) {
            let _ = request.answer.send(Err(error()));
        }
    }

    /// The stream was removed.
    pub(super) fn begin_anew(&mut self) {
        self.done_once = false;
    }

    /// At least one listing was turned into leases, and none is in work.
    pub(super) fn is_done(&self) -> bool {
        self.done_once && self.current.is_none()
    }
}

impl Driver {
    /// Plans the rows that the next listing needs.
    pub(super) fn plan_sync(&mut self, stream: &StreamKey, now: Moment) {
        let fresh_scan = |at: &Moment| now.since(*at) <= SCAN_AGES_AFTER;
        let knows_the_table = self.scanned_surely.as_ref().is_some_and(fresh_scan);
        let known = self.streams.entry(stream);
        let Some(stored) = known.stored.clone().filter(|_| knows_the_table) else {
            return;
        };
        if known.syncs.current.is_some() {
            return;
        }
        let Some(request) = known.syncs.waiting.pop_front() else {
            return;
        };
        let plan = match request.fresh {
            // Somebody else was first: his leases may be far ahead of where a fresh start would put them. If none is left,
            // they were deleted.
            true if self.view.rows_of(stream).next().is_some() || stored.leases_made => {
                Err(graph::ListingError::LeasesExist)
            }
            true => graph::fresh_leases(stream, &request.listing, stored.start)
                .map(|leases| leases.into_iter().map(Repair::Create).collect()),
            false => self.judge_missing(request.listing.clone(), &stored, now),
        };
        match plan {
            Ok(leases) => {
                self.view.saw_listing(stream.clone(), &request.listing, now);
                self.replan = true;
                self.streams.entry(stream).syncs.current = Some(Sync {
                    waiting: leases.into(),
                    on_their_way: BTreeMap::new(),
                    error: None,
                    created: 0,
                    begun: now,
                    answer: request.answer,
                });
            }
            Err(error) => {
                let _ = request.answer.send(Err(error.into()));
            }
        }
    }

    pub(super) fn create_rows(&mut self, stream: &StreamKey) {
        if self.streams.entry(stream).syncs.current.is_none() {
            return;
        }
        let counter = self.row_counter();
        while self.background < BACKGROUND_MAX {
            let current = self.streams.entry(stream).syncs.current.as_mut();
            let Some(repair) = current.and_then(Sync::next) else {
                break;
            };
            let (key, write) = (repair.key().clone(), repair_write(&repair, counter));
            self.background += 1;
            self.calls
                .write(write, move |result| Answer::Created { key, result });
        }
        self.end_sync(stream);
    }

    pub(super) fn on_created(
        &mut self,
        key: &LeaseKey,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard_of_stream(&result, now);
        let stream = key.stream_key();
        let known = self.streams.entry(&stream);
        let Some(sync) = known.syncs.current.as_mut() else {
            return;
        };
        let repair = sync.on_their_way.remove(key);
        let mut made = None;
        let patient = now.since(sync.begun) < self.options.startup_timeout;
        let item = match result {
            Ok(Written::Applied(item)) => {
                sync.created += 1;
                made = repair;
                Some(item)
            }
            Ok(Written::Refused(item)) => item,
            Err(error) if error.is_retryable() && patient && sync.error.is_none() => {
                // Creating a row that is there already changes nothing.
                sync.waiting.extend(repair);
                self.streams.setback.failed(now);
                return;
            }
            Err(error) => {
                // The same listing is planned again by whoever asked; rows that were made stay.
                sync.error.get_or_insert(error.into());
                sync.waiting.clear();
                None
            }
        };
        if let Some(Ok(Some(lease))) = item.as_ref().map(Lease::from_item) {
            self.note_row(lease, Consistency::Strong, now);
        }
        if let Some(repair) = made {
            self.on_repaired(&repair);
        }
        self.end_sync(&stream);
    }

    fn end_sync(&mut self, stream: &StreamKey) {
        let done = |sync: &mut Sync| sync.waiting.is_empty() && sync.on_their_way.is_empty();
        let known = self.streams.entry(stream);
        let Some(sync) = known.syncs.current.take_if(done) else {
            return;
        };
        self.replan = true;
        let outcome = match sync.error {
            Some(error) => Err(error),
            None => {
                known.syncs.done_once = true;
                self.note_leases_made(stream);
                Ok(SyncOutcome {
                    created: sync.created,
                })
            }
        };
        tracing::debug!(created = sync.created, begun = ?sync.begun, "leases synchronised");
        let _ = sync.answer.send(outcome);
    }

    /// Every lease that the first start needs is there.
    fn note_leases_made(&mut self, stream: &StreamKey) {
        let stored = self.streams.entry(stream).stored.as_mut();
        if let Some(stored) = stored.filter(|stored| !stored.leases_made) {
            stored.leases_made = true;
            self.background += 1;
            // Should it be lost, the next worker that starts writes it.
            self.calls
                .write(write::leases_made(stored), Answer::Housekeeping);
        }
    }

    /// Asks for a listing of a stream, unless one was asked for a short while ago.
    pub(super) fn ask_for_listing(&mut self, stream: StreamKey, now: Moment) {
        let each = self.options.scan_interval;
        let several = self.streams.several.is_some();
        let known = self.streams.entry(&stream);
        if known.listing_asked.is_some_and(|at| now.since(at) < each) {
            return;
        }
        let stored = known.stored.clone().filter(|_| several);
        if several && stored.is_none() {
            // Planned again once it is known what is stored.
            return self.want_stream(&stream);
        }
        known.listing_asked = Some(now);
        let identity = stored.map(|stored| Box::new(StreamIdentity::from_item(stored)));
        self.tell(CoordinatorEvent::ListingWanted { stream, identity });
    }
}

impl Sync {
    fn next(&mut self) -> Option<Repair> {
        let repair = self.waiting.pop_front()?;
        self.on_their_way
            .insert(repair.key().clone(), repair.clone());
        Some(repair)
    }
}
