//! "Not found" is said of streams, of shards and, by mistake, of what exists: the listing tells.

use kcl_lease::ShardId;

use super::delivery::PollEnd;
use super::error::{SourceError, SourceErrorKind};
use super::source::{ShardFilter, ShardSource};

/// So often in a row, with growing pauses, a shard or stream must be missing before it counts as gone.
const TIMES_MISSING: u32 = 4;

/// How often in a row the service knew neither the shard nor its place in the listing.
#[derive(Debug, Default)]
pub(super) struct Absence(u32);

/// What follows a call that found nothing.
#[derive(Debug)]
pub(super) enum NotFound {
    /// Nothing is left to read.
    Gone(PollEnd),
    /// The call is worth another attempt.
    Again(SourceError),
    /// The shard is there: the call missed something else, or is worth another attempt.
    Listed(SourceError),
}

impl Absence {
    /// The shard was seen.
    pub(super) fn over(&mut self) {
        self.0 = 0;
    }

    /// Looks for a shard that a call did not find.
    pub(super) async fn judge(
        &mut self,
        source: &dyn ShardSource,
        shard: &ShardId,
        error: SourceError,
    ) -> NotFound {
        match source.list_shards(ShardFilter::All).await {
            Ok(shards) if shards.iter().all(|listed| listed.shard_id != *shard) => {
                self.missed(error, PollEnd::ShardGone)
            }
            Ok(_) => {
                self.over();
                NotFound::Listed(error)
            }
            Err(gone) if gone.kind() == SourceErrorKind::StreamNotFound => {
                self.missed(gone, PollEnd::StreamGone)
            }
            Err(other) => NotFound::Again(other),
        }
    }

    /// What is missing is gone for good only if it is missing again and again: a listing may be behind for a moment,
    /// and there is no way back from the end of a shard.
    fn missed(&mut self, error: SourceError, gone: fn(SourceError) -> PollEnd) -> NotFound {
        self.0 += 1;
        match self.0 >= TIMES_MISSING {
            true => NotFound::Gone(gone(error)),
            false => NotFound::Again(error),
        }
    }
}
