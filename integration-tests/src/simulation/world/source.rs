//! The stream on the emulator's engine, called directly.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kcl_core::retrieval::{
    Batch, BatchBuilder, ConsumerStatus, Fetched, RawRecord, ShardFilter, ShardIterator,
    ShardSource, StartPosition, StreamConsumer, StreamDescription, StreamStatus, Subscription,
};
use kcl_core::{HashKeyRange, ShardId, SourceError, SourceErrorKind as Kind};
use kcl_emulator::kinesis::Response;
use kcl_emulator::kinesis::api::{
    ChildShard, DescribeStreamConsumerInput, DescribeStreamSummaryInput, GetRecordsInput,
    GetRecordsOutput, GetShardIteratorInput, HashKeyRange as ListedRange, ListShardsInput, Record,
    RegisterStreamConsumerInput, Shard, ShardFilterInput, StartingPosition, SubscribeToShardInput,
};
use kcl_emulator::{ApiError, Caller, Service, Timestamp};
use kcl_lease::ListedShard;

use super::subscription::SimulatedSubscription;
use super::{Failure, Request, STREAM, World};
use crate::simulation::checker::Look;
use crate::simulation::gauge::Gauge;
use crate::simulation::history::Event;

/// No call takes longer, as with the source on the SDK.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The stream as one process sees it.
#[derive(Debug)]
pub struct SimulatedSource {
    world: World,
    caller: Caller,
    gauge: Gauge,
}

impl SimulatedSource {
    /// The stream as a process, known to the emulator as `caller`, sees it; `gauge` looks at the process's worker.
    #[must_use]
    pub fn new(world: &World, caller: &str, gauge: &Gauge) -> Self {
        Self {
            world: world.clone(),
            caller: Caller::new(caller),
            gauge: gauge.clone(),
        }
    }

    async fn call(
        &self,
        operation: &'static str,
        shard: &str,
        request: impl Into<kcl_emulator::kinesis::Request>,
    ) -> Result<Response, SourceError> {
        let request = request.into();
        let resources = [STREAM.to_owned(), shard.to_owned()];
        let envelope = Request {
            caller: &self.caller,
            service: Service::Kinesis,
            operation,
            resources: &resources,
        };
        let caller = self.caller.clone();
        let sent = self.world.send(envelope, move |world, _| {
            world
                .emulator()
                .kinesis(world.stream_time(), &caller, request)
        });
        match tokio::time::timeout(TIMEOUT, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Failure::Refused(error))) => {
                let kind = kind(&error);
                if kind == Kind::ExpiredIterator {
                    self.world.tell(Event::IteratorExpired);
                }
                Err(SourceError::new(kind, operation).with_detail(error.message))
            }
            Ok(Err(Failure::Broken)) => Err(SourceError::new(Kind::Unavailable, operation)),
            Err(_) => Err(SourceError::new(Kind::Timeout, operation)),
        }
    }
}

pub(super) fn kind(error: &ApiError) -> Kind {
    match error.code.as_str() {
        "ExpiredIteratorException" => Kind::ExpiredIterator,
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "ThrottlingException" => Kind::Throttled,
        "ResourceNotFoundException" => Kind::StreamNotFound,
        "ResourceInUseException" => Kind::StreamInUse,
        "InvalidArgumentException" | "ValidationException" => Kind::InvalidArgument,
        _ if error.status >= 500 => Kind::Unavailable,
        _ => Kind::Other,
    }
}

pub(super) fn unexpected(operation: &'static str) -> SourceError {
    SourceError::new(Kind::Malformed, operation)
}

