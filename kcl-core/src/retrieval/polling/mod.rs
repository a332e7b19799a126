//! Reading one shard, call by call: the driver around plan, pace, budget and source.

mod read;
mod recover;
mod shard_end;

use std::sync::Arc;

use kcl_checkpoint::{Position, SequenceNumber};
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};
use tokio::sync::mpsc;

use super::budget::{Budget, Member};
use super::deaggregate::OutOfRange;
use super::delivery::{Delivery, PollEnd};
use super::idle::{IdleMark, IdleShards};
use super::observer::RetrievalObserver;
use super::pace::{PaceOptions, Pacer};
use super::plan::{Learned, MAX_RECORDS_PER_CALL};
use super::source::{ShardIterator, ShardSource, StartPosition};

/// What all shards of a worker poll with.
#[derive(Debug, Clone)]
pub struct Polling {
    /// The stream.
    pub source: Arc<dyn ShardSource>,
    /// The memory that records may take.
    pub budget: Budget,
    /// How many shards have nothing to read.
    pub idle_shards: IdleShards,
    /// How calls are spent.
    pub pace: PaceOptions,
    /// Most Kinesis records in one answer, 1 to 10,000.
    pub max_records: u16,
    /// What happens to user records that the shard does not own.
    pub out_of_range: OutOfRange,
    /// Clock and randomness.
    pub runtime: Runtime,
}

impl Polling {
    /// Polling with default options.
    #[must_use]
    pub fn new(source: Arc<dyn ShardSource>, budget: Budget, runtime: Runtime) -> Self {
        Self {
            source,
            budget,
            idle_shards: IdleShards::default(),
            pace: PaceOptions::default(),
            max_records: MAX_RECORDS_PER_CALL,
            out_of_range: OutOfRange::default(),
            runtime,
        }
    }
}

/// Which shard to read, and from where.
#[derive(Debug, Clone)]
pub struct ShardRead {
    /// The shard.
    pub shard: ShardId,
    /// The hash keys that the shard owns; [`HashKeyRange::FULL`] if not known, then nothing is out of range.
    pub hash_range: HashKeyRange,
    /// Where to start. For a stored checkpoint: *at* its sequence number, because it may lie inside an aggregated record.
    pub start: StartPosition,
    /// What is complete already and not to be delivered again.
    pub skip_through: Option<Position>,
    /// Who hears of it.
    pub observer: Arc<dyn RetrievalObserver>,
}

/// Reads one shard by polling until it ends.
#[derive(Debug)]
pub struct Poller {
    polling: Polling,
    read: ShardRead,
    member: Member,
    pacer: Pacer,
    idle: IdleMark,
    iterator: Option<ShardIterator>,
    /// The last Kinesis record that was fetched: where to go on with a new iterator.
    fetched_through: Option<SequenceNumber>,
    /// The record that the first answer of an iterator should begin with: the one at which reading resumes.
    expected_first: Option<SequenceNumber>,
    /// What is complete or delivered: nothing up to here is delivered (again).
    reached: Option<Position>,
    /// What Kinesis records of this shard take in memory.
    learned: Option<Learned>,
    /// Whether the iterator expired before it was ever used with success.
    expired_unused: bool,
    /// Whether it was told that what is complete lies ahead of the shard's tip.
    told_ahead: bool,
    /// How often in a row the service knew neither the shard nor its place in the listing.
    missing: u32,
    /// The shard answered without a next iterator; children that it named.
    closed: Option<Vec<ListedShard>>,
}

impl Poller {
    /// A poller that has not called anything yet. From now on the shard counts among those that share the budget.
    #[must_use]
    pub fn new(polling: Polling, read: ShardRead) -> Self {
        let rng = polling.runtime.rng(read.shard.as_str());
        Self {
            member: polling.budget.join(),
            pacer: Pacer::new(polling.pace.clone(), rng),
            idle: polling.idle_shards.mark(),
            iterator: None,
            fetched_through: None,
            expected_first: match &read.start {
                StartPosition::AtSequenceNumber(number) => Some(number.clone()),
                _ => None,
            },
            reached: read.skip_through.clone(),
            learned: None,
            expired_unused: false,
            told_ahead: false,
            missing: 0,
            closed: None,
            polling,
            read,
        }
    }

    /// Reads and delivers until the shard ends, the stream is gone or the receiver is dropped.
    ///
    /// A place in the channel is taken before each read, so a channel of one keeps one answer ahead. Answers without
    /// news are not delivered, only reported to the observer. Failures are reported, waited out and repeated for as long
    /// as it takes. Dropping the future is safe at any moment: reading changes nothing.
    pub async fn run(mut self, deliveries: mpsc::Sender<Delivery>) -> PollEnd {
        loop {
            let Ok(place) = deliveries.reserve().await else {
                return PollEnd::ReceiverDropped;
            };
            let next = tokio::select! {
                biased;
                () = deliveries.closed() => return PollEnd::ReceiverDropped,
                next = self.next() => next,
            };
            match next {
                Ok(delivery) => {
                    let ended = delivery.end.is_some();
                    place.send(delivery);
                    if ended {
                        return PollEnd::ShardEnd;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    /// The next answer with news.
    async fn next(&mut self) -> Result<Delivery, PollEnd> {
        loop {
            let pause = self.pacer.pause(self.polling.runtime.now());
            self.read.observer.paused(pause);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let delivery = match self.closed.clone() {
                Some(named) => self.end_of_shard(named).await,
                None => self.read().await,
            };
            match delivery {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => {}
                Err(error) => self.recover(error).await?,
            }
        }
    }
}
