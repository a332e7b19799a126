//! One read: iterator, room, call, and taking the answer in.

use std::sync::Arc;
use std::time::Duration;

use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;

use super::Poller;
use crate::retrieval::batch::Batch;
use crate::retrieval::budget::Reservation;
use crate::retrieval::deaggregate::{DeaggregationCounts, deaggregate, largest_table};
use crate::retrieval::delivery::{Delivery, Gap};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::observer::FetchReport;
use crate::retrieval::pace::Answer;
use crate::retrieval::plan::{learned, plan};
use crate::retrieval::source::{Fetched, ShardIterator, StartPosition};

impl Poller {
    /// One read. `None`: nothing new.
    pub(super) async fn read(&mut self) -> Result<Option<Delivery>, SourceError> {
        let iterator = match self.iterator.clone() {
            Some(iterator) => iterator,
            None => self.new_iterator().await?,
        };
        let budget = &self.polling.budget;
        let asked = plan(
            budget.total(),
            self.member.share(),
            self.learned.or(self.member.learned()),
            self.polling.max_records,
        );
        let before_wait = self.polling.runtime.now();
        let room = self.member.reserve(asked.reserve).await;
        let sent = self.polling.runtime.now();
        let waited = sent.since(before_wait);
        if !waited.is_zero() {
            self.read.observer.waited_for_room(waited);
        }
        self.pacer.called(sent);
        let source = &self.polling.source;
        let fetched = source.get_records(&iterator, asked.limit).await?;
        Ok(self.accept(fetched, room, asked.limit, sent).await)
    }

    async fn new_iterator(&mut self) -> Result<ShardIterator, SourceError> {
        let from = match &self.fetched_through {
            Some(_) if mutant::is(Mutant::SkipAfterExpiredIterator) => {
                StartPosition::AtTimestamp(self.polling.runtime.wall_time())
            }
            // Not after it: only where it is missing can anybody tell that what followed it may be gone, too.
            Some(last) => StartPosition::AtSequenceNumber(last.clone()),
            None => self.read.start.clone(),
        };
        let source = &self.polling.source;
        let iterator = match (source.iterator(&self.read.shard, &from).await, &from) {
            (
                Err(error),
                StartPosition::AtSequenceNumber(unknown)
                | StartPosition::AfterSequenceNumber(unknown),
            ) if error.kind() == SourceErrorKind::InvalidArgument => {
                let oldest = StartPosition::TrimHorizon;
                let iterator = source.iterator(&self.read.shard, &oldest).await?;
                self.read
                    .observer
                    .restarted_at_trim_horizon(unknown, &error);
                iterator
            }
            (answer, _) => answer?,
        };
        if let StartPosition::AtSequenceNumber(first) = from {
            self.expected_first = Some(first);
        }
        self.iterator = Some(iterator.clone());
        Ok(iterator)
    }

    /// Takes an answer in: counts, takes aggregates apart, moves on.
    async fn accept(
        &mut self,
        fetched: Fetched,
        mut room: Reservation,
        limit: u16,
        sent: Moment,
    ) -> Option<Delivery> {
        let now = self.polling.runtime.now();
        room.resize(fetched.batch.resident_bytes());
        let (mut batch, counts) = match largest_table(&fetched.batch) {
            // Nothing is aggregated.
            0 => (fetched.batch, DeaggregationCounts::default()),
            largest => {
                room.add_table(largest).await;
                deaggregate(
                    fetched.batch,
                    &self.read.hash_range,
                    self.polling.out_of_range,
                )
            }
        };
        let resident_bytes = batch.resident_bytes();
        let kinesis_records = batch.kinesis_records();
        if kinesis_records == 0 {
            drop(room);
        } else {
            room.resize(resident_bytes);
            batch.hold(Arc::new(room));
            self.learned = learned(self.learned, resident_bytes, kinesis_records);
            self.member.learn(resident_bytes, kinesis_records);
        }
        self.expired_unused = false;
        self.missing = 0;
        self.iterator = fetched.next;
        if self.iterator.is_none() {
            self.closed = Some(fetched.children);
        }
        self.pace(
            batch.payload_bytes(),
            kinesis_records,
            limit,
            fetched.behind,
        );
        self.read.observer.fetched(&FetchReport {
            kinesis_records,
            user_records: batch.len(),
            payload_bytes: batch.payload_bytes(),
            resident_bytes,
            behind: fetched.behind,
            at_end: self.iterator.is_none(),
            took: now.since(sent),
        });
        if !counts.is_zero() {
            self.read.observer.deaggregated(&counts);
        }
        if fetched.behind.is_some_and(|behind| behind.is_zero()) {
            self.tell_ahead(&batch);
        }
        let end = batch.end_position()?;
        let gap = self.gap_before(&batch);
        self.fetched_through = Some(end.sequence_number.clone());
        if self.reached.as_ref().is_some_and(|reached| *reached >= end) {
            return None;
        }
        let first = self
            .reached
            .as_ref()
            .map_or(0, |reached| batch.after(reached));
        self.reached = Some(end);
        if self.closed.is_some() && mutant::is(Mutant::EndShardEarly) {
            return None;
        }
        Some(Delivery {
            rows: first..batch.len(),
            batch: Arc::new(batch),
            behind: fetched.behind,
            fetched_at: now,
            gap,
            end: None,
        })
    }

    /// The service silently goes on with the oldest record when the one asked for is past retention.
    fn gap_before(&mut self, batch: &Batch) -> Option<Gap> {
        let (expected, first) = (self.expected_first.take()?, batch.first_sequence_number()?);
        (first > expected).then_some(Gap {
            from: Some(expected),
            to: Some(first),
        })
    }

    /// At the tip: what is complete should have been seen by now, if anything of the shard was.
    fn tell_ahead(&mut self, batch: &Batch) {
        let end = batch.end_position().map(|end| end.sequence_number);
        let Some(last) = end.or_else(|| self.fetched_through.clone()) else {
            return;
        };
        let reached = self.reached.as_ref();
        let is_ahead = reached.is_some_and(|reached| reached.sequence_number > last);
        if is_ahead && !std::mem::replace(&mut self.told_ahead, true) {
            self.read.observer.ahead_of_tip(&last);
        }
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
