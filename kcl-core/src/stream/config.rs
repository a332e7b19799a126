//! One stream of an application, and what is special about it.

use aws_types::SdkConfig;

use super::arn::{StreamArn, StreamRef};
use crate::config::InitialPosition;
use crate::error::BuildError;

/// One stream that an application reads, and what is special about it.
///
/// ```
/// use kcl_core::{InitialPosition, StreamConfig};
///
/// // A stream of the account and region of the worker's AWS configuration.
/// let orders = StreamConfig::new("orders").initial_position(InitialPosition::Latest);
/// // One of another account, which lets this one read it (a resource policy), and of another region.
/// let payments = StreamConfig::new("arn:aws:kinesis:eu-west-1:123456789012:stream/payments");
/// # let _ = (orders, payments);
/// ```
#[derive(Debug, Clone)]
#[must_use = "pass it to Worker::builder, or return it from a StreamTracker"]
pub struct StreamConfig {
    name_or_arn: String,
    initial_position: Option<InitialPosition>,
    aws: Option<SdkConfig>,
    consumer_arn: Option<String>,
}

impl StreamConfig {
    /// The stream of this name, in the account and region of its AWS configuration, or of this ARN.
    pub fn new(name_or_arn: impl Into<String>) -> Self {
        Self {
            name_or_arn: name_or_arn.into(),
            initial_position: None,
            aws: None,
            consumer_arn: None,
        }
    }

    /// Where the application's very first start with this stream begins to read it. Default: the worker's
    /// [`initial_position`](crate::WorkerBuilder::initial_position).
    pub fn initial_position(mut self, position: InitialPosition) -> Self {
        self.initial_position = Some(position);
        self
    }

    /// The region, endpoint and credentials with which this stream is read: for streams of other accounts and regions.
    /// Default: those of the worker, and with several streams the region of the stream's ARN.
    ///
    /// The lease table is that of the worker. A stream that stays in a [`StreamTracker`](crate::StreamTracker)'s list keeps the
    /// configuration that it came with.
    pub fn aws(mut self, aws: SdkConfig) -> Self {
        self.aws = Some(aws);
        self
    }

    /// The ARN of the registered consumer with which this stream is read by [fan-out](crate::Retrieval::fan_out); of no
    /// meaning otherwise. Default: the consumer of the same name in each stream, as
    /// [`consumer_name`](crate::FanOutOptions::consumer_name) says.
    #[doc(alias = "consumerArn")]
    pub fn consumer_arn(mut self, arn: impl Into<String>) -> Self {
        self.consumer_arn = Some(arn.into());
        self
    }

    /// The name or the ARN.
    #[must_use]
    pub fn name_or_arn(&self) -> &str {
        &self.name_or_arn
    }

    /// The name, which an ARN ends with.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.name_or_arn.split_once(":stream/") {
            Some((_, name)) => name,
            None => &self.name_or_arn,
        }
    }

    /// The name or ARN, taken apart.
    pub(crate) fn stream(&self) -> Result<StreamRef, BuildError> {
        StreamRef::parse(&self.name_or_arn)
    }

    /// The same for the stream with exactly this ARN.
    pub(crate) fn bound_to(&self, arn: &StreamArn) -> Self {
        Self {
            name_or_arn: arn.as_str().to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn check_position(&self) -> Result<(), BuildError> {
        let position = self.initial_position.unwrap_or_default();
        position.validate()
    }

    pub(crate) fn has_position(&self) -> bool {
        self.initial_position.is_some()
    }

    pub(crate) fn position(&self, default: InitialPosition) -> InitialPosition {
        self.initial_position.unwrap_or(default)
    }

    pub(crate) fn own_aws(&self) -> Option<&SdkConfig> {
        self.aws.as_ref()
    }

    pub(crate) fn own_consumer(&self) -> Option<&str> {
        self.consumer_arn.as_deref()
    }
}

impl From<&str> for StreamConfig {
    fn from(name_or_arn: &str) -> Self {
        Self::new(name_or_arn)
    }
}