#[async_trait]
impl ShardSource for SimulatedSource {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        let operation = "DescribeStreamSummary";
        let input = DescribeStreamSummaryInput {
            stream_name: Some(STREAM.to_owned()),
            ..DescribeStreamSummaryInput::default()
        };
        let Response::DescribeStreamSummary(answer) = self.call(operation, "", input).await? else {
            return Err(unexpected(operation));
        };
        let summary = answer.stream_description_summary;
        Ok(StreamDescription {
            arn: summary.stream_arn,
            created_at: system_time(summary.stream_creation_timestamp),
            status: match summary.stream_status {
                "CREATING" => StreamStatus::Creating,
                "DELETING" => StreamStatus::Deleting,
                _ => StreamStatus::Readable,
            },
            service_time: Some(system_time(self.world.stream_time())),
        })
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        let operation = "ListShards";
        let (kind, at) = match filter {
            ShardFilter::All => (None, None),
            ShardFilter::AtTrimHorizon => (Some("AT_TRIM_HORIZON"), None),
            ShardFilter::AtLatest => (Some("AT_LATEST"), None),
            ShardFilter::AtTimestamp(time) => (Some("AT_TIMESTAMP"), Some(timestamp(time))),
        };
        let input = ListShardsInput {
            stream_name: Some(STREAM.to_owned()),
            shard_filter: kind.map(|kind| ShardFilterInput {
                kind: Some(kind.to_owned()),
                shard_id: None,
                timestamp: at,
            }),
            ..ListShardsInput::default()
        };
        match self.call(operation, "", input).await? {
            // A page holds 1,000 shards: no run has more.
            Response::ListShards(answer) => answer.shards.into_iter().map(listed).collect(),
            _ => Err(unexpected(operation)),
        }
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        let operation = "GetShardIterator";
        let at = position(from);
        let input = GetShardIteratorInput {
            stream_name: Some(STREAM.to_owned()),
            shard_id: Some(shard.as_str().to_owned()),
            shard_iterator_type: at.kind,
            starting_sequence_number: at.sequence_number,
            timestamp: at.timestamp,
            ..GetShardIteratorInput::default()
        };
        match self.call(operation, shard.as_str(), input).await? {
            Response::GetShardIterator(answer) => Ok(ShardIterator(answer.shard_iterator)),
            _ => Err(unexpected(operation)),
        }
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let operation = "GetRecords";
        let input = GetRecordsInput {
            shard_iterator: Some(iterator.0.clone()),
            limit: Some(i64::from(limit)),
            ..GetRecordsInput::default()
        };
        self.gauge.look(Look::ReadBegins);
        let Response::GetRecords(answer) = self.call(operation, "", input).await? else {
            return Err(unexpected(operation));
        };
        let fetched = fetched(answer)?;
        let bytes = fetched.batch.resident_bytes();
        self.gauge.look(Look::Answered(bytes));
        Ok(fetched)
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        let operation = "DescribeStreamConsumer";
        let input = DescribeStreamConsumerInput {
            stream_arn: Some(self.world.emulator().stream_arn(STREAM)),
            consumer_name: Some(name.to_owned()),
            ..DescribeStreamConsumerInput::default()
        };
        match self.call(operation, "", input).await {
            Ok(Response::DescribeStreamConsumer(answer)) => {
                let found = answer.consumer_description;
                Ok(Some(consumer(found.consumer_arn, found.consumer_status)))
            }
            Ok(_) => Err(unexpected(operation)),
            Err(error) if error.kind() == Kind::StreamNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        let operation = "RegisterStreamConsumer";
        let input = RegisterStreamConsumerInput {
            stream_arn: Some(self.world.emulator().stream_arn(STREAM)),
            consumer_name: Some(name.to_owned()),
            ..RegisterStreamConsumerInput::default()
        };
        match self.call(operation, "", input).await? {
            Response::RegisterStreamConsumer(answer) => {
                self.world.note("consumer registered");
                let made = answer.consumer;
                Ok(consumer(made.consumer_arn, made.consumer_status))
            }
            _ => Err(unexpected(operation)),
        }
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let operation = "SubscribeToShard";
        let input = SubscribeToShardInput {
            consumer_arn: Some(consumer_arn.to_owned()),
            shard_id: Some(shard.as_str().to_owned()),
            starting_position: Some(position(from)),
        };
        let answer = self.call(operation, shard.as_str(), input).await;
        if answer
            .as_ref()
            .is_err_and(|error| error.kind() == Kind::StreamInUse)
        {
            self.world.note("subscription refused: there is one");
        }
        match answer? {
            Response::SubscribeToShard(answer) => Ok(Box::new(SimulatedSubscription::new(
                &self.world,
                &self.caller,
                shard,
                &self.gauge,
                answer.subscription,
            ))),
            _ => Err(unexpected(operation)),
        }
    }
}

