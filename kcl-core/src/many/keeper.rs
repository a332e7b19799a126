//! What the worker that leads does for several streams: it looks which there are, opens those that are new, and says which the
//! application keeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcl_lease::runtime::Runtime;
use kcl_lease::{CoordinatorError, CoordinatorHandle, StreamIdentity, StreamKey};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::book::StreamBook;
use super::listings::Listings;
use super::opening::Opened;
use crate::config::InitialPosition;
use crate::error::WorkerError;
use crate::event::{EventSink, WorkerEvent};

/// How soon the start looks again as long as no stream can be opened.
const START_AGAIN: Duration = Duration::from_secs(5);
/// Never more looks than that, whatever asks for them.
const LOOKS_APART: Duration = Duration::from_secs(5);

/// Keeps the application's streams as the list says, while this worker leads.
pub(crate) struct Keeper {
    pub(crate) book: Arc<StreamBook>,
    pub(crate) position: InitialPosition,
    pub(crate) startup_timeout: Duration,
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) events: EventSink,
    pub(crate) runtime: Runtime,
    pub(crate) wanted: Notify,
    /// What this worker opened may have been removed since.
    pub(crate) anew: AtomicBool,
    pub(crate) opened: Opened,
    pub(crate) listings: Listings,
}

impl Keeper {
    pub(crate) fn new(
        book: Arc<StreamBook>,
        config: &crate::config::Config,
        coordinator: CoordinatorHandle,
        events: EventSink,
        runtime: Runtime,
    ) -> Self {
        Self {
            book,
            position: config.initial_position,
            startup_timeout: config.startup_timeout,
            listings: Listings::new(coordinator.clone(), events.clone(), runtime.clone()),
            coordinator,
            events,
            runtime,
            wanted: Notify::new(),
            anew: AtomicBool::new(false),
            opened: Opened::default(),
        }
    }

    /// Ends only with what makes the whole worker end.
    pub(crate) async fn run(&self) -> WorkerError {
        let error = match self.start().await {
            Ok(()) => self.keep_looking().await,
            Err(error) => error,
        };
        if matches!(error, WorkerError::Coordination(CoordinatorError::Stopped)) {
            // Whoever runs the worker sees coordination end, and knows better why.
            std::future::pending::<()>().await;
        }
        error
    }

    pub(crate) fn streams_wanted(&self, anew: bool) {
        self.anew.fetch_or(anew, Ordering::Relaxed);
        self.wanted.notify_one();
    }

    /// Any worker may have to list the shards of a stream, also one that has not opened it.
    pub(crate) fn listing_wanted(&self, stream: &StreamKey, identity: Option<Box<StreamIdentity>>) {
        match identity {
            Some(identity) if !self.listings.knows(stream) => {
                self.listings.find(stream, *identity, &self.book);
            }
            _ => self.listings.want(stream),
        }
    }

    /// All leases of a stream are gone.
    pub(crate) fn removed(&self, stream: StreamKey) {
        self.opened.forget(&stream);
        self.listings.forget(&stream);
        self.events.emit(WorkerEvent::StreamRemoved { stream });
    }

    /// Whoever leads opens all streams. The start fails if it cannot open a single one.
    async fn start(&self) -> Result<(), WorkerError> {
        if !self.coordinator.looks_for_streams().await? {
            return Ok(());
        }
        let deadline = Instant::now() + self.startup_timeout;
        loop {
            match self.look().await? {
                Some(error) if Instant::now() >= deadline => return Err(error),
                Some(_) => tokio::time::sleep(START_AGAIN).await,
                None => return Ok(()),
            }
        }
    }

    async fn keep_looking(&self) -> WorkerError {
        loop {
            self.wanted.notified().await;
            if self.anew.swap(false, Ordering::Relaxed) {
                self.opened.doubt_all();
            }
            if let Err(error) = self.look().await {
                return error;
            }
            tokio::time::sleep(LOOKS_APART).await;
        }
    }

    /// Looks at the list and at its streams. Returns why not a single stream is open, if there are some.
    async fn look(&self) -> Result<Option<WorkerError>, WorkerError> {
        let mut unclear = BTreeSet::new();
        if let Err(error) = self.look_at_list(&mut unclear).await {
            self.events.emit(WorkerEvent::StreamListFailed {
                error: error.clone(),
            });
            // Another worker may have added streams to an older list: nothing can be said of any of them.
            self.coordinator.keep_all_streams();
            return Ok(Some(WorkerError::StreamList { error }));
        }
        let listed = self.book.listed();
        let mut failed = None;
        let mut kept = BTreeSet::new();
        for (stream, outcome) in self.look_at_streams(&listed).await {
            let error = match outcome {
                Ok(key) if kept.insert(key.clone()) => continue,
                Ok(_) => WorkerError::StreamTwice {
                    stream: stream.config.name_or_arn().to_owned(),
                },
                Err(error) if ends_worker(&error) => return Err(error),
                Err(error) => error,
            };
            unclear.insert(stream.stream.name.clone());
            self.tell_unavailable(stream.config.name_or_arn(), &error);
            failed.get_or_insert(error);
        }
        let none = kept.is_empty();
        self.coordinator.keep_streams(kept, unclear);
        Ok(failed.filter(|_| none))
    }

    /// What is refused may have leases all the same, which stay.
    async fn look_at_list(&self, unclear: &mut BTreeSet<String>) -> Result<(), String> {
        for (config, error) in self.book.look().await? {
            self.tell_unavailable(config.name_or_arn(), &error);
            unclear.insert(config.name().to_owned());
        }
        Ok(())
    }

    fn tell_unavailable(&self, stream: &str, error: &dyn std::error::Error) {
        self.events.emit(WorkerEvent::StreamUnavailable {
            stream: stream.to_owned(),
            error: error.to_string(),
        });
    }
}

/// Whether this concerns more than one stream.
fn ends_worker(error: &WorkerError) -> bool {
    matches!(
        error,
        WorkerError::Coordination(CoordinatorError::Stopped | CoordinatorError::OtherKind { .. })
    )
}
