//! What a worker knows of its streams: the list, and how each stream is read of which it holds a shard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use kcl_lease::{StreamIdentity, StreamKey};
use tokio::time::{Instant, timeout};

use super::incarnation::Incarnation;
use super::listed::{ListedStream, Refused, Rules, check_list};
use crate::error::BuildError;
use crate::retrieval::ShardSource;
use crate::shared_reading::SharedReading;
use crate::startup::initial_time;
use crate::stream::{StreamArn, StreamConfig, StreamList};
use crate::stream_reading::StreamReading;

/// A tracker that takes longer is asked again later.
const TRACKER_LIMIT: Duration = Duration::from_secs(30);
/// A worker that does not lead asks no more often than that.
const ASKS_APART: Duration = Duration::from_secs(5);

/// Why a stream cannot be read at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Config(#[from] BuildError),
    #[error(
        "how it is reached cannot be found out, because the streams could not be listed: {error}"
    )]
    List { error: String },
}

/// The streams of a worker.
#[derive(Debug)]
pub(crate) struct StreamBook {
    rules: Rules,
    list: StreamList,
    shared: SharedReading,
    listed: Mutex<Vec<Arc<ListedStream>>>,
    readings: Mutex<BTreeMap<StreamKey, Weak<StreamReading>>>,
    /// When a worker that does not lead asked last. Held while it asks, so that many shards ask once.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl StreamBook {
    pub(crate) fn new(rules: Rules, list: StreamList, shared: SharedReading) -> Self {
        let book = Self {
            rules,
            list,
            shared,
            listed: Mutex::default(),
            readings: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
        };
        if let StreamList::Fixed(list) = &book.list {
            // They were checked when the worker was built.
            let _refused = book.update(list.clone());
        }
        book
    }

    pub(crate) fn listed(&self) -> Vec<Arc<ListedStream>> {
        lock(&self.listed).clone()
    }

    /// Looks at the list again. Returns what cannot be read as it is given.
    ///
    /// # Errors
    /// The tracker's text.
    pub(crate) async fn look(&self) -> Result<Vec<Refused>, String> {
        let tracker = match &self.list {
            StreamList::Fixed(_) => return Ok(Vec::new()),
            StreamList::Tracked(tracker) => tracker,
        };
        match timeout(TRACKER_LIMIT, tracker.streams()).await {
            Ok(Ok(list)) => Ok(self.update(list)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "the tracker took longer than {} s",
                TRACKER_LIMIT.as_secs()
            )),
        }
    }

    /// Streams that stay in the list keep what they are reached by.
    fn update(&self, list: Vec<StreamConfig>) -> Vec<Refused> {
        let mut known = lock(&self.listed);
        let (listed, refused) = check_list(list, &self.rules, |id| {
            known.iter().find(|stream| stream.id() == *id).cloned()
        });
        *known = listed;
        refused
    }

    /// How a stream is read that shards were granted of. Made at the first one.
    ///
    /// # Errors
    /// When the stream cannot be read as it is given.
    pub(crate) async fn reading(
        &self,
        key: &StreamKey,
        identity: &StreamIdentity,
    ) -> Result<Arc<StreamReading>, Unreadable> {
        if let Some(reading) = self.known_reading(key) {
            return Ok(reading);
        }
        let arn =
            StreamArn::parse(&identity.stream_arn).map_err(|reason| bad_arn(identity, reason))?;
        let found = match self.config_of(&arn) {
            Some(config) => Some(config),
            None => self.ask_about(&arn).await?,
        };
        // It has left the list, or another worker has another one.
        let config = found.unwrap_or_else(|| StreamConfig::new(arn.as_str()));
        let made = Arc::new(self.make(&config.bound_to(&arn), identity)?);
        let mut readings = lock(&self.readings);
        readings.retain(|_, reading| reading.strong_count() > 0);
        if let Some(first) = readings.get(key).and_then(Weak::upgrade) {
            return Ok(first);
        }
        readings.insert(key.clone(), Arc::downgrade(&made));
        Ok(made)
    }

    fn known_reading(&self, key: &StreamKey) -> Option<Arc<StreamReading>> {
        lock(&self.readings).get(key)?.upgrade()
    }

    /// What the list says of the stream: first by its ARN.
    fn config_of(&self, arn: &StreamArn) -> Option<StreamConfig> {
        let listed = lock(&self.listed);
        let named = listed
            .iter()
            .find(|stream| stream.stream.arn.as_ref() == Some(arn));
        let found = named.or_else(|| listed.iter().find(|stream| stream.may_be(arn)));
        found.map(|stream| stream.config.clone())
    }

    /// Asks the tracker about a stream that is not known, as a worker that does not lead. Without an answer nobody can tell how
    /// the stream is to be reached.
    async fn ask_about(&self, arn: &StreamArn) -> Result<Option<StreamConfig>, Unreadable> {
        if matches!(self.list, StreamList::Fixed(_)) {
            return Ok(None);
        }
        let mut asked = self.asked.lock().await;
        if let Some(config) = self.config_of(arn) {
            return Ok(Some(config));
        }
        if let Some(last) = *asked {
            tokio::time::sleep_until(last + ASKS_APART).await;
        }
        // Whoever waits may be dropped meanwhile: the next one does not ask at once.
        *asked = Some(Instant::now());
        let looked = self.look().await;
        *asked = Some(Instant::now());
        match looked {
            Ok(_) => Ok(self.config_of(arn)),
            Err(error) => Err(Unreadable::List { error }),
        }
    }

    /// By its ARN, whatever it is called in the list: a name may be that of another account's stream.
    fn make(
        &self,
        config: &StreamConfig,
        identity: &StreamIdentity,
    ) -> Result<StreamReading, BuildError> {
        let listed = ListedStream::new(config.clone(), &self.rules)?;
        let created = UNIX_EPOCH + Duration::from_millis(identity.created_at);
        let source: Arc<dyn ShardSource> = Arc::new(Incarnation::new(listed.source, created));
        Ok(StreamReading {
            name: listed.stream.name.as_str().into(),
            arn: identity.stream_arn.as_str().into(),
            initial_time: initial_time(&identity.start),
            reader: self.shared.reader(&source, listed.consumer),
            source,
            replay: None,
            is_one_of_several: true,
        })
    }
}

fn bad_arn(identity: &StreamIdentity, reason: &str) -> BuildError {
    BuildError::InvalidOption {
        option: "stream",
        value: format!("{:?}", identity.stream_arn),
        reason: reason.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
