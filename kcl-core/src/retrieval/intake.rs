//! What is taken in of one shard, whichever way it is read: room, aggregates taken apart, what was reached, gaps, the end.

use std::sync::Arc;
use std::time::Duration;

use kcl_checkpoint::{Position, SequenceNumber};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};

use super::batch::Batch;
use super::budget::{Member, Reservation};
use super::deaggregate::{
    DeaggregationCounts, OutOfRange, deaggregate, largest_table, records_within,
};
use super::delivery::{Delivery, Gap, ShardEnd};
use super::observer::{FetchReport, RetrievalObserver};
use super::plan::{Learned, MAX_ANSWER_BYTES, learned};
use super::source::StartPosition;

/// Tables of user records are made for so many bytes at a time, as an answer has at most; a single aggregated record needs
/// less ([`MAX_USER_RECORDS`](kcl_aggregation::MAX_USER_RECORDS)).
const MAX_TABLE_BYTES: u64 = MAX_ANSWER_BYTES;

/// Which shard to read, and from where.
#[derive(Debug, Clone)]
pub struct ShardRead {
    /// The shard.
    pub shard: ShardId,
    /// The hash keys that the shard owns; [`HashKeyRange::FULL`] if not known, then nothing is out of range.
    pub hash_range: HashKeyRange,
    /// Where to start. For a stored checkpoint: *at* its sequence number, because it may lie inside an aggregated record.
    pub start: StartPosition,
    /// What is complete already and not to be delivered again.
    pub skip_through: Option<Position>,
    /// Who hears of it.
    pub observer: Arc<dyn RetrievalObserver>,
}

/// An answer or event of the stream, as it came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) batch: Batch,
    /// How far its end lies behind the tip.
    pub(super) behind: Option<Duration>,
    /// Whether it reached the end of a closed shard.
    pub(super) at_end: bool,
    pub(super) at: Moment,
    /// How long the call took.
    pub(super) took: Duration,
}

/// What is known of one shard while it is read.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) read: ShardRead,
    pub(super) member: Member,
    out_of_range: OutOfRange,
    /// The last Kinesis record that came: where to go on.
    pub(super) came_through: Option<SequenceNumber>,
    /// The record that the first answer should begin with: the one at which reading resumes.
    expected_first: Option<SequenceNumber>,
    /// What is complete or delivered: nothing up to here is delivered (again).
    reached: Option<Position>,
    /// What Kinesis records of this shard take in memory.
    learned: Option<Learned>,
    /// Whether it was told that what is complete lies ahead of the shard's tip.
    told_ahead: bool,
    /// What is left of an answer that is taken in part by part.
    parts: Option<Arrived>,
}

impl Intake {
    pub(super) fn new(read: ShardRead, member: Member, out_of_range: OutOfRange) -> Self {
        Self {
            member,
            out_of_range,
            came_through: None,
            expected_first: None,
            reached: read.skip_through.clone(),
            learned: None,
            told_ahead: false,
            parts: None,
            read,
        }
    }

    /// What records take in memory: those of this shard, or of others as long as none of it came.
    pub(super) fn learned(&self) -> Option<Learned> {
        self.learned.or(self.member.learned())
    }

    /// Notes where reading starts or resumes.
    pub(super) fn expect(&mut self, from: &StartPosition) {
        if let StartPosition::AtSequenceNumber(first) = from {
            self.expected_first = Some(first.clone());
        }
    }

    /// Takes an answer in: counts, takes aggregates apart, moves on. `None`: nothing new.
    pub(super) async fn accept(
        &mut self,
        mut arrived: Arrived,
        mut room: Reservation,
    ) -> Option<Delivery> {
        room.resize(arrived.batch.resident_bytes());
        let table = largest_table(&arrived.batch);
        if table > MAX_TABLE_BYTES {
            arrived.batch.hold(Arc::new(room));
            self.parts = Some(arrived);
            return self.next_part().await;
        }
        // Without aggregated records there is nothing to make room for.
        if table > 0 {
            room.add_table(table).await;
        }
        let (mut batch, counts) = self.take_apart(arrived.batch, table);
        if batch.kinesis_records() > 0 {
            room.resize(batch.resident_bytes());
            batch.hold(Arc::new(room));
        }
        arrived.batch = batch;
        self.advance(arrived, &counts)
    }

