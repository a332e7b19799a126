//! Listings of shards that coordination asks for: a task for each stream, so that one that cannot be listed does not hold up
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_lease::retry::RetryPolicy;
use kcl_lease::runtime::Runtime;
use kcl_lease::{CoordinatorHandle, StreamIdentity, StreamKey};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::book::StreamBook;
use crate::event::{EventSink, WorkerEvent};
use crate::retrieval::ShardSource;
use crate::startup::list_shards;

/// How many streams are listed at the same time.
const AT_ONCE: usize = 16;
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The listings of all streams that this worker has opened, or has had to list.
#[derive(Clone)]
pub(crate) struct Listings {
    coordinator: CoordinatorHandle,
    events: EventSink,
    runtime: Runtime,
    room: Arc<Semaphore>,
    streams: Arc<Mutex<Streams>>,
}

#[derive(Default)]
struct Streams {
    listed: BTreeMap<StreamKey, Listing>,
    /// Wanted before they were opened.
    early: BTreeSet<StreamKey>,
}

struct Listing {
    wanted: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Listings {
    pub(crate) fn new(coordinator: CoordinatorHandle, events: EventSink, runtime: Runtime) -> Self {
        Self {
            coordinator,
            events,
            runtime,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            streams: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a stream from now on whenever that is wanted.
    pub(super) fn add(&self, key: &StreamKey, source: Arc<dyn ShardSource>) {
        let wanted = Arc::new(Notify::new());
        let task = Task {
            key: key.clone(),
            source,
            coordinator: self.coordinator.clone(),
            events: self.events.clone(),
            wanted: Arc::clone(&wanted),
            room: Arc::clone(&self.room),
        };
        let waits = RetryPolicy::endless(SHORTEST_WAIT, LONGEST_WAIT);
        let waits = waits.schedule(self.runtime.rng(&key.to_string()));
        let mut streams = self.lock();
        if streams.early.remove(key) {
            wanted.notify_one();
        }
        let listing = Listing {
            wanted,
            _task: self.runtime.spawn(task.run(waits)),
        };
        streams.listed.insert(key.clone(), listing);
    }

    /// Whether the stream is listed when that is wanted.
    pub(super) fn knows(&self, key: &StreamKey) -> bool {
        self.lock().listed.contains_key(key)
    }

    /// Lists a stream that this worker has not opened, once it is known how it is read. If that cannot be found out now, it is
    /// wanted again.
    pub(super) fn find(&self, key: &StreamKey, identity: StreamIdentity, book: &Arc<StreamBook>) {
        self.want(key);
        let (streams, book, key) = (self.clone(), Arc::clone(book), key.clone());
        let finding = self.runtime.spawn(async move {
            match book.reading(&key, &identity).await {
                Ok(reading) if !streams.knows(&key) => {
                    streams.add(&key, Arc::clone(&reading.source));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(stream = %key, %error, "its shards cannot be listed"),
            }
        });
        finding.detach();
    }

    pub(super) fn want(&self, key: &StreamKey) {
        let mut streams = self.lock();
        match streams.listed.get(key) {
            Some(listing) => listing.wanted.notify_one(),
            None => {
                streams.early.insert(key.clone());
            }
        }
    }

    pub(super) fn forget(&self, key: &StreamKey) {
        let mut streams = self.lock();
        streams.listed.remove(key);
        streams.early.remove(key);
    }
}

struct Task {
    key: StreamKey,
    source: Arc<dyn ShardSource>,
    coordinator: CoordinatorHandle,
    events: EventSink,
    wanted: Arc<Notify>,
    room: Arc<Semaphore>,
}

impl Task {
    async fn run(self, mut waits: kcl_lease::retry::RetrySchedule) {
        loop {
            self.wanted.notified().await;
            let Ok(room) = self.room.acquire().await else {
                return;
            };
            let listed = self.list().await;
            drop(room);
            match listed {
                Ok(count) if count > 0 => self.events.emit(WorkerEvent::LeasesCreated { count }),
                Ok(_) => waits.reset(),
                Err(error) => {
                    tracing::warn!(stream = %self.key, error, "listing the shards failed and is tried again");
                    self.wanted.notify_one();
                }
            }
            tokio::time::sleep(waits.next_or_cap()).await;
        }
    }

    async fn list(&self) -> Result<usize, String> {
        list_shards(self.source.as_ref(), &self.coordinator, self.key.clone()).await
    }
}
