//! Reading one shard, call by call: the driver around plan, pace, budget and source.

mod read;
mod recover;

use std::sync::Arc;

use kcl_lease::ListedShard;
use kcl_lease::runtime::Runtime;
use tokio::sync::mpsc;

use super::absence::Absence;
use super::budget::Budget;
use super::deaggregate::OutOfRange;
use super::delivery::{Delivery, PollEnd};
use super::error::SourceError;
use super::idle::{IdleMark, IdleShards};
use super::intake::{Intake, ShardRead};
use super::pace::{PaceOptions, Pacer};
use super::plan::MAX_RECORDS_PER_CALL;
use super::read_limit::ReadLimit;
use super::shard_end::{Ending, ending};
use super::source::{ShardIterator, ShardSource};

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
    /// What all shards together may read in a second.
    pub limit: ReadLimit,
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
            limit: ReadLimit::default(),
            max_records: MAX_RECORDS_PER_CALL,
            out_of_range: OutOfRange::default(),
            runtime,
        }
    }

    /// What is known of a shard before it is read. From now on it counts among those that share the budget.
    pub(super) fn intake(&self, read: ShardRead) -> Intake {
        Intake::new(read, self.budget.join(), self.out_of_range)
    }
}

/// Reads one shard by polling until it ends.
#[derive(Debug)]
pub struct Poller {
    polling: Polling,
    intake: Intake,
    pacer: Pacer,
    idle: IdleMark,
    iterator: Option<ShardIterator>,
    /// What the last answer brought.
    last_bytes: u64,
    /// Whether the iterator expired before it was ever used with success.
    expired_unused: bool,
    absence: Absence,
    /// The shard answered without a next iterator; children that it named.
    closed: Option<Vec<ListedShard>>,
}

impl Poller {
    /// A poller that has not called anything yet. From now on the shard counts among those that share the budget.
    #[must_use]
    pub fn new(polling: Polling, read: ShardRead) -> Self {
        let intake = polling.intake(read);
        Self::continuing(polling, intake)
    }

    /// Goes on where something else stopped reading, or begins.
    pub(super) fn continuing(polling: Polling, intake: Intake) -> Self {
        let rng = polling.runtime.rng(intake.read.shard.as_str());
        Self {
            intake,
            pacer: Pacer::new(polling.pace.clone(), rng),
            idle: polling.idle_shards.mark(),
            iterator: None,
            last_bytes: 0,
            expired_unused: false,
            absence: Absence::default(),
            closed: None,
            polling,
        }
    }

    /// Reads and delivers until the shard ends, the stream is gone or the receiver is dropped.
    ///
    /// A place in the channel is taken before each read, so a channel of one keeps one answer ahead. Answers without
    /// news are not delivered, only reported to the observer. Failures are reported, waited out and repeated for as long
    /// as it takes. Dropping the future is safe at any moment: reading changes nothing.
    pub async fn run(mut self, deliveries: mpsc::Sender<Delivery>) -> PollEnd {
        let for_ever = || false;
        let end = self.run_until(&deliveries, for_ever).await;
        end.unwrap_or(PollEnd::ReceiverDropped)
    }

    /// As [`run`](Self::run), until `is_over` says so between two reads. `None`: it did.
    pub(super) async fn run_until(
        &mut self,
        deliveries: &mpsc::Sender<Delivery>,
        is_over: impl Fn() -> bool,
    ) -> Option<PollEnd> {
        loop {
            let Ok(place) = deliveries.reserve().await else {
                return Some(PollEnd::ReceiverDropped);
            };
            let next = tokio::select! {
                biased;
                () = deliveries.closed() => return Some(PollEnd::ReceiverDropped),
                next = self.next(&is_over) => next,
            };
            match next {
                Ok(Some(delivery)) => {
                    let ended = delivery.end.is_some();
                    place.send(delivery);
                    if ended {
                        return Some(PollEnd::ShardEnd);
                    }
                }
                Ok(None) => return None,
                Err(end) => return Some(end),
            }
        }
    }

    /// What is known of the shard, for whoever reads on.
    pub(super) fn into_intake(self) -> Intake {
        self.intake
    }

    /// The next answer with news. `None`: somebody else is to read on.
    async fn next(&mut self, is_over: impl Fn() -> bool) -> Result<Option<Delivery>, PollEnd> {
        if let Some(part) = self.intake.next_part().await {
            return Ok(Some(part));
        }
        loop {
            if is_over() {
                return Ok(None);
            }
            let pause = self.pacer.pause(self.polling.runtime.now());
            self.intake.read.observer.paused(pause);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let delivery = match self.closed.clone() {
                Some(named) => self.end_of_shard(named).await,
                None => self.read().await,
            };
            match delivery {
                Ok(Some(delivery)) => return Ok(Some(delivery)),
                Ok(None) => {}
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// The last delivery of the shard; `None` when it turns out to be open after all.
    async fn end_of_shard(
        &mut self,
        named: Vec<ListedShard>,
    ) -> Result<Option<Delivery>, SourceError> {
        let source = self.polling.source.as_ref();
        match ending(source, &self.intake.read.shard, named, "GetRecords").await? {
            Ending::Children(children) => {
                let now = self.polling.runtime.now();
                Ok(Some(self.intake.end(children, now)))
            }
            Ending::Open(contradiction) => {
                self.closed = None;
                Err(contradiction)
            }
        }
    }
}