fn consumer(arn: String, status: &str) -> StreamConsumer {
    StreamConsumer {
        arn,
        status: match status {
            "CREATING" => ConsumerStatus::Creating,
            "DELETING" => ConsumerStatus::Deleting,
            _ => ConsumerStatus::Active,
        },
    }
}

fn position(from: &StartPosition) -> StartingPosition {
    let (kind, sequence_number, at) = match from {
        StartPosition::TrimHorizon => ("TRIM_HORIZON", None, None),
        StartPosition::AtTimestamp(time) => ("AT_TIMESTAMP", None, Some(timestamp(*time))),
        StartPosition::AtSequenceNumber(number) => ("AT_SEQUENCE_NUMBER", Some(number), None),
        StartPosition::AfterSequenceNumber(number) => ("AFTER_SEQUENCE_NUMBER", Some(number), None),
    };
    StartingPosition {
        kind: Some(kind.to_owned()),
        sequence_number: sequence_number.map(|number| number.as_str().to_owned()),
        timestamp: at,
    }
}

fn fetched(answer: GetRecordsOutput) -> Result<Fetched, SourceError> {
    let operation = "GetRecords";
    Ok(Fetched {
        batch: batch(answer.records, operation)?,
        next: answer.next_shard_iterator.map(ShardIterator),
        children: children(answer.child_shards, operation)?,
        behind: u64::try_from(answer.millis_behind_latest)
            .ok()
            .map(Duration::from_millis),
    })
}

pub(super) fn batch(records: Vec<Record>, operation: &'static str) -> Result<Batch, SourceError> {
    let mut batch = BatchBuilder::with_capacity(records.len());
    for record in records {
        let sequence_number = record.sequence_number.to_string();
        let raw = RawRecord {
            sequence_number: &sequence_number,
            partition_key: &record.partition_key,
            arrival_millis: Some(record.approximate_arrival_timestamp.0),
            encryption_type: None,
        };
        let pushed = batch.push(raw, record.data.0);
        pushed.map_err(|_| unexpected(operation))?;
    }
    Ok(batch.finish())
}

pub(super) fn children(
    shards: Option<Vec<ChildShard>>,
    operation: &'static str,
) -> Result<Vec<ListedShard>, SourceError> {
    let shards = shards.unwrap_or_default();
    shards.iter().map(|shard| child(shard, operation)).collect()
}

fn listed(shard: Shard) -> Result<ListedShard, SourceError> {
    Ok(ListedShard {
        hash_range: range("ListShards", &shard.hash_key_range)?,
        open: shard.sequence_number_range.ending_sequence_number.is_none(),
        shard_id: ShardId::from(shard.shard_id),
        parent: shard.parent_shard_id.map(ShardId::from),
        adjacent_parent: shard.adjacent_parent_shard_id.map(ShardId::from),
    })
}

fn child(shard: &ChildShard, operation: &'static str) -> Result<ListedShard, SourceError> {
    let mut parents = shard
        .parent_shards
        .iter()
        .map(|id| ShardId::from(id.as_str()));
    Ok(ListedShard {
        shard_id: ShardId::from(shard.shard_id.as_str()),
        parent: parents.next(),
        adjacent_parent: parents.next(),
        hash_range: range(operation, &shard.hash_key_range)?,
        open: true,
    })
}

fn range(operation: &'static str, range: &ListedRange) -> Result<HashKeyRange, SourceError> {
    HashKeyRange::parse(&range.starting_hash_key, &range.ending_hash_key)
        .map_err(|_| unexpected(operation))
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn system_time(timestamp: Timestamp) -> SystemTime {
    let millis = u64::try_from(timestamp.0).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
