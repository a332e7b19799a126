//! Enhanced fan-out on the stream in memory: consumers, and subscriptions by the service's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kcl_checkpoint::SequenceNumber;
use kcl_lease::ShardId;
use kcl_lease::runtime::Moment;

use super::source::batch;
use super::{MemoryStream, State};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::StartPosition;
use crate::retrieval::subscription::{ConsumerStatus, Pushed, StreamConsumer, Subscription};

/// The service's limit of consumers for one stream.
const MAX_CONSUMERS: usize = 20;
/// Records of one event.
const EVENT_RECORDS: usize = 1_000;
/// The service ends a subscription after this.
const LIFETIME: Duration = Duration::from_secs(300);
/// An event comes at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A second subscription this soon after the first one is refused.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(5);

/// What goes on beside polling.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    consumers: BTreeMap<String, StreamConsumer>,
    registered: u64,
    /// Of those that are not ACTIVE at once.
    statuses: BTreeMap<String, ConsumerStatus>,
    /// The last subscription of each consumer to each shard.
    subscriptions: BTreeMap<(String, ShardId), Known>,
    opened: u64,
    /// Subscriptions that were opened before so many have broken.
    cut_before: u64,
    silent: BTreeSet<ShardId>,
    /// Subscriptions to a shard that were opened up to this one stay silent.
    silenced: BTreeMap<ShardId, u64>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    began: Moment,
    is_open: bool,
}

#[derive(Debug)]
struct Following {
    stream: MemoryStream,
    consumer: String,
    shard: ShardId,
    number: u64,
    expires: Moment,
    next_heartbeat: Moment,
    /// The next record's index.
    index: usize,
    /// After which record to subscribe again.
    continuation: SequenceNumber,
    over: bool,
}

/// What a subscription has to say now.
enum Now {
    Event(u64),
    Nothing { until: Moment },
    Ended,
}

