//! The four calls of a [`ShardSource`] on the stream in memory.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kcl_checkpoint::SequenceNumber;
use kcl_lease::{ListedShard, ShardId};

use super::{MemoryStream, Shard, State, Stored};
use crate::retrieval::batch::Batch;
use crate::retrieval::batch_builder::{BatchBuilder, InvalidBatch, RawRecord};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::{
    Fetched, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamDescription,
    StreamStatus,
};
use crate::retrieval::subscription::{StreamConsumer, Subscription};

/// Largest answer, as the service's.
const MAX_ANSWER_BYTES: usize = 10 << 20;

impl State {
    /// The index at which reading starts.
    pub(super) fn index(&self, shard: &Shard, from: &StartPosition) -> Result<usize, SourceError> {
        let known = |number: &SequenceNumber| {
            let oldest = shard.records.get(shard.trimmed);
            shard.trimmed == 0 || oldest.is_some_and(|oldest| *number >= oldest.sequence_number)
        };
        let before = |include: &dyn Fn(&Stored) -> bool| shard.records.partition_point(include);
        let index = match from {
            StartPosition::TrimHorizon => 0,
            StartPosition::AtTimestamp(time) => before(&|stored| stored.arrival < *time),
            StartPosition::AtSequenceNumber(number)
            | StartPosition::AfterSequenceNumber(number)
                if !known(number) =>
            {
                let kind = SourceErrorKind::InvalidArgument;
                return Err(SourceError::new(kind, "GetShardIterator")
                    .with_detail("the sequence number is past retention"));
            }
            StartPosition::AtSequenceNumber(number) => {
                before(&|stored| stored.sequence_number < *number)
            }
            StartPosition::AfterSequenceNumber(number) => {
                before(&|stored| stored.sequence_number <= *number)
            }
        };
        Ok(index.max(shard.trimmed))
    }
}

#[async_trait]
impl ShardSource for MemoryStream {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        drop(self.called("DescribeStreamSummary")?);
        Ok(StreamDescription {
            arn: self.arn.to_string(),
            created_at: self.created_at,
            status: StreamStatus::Readable,
            service_time: Some(self.runtime.wall_time()),
        })
    }

    /// Shards have no history of opening and closing here, so a time stands for now, and the trim horizon for the
    /// shards without parents.
    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        let state = self.called("ListShards")?;
        Ok(state.listing(|shard| match filter {
            ShardFilter::All => true,
            // Parents that have passed out of retention are named all the same.
            ShardFilter::AtTrimHorizon => {
                shard.parents().all(|parent| state.shard(parent).is_none())
            }
            ShardFilter::AtLatest | ShardFilter::AtTimestamp(_) => shard.open,
        }))
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        let state = self.called("GetShardIterator")?;
        let not_found = SourceError::new(SourceErrorKind::StreamNotFound, "GetShardIterator");
        let known = state.shard(shard).ok_or(not_found)?;
        let index = state.index(known, from)?;
        Ok(token(state.generation, shard, index))
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.find_consumer(name)
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.add_consumer(name)
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        self.open_subscription(consumer_arn, shard, from)
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let state = self.called("GetRecords")?;
        let failure = |kind| SourceError::new(kind, "GetRecords");
        let (generation, id, index) =
            read_token(iterator).ok_or_else(|| failure(SourceErrorKind::InvalidArgument))?;
        if generation != state.generation {
            return Err(failure(SourceErrorKind::ExpiredIterator));
        }
        let shard = state
            .shard(&id)
            .ok_or_else(|| failure(SourceErrorKind::StreamNotFound))?;
        let rest = shard
            .records
            .get(index.max(shard.trimmed)..)
            .unwrap_or_default();
        let mut bytes = 0;
        let taken = rest
            .iter()
            .take(usize::from(limit))
            .take_while(|stored| {
                bytes += stored.data.len();
                bytes <= MAX_ANSWER_BYTES || bytes == stored.data.len()
            })
            .count();
        let (answer, left) = rest.split_at(taken);
        let ended = left.is_empty() && !shard.listed.open;
        let next = shard.records.len() - left.len();
        Ok(Fetched {
            batch: batch(answer)
                .map_err(|invalid| failure(SourceErrorKind::Malformed).with_source(invalid))?,
            next: (!ended).then(|| token(generation, &id, next)),
            children: if ended && state.names_children {
                state.listing(|listed| listed.parents().any(|parent| *parent == id))
            } else {
                Vec::new()
            },
            behind: Some(left.first().map_or(Duration::ZERO, |oldest| {
                let age = self.runtime.wall_time().duration_since(oldest.arrival);
                age.unwrap_or_default().max(Duration::from_millis(1))
            })),
        })
    }
}

pub(super) fn batch(records: &[Stored]) -> Result<Batch, InvalidBatch> {
    let mut builder = BatchBuilder::with_capacity(records.len());
    for stored in records {
        let since_1970 = stored.arrival.duration_since(SystemTime::UNIX_EPOCH);
        let raw = RawRecord {
            sequence_number: stored.sequence_number.as_str(),
            partition_key: &stored.partition_key,
            arrival_millis: since_1970
                .ok()
                .and_then(|since| i64::try_from(since.as_millis()).ok()),
            encryption_type: None,
        };
        builder.push(raw, stored.data.clone())?;
    }
    Ok(builder.finish())
}

fn token(generation: u64, shard: &ShardId, index: usize) -> ShardIterator {
    ShardIterator(format!("{generation}/{index}/{shard}"))
}

fn read_token(iterator: &ShardIterator) -> Option<(u64, ShardId, usize)> {
    let mut parts = iterator.0.splitn(3, '/');
    let generation = parts.next()?.parse().ok()?;
    let index = parts.next()?.parse().ok()?;
    Some((generation, ShardId::from(parts.next()?), index))
}
