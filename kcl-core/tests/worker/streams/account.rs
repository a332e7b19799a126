//! The streams of an account, as the workers' clients see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kcl_core::retrieval::{
    Fetched, MemoryStream, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamConsumer,
    StreamDescription, Subscription,
};
use kcl_core::{ShardId, SourceError, SourceErrorKind, StreamConfig, async_trait};
use kcl_lease::ListedShard;

/// A stream whose name begins like this never answers.
pub(super) const SILENT: &str = "silent";
/// Streams whose names begin like this are found with a client of their own only.
pub(super) const FAR: &str = "far-";

/// The streams of an account by name; a stream that is not there is not found.
#[derive(Clone, Default)]
pub(super) struct Account {
    streams: Arc<Mutex<BTreeMap<String, MemoryStream>>>,
    /// Listings of these never come.
    unlisted: Arc<Mutex<BTreeSet<String>>>,
    /// How long it takes to describe any of them.
    describes_in: Arc<Mutex<Duration>>,
}

impl Account {
    pub(super) fn get(&self, name: &str) -> Option<MemoryStream> {
        self.streams.lock().unwrap().get(name).cloned()
    }

    /// A stream of this name, which may be there already.
    pub(super) fn put(&self, name: &str, stream: &MemoryStream) {
        let mut streams = self.streams.lock().unwrap();
        if let Some(before) = streams.insert(name.to_owned(), stream.clone()) {
            before.delete();
            // Iterators are of one incarnation only.
            stream.expire_iterators();
        }
    }

    /// From now on the shards of this stream cannot be listed: no answer comes.
    pub(super) fn hang_listings(&self, name: &str) {
        self.unlisted.lock().unwrap().insert(name.to_owned());
    }

    pub(super) fn heal_listings(&self, name: &str) {
        self.unlisted.lock().unwrap().remove(name);
    }

    /// From now on it takes so long to describe a stream.
    pub(super) fn describe_in(&self, time: Duration) {
        *self.describes_in.lock().unwrap() = time;
    }

    pub(super) fn remove(&self, name: &str) {
        let removed = self.streams.lock().unwrap().remove(name);
        removed.unwrap().delete();
    }
}

/// One of them, whichever has the name at the moment. Sequence numbers are of one incarnation only, as with the service.
pub(super) struct Named {
    account: Account,
    name: String,
    /// The client can reach it.
    is_near: bool,
    /// When the one was created that was read first.
    read: Mutex<Option<SystemTime>>,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Named {
    pub(super) fn new(account: &Account, stream: &StreamConfig) -> Self {
        let has_client = format!("{stream:?}").contains("aws: Some");
        Self {
            account: account.clone(),
            name: stream.name().to_owned(),
            is_near: has_client || !stream.name().starts_with(FAR),
            read: Mutex::default(),
        }
    }

    fn now(&self) -> Result<MemoryStream, SourceError> {
        let missing = || SourceError::new(SourceErrorKind::StreamNotFound, "any");
        let found = self.account.get(&self.name).filter(|_| self.is_near);
        found.ok_or_else(missing)
    }

    /// Whether it is the one that was read first.
    async fn is_same(&self) -> Result<bool, SourceError> {
        let created = self.now()?.describe().await?.created_at;
        Ok(*self.read.lock().unwrap().get_or_insert(created) == created)
    }

    async fn begin(&self, from: &StartPosition) -> Result<(), SourceError> {
        match from {
            StartPosition::AtSequenceNumber(_) | StartPosition::AfterSequenceNumber(_)
                if !self.is_same().await? =>
            {
                let kind = SourceErrorKind::InvalidArgument;
                Err(SourceError::new(kind, "GetShardIterator"))
            }
            _ => self.is_same().await.map(drop),
        }
    }
}

#[async_trait]
impl ShardSource for Named {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        if self.name.starts_with(SILENT) {
            std::future::pending::<()>().await;
        }
        let takes = *self.account.describes_in.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.now()?.describe().await
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        let hangs = self.account.unlisted.lock().unwrap().contains(&self.name);
        if hangs {
            std::future::pending::<()>().await;
        }
        self.now()?.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.begin(from).await?;
        self.now()?.iterator(shard, from).await
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.now()?.describe_consumer(name).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.now()?.register_consumer(name).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        self.begin(from).await?;
        self.now()?.subscribe(consumer_arn, shard, from).await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.now()?.get_records(iterator, limit).await
    }
}
