//! How processes on this machine reach what stands for AWS.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::BehaviorVersion;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::sdk_config::Builder;

/// At an endpoint, as a caller of this name.
pub(crate) fn at(endpoint: &str, caller: &str) -> SdkConfig {
    called_by(caller).endpoint_url(endpoint).build()
}

/// As a caller of this name: the id of the key is what the emulator knows callers by.
pub(crate) fn called_by(caller: &str) -> Builder {
    let credentials = Credentials::new(caller, "secret", None, None, "this machine");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
}
