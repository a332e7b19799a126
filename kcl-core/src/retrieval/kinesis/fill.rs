//! From the SDK's types to ours.

use std::time::SystemTime;

use aws_sdk_kinesis::types;
use aws_smithy_types::DateTime;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};

use crate::retrieval::error::{SourceError, SourceErrorKind};

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

/// What cannot be read as what it should be.
pub(super) fn malformed(
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