impl MemoryStream {
    /// Removes a consumer, as somebody else may. Its subscriptions end.
    pub fn deregister_consumer(&self, name: &str) {
        let mut state = self.lock();
        if let Some(gone) = state.fan_out.consumers.remove(name) {
            let others = |(arn, _): &(String, ShardId), _: &mut Known| *arn != gone.arn;
            state.fan_out.subscriptions.retain(others);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The status that the consumer of this name has from now on, or has when it is registered. Its subscriptions end if it is
    /// not ACTIVE, and it gets no others. Without this a consumer is ACTIVE as soon as it is registered.
    pub fn set_consumer_status(&self, name: &str, status: ConsumerStatus) {
        let mut state = self.lock();
        let fan_out = &mut state.fan_out;
        fan_out.statuses.insert(name.to_owned(), status);
        if let Some(consumer) = fan_out.consumers.get_mut(name) {
            consumer.status = status;
            if status != ConsumerStatus::Active {
                let arn = consumer.arn.clone();
                fan_out.subscriptions.retain(|(of, _), _| *of != arn);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Breaks all connections of subscriptions.
    pub fn cut_subscriptions(&self) {
        let mut state = self.lock();
        state.fan_out.cut_before = state.fan_out.opened;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether nothing more comes of a shard's subscriptions that are open now or opened while this holds, though they stand.
    pub fn silence(&self, shard: &ShardId, silent: bool) {
        let mut state = self.lock();
        match silent {
            true => state.fan_out.silent.insert(shard.clone()),
            false => state.fan_out.silent.remove(shard),
        };
        let opened = state.fan_out.opened;
        state.fan_out.silenced.insert(shard.clone(), opened);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether a consumer has a subscription to the shard at this moment that somebody holds.
    #[must_use]
    pub fn is_followed(&self, consumer: &str, shard: &ShardId) -> bool {
        let state = self.lock();
        let consumer = state.fan_out.consumers.get(consumer);
        let key = consumer.map(|consumer| (consumer.arn.clone(), shard.clone()));
        let last = key.and_then(|key| state.fan_out.subscriptions.get(&key));
        last.is_some_and(|last| last.is_open)
    }

    pub(super) fn find_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        let state = self.called("DescribeStreamConsumer")?;
        Ok(state.fan_out.consumers.get(name).cloned())
    }

    pub(super) fn add_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        let operation = "RegisterStreamConsumer";
        let mut state = self.called(operation)?;
        let fan_out = &mut state.fan_out;
        let refused = |kind| Err(SourceError::new(kind, operation));
        if fan_out.consumers.contains_key(name) {
            return refused(SourceErrorKind::StreamInUse);
        }
        if fan_out.consumers.len() >= MAX_CONSUMERS {
            return refused(SourceErrorKind::Throttled);
        }
        fan_out.registered += 1;
        let consumer = StreamConsumer {
            arn: format!("{}/consumer/{name}:{}", self.arn, fan_out.registered),
            status: fan_out
                .statuses
                .get(name)
                .copied()
                .unwrap_or(ConsumerStatus::Active),
        };
        fan_out.consumers.insert(name.to_owned(), consumer.clone());
        Ok(consumer)
    }

    pub(super) fn open_subscription(
        &self,
        consumer: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let operation = "SubscribeToShard";
        let now = self.runtime.now();
        let mut state = self.called(operation)?;
        let not_found = || SourceError::new(SourceErrorKind::StreamNotFound, operation);
        let known = state.shard(shard).ok_or_else(not_found)?;
        let index = state.index(known, from)?;
        let continuation = match index.checked_sub(1) {
            Some(before) => known
                .records
                .get(before)
                .map(|last| last.sequence_number.clone()),
            None => None,
        };
        let fan_out = &mut state.fan_out;
        let in_use = || SourceError::new(SourceErrorKind::StreamInUse, operation);
        let mut consumers = fan_out.consumers.values();
        let known = consumers.find(|known| known.arn == consumer);
        let status = known.ok_or_else(not_found)?.status;
        if status != ConsumerStatus::Active {
            return Err(in_use().with_detail(format!("the consumer is {status:?}")));
        }
        let key = (consumer.to_owned(), shard.clone());
        let last = fan_out.subscriptions.get(&key);
        if last.is_some_and(|last| now.since(last.began) < TAKE_OVER_AFTER) {
            return Err(in_use());
        }
        fan_out.opened += 1;
        let number = fan_out.opened;
        fan_out.subscriptions.insert(
            key,
            Known {
                number,
                began: now,
                is_open: true,
            },
        );
        drop(state);
        // Who subscribed before learns that he is followed.
        self.changed.notify_waiters();
        Ok(Box::new(Following {
            stream: self.clone(),
            consumer: consumer.to_owned(),
            shard: shard.clone(),
            number,
            expires: now.plus(LIFETIME),
            next_heartbeat: now,
            index,
            continuation: continuation.unwrap_or_else(before_all),
            over: false,
        }))
    }
}

/// A number below those of all records.
#[expect(clippy::expect_used, reason = "a digit is a sequence number")]
fn before_all() -> SequenceNumber {
    SequenceNumber::parse("0").expect("a digit")
}

impl State {
    /// The records of an event that goes on at this index, and the index after it.
    fn event(&self, shard: &ShardId, index: usize) -> Option<(&super::Shard, usize, usize)> {
        let known = self.shard(shard)?;
        let first = index.max(known.trimmed);
        Some((known, first, known.records.len().min(first + EVENT_RECORDS)))
    }
}

impl Following {
    fn look(&self) -> Result<Now, SourceError> {
        let now = self.stream.runtime.now();
        let state = self.stream.lock();
        let fan_out = &state.fan_out;
        if self.number <= fan_out.cut_before {
            let kind = SourceErrorKind::Unavailable;
            return Err(SourceError::new(kind, "SubscribeToShard").with_detail("cut"));
        }
        let silenced = fan_out.silenced.get(&self.shard);
        let is_silenced = silenced.is_some_and(|last| self.number <= *last);
        if is_silenced || fan_out.silent.contains(&self.shard) {
            return Ok(Now::Nothing {
                until: now.plus(LIFETIME),
            });
        }
        let key = (self.consumer.clone(), self.shard.clone());
        let is_last = fan_out.subscriptions.get(&key).map(|last| last.number) == Some(self.number);
        if self.over || !is_last || now >= self.expires {
            return Ok(Now::Ended);
        }
        let Some((known, first, end)) = state.event(&self.shard, self.index) else {
            return Ok(Now::Ended);
        };
        let bytes: usize = known
            .records
            .get(first..end)
            .unwrap_or_default()
            .iter()
            .map(|stored| stored.data.len() + 200)
            .sum();
        let due = bytes > 0 || !known.listed.open || now >= self.next_heartbeat;
        Ok(match due {
            true => Now::Event(bytes as u64),
            false => Now::Nothing {
                until: self.next_heartbeat.min(self.expires),
            },
        })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        let key = (self.consumer.clone(), self.shard.clone());
        let last = state.fan_out.subscriptions.get_mut(&key);
        if let Some(last) = last.filter(|last| last.number == self.number) {
            last.is_open = false;
        }
    }
}

#[async_trait]
impl Subscription for Following {
    async fn announced(&mut self) -> Result<Option<u64>, SourceError> {
        loop {
            let changed = Arc::clone(&self.stream.changed);
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            match self.look()? {
                Now::Event(bytes) => return Ok(Some(bytes)),
                Now::Ended => return Ok(None),
                Now::Nothing { until } => {
                    let pause = until.since(self.stream.runtime.now());
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Pushed, SourceError> {
        let now = self.stream.runtime.now();
        let wall = self.stream.runtime.wall_time();
        let state = self.stream.lock();
        let gone = || SourceError::new(SourceErrorKind::Unavailable, "SubscribeToShard");
        let (known, first, end) = state.event(&self.shard, self.index).ok_or_else(gone)?;
        let records = known.records.get(first..end).unwrap_or_default();
        if let Some(last) = records.last() {
            self.continuation = last.sequence_number.clone();
        }
        let rest = known.records.get(end..).unwrap_or_default();
        let ended = rest.is_empty() && !known.listed.open;
        let children = match ended && state.names_children {
            true => state.listing(|listed| listed.parents().any(|parent| *parent == self.shard)),
            false => Vec::new(),
        };
        let behind = rest.first().map_or(Duration::ZERO, |oldest| {
            let age = wall.duration_since(oldest.arrival).unwrap_or_default();
            age.max(Duration::from_millis(1))
        });
        let malformed = |invalid| {
            SourceError::new(SourceErrorKind::Malformed, "SubscribeToShard").with_source(invalid)
        };
        self.index = end;
        self.over = ended;
        self.next_heartbeat = now.plus(HEARTBEAT);
        Ok(Pushed {
            batch: batch(records).map_err(malformed)?,
            continuation: (!ended).then(|| self.continuation.clone()),
            children,
            behind: Some(behind),
        })
    }
}