    /// What is left of an answer whose table of user records would be larger than an answer can be: it is taken in part by
    /// part. `None`: nothing is left.
    pub(super) async fn next_part(&mut self) -> Option<Delivery> {
        while let Some(mut part) = self.parts.take() {
            let rest = part
                .batch
                .split_off(records_within(&part.batch, MAX_TABLE_BYTES));
            let is_last = rest.kinesis_records() == 0;
            if !is_last {
                self.parts = Some(Arrived {
                    batch: rest,
                    behind: part.behind,
                    at: part.at,
                    took: Duration::ZERO,
                    at_end: std::mem::take(&mut part.at_end),
                });
                // There is more, however near to the tip the answer came.
                part.behind = part
                    .behind
                    .map(|behind| behind.max(Duration::from_millis(1)));
            }
            // The answer itself has its room, which all parts share.
            let mut room = self.member.nothing();
            let table = largest_table(&part.batch);
            room.add_table(table).await;
            let (mut batch, counts) = self.take_apart(part.batch, table);
            room.resize(batch.table_bytes());
            batch.hold_table(Arc::new(room));
            part.batch = batch;
            let delivery = self.advance(part, &counts);
            if delivery.is_some() {
                return delivery;
            }
        }
        None
    }

    fn take_apart(&self, batch: Batch, table: u64) -> (Batch, DeaggregationCounts) {
        match table {
            0 => (batch, DeaggregationCounts::default()),
            _ => deaggregate(batch, &self.read.hash_range, self.out_of_range),
        }
    }

    /// Counts what came and moves on. `None`: nothing new.
    fn advance(&mut self, arrived: Arrived, counts: &DeaggregationCounts) -> Option<Delivery> {
        let Arrived {
            batch,
            behind,
            at_end,
            ..
        } = arrived;
        let resident_bytes = batch.resident_bytes();
        let kinesis_records = batch.kinesis_records();
        if kinesis_records > 0 {
            self.learned = learned(self.learned, resident_bytes, kinesis_records);
            self.member.learn(resident_bytes, kinesis_records);
        }
        self.read.observer.fetched(&FetchReport {
            kinesis_records,
            user_records: batch.len(),
            payload_bytes: batch.payload_bytes(),
            resident_bytes,
            behind,
            at_end,
            took: arrived.took,
        });
        if !counts.is_zero() {
            self.read.observer.deaggregated(counts);
        }
        if behind.is_some_and(|behind| behind.is_zero()) {
            self.tell_ahead(&batch);
        }
        let end = batch.end_position()?;
        let gap = self.gap_before(&batch);
        self.came_through = Some(end.sequence_number.clone());
        if self.reached.as_ref().is_some_and(|reached| *reached >= end) {
            return None;
        }
        let first = self
            .reached
            .as_ref()
            .map_or(0, |reached| batch.after(reached));
        self.reached = Some(end);
        if at_end && mutant::is(Mutant::EndShardEarly) {
            return None;
        }
        Some(Delivery {
            rows: first..batch.len(),
            batch: Arc::new(batch),
            behind,
            fetched_at: arrived.at,
            gap,
            end: None,
        })
    }

    /// The last delivery of a closed shard.
    pub(super) fn end(&mut self, children: Vec<ListedShard>, now: Moment) -> Delivery {
        // The record at which reading was to go on is gone, and so is all that followed.
        let gap = self.expected_first.take().map(|from| Gap {
            from: Some(from),
            to: None,
        });
        Delivery {
            gap,
            batch: Arc::new(Batch::empty()),
            rows: 0..0,
            behind: None,
            fetched_at: now,
            end: Some(ShardEnd { children }),
        }
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
        let Some(last) = end.or_else(|| self.came_through.clone()) else {
            return;
        };
        let reached = self.reached.as_ref();
        let is_ahead = reached.is_some_and(|reached| reached.sequence_number > last);
        if is_ahead && !std::mem::replace(&mut self.told_ahead, true) {
            self.read.observer.ahead_of_tip(&last);
        }
    }
}
