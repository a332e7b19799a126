//! What polling hands on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position, SequenceNumber};
use kcl_lease::ListedShard;
use kcl_lease::runtime::Moment;

use super::batch::Batch;
use super::error::SourceError;

/// One answer with something in it that was not complete yet, or the end of the shard.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The answer, de-aggregated.
    pub batch: Arc<Batch>,
    /// The user records that are not complete yet. May be none although the batch moves the position on, see
    /// [`Delivery::end_position`].
    pub rows: Range<usize>,
    /// How far the answer's end lies behind the tip, if the service said so.
    pub behind: Option<Duration>,
    /// When the answer came.
    pub fetched_at: Moment,
    /// Records before these that may be lost to retention.
    pub gap: Option<Gap>,
    /// Present in the last delivery of a closed shard, which has no records.
    pub end: Option<ShardEnd>,
}

/// Records that may have passed out of retention before they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The record at which reading was to go on, and which is gone; `None`: the first one of the shard.
    pub from: Option<SequenceNumber>,
    /// The oldest record that was left; `None`: nothing was left up to the end of the shard.
    pub to: Option<SequenceNumber>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from the beginning of the shard")?,
        }
        match &self.to {
            Some(to) => write!(f, " to {to}"),
            None => f.write_str(" to the end of the shard"),
        }
    }
}

/// The end of a closed shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEnd {
    /// The shards that take over. None if the shard was so old that the listing does not know it any more.
    pub children: Vec<ListedShard>,
}

impl Delivery {
    /// Whether nothing is to be delivered and no position reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end_position().is_none()
    }

    /// The place that is reached when everything in the delivery is complete, [`Batch::end_position`].
    #[must_use]
    pub fn end_position(&self) -> Option<Position> {
        self.batch.end_position()
    }

    /// The rows that are left once everything up to `complete` is complete.
    #[must_use]
    pub fn after(&self, complete: &Checkpoint) -> Range<usize> {
        let start = match complete {
            Checkpoint::At(position) => self.batch.after(position),
            Checkpoint::ShardEnd => self.rows.end,
            Checkpoint::AtTimestamp | Checkpoint::TrimHorizon | Checkpoint::Latest => 0,
        };
        start.max(self.rows.start).min(self.rows.end)..self.rows.end
    }
}

/// Why polling ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum PollEnd {
    /// The shard's end was delivered.
    ShardEnd,
    /// The stream still exists but does not know the shard any more: all its records are past retention.
    ShardGone(SourceError),
    /// The stream does not exist any more.
    StreamGone(SourceError),
    /// Nobody receives deliveries any more.
    ReceiverDropped,
}
