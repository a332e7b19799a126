//! `DescribeStream`, `DescribeStreamSummary`.

use super::{
    api::{
        DescribeStreamInput, DescribeStreamOutput, DescribeStreamSummaryInput,
        DescribeStreamSummaryOutput, EnhancedMetrics, StreamDescription, StreamDescriptionSummary,
        StreamModeDetails, StreamSummary,
    },
    engine::Engine,
    error, shard,
    stream::Stream,
    validate::{self, Named, Validation},
};
use crate::ApiError;

/// "If you specify a value greater than 100, at most 100 results are returned" (API reference, `DescribeStream`).
const DESCRIBED_SHARDS: usize = 100;

impl Stream {
    fn mode_details(&self) -> StreamModeDetails {
        StreamModeDetails {
            stream_mode: self.mode.name(),
        }
    }

    fn enhanced_metrics(&self) -> Vec<EnhancedMetrics> {
        vec![EnhancedMetrics {
            shard_level_metrics: self.metrics.iter().copied().collect(),
        }]
    }

    pub(super) fn to_summary(&self) -> StreamSummary {
        StreamSummary {
            stream_name: self.name.clone(),
            stream_arn: self.arn.clone(),
            stream_status: self.status.name(),
            stream_mode_details: self.mode_details(),
            stream_creation_timestamp: self.created,
        }
    }
}

impl Engine {
    pub(super) fn describe_stream(
        &mut self,
        input: &DescribeStreamInput,
    ) -> Result<DescribeStreamOutput, ApiError> {
        let mut check = Validation::default();
        let limit = check.page("limit", input.limit, 10_000, DESCRIBED_SHARDS);
        let after = check.optional(
            "exclusiveStartShardId",
            &input.exclusive_start_shard_id,
            validate::SHARD_ID,
        );
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let after = after.map(first_after).transpose()?.unwrap_or_default();
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        stream.forget_expired_shards();
        let mut rest = stream
            .listed()
            .filter(|shard| u64::from(shard.number) >= after);
        let page = rest.by_ref().take(limit.min(DESCRIBED_SHARDS));
        let shards = page.map(|shard| shard.to_api(stream.created)).collect();
        Ok(DescribeStreamOutput {
            stream_description: StreamDescription {
                stream_name: stream.name.clone(),
                stream_arn: stream.arn.clone(),
                stream_status: stream.status.name(),
                stream_mode_details: stream.mode_details(),
                shards,
                has_more_shards: rest.next().is_some(),
                retention_period_hours: stream.retention_hours,
                stream_creation_timestamp: stream.created,
                enhanced_monitoring: stream.enhanced_metrics(),
                encryption_type: stream.encryption_type(),
                key_id: stream.key_id.clone(),
            },
        })
    }

    pub(super) fn describe_stream_summary(
        &mut self,
        input: &DescribeStreamSummaryInput,
    ) -> Result<DescribeStreamSummaryOutput, ApiError> {
        let mut check = Validation::default();
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let now = self.now;
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        let consumers = stream.consumers.values();
        Ok(DescribeStreamSummaryOutput {
            stream_description_summary: StreamDescriptionSummary {
                stream_name: stream.name.clone(),
                stream_arn: stream.arn.clone(),
                stream_status: stream.status.name(),
                stream_mode_details: stream.mode_details(),
                retention_period_hours: stream.retention_hours,
                stream_creation_timestamp: stream.created,
                enhanced_monitoring: stream.enhanced_metrics(),
                encryption_type: stream.encryption_type(),
                key_id: stream.key_id.clone(),
                open_shard_count: stream.open_count(),
                consumer_count: consumers.filter(|consumer| consumer.exists(now)).count(),
                max_record_size_in_kib: stream.max_record_kib,
            },
        })
    }
}

/// The number of the first shard after the one with this id.
pub(super) fn first_after(id: &str) -> Result<u64, ApiError> {
    let number = shard::number(id)
        .ok_or_else(|| error::invalid_argument(format!("Invalid shard id {id}.")))?;
    Ok(u64::from(number) + 1)
}
