//! How a shard stands at one moment, and since when.

use kcl_checkpoint::{Position, Watermark};
use tokio::time::Instant;

/// When the watermark of a lane moved, and when a record of it was completed.
#[derive(Debug)]
pub(super) struct Movement {
    reached: Option<Position>,
    /// Since when the oldest incomplete record is the oldest one.
    pub(super) open_since: Option<Instant>,
    /// When a record was completed last.
    pub(super) completed: Option<Instant>,
}

impl Movement {
    pub(super) fn new(reached: Option<Position>) -> Self {
        Self {
            reached,
            open_since: None,
            completed: None,
        }
    }

    /// Looks whether the watermark has moved.
    pub(super) fn look(&mut self, watermark: &Watermark) {
        let reached = watermark.completed();
        let has_moved = reached != self.reached.as_ref();
        if has_moved {
            self.reached = reached.cloned();
        }
        if watermark.is_complete() {
            self.open_since = None;
        } else if has_moved || self.open_since.is_none() {
            self.open_since = Some(Instant::now());
        }
    }
}

/// How a shard, or one lane of it, stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Since when the oldest incomplete record of a lane is the oldest one; of the lane in which that is longest ago.
    pub(crate) open_since: Option<Instant>,
    /// When a record was completed last, by the processor or as the failure policy says.
    pub(crate) completed: Option<Instant>,
    /// Records that are handed out and not complete, deferred ones included.
    pub(crate) in_flight: usize,
    pub(crate) deferred: usize,
    /// The deferred records that have waited for their answer for longest: the first of them, and since when.
    pub(crate) oldest_deferred: Option<(Position, Instant)>,
}

impl Standing {
    /// That of two lanes together.
    pub(super) fn and(self, other: Self) -> Self {
        let oldest = self
            .oldest_deferred
            .into_iter()
            .chain(other.oldest_deferred);
        Self {
            open_since: self.open_since.into_iter().chain(other.open_since).min(),
            completed: self.completed.max(other.completed),
            in_flight: self.in_flight + other.in_flight,
            deferred: self.deferred + other.deferred,
            oldest_deferred: oldest.min_by_key(|(_, since)| *since),
        }
    }
}
