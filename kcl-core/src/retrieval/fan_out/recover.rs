//! What follows a subscription that failed or ended.

use super::pace::{Conflict, Ended};
use super::{NoMore, Subscriber};
use crate::retrieval::absence::NotFound;
use crate::retrieval::error::{SourceError, SourceErrorKind};

impl Subscriber {
    /// Prepares the next attempt: a pause and a report. An error only when this subscriber has nothing left to do.
    pub(super) async fn recover(&mut self, error: SourceError) -> Result<(), NoMore> {
        self.room = None;
        let error = match error.kind() {
            SourceErrorKind::StreamNotFound => self.what_is_missing(error).await?,
            _ => error,
        };
        if self.fan_out.consumer.gives_up(&error) {
            self.intake.read.observer.fell_back(&error);
        }
        if self.fan_out.consumer.polls() {
            return Err(NoMore::Polls);
        }
        match error.kind() {
            SourceErrorKind::StreamInUse => {
                let conflict = self.pace.in_use(self.now());
                self.in_use(&error, conflict);
            }
            _ => self.failed(&error),
        }
        Ok(())
    }

    /// Prepares the next attempt where another shard has told already why there is no consumer.
    pub(super) fn wait_for_consumer(&mut self, error: &SourceError) -> Result<(), NoMore> {
        self.room = None;
        if self.fan_out.consumer.polls() {
            return Err(NoMore::Polls);
        }
        let (_, retry_in) = self.pace.failed(self.now(), error.kind());
        self.intake
            .read
            .observer
            .waits_for_consumer(error, retry_in);
        Ok(())
    }

    /// Notes that the service ended a subscription without an error.
    pub(super) fn ended(&mut self) {
        let shard = format!("shard {}", self.intake.read.shard);
        let error = |kind, detail| {
            let error = SourceError::new(kind, "SubscribeToShard");
            error.about(shard).with_detail(detail)
        };
        match self.pace.ended(self.now()) {
            Ended::AsItMay => {}
            Ended::AtOnce => {
                let detail = "the subscription ended as soon as it began";
                self.failed(&error(SourceErrorKind::Malformed, detail));
            }
            Ended::Taken(conflict) => {
                let detail = "subscriptions end before their time";
                self.in_use(&error(SourceErrorKind::StreamInUse, detail), conflict);
            }
        }
    }

    fn in_use(&self, error: &SourceError, conflict: Conflict) {
        let observer = &self.intake.read.observer;
        match conflict.lasts {
            true => observer.failed(error, conflict.times, conflict.retry_in),
            false => observer.subscription_in_use(error, conflict.retry_in),
        }
    }

    /// "Not found" is said of the stream, of the shard and of the consumer.
    async fn what_is_missing(&mut self, error: SourceError) -> Result<SourceError, NoMore> {
        let source = self.fan_out.source.as_ref();
        let shard = &self.intake.read.shard;
        match self.absence.judge(source, shard, error).await {
            NotFound::Gone(end) => Err(NoMore::End(end)),
            NotFound::Again(error) => Ok(error),
            NotFound::Listed(error) if error.operation() == "SubscribeToShard" => {
                Ok(error.of_kind(SourceErrorKind::ConsumerNotFound))
            }
            NotFound::Listed(error) => Ok(error),
        }
    }

    fn failed(&mut self, error: &SourceError) {
        let now = self.now();
        let (attempt, retry_in) = self.pace.failed(now, error.kind());
        let observer = &self.intake.read.observer;
        match error.kind() {
            SourceErrorKind::Throttled => observer.throttled(error, retry_in),
            _ => observer.failed(error, attempt, retry_in),
        }
    }
}
