//! The calls about the registered consumers of a stream.

use std::error::Error;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::ConsumerStatus as SdkStatus;

use super::super::classify::classify;
use super::super::client::control_overrides;
use super::super::source::KinesisSource;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::ShardSource;
use crate::retrieval::subscription::{ConsumerStatus, StreamConsumer};

impl KinesisSource {
    /// Removes a registered consumer of the stream. Workers never do this by themselves: the consumer is there for those that
    /// come after them. A consumer that is not there is as good as removed.
    ///
    /// # Errors
    /// When the service refuses or cannot be reached.
    pub async fn deregister_consumer(&self, name: &str) -> Result<(), SourceError> {
        let operation = "DeregisterStreamConsumer";
        let call = self
            .client()
            .deregister_stream_consumer()
            .stream_arn(self.stream_arn().await?)
            .consumer_name(name);
        let answer = call.customize().config_override(control_overrides()).send();
        match self.classified(operation, answer).await {
            Err(error) if error.kind() != SourceErrorKind::StreamNotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(in super::super) async fn find_consumer(
        &self,
        name: &str,
    ) -> Result<Option<StreamConsumer>, SourceError> {
        let operation = "DescribeStreamConsumer";
        let call = self
            .client()
            .describe_stream_consumer()
            .stream_arn(self.stream_arn().await?)
            .consumer_name(name);
        let answer = call.customize().config_override(control_overrides()).send();
        match self.classified(operation, answer).await {
            Ok(answer) => {
                let found = answer.consumer_description;
                let found = found.ok_or_else(|| self.malformed(operation, NO_CONSUMER))?;
                let status = status(&found.consumer_status);
                let arn = found.consumer_arn;
                Ok(Some(StreamConsumer { arn, status }))
            }
            // Of the stream or of the consumer.
            Err(error) if error.kind() == SourceErrorKind::StreamNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(in super::super) async fn add_consumer(
        &self,
        name: &str,
    ) -> Result<StreamConsumer, SourceError> {
        let operation = "RegisterStreamConsumer";
        let call = self
            .client()
            .register_stream_consumer()
            .stream_arn(self.stream_arn().await?)
            .consumer_name(name);
        let answer = call.customize().config_override(control_overrides()).send();
        let consumer = self.classified(operation, answer).await?.consumer;
        let consumer = consumer.ok_or_else(|| self.malformed(operation, NO_CONSUMER))?;
        let status = status(&consumer.consumer_status);
        let arn = consumer.consumer_arn;
        Ok(StreamConsumer { arn, status })
    }

    async fn classified<T, E>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, SourceError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let answer = answer.await;
        answer.map_err(|error| classify(operation, self.label(), error))
    }

    /// These calls know the stream by its ARN only.
    async fn stream_arn(&self) -> Result<String, SourceError> {
        match self.known_arn() {
            Some(arn) => Ok(arn),
            None => {
                let described = self.describe().await?;
                self.adopt(&described.arn);
                Ok(described.arn)
            }
        }
    }
}

const NO_CONSUMER: &str = "there is no consumer in it";

fn status(status: &SdkStatus) -> ConsumerStatus {
    match status {
        SdkStatus::Active => ConsumerStatus::Active,
        SdkStatus::Deleting => ConsumerStatus::Deleting,
        // One that nobody knows yet is none that can be used.
        _ => ConsumerStatus::Creating,
    }
}
