//! From the SDK's events to ours, payloads uncopied.

use std::time::Duration;

use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ChildShard, EncryptionType as SdkEncryptionType, Record, SubscribeToShardEvent,
};
use kcl_checkpoint::SequenceNumber;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};

use super::super::classify::{by_code, chain, innermost};
use super::frames::TooLarge;
use crate::retrieval::batch::Batch;
use crate::retrieval::batch_builder::{BatchBuilder, InvalidBatch, RawRecord};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::record::EncryptionType;
use crate::retrieval::subscription::Pushed;

const OPERATION: &str = "SubscribeToShard";
/// What a record takes beside its data and its key.
const RECORD_BYTES: usize = 96;

/// About how much memory an event takes.
pub(super) fn size(event: &SubscribeToShardEvent) -> u64 {
    let record = |record: &Record| {
        let key = record.partition_key.as_deref().unwrap_or_default();
        record.data.as_ref().len() + key.len() + RECORD_BYTES
    };
    let bytes: usize = event.records.iter().map(record).sum();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

pub(super) fn pushed(event: SubscribeToShardEvent) -> Result<Pushed, SourceError> {
    let children = event.child_shards.unwrap_or_default();
    let continuation = event.continuation_sequence_number;
    // Either says that the shard has ended; some servers leave the number in.
    let ends = continuation.is_empty() || !children.is_empty();
    let continuation = match ends {
        true => None,
        false => Some(SequenceNumber::parse(&continuation).map_err(malformed)?),
    };
    Ok(Pushed {
        batch: batch(event.records).map_err(malformed)?,
        continuation,
        children: children.iter().map(child).collect::<Result<_, _>>()?,
        behind: Some(Duration::from_millis(
            u64::try_from(event.millis_behind_latest).unwrap_or(0),
        )),
    })
}

fn batch(records: Vec<Record>) -> Result<Batch, InvalidBatch> {
    let mut builder = BatchBuilder::with_capacity(records.len());
    for record in records {
        let raw = RawRecord {
            sequence_number: &record.sequence_number,
            partition_key: record.partition_key.as_deref().unwrap_or_default(),
            arrival_millis: record
                .approximate_arrival_timestamp
                .and_then(|time| time.to_millis().ok()),
            encryption_type: record.encryption_type.map(|kind| encryption(&kind)),
        };
        builder.push(raw, record.data.into_bytes())?;
    }
    Ok(builder.finish())
}

fn encryption(kind: &SdkEncryptionType) -> EncryptionType {
    match kind {
        SdkEncryptionType::None => EncryptionType::None,
        SdkEncryptionType::Kms => EncryptionType::Kms,
        _ => EncryptionType::Other,
    }
}

/// A shard that a finished parent names. Whether it is still open is not said; it was when its parent closed.
fn child(shard: &ChildShard) -> Result<ListedShard, SourceError> {
    let range = shard.hash_key_range().ok_or_else(|| {
        let error = SourceError::new(SourceErrorKind::Malformed, OPERATION);
        error.with_detail("a shard has no hash-key range")
    })?;
    let range = HashKeyRange::parse(range.starting_hash_key(), range.ending_hash_key());
    let mut parents = shard.parent_shards().iter();
    let mut parent = || parents.next().map(|id| ShardId::from(id.as_str()));
    Ok(ListedShard {
        shard_id: ShardId::from(shard.shard_id()),
        parent: parent(),
        adjacent_parent: parent(),
        hash_range: range.map_err(malformed)?,
        open: true,
    })
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    SourceError::new(SourceErrorKind::Malformed, OPERATION)
        .with_detail(error.to_string())
        .with_source(error)
}

/// Why the events end.
pub(super) fn failed<R>(
    label: &str,
    error: SdkError<SubscribeToShardEventStreamError, R>,
) -> SourceError
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let (kind, detail) = match &error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let kind = meta.code().and_then(by_code);
            let text = meta.message().or(meta.code()).unwrap_or_default();
            (kind.unwrap_or(SourceErrorKind::Other), text.to_owned())
        }
        // Frames that cannot be read.
        SdkError::ResponseError(_) => (SourceErrorKind::Malformed, innermost(&error)),
        _ if chain(&error).any(<dyn std::error::Error>::is::<TooLarge>) => {
            (SourceErrorKind::Malformed, innermost(&error))
        }
        _ => (SourceErrorKind::Unavailable, innermost(&error)),
    };
    SourceError::new(kind, OPERATION)
        .about(format!("stream {label}"))
        .with_detail(detail)
        .with_source(error)
}
