//! What follows a failed call.

use super::Poller;
use crate::retrieval::absence::NotFound;
use crate::retrieval::delivery::PollEnd;
use crate::retrieval::error::{SourceError, SourceErrorKind};

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
        self.intake.read.observer.expired_iterator();
        if self.expired_unused {
            self.failed(error);
        }
        self.expired_unused = true;
    }

    fn throttled(&mut self, error: &SourceError) {
        let retry_in = self.pacer.throttled(self.polling.runtime.now());
        self.intake.read.observer.throttled(error, retry_in);
    }

    fn failed(&mut self, error: &SourceError) {
        let now = self.polling.runtime.now();
        let (attempt, retry_in) = self.pacer.failed(now, error.kind());
        self.intake.read.observer.failed(error, attempt, retry_in);
    }

    async fn look_for_shard(&mut self, error: SourceError) -> Result<(), PollEnd> {
        self.iterator = None;
        let (source, shard) = (self.polling.source.as_ref(), &self.intake.read.shard);
        match self.absence.judge(source, shard, error).await {
            NotFound::Gone(end) => Err(end),
            NotFound::Again(error) | NotFound::Listed(error) => {
                self.failed(&error);
                Ok(())
            }
        }
    }
}
