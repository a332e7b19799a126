//! `GetShardIterator` and `GetRecords`.

use super::{
    api::{self, GetRecordsInput, GetRecordsOutput, GetShardIteratorInput, GetShardIteratorOutput},
    engine::{Engine, milliseconds},
    error,
    position::Position,
    shard::{Moment, Shard},
    stream::Stream,
    token,
    validate::{self, Validation},
};
use crate::{ApiError, Timestamp};

/// "The maximum size of data that `GetRecords` can return is 10 MiB" (API reference).
const ANSWER_BYTES: i64 = 10 * 1024 * 1024;
const ANSWER_RECORDS: usize = 10_000;

/// What an iterator stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Iterator {
    stream: String,
    /// When the stream was created: an iterator is of no use with a stream that took the name later.
    created: Timestamp,
    shard: u32,
    /// The position of the first record to read.
    index: u64,
    issued: Timestamp,
}

impl Iterator {
    fn seal(&self) -> String {
        let numbers = [
            self.created.0.cast_unsigned(),
            u64::from(self.shard),
            self.index,
            self.issued.0.cast_unsigned(),
        ];
        token::seal(token::Kind::Iterator, numbers, &self.stream)
    }

    fn open(text: &str) -> Option<Self> {
        let ([created, shard, index, issued], stream) = token::open(token::Kind::Iterator, text)?;
        Some(Self {
            stream,
            created: Timestamp(created.cast_signed()),
            shard: u32::try_from(shard).ok()?,
            index,
            issued: Timestamp(issued.cast_signed()),
        })
    }
}

/// The stream and the shard of an iterator that was issued here.
pub(crate) fn iterator_target(iterator: &str) -> Option<(String, String)> {
    let iterator = Iterator::open(iterator)?;
    Some((iterator.stream, super::shard::id(iterator.shard)))
}

/// What a reader gets from a position on.
pub(super) struct Page {
    pub(super) records: Vec<api::Record>,
    pub(super) bytes: i64,
    /// The position after the last record.
    pub(super) next: u64,
    pub(super) millis_behind_latest: i64,
    /// The children of the shard, if it is closed and its end is reached.
    pub(super) children: Option<Vec<api::ChildShard>>,
}

/// Reads a shard from a position: up to `limit` records and `most_bytes` bytes, but always one record if there is one.
pub(super) fn read(
    stream: &Stream,
    shard: &Shard,
    index: u64,
    limit: usize,
    most_bytes: i64,
    now: Timestamp,
) -> Page {
    let first = shard.offset(index);
    let (mut records, mut bytes, mut next) = (Vec::new(), 0, index);
    let mut last_arrival = now;
    for record in shard.log.range(first..).take(limit) {
        if !records.is_empty() && bytes + record.size() > most_bytes {
            break;
        }
        bytes += record.size();
        next = record.index + 1;
        last_arrival = record.arrived;
        records.push(shard.record(stream.created, record));
    }
    let at_end = first + records.len() == shard.log.len();
    // A reader that has not read everything is behind, also within the millisecond.
    let millis_behind_latest = if at_end {
        0
    } else {
        now.since(last_arrival).max(1)
    };
    let children = (at_end && !shard.is_open()).then(|| stream.children(shard));
    Page {
        records,
        bytes,
        next,
        millis_behind_latest,
        children,
    }
}

impl Engine {
    pub(super) fn get_shard_iterator(
        &mut self,
        input: &GetShardIteratorInput,
    ) -> Result<GetShardIteratorOutput, ApiError> {
        let mut check = Validation::default();
        let shard_id = check.required("shardId", &input.shard_id, validate::SHARD_ID);
        let position = Position::of_iterator(
            &mut check,
            &input.shard_iterator_type,
            &input.starting_sequence_number,
            input.timestamp,
        );
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let account = self.config.account.clone();
        let latest = self.latest();
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        stream.require_created(&account)?;
        let shard = stream.find_shard(shard_id, &account)?;
        let index = position.resolve(stream, shard, &account, latest)?;
        let iterator = Iterator {
            stream: stream.name.clone(),
            created: stream.created,
            shard: shard.number,
            index,
            issued: latest.time,
        };
        Ok(GetShardIteratorOutput {
            shard_iterator: iterator.seal(),
        })
    }

    pub(super) fn get_records(
        &mut self,
        input: &GetRecordsInput,
    ) -> Result<GetRecordsOutput, ApiError> {
        let mut check = Validation::default();
        let text = check.required(
            "shardIterator",
            &input.shard_iterator,
            validate::SHARD_ITERATOR,
        );
        let limit = check.page("limit", input.limit, 10_000, ANSWER_RECORDS);
        check.optional("streamARN", &input.stream_arn, validate::STREAM_ARN);
        check.finish()?;

        let mut iterator = Iterator::open(text)
            .ok_or_else(|| error::invalid_argument("Invalid ShardIterator."))?;
        self.check_age(iterator.issued)?;
        let (now, account) = (self.now, self.config.account.clone());
        let throttle = self.config.throttle_reads;
        let stream = self.stream(&Some(iterator.stream.clone()), &input.stream_arn)?;
        if stream.created != iterator.created {
            return Err(error::invalid_argument("Invalid ShardIterator."));
        }
        let name = stream.name.clone();
        let horizon = stream.horizon();
        let shard = stream
            .shards
            .get_mut(&iterator.shard)
            .filter(|shard| !shard.ended_before(horizon))
            .ok_or_else(|| {
                error::no_such_shard(&super::shard::id(iterator.shard), &name, &account)
            })?;
        shard.trim(horizon.time);
        if throttle && !take_call(shard, now) {
            let message = error::rate_exceeded(shard.number, &name, &account);
            return Err(ApiError::client(error::THROTTLED, message));
        }
        let stream: &Stream = stream;
        let shard = stream.find_shard(&super::shard::id(iterator.shard), &account)?;
        let page = read(stream, shard, iterator.index, limit, ANSWER_BYTES, now);
        if let Some(shard) = self.shard_mut(&name, iterator.shard) {
            shard.limits.bytes_out.take_in_full(now, page.bytes);
        }
        iterator.index = page.next;
        iterator.issued = now;
        Ok(GetRecordsOutput {
            records: page.records,
            next_shard_iterator: page.children.is_none().then(|| iterator.seal()),
            millis_behind_latest: page.millis_behind_latest,
            child_shards: page.children,
        })
    }

    /// The last position given out so far, now.
    pub(super) fn latest(&self) -> Moment {
        Moment {
            time: self.now,
            index: self.index,
        }
    }

    fn shard_mut(&mut self, stream: &str, shard: u32) -> Option<&mut Shard> {
        self.streams.get_mut(stream)?.shards.get_mut(&shard)
    }

    fn check_age(&self, issued: Timestamp) -> Result<(), ApiError> {
        let lifetime = milliseconds(self.config.iterator_lifetime);
        if self.now.since(issued) > lifetime || issued < self.iterators_valid_from {
            return Err(error::expired_iterator(issued, self.now, lifetime));
        }
        Ok(())
    }
}

/// Takes one call from what a shard gives per second, if neither calls nor bytes are used up.
fn take_call(shard: &mut Shard, now: Timestamp) -> bool {
    let limits = &mut shard.limits;
    let accepted = limits.calls_out.has(now, 1) && limits.bytes_out.has_any(now);
    if accepted {
        limits.calls_out.take(now, 1);
    }
    accepted
}
