//! Looking at the streams of the list, and opening those that are new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use kcl_lease::{StreamIdentity, StreamKey};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::incarnation::Incarnation;
use super::keeper::Keeper;
use super::listed::{ListedId, ListedStream};
use crate::error::WorkerError;
use crate::event::WorkerEvent;
use crate::retrieval::{SourceError, SourceErrorKind, StreamDescription};
use crate::startup::{Attempts, epoch_millis, proposed_start};
use crate::stream::StreamArn;

/// How many streams are looked at at the same time, without those that are slow to answer.
const AT_ONCE: usize = 16;
/// Those that take longer keep no others waiting.
const SLOW: Duration = Duration::from_secs(1);
/// Transient failures of one stream are tried again for so long: after that others wait for it no longer.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// The calls of one look at a stream together, answers that never come included.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
/// Streams that are open are looked at again in turn, so many in one look, each minute: `DescribeStreamSummary` is limited to 20
/// calls a second for the whole account.
const LOOKED_AT_AGAIN: usize = 60;

/// The streams that this worker has opened.
#[derive(Debug, Default)]
pub(crate) struct Opened(Mutex<BTreeMap<ListedId, OpenedStream>>);

#[derive(Debug)]
struct OpenedStream {
    key: StreamKey,
    looked_at: Instant,
    /// Perhaps it has been removed since then.
    in_doubt: bool,
}

type Streams = BTreeMap<ListedId, OpenedStream>;

impl Opened {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, key: &StreamKey) {
        self.lock().retain(|_, stream| stream.key != *key);
    }

    pub(super) fn doubt_all(&self) {
        let mut streams = self.lock();
        streams
            .values_mut()
            .for_each(|stream| stream.in_doubt = true);
    }

    /// Those whose turn it is not, by what they are called in the list.
    fn not_due(&self, listed: &[Arc<ListedStream>]) -> BTreeMap<ListedId, StreamKey> {
        let listed: BTreeSet<ListedId> = listed.iter().map(|stream| stream.id()).collect();
        let mut streams = self.lock();
        streams.retain(|id, _| listed.contains(id));
        let mut sure: Vec<_> = streams.iter().filter(|(_, s)| !s.in_doubt).collect();
        sure.sort_by_key(|(_, stream)| stream.looked_at);
        let rest = sure.into_iter().skip(LOOKED_AT_AGAIN);
        rest.map(|(id, stream)| (id.clone(), stream.key.clone()))
            .collect()
    }

    /// Notes that a stream was looked at. Whether it is open.
    fn saw(&self, id: &ListedId, key: &StreamKey) -> bool {
        let mut streams = self.lock();
        let known = streams.get_mut(id).filter(|s| s.key == *key && !s.in_doubt);
        known
            .map(|stream| stream.looked_at = Instant::now())
            .is_some()
    }

    fn add(&self, id: ListedId, key: StreamKey) {
        let (looked_at, in_doubt) = (Instant::now(), false);
        self.lock().insert(
            id,
            OpenedStream {
                key,
                looked_at,
                in_doubt,
            },
        );
    }
}

impl Keeper {
    /// Looks at all streams whose turn it is, and opens them. Returns the key of each, or why there is none.
    pub(super) async fn look_at_streams(
        &self,
        listed: &[Arc<ListedStream>],
    ) -> Vec<(Arc<ListedStream>, Result<StreamKey, WorkerError>)> {
        let not_due = self.opened.not_due(listed);
        let turns = Semaphore::new(AT_ONCE);
        let looks = listed.iter().map(|stream| async {
            let key = match not_due.get(&stream.id()) {
                Some(known) => Ok(known.clone()),
                None => self.look_in_turn(&turns, stream).await,
            };
            (Arc::clone(stream), key)
        });
        join_all(looks).await
    }

    async fn look_in_turn(
        &self,
        turns: &Semaphore,
        listed: &ListedStream,
    ) -> Result<StreamKey, WorkerError> {
        let turn = turns.acquire().await;
        let mut look = Box::pin(timeout(LOOK_LIMIT, self.look_at(listed)));
        let looked = match timeout(SLOW, &mut look).await {
            Ok(looked) => looked,
            Err(_) => {
                drop(turn);
                look.await
            }
        };
        looked.unwrap_or_else(|_| Err(too_slow(listed)))
    }

    async fn look_at(&self, listed: &ListedStream) -> Result<StreamKey, WorkerError> {
        let attempts = Attempts {
            stream: &listed.stream.name,
            deadline: Instant::now() + OPEN_LIMIT,
            rng: self.runtime.rng(listed.config.name_or_arn()),
        };
        let description = attempts.describe(listed.source.as_ref()).await?;
        let key = stream_key(listed, &description)?;
        if !self.opened.saw(&listed.id(), &key) {
            self.open(listed, &key, &description, &attempts).await?;
            self.opened.add(listed.id(), key.clone());
        }
        Ok(key)
    }

    /// Stores that the application reads the stream, and creates the leases that it needs.
    async fn open(
        &self,
        listed: &ListedStream,
        key: &StreamKey,
        description: &StreamDescription,
        attempts: &Attempts<'_>,
    ) -> Result<(), WorkerError> {
        let position = listed.config.position(self.position);
        let proposed = StreamIdentity {
            stream_arn: description.arn.clone(),
            created_at: epoch_millis(description.created_at),
            start: proposed_start(position, description),
        };
        let opened = self.coordinator.open_stream(key.clone(), proposed).await?;
        let created = attempts
            .create_leases(listed.source.as_ref(), &self.coordinator, key, &opened)
            .await?;
        if created > 0 {
            self.events
                .emit(WorkerEvent::LeasesCreated { count: created });
        }
        let source = Incarnation::new(Arc::clone(&listed.source), description.created_at);
        self.listings.add(key, Arc::new(source));
        Ok(())
    }
}

fn too_slow(listed: &ListedStream) -> WorkerError {
    WorkerError::Stream {
        stream: listed.stream.name.clone(),
        source: SourceError::new(SourceErrorKind::Timeout, "DescribeStreamSummary")
            .with_detail(format!("no answer within {} s", LOOK_LIMIT.as_secs())),
    }
}

/// Account, name and time of creation: a stream that is created anew is another one.
fn stream_key(
    listed: &ListedStream,
    description: &StreamDescription,
) -> Result<StreamKey, WorkerError> {
    let arn = StreamArn::parse(&description.arn).map_err(|reason| WorkerError::Stream {
        stream: listed.stream.name.clone(),
        source: SourceError::new(SourceErrorKind::Malformed, "DescribeStreamSummary")
            .with_detail(format!("{} {reason}", description.arn)),
    })?;
    let created = description.created_at.duration_since(UNIX_EPOCH);
    let epoch = created.unwrap_or_default().as_secs();
    Ok(StreamKey::new(&arn.account, &arn.name, epoch))
}
