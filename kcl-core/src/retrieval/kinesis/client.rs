//! The SDK client of a stream: attempts and time limits are bounded here, waiting between reads is ours.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Builder, StalledStreamProtectionConfig};
use aws_types::SdkConfig;

use super::wire::{BufferPool, KinesisWire, PoolBodies};

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer can be 10 MiB, and the Java library allows the same (`kinesisRequestTimeout`).
const READ_LIMIT: Duration = Duration::from_secs(30);
const CONTROL_ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
const CONTROL_LIMIT: Duration = Duration::from_secs(30);
const CONTROL_ATTEMPTS: u32 = 3;
const CONTROL_BACKOFF: Duration = Duration::from_millis(100);
const CONTROL_BACKOFF_CAP: Duration = Duration::from_secs(2);

/// A client for reads: one attempt for each call, because the poller paces attempts and says why it waits.
///
/// It shares connections and credentials with nobody but its own control calls. Stalled-stream protection is off: the
/// time limit of the whole call covers the body too, and the protection measures wall time, not tokio's.
pub(crate) fn reading_client(aws: &SdkConfig) -> Client {
    let mut builder = Builder::from(aws);
    if aws.behavior_version().is_none() {
        // A configuration that was put together by hand may lack one, and the SDK panics without.
        builder = builder.behavior_version(BehaviorVersion::latest());
    }
    let config = builder
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_timeout(READ_LIMIT)
                .build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The same client for nothing but records: with a protocol of its own that does not decode them one by one, and buffers
/// that are used again.
pub(super) fn records_client(reading: &Client, protocol: KinesisWire, pool: &BufferPool) -> Client {
    let builder = reading.config().to_builder();
    let builder = builder
        .protocol(protocol)
        .interceptor(PoolBodies::new(pool));
    Client::from_conf(builder.build())
}

/// What control calls (describe, list, iterator) change: a few attempts, with a token bucket of their own, so that
/// failing calls elsewhere in the process do not stop these.
pub(crate) fn control_overrides() -> Builder {
    Builder::default()
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(CONTROL_ATTEMPTS)
                .with_initial_backoff(CONTROL_BACKOFF)
                .with_max_backoff(CONTROL_BACKOFF_CAP),
        )
        .retry_partition(RetryPartition::new("kcl-stream-control"))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(CONTROL_ATTEMPT_LIMIT)
                .operation_timeout(CONTROL_LIMIT)
                .build(),
        )
}
