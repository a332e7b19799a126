//! Where reading begins: the five kinds of positions.

use super::{
    api::StartingPosition,
    error,
    sequence::SequenceNumber,
    shard::{Moment, Shard},
    stream::Stream,
    validate::{self, Named, Validation},
};
use crate::{ApiError, Timestamp};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    AfterSequenceNumber,
    #[default]
    Latest,
    AtTimestamp,
    AtSequenceNumber,
    TrimHorizon,
}

impl Named for Kind {
    const ALL: &'static [(&'static str, Self)] = &[
        ("AFTER_SEQUENCE_NUMBER", Self::AfterSequenceNumber),
        ("LATEST", Self::Latest),
        ("AT_TIMESTAMP", Self::AtTimestamp),
        ("AT_SEQUENCE_NUMBER", Self::AtSequenceNumber),
        ("TRIM_HORIZON", Self::TrimHorizon),
    ];
}

/// A starting position whose members passed validation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    kind: Kind,
    sequence_number: Option<&'a str>,
    timestamp: Option<Timestamp>,
    /// The operation that asks, as messages call it.
    operation: &'static str,
}

impl<'a> Position<'a> {
    /// The position of `GetShardIterator`.
    pub(super) fn of_iterator(
        check: &mut Validation,
        kind: &Option<String>,
        sequence_number: &'a Option<String>,
        timestamp: Option<Timestamp>,
    ) -> Self {
        Self {
            kind: check.required_choice("shardIteratorType", kind),
            sequence_number: check.optional(
                "startingSequenceNumber",
                sequence_number,
                validate::SEQUENCE_NUMBER,
            ),
            timestamp,
            operation: "GetShardIterator",
        }
    }

    /// The position of `SubscribeToShard`.
    pub(super) fn of_subscription(
        check: &mut Validation,
        position: &'a Option<StartingPosition>,
    ) -> Self {
        check.present("startingPosition", position);
        let Some(position) = position else {
            return Self {
                kind: Kind::default(),
                sequence_number: None,
                timestamp: None,
                operation: "SubscribeToShard",
            };
        };
        Self {
            kind: check.required_choice("startingPosition.type", &position.kind),
            sequence_number: check.optional(
                "startingPosition.sequenceNumber",
                &position.sequence_number,
                validate::SEQUENCE_NUMBER,
            ),
            timestamp: position.timestamp,
            operation: "SubscribeToShard",
        }
    }

    /// The index of the first record to read, given that `latest` is the last position given out so far.
    pub(super) fn resolve(
        &self,
        stream: &Stream,
        shard: &Shard,
        account: &str,
        latest: Moment,
    ) -> Result<u64, ApiError> {
        let tip = latest.index + 1;
        match (self.kind, self.sequence_number) {
            (Kind::AtSequenceNumber | Kind::AfterSequenceNumber, None) => {
                Err(self.mismatch("no StartingSequenceNumber"))
            }
            (Kind::Latest | Kind::TrimHorizon | Kind::AtTimestamp, Some(_)) => {
                Err(self.mismatch("also a StartingSequenceNumber"))
            }
            (Kind::AtSequenceNumber, Some(text)) => {
                self.index(text, stream, shard, account, latest)
            }
            (Kind::AfterSequenceNumber, Some(text)) => {
                Ok(self.index(text, stream, shard, account, latest)? + 1)
            }
            (Kind::TrimHorizon, None) => Ok(shard.first_index()),
            (Kind::Latest, None) => Ok(tip),
            (Kind::AtTimestamp, None) => {
                let time = self.time(latest.time)?;
                let record = shard.log.get(shard.offset_of_time(time));
                Ok(record.map_or(tip, |record| record.index))
            }
        }
    }

    fn mismatch(&self, what: &str) -> ApiError {
        let kind = self.kind.name();
        error::invalid_argument(format!(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
             TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {kind} and {what}."
        ))
    }

    fn time(&self, now: Timestamp) -> Result<Timestamp, ApiError> {
        let time = self.timestamp.ok_or_else(|| {
            error::invalid_argument(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no \
                 timestamp parameter.",
            )
        })?;
        if time > now {
            let (time, now) = (time.0, now.0);
            return Err(error::invalid_argument(format!(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                 timestampInMillis: {time}, currentTimestampInMillis: {now}"
            )));
        }
        Ok(time)
    }

    /// The index in a sequence number, which must be one that this shard can have given out.
    fn index(
        &self,
        text: &str,
        stream: &Stream,
        shard: &Shard,
        account: &str,
        latest: Moment,
    ) -> Result<u64, ApiError> {
        let invalid = |why: &str| {
            let (operation, name, id) = (self.operation, &stream.name, shard.id());
            error::invalid_argument(format!(
                "StartingSequenceNumber {text} used in {operation} on shard {id} in stream {name} under account \
                 {account} is invalid{why}."
            ))
        };
        let number: SequenceNumber = text.parse().map_err(|_| invalid(""))?;
        let start = shard.number_at(stream.created, shard.opened);
        let end = shard.closed.unwrap_or(latest);
        if number.stream_created != start.stream_created {
            return Err(invalid(" because it did not come from this stream"));
        }
        if number.shard != shard.number {
            let (encoded, id) = (super::shard::id(number.shard), shard.id());
            return Err(error::invalid_argument(format!(
                "Invalid StartingSequenceNumber. It encodes {encoded}, while it was used in a call to a shard with {id}"
            )));
        }
        if !(start.index..=end.index).contains(&number.index) {
            return Err(invalid(" because it did not come from this stream"));
        }
        Ok(number.index)
    }
}
