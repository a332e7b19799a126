//! From the command line to a configuration of the AWS SDK.

use aws_config::BehaviorVersion;
use aws_types::SdkConfig;
use clap::Args;

/// Where the services are.
#[derive(Debug, Clone, Default, Args)]
pub struct AwsOptions {
    /// Endpoint of Kinesis and DynamoDB, for example http://127.0.0.1:4567. Without it the SDK's own settings count
    /// (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KINESIS, AWS_ENDPOINT_URL_DYNAMODB, the profile), else it is AWS.
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
}

impl AwsOptions {
    /// Loads region, credentials and endpoints as every AWS tool does.
    pub async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader.load().await
    }
}
