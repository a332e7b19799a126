//! One read: iterator, room, call, and taking the answer in.

use std::time::Duration;

use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;

use super::Poller;
use crate::retrieval::budget::Reservation;
use crate::retrieval::delivery::Delivery;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::intake::Arrived;
use crate::retrieval::pace::Answer;
use crate::retrieval::plan::plan;
use crate::retrieval::source::{Fetched, ShardIterator, StartPosition};

impl Poller {
    /// One read. `None`: nothing new.
    pub(super) async fn read(&mut self) -> Result<Option<Delivery>, SourceError> {
        let iterator = match self.iterator.clone() {
            Some(iterator) => iterator,
            None => self.new_iterator().await?,
        };
        let charge = self.polling.limit.wait(self.last_bytes).await;
        let budget = &self.polling.budget;
        let asked = plan(
            budget.total(),
            self.intake.member.share(),
            self.intake.learned(),
            self.polling.max_records,
        );
        let before_wait = self.polling.runtime.now();
        let room = self.intake.member.reserve(asked.reserve).await;
        let sent = self.polling.runtime.now();
        let waited = sent.since(before_wait);
        if !waited.is_zero() {
            self.intake.read.observer.waited_for_room(waited);
        }
        self.pacer.called(sent);
        let source = &self.polling.source;
        let fetched = source.get_records(&iterator, asked.limit).await?;
        self.last_bytes = fetched.batch.payload_bytes();
        charge.settle(self.last_bytes);
        Ok(self.accept(fetched, room, asked.limit, sent).await)
    }

    async fn new_iterator(&mut self) -> Result<ShardIterator, SourceError> {
        let from = match &self.intake.came_through {
            Some(_) if mutant::is(Mutant::SkipAfterExpiredIterator) => {
                StartPosition::AtTimestamp(self.polling.runtime.wall_time())
            }
            // Not after it: only where it is missing can anybody tell that what followed it may be gone, too.
            Some(last) => StartPosition::AtSequenceNumber(last.clone()),
            None => self.intake.read.start.clone(),
        };
        let source = &self.polling.source;
        let iterator = match (source.iterator(&self.intake.read.shard, &from).await, &from) {
            (
                Err(error),
                StartPosition::AtSequenceNumber(unknown)
                | StartPosition::AfterSequenceNumber(unknown),
            ) if error.kind() == SourceErrorKind::InvalidArgument => {
                let oldest = StartPosition::TrimHorizon;
                let iterator = source.iterator(&self.intake.read.shard, &oldest).await?;
                self.intake
                    .read
                    .observer
                    .restarted_at_trim_horizon(unknown, &error);
                iterator
            }
            (answer, _) => answer?,
        };
        self.intake.expect(&from);
        self.iterator = Some(iterator.clone());
        Ok(iterator)
    }

    /// Takes an answer in, and says when to read on.
    async fn accept(
        &mut self,
        fetched: Fetched,
        room: Reservation,
        limit: u16,
        sent: Moment,
    ) -> Option<Delivery> {
        let at = self.polling.runtime.now();
        self.expired_unused = false;
        self.absence.over();
        self.iterator = fetched.next;
        if self.iterator.is_none() {
            self.closed = Some(fetched.children);
        }
        let (bytes, records) = (
            fetched.batch.payload_bytes(),
            fetched.batch.kinesis_records(),
        );
        let arrived = Arrived {
            batch: fetched.batch,
            behind: fetched.behind,
            at_end: self.iterator.is_none(),
            at,
            took: at.since(sent),
        };
        let delivery = self.intake.accept(arrived, room).await;
        self.pace(bytes, records, limit, fetched.behind);
        delivery
    }

    fn pace(&mut self, bytes: u64, records: usize, limit: u16, behind: Option<Duration>) {
        let mut answer = Answer {
            bytes,
            records,
            limit,
            behind,
            idle_shards: 0,
        };
        self.idle.set(records == 0 && !answer.has_more());
        answer.idle_shards = self.idle.count();
        self.pacer.answered(self.polling.runtime.now(), &answer);
    }
}
