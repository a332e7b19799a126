//! The lease table's client: made on the coordination thread, shared with nobody.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, IdentityCache};
use aws_types::SdkConfig;
use kcl_lease::LeaseTable;
use kcl_lease::dynamodb::{DynamoDbLeaseTable, DynamoDbOptions};

/// No call may take longer than this part of a lease duration, so that a heartbeat can be tried several times before
/// the deadline (protocol §1).
const CALLS_PER_LEASE_DURATION: u32 = 6;

/// Connects to the table `name`. Its connections and its credentials cache are its own: user code that holds up the
/// rest of the process does not hold up heartbeats.
pub(crate) fn connect(
    aws: &SdkConfig,
    name: &str,
    lease_duration: Duration,
    prepare_timeout: Duration,
) -> Arc<dyn LeaseTable> {
    let mut config = Builder::from(aws).identity_cache(IdentityCache::lazy().build());
    if aws.behavior_version().is_none() {
        // A configuration that was put together by hand may lack one, and the SDK panics without.
        config = config.behavior_version(BehaviorVersion::latest());
    }
    let client = aws_sdk_dynamodb::Client::from_conf(config.build());
    let options = DynamoDbOptions {
        call_timeout: lease_duration / CALLS_PER_LEASE_DURATION,
        prepare_timeout,
    };
    Arc::new(DynamoDbLeaseTable::new(&client, name, options))
}
