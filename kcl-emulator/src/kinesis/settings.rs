//! Retention, capacity mode, record size, encryption, monitoring. A new setting applies at once; the stream is `UPDATING` for a
//! while.

use std::collections::BTreeSet;

use super::{
    api::{
        DecreaseStreamRetentionPeriodInput, DisableEnhancedMonitoringInput, Empty,
        EnableEnhancedMonitoringInput, EnhancedMonitoringOutput,
        IncreaseStreamRetentionPeriodInput, StartStreamEncryptionInput, StopStreamEncryptionInput,
        UpdateMaxRecordSizeInput, UpdateStreamModeInput,
    },
    engine::Engine,
    error, lifecycle,
    stream::{Change, Status, Stream},
    validate::{self, Named, Validation},
};
use crate::ApiError;

const LEAST_HOURS: i64 = 24;
const MOST_HOURS: i64 = 8760;
const ALL_METRICS: &str = "ALL";
const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum EncryptionType {
    None,
    #[default]
    Kms,
}

impl Named for EncryptionType {
    const ALL: &'static [(&'static str, Self)] = &[("NONE", Self::None), ("KMS", Self::Kms)];
}

impl Engine {
    /// Changes a setting of an `ACTIVE` stream; `change` may refuse.
    fn update(
        &mut self,
        name: &Option<String>,
        arn: &Option<String>,
        change: impl FnOnce(&mut Stream, &str) -> Result<(), ApiError>,
    ) -> Result<Empty, ApiError> {
        let account = self.config.account.clone();
        let stream = self.stream(name, arn)?;
        stream.require_active(&account)?;
        change(stream, &account)?;
        let name = stream.name.clone();
        self.begin_transition(&name, Status::Updating, Change::Setting);
        Ok(Empty {})
    }

