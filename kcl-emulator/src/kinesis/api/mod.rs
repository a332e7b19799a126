//! The operations with their members, named and typed as in the service's API model.
//!
//! Every member of a request is optional here: whether it may be missing is a matter of validation, which answers
//! with the service's own error.

mod consumer;
mod record;
mod scalar;
mod setting;
mod shard;
mod stream;

pub use consumer::*;
pub use record::*;
pub use scalar::{Blob, PartitionKey};
pub use setting::*;
pub use shard::*;
pub use stream::*;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::ApiError;

/// The answer of an operation that has nothing to say: over HTTP an empty body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

macro_rules! operations {
    ($($operation:ident($input:ty) -> $output:ty,)*) => {
        /// One request, by operation.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "the operations of the service, under its names")]
        pub enum Request {
            $($operation($input),)*
        }

        /// One answer, by operation; it serialises as its body.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[non_exhaustive]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "the operations of the service, under its names")]
        pub enum Response {
            $($operation($output),)*
        }

        impl Request {
            /// Reads the body of a request for `operation` (the part of `X-Amz-Target` after the dot).
            ///
            /// # Errors
            /// `UnknownOperationException` for a name that is none, `SerializationException` for a body that does not
            /// have the operation's shape.
            pub fn decode<'de, D>(operation: &str, body: D) -> Result<Self, ApiError>
            where
                D: Deserializer<'de>,
            {
                match operation {
                    $(stringify!($operation) => <$input>::deserialize(MapOnly(body))
                        .map(Self::$operation)
                        .map_err(|error| ApiError::client("SerializationException", error.to_string())),)*
                    _ => Err(ApiError::client("UnknownOperationException", "")),
                }
            }

            /// The operation's name.
            #[must_use]
            pub fn operation(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => stringify!($operation),)*
                }
            }
        }

        $(impl From<$input> for Request {
            fn from(input: $input) -> Self {
                Self::$operation(input)
            }
        })*
    };
}

operations! {
    AddTagsToStream(AddTagsToStreamInput) -> Empty,
    CreateStream(CreateStreamInput) -> Empty,
    DecreaseStreamRetentionPeriod(DecreaseStreamRetentionPeriodInput) -> Empty,
    DeleteResourcePolicy(DeleteResourcePolicyInput) -> Empty,
    DeleteStream(DeleteStreamInput) -> Empty,
    DeregisterStreamConsumer(DeregisterStreamConsumerInput) -> Empty,
    DescribeLimits(DescribeLimitsInput) -> DescribeLimitsOutput,
    DescribeStream(DescribeStreamInput) -> DescribeStreamOutput,
    DescribeStreamConsumer(DescribeStreamConsumerInput) -> DescribeStreamConsumerOutput,
    DescribeStreamSummary(DescribeStreamSummaryInput) -> DescribeStreamSummaryOutput,
    DisableEnhancedMonitoring(DisableEnhancedMonitoringInput) -> EnhancedMonitoringOutput,
    EnableEnhancedMonitoring(EnableEnhancedMonitoringInput) -> EnhancedMonitoringOutput,
    GetRecords(GetRecordsInput) -> GetRecordsOutput,
    GetResourcePolicy(GetResourcePolicyInput) -> GetResourcePolicyOutput,
    GetShardIterator(GetShardIteratorInput) -> GetShardIteratorOutput,
    IncreaseStreamRetentionPeriod(IncreaseStreamRetentionPeriodInput) -> Empty,
    ListShards(ListShardsInput) -> ListShardsOutput,
    ListStreamConsumers(ListStreamConsumersInput) -> ListStreamConsumersOutput,
    ListStreams(ListStreamsInput) -> ListStreamsOutput,
    ListTagsForResource(ListTagsForResourceInput) -> ListTagsForResourceOutput,
    ListTagsForStream(ListTagsForStreamInput) -> ListTagsForStreamOutput,
    MergeShards(MergeShardsInput) -> Empty,
    PutRecord(PutRecordInput) -> PutRecordOutput,
    PutRecords(PutRecordsInput) -> PutRecordsOutput,
    PutResourcePolicy(PutResourcePolicyInput) -> Empty,
    RegisterStreamConsumer(RegisterStreamConsumerInput) -> RegisterStreamConsumerOutput,
    RemoveTagsFromStream(RemoveTagsFromStreamInput) -> Empty,
    SplitShard(SplitShardInput) -> Empty,
    StartStreamEncryption(StartStreamEncryptionInput) -> Empty,
    StopStreamEncryption(StopStreamEncryptionInput) -> Empty,
    SubscribeToShard(SubscribeToShardInput) -> SubscribeToShardOutput,
    TagResource(TagResourceInput) -> Empty,
    UntagResource(UntagResourceInput) -> Empty,
    UpdateMaxRecordSize(UpdateMaxRecordSizeInput) -> Empty,
    UpdateShardCount(UpdateShardCountInput) -> UpdateShardCountOutput,
    UpdateStreamMode(UpdateStreamModeInput) -> Empty,
}

/// A body that must be a map: a derived structure would take a list of its members as well.
struct MapOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for MapOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl Response {
    /// Whether the operation has no output at all: the service then answers with an empty body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(
            self,
            Self::AddTagsToStream(_)
                | Self::CreateStream(_)
                | Self::DecreaseStreamRetentionPeriod(_)
                | Self::DeleteResourcePolicy(_)
                | Self::DeleteStream(_)
                | Self::DeregisterStreamConsumer(_)
                | Self::IncreaseStreamRetentionPeriod(_)
                | Self::MergeShards(_)
                | Self::PutResourcePolicy(_)
                | Self::RemoveTagsFromStream(_)
                | Self::SplitShard(_)
                | Self::StartStreamEncryption(_)
                | Self::StopStreamEncryption(_)
                | Self::TagResource(_)
                | Self::UntagResource(_)
                | Self::UpdateMaxRecordSize(_)
                | Self::UpdateStreamMode(_)
        )
    }
}
