//! From the SDK's types to ours, payloads uncopied.

use std::time::{Duration, SystemTime};

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::{self, ChildShard, EncryptionType as SdkEncryptionType};
use aws_smithy_types::DateTime;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};

use crate::retrieval::batch::Batch;
use crate::retrieval::batch_builder::{BatchBuilder, InvalidBatch, RawRecord};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::record::EncryptionType;
use crate::retrieval::source::{Fetched, ShardIterator};

/// The answer of `GetRecords`.
pub(super) fn fetched(output: GetRecordsOutput) -> Result<Fetched, SourceError> {
    let batch = batch(output.records).map_err(|invalid| malformed("GetRecords", invalid))?;
    let children = output.child_shards.unwrap_or_default();
    Ok(Fetched {
        batch,
        next: output.next_shard_iterator.map(ShardIterator),
        children: children
            .iter()
            .map(child)
            .collect::<Result<_, SourceError>>()?,
        behind: output
            .millis_behind_latest
            .map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
    })
}

fn batch(records: Vec<types::Record>) -> Result<Batch, InvalidBatch> {
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

/// A shard of `ListShards`.
pub(super) fn listed(shard: &types::Shard) -> Result<ListedShard, SourceError> {
    let open = shard
        .sequence_number_range()
        .is_none_or(|range| range.ending_sequence_number().is_none());
    Ok(ListedShard {
        shard_id: ShardId::from(shard.shard_id()),
        parent: shard.parent_shard_id().map(ShardId::from),
        adjacent_parent: shard.adjacent_parent_shard_id().map(ShardId::from),
        hash_range: hash_range("ListShards", shard.hash_key_range())?,
        open,
    })
}

/// A shard that a finished parent names. Whether it is still open is not said; it was when its parent closed.
fn child(shard: &ChildShard) -> Result<ListedShard, SourceError> {
    let mut parents = shard
        .parent_shards()
        .iter()
        .map(|id| ShardId::from(id.as_str()));
    Ok(ListedShard {
        shard_id: ShardId::from(shard.shard_id()),
        parent: parents.next(),
        adjacent_parent: parents.next(),
        hash_range: hash_range("GetRecords", shard.hash_key_range())?,
        open: true,
    })
}

fn hash_range(
    operation: &'static str,
    range: Option<&types::HashKeyRange>,
) -> Result<HashKeyRange, SourceError> {
    let range = range.ok_or_else(|| {
        SourceError::new(SourceErrorKind::Malformed, operation)
            .with_detail("a shard has no hash-key range")
    })?;
    HashKeyRange::parse(range.starting_hash_key(), range.ending_hash_key())
        .map_err(|invalid| malformed(operation, invalid))
}

fn malformed(
    operation: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> SourceError {
    SourceError::new(SourceErrorKind::Malformed, operation)
        .with_detail(error.to_string())
        .with_source(error)
}

/// The service's dates as wall time; dates before 1970 do not occur.
pub(super) fn system_time(date: DateTime) -> SystemTime {
    SystemTime::try_from(date).unwrap_or(SystemTime::UNIX_EPOCH)
}