    pub(super) fn increase_retention(
        &mut self,
        input: &IncreaseStreamRetentionPeriodInput,
    ) -> Result<Empty, ApiError> {
        let hours = checked_hours(
            input.retention_period_hours,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.update(&input.stream_name, &input.stream_arn, |stream, _| {
            let current = stream.retention_hours;
            if hours < current {
                let name = &stream.name;
                return Err(error::invalid_argument(format!(
                    "Requested retention period ({hours} hours) for stream {name} can not be shorter than existing \
                     retention period ({current} hours). Use DecreaseRetentionPeriod API."
                )));
            }
            stream.retention_hours = hours;
            Ok(())
        })
    }

    pub(super) fn decrease_retention(
        &mut self,
        input: &DecreaseStreamRetentionPeriodInput,
    ) -> Result<Empty, ApiError> {
        let hours = checked_hours(
            input.retention_period_hours,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.update(&input.stream_name, &input.stream_arn, |stream, _| {
            let current = stream.retention_hours;
            if hours > current {
                let name = &stream.name;
                return Err(error::invalid_argument(format!(
                    "Requested retention period ({hours} hours) for stream {name} can not be longer than existing \
                     retention period ({current} hours). Use IncreaseRetentionPeriod API."
                )));
            }
            stream.retention_hours = hours;
            Ok(())
        })
    }

    pub(super) fn update_stream_mode(
        &mut self,
        input: &UpdateStreamModeInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.required("streamARN", &input.stream_arn, validate::STREAM_ARN);
        check.present("streamModeDetails", &input.stream_mode_details);
        let mode = lifecycle::mode(&mut check, &input.stream_mode_details).unwrap_or_default();
        check.finish()?;

        let current = self.stream(&None, &input.stream_arn)?.mode;
        if current != mode {
            self.check_mode_limit(mode)?;
        }
        self.update(&None, &input.stream_arn, |stream, _| {
            stream.mode = mode;
            Ok(())
        })
    }

    pub(super) fn update_max_record_size(
        &mut self,
        input: &UpdateMaxRecordSizeInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.required("streamARN", &input.stream_arn, validate::STREAM_ARN);
        let kib = check.required_number(
            "maxRecordSizeInKiB",
            input.max_record_size_in_kib,
            1024,
            10_240,
        );
        check.finish()?;

        self.update(&None, &input.stream_arn, |stream, _| {
            stream.max_record_kib = kib;
            Ok(())
        })
    }

    pub(super) fn start_stream_encryption(
        &mut self,
        input: &StartStreamEncryptionInput,
    ) -> Result<Empty, ApiError> {
        let key_id = checked_key(
            &input.encryption_type,
            &input.key_id,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.update(&input.stream_name, &input.stream_arn, |stream, _| {
            stream.key_id = Some(key_id);
            Ok(())
        })
    }

    pub(super) fn stop_stream_encryption(
        &mut self,
        input: &StopStreamEncryptionInput,
    ) -> Result<Empty, ApiError> {
        checked_key(
            &input.encryption_type,
            &input.key_id,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.update(&input.stream_name, &input.stream_arn, |stream, account| {
            let name = &stream.name;
            if stream.key_id.is_none() {
                return Err(error::invalid_argument(format!(
                    "Stream {name} under account {account} is not encrypted."
                )));
            }
            stream.key_id = None;
            Ok(())
        })
    }

    pub(super) fn enable_enhanced_monitoring(
        &mut self,
        input: &EnableEnhancedMonitoringInput,
    ) -> Result<EnhancedMonitoringOutput, ApiError> {
        let metrics = checked_metrics(
            &input.shard_level_metrics,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.monitor(&input.stream_name, &input.stream_arn, |current| {
            current | &metrics
        })
    }

    pub(super) fn disable_enhanced_monitoring(
        &mut self,
        input: &DisableEnhancedMonitoringInput,
    ) -> Result<EnhancedMonitoringOutput, ApiError> {
        let metrics = checked_metrics(
            &input.shard_level_metrics,
            &input.stream_name,
            &input.stream_arn,
        )?;
        self.monitor(&input.stream_name, &input.stream_arn, |current| {
            current - &metrics
        })
    }

    fn monitor(
        &mut self,
        name: &Option<String>,
        arn: &Option<String>,
        desired: impl FnOnce(&BTreeSet<&'static str>) -> BTreeSet<&'static str>,
    ) -> Result<EnhancedMonitoringOutput, ApiError> {
        let stream = self.stream(name, arn)?;
        let (current, desired) = (stream.metrics.clone(), desired(&stream.metrics));
        let output = EnhancedMonitoringOutput {
            stream_name: stream.name.clone(),
            stream_arn: stream.arn.clone(),
            current_shard_level_metrics: current.into_iter().collect(),
            desired_shard_level_metrics: desired.iter().copied().collect(),
        };
        self.update(name, arn, |stream, _| {
            stream.metrics = desired;
            Ok(())
        })?;
        Ok(output)
    }
}

fn checked_hours(
    hours: Option<i64>,
    name: &Option<String>,
    arn: &Option<String>,
) -> Result<i64, ApiError> {
    let mut check = Validation::default();
    let hours = check.required_number("retentionPeriodHours", hours, 1, MOST_HOURS);
    check.stream(name, arn);
    check.finish()?;
    if hours < LEAST_HOURS {
        return Err(error::invalid_argument(format!(
            "Minimum allowed retention period is {LEAST_HOURS} hours. Requested retention period ({hours} hours) is \
             too short."
        )));
    }
    Ok(hours)
}

fn checked_key(
    encryption_type: &Option<String>,
    key_id: &Option<String>,
    name: &Option<String>,
    arn: &Option<String>,
) -> Result<String, ApiError> {
    let mut check = Validation::default();
    let encryption_type: EncryptionType = check.required_choice("encryptionType", encryption_type);
    let key_id = check.required("keyId", key_id, validate::KEY_ID);
    check.stream(name, arn);
    check.finish()?;
    if encryption_type != EncryptionType::Kms {
        return Err(error::invalid_argument(
            "The only valid EncryptionType is KMS.",
        ));
    }
    Ok(key_id.to_owned())
}

fn checked_metrics(
    metrics: &Option<Vec<String>>,
    name: &Option<String>,
    arn: &Option<String>,
) -> Result<BTreeSet<&'static str>, ApiError> {
    let mut check = Validation::default();
    check.list("shardLevelMetrics", metrics, METRICS.len());
    check.stream(name, arn);
    check.finish()?;
    let mut chosen = BTreeSet::new();
    for metric in metrics.iter().flatten() {
        if metric == ALL_METRICS {
            chosen.extend(METRICS);
        } else {
            let known = METRICS.into_iter().find(|known| known == metric);
            chosen.insert(known.ok_or_else(|| unknown_metric(metric))?);
        }
    }
    Ok(chosen)
}

fn unknown_metric(metric: &str) -> ApiError {
    let names = METRICS.join(", ");
    error::validation(format!(
        "1 validation error detected: Value '[{metric}]' at 'shardLevelMetrics' failed to satisfy constraint: Member \
         must satisfy constraint: [Member must satisfy enum value set: [{names}, {ALL_METRICS}]]"
    ))
}
