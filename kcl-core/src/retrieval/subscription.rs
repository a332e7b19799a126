//! The seam to enhanced fan-out: who subscribes, and what is pushed.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use kcl_checkpoint::SequenceNumber;
use kcl_lease::ListedShard;

use super::batch::Batch;
use super::error::SourceError;

/// A registered consumer of a stream, as enhanced fan-out needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConsumer {
    /// Its ARN, which changes when it is registered anew.
    pub arn: String,
    /// Whether it can subscribe.
    pub status: ConsumerStatus,
}

/// The life of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerStatus {
    /// Not usable yet.
    Creating,
    /// Can subscribe.
    Active,
    /// Going away; its name is free after that.
    Deleting,
}

/// One event of a subscription.
#[derive(Debug)]
pub struct Pushed {
    /// The records, as they were put (not de-aggregated). None in an event that only says that the subscription lives.
    pub batch: Batch,
    /// After which number to subscribe again; `None` at the end of a closed shard.
    pub continuation: Option<SequenceNumber>,
    /// The shards that take over, at the end of a closed shard.
    pub children: Vec<ListedShard>,
    /// How far the event's end lies behind the tip.
    pub behind: Option<Duration>,
}

/// A subscription to one shard. Dropping it ends it.
///
/// An event is taken in two steps, so that room can be made for it before it is in memory.
#[async_trait]
pub trait Subscription: Debug + Send {
    /// Waits until an event begins to arrive, and returns about how many bytes it will take. `None`: the service ended the
    /// subscription, as it does after five minutes.
    ///
    /// # Errors
    /// When the service or the network ended it otherwise. Nothing comes after that.
    ///
    /// # Cancellation
    /// Safe to drop and to call again.
    async fn announced(&mut self) -> Result<Option<u64>, SourceError>;

    /// Receives the event that was announced.
    ///
    /// # Errors
    /// As of [`Subscription::announced`], and when the event cannot be understood.
    ///
    /// # Cancellation
    /// Safe to drop and to call again.
    async fn receive(&mut self) -> Result<Pushed, SourceError>;

    /// Notes that no event came for longer than the service is ever silent: the connection is not to be used for other
    /// subscriptions. Returns whether a part of an event came: then the next subscription is given more time for it. By default
    /// nothing is done, and no part is known of.
    fn fell_silent(&mut self) -> bool {
        false
    }
}
