//! What follows a failed call.

use super::Poller;
use crate::retrieval::delivery::PollEnd;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::ShardFilter;

/// So often in a row, with growing pauses, a shard or stream must be missing before it counts as gone.
const TIMES_MISSING: u32 = 4;

impl Poller {
    /// Prepares the next attempt: a pause, a new iterator, a report. An error only when there is nothing left to read.
    pub(super) async fn recover(&mut self, error: SourceError) -> Result<(), PollEnd> {
        match error.kind() {
            SourceErrorKind::ExpiredIterator => self.iterator_expired(&error),
            SourceErrorKind::Throttled => self.throttled(&error),
            SourceErrorKind::InvalidArgument => {
                self.iterator = None;
                self.failed(&error);
            }
            SourceErrorKind::StreamNotFound => self.look_for_shard(error).await?,
            _ => self.failed(&error),
        }
        Ok(())
    }

    /// The next iterator follows at once, unless it was a new one that expired: then something else is wrong.
    fn iterator_expired(&mut self, error: &SourceError) {
        self.iterator = None;
        self.read.observer.expired_iterator();
        if self.expired_unused {
            self.failed(error);
        }
        self.expired_unused = true;
    }

    fn throttled(&mut self, error: &SourceError) {
        let retry_in = self.pacer.throttled(self.polling.runtime.now());
        self.read.observer.throttled(error, retry_in);
    }

    fn failed(&mut self, error: &SourceError) {
        let now = self.polling.runtime.now();
        let (attempt, retry_in) = self.pacer.failed(now, error.kind());
        self.read.observer.failed(error, attempt, retry_in);
    }

    /// "Not found" is said of streams, of shards and, by mistake, of what exists: the listing tells.
    async fn look_for_shard(&mut self, error: SourceError) -> Result<(), PollEnd> {
        self.iterator = None;
        match self.polling.source.list_shards(ShardFilter::All).await {
            Ok(shards) if shards.iter().all(|s| s.shard_id != self.read.shard) => {
                self.missed(error, PollEnd::ShardGone)
            }
            Ok(_) => {
                self.missing = 0;
                self.failed(&error);
                Ok(())
            }
            Err(gone) if gone.kind() == SourceErrorKind::StreamNotFound => {
                self.missed(gone, PollEnd::StreamGone)
            }
            Err(other) => {
                self.failed(&other);
                Ok(())
            }
        }
    }

    /// What is missing is gone for good only if it is missing again and again: a listing may be behind for a moment,
    /// and there is no way back from the end of a shard.
    fn missed(
        &mut self,
        error: SourceError,
        gone: impl FnOnce(SourceError) -> PollEnd,
    ) -> Result<(), PollEnd> {
        self.missing += 1;
        if self.missing >= TIMES_MISSING {
            return Err(gone(error));
        }
        self.failed(&error);
        Ok(())
    }
}
