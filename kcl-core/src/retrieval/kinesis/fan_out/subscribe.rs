//! One subscription through the SDK's own event receiver.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_types::DateTime;
use kcl_lease::ShardId;
use tokio::time::timeout;

use super::super::classify::classify;
use super::super::source::KinesisSource;
use super::connections::{Connections, Place};
use super::event;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::StartPosition;
use crate::retrieval::subscription::{Pushed, Subscription};

const OPERATION: &str = "SubscribeToShard";
/// Somewhat shorter than the patience of whoever subscribes, so that the connection is noticed, not only the call given up.
const CALL_LIMIT: Duration = Duration::from_secs(7);

impl KinesisSource {
    pub(in super::super) async fn open_subscription(
        &self,
        connections: &Connections,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let place = connections.place();
        let call = place
            .client
            .subscribe_to_shard()
            .consumer_arn(consumer_arn)
            .shard_id(shard.as_str())
            .starting_position(starting_position(from)?)
            .customize()
            .interceptor(place.used.clone())
            .interceptor(place.arrival.clone())
            .send();
        let Ok(answer) = timeout(CALL_LIMIT, call).await else {
            place.used.retire();
            return Err(SourceError::new(SourceErrorKind::Timeout, OPERATION)
                .about(format!("stream {}", self.label()))
                .with_detail("the call was not answered"));
        };
        let output = answer.map_err(|error| classify(OPERATION, self.label(), error))?;
        Ok(Box::new(Subscribed {
            output,
            announced: None,
            label: self.label().to_owned(),
            place,
        }))
    }
}

fn starting_position(from: &StartPosition) -> Result<StartingPosition, SourceError> {
    let builder = StartingPosition::builder();
    let builder = match from {
        StartPosition::TrimHorizon => builder.r#type(ShardIteratorType::TrimHorizon),
        StartPosition::AtTimestamp(time) => builder
            .r#type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from(*time)),
        StartPosition::AtSequenceNumber(number) => builder
            .r#type(ShardIteratorType::AtSequenceNumber)
            .sequence_number(number.as_str()),
        StartPosition::AfterSequenceNumber(number) => builder
            .r#type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(number.as_str()),
    };
    let built = builder.build();
    built.map_err(|error| SourceError::new(SourceErrorKind::Other, OPERATION).with_source(error))
}

struct Subscribed {
    output: SubscribeToShardOutput,
    /// The SDK says nothing of an event before all of it is there.
    announced: Option<SubscribeToShardEvent>,
    label: String,
    place: Place,
}

/// Without the event, which has payloads in it.
impl fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribed")
            .field("stream", &self.label)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Subscription for Subscribed {
    async fn announced(&mut self) -> Result<Option<u64>, SourceError> {
        loop {
            if let Some(event) = &self.announced {
                return Ok(Some(event::size(event)));
            }
            match self.output.event_stream.recv().await {
                Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                    self.announced = Some(event);
                }
                // A kind of event that the service has learned since.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(event::failed(&self.label, error)),
            }
        }
    }

    async fn receive(&mut self) -> Result<Pushed, SourceError> {
        loop {
            if let Some(event) = self.announced.take() {
                let pushed = event::pushed(event);
                return pushed.map_err(|error| error.about(format!("stream {}", self.label)));
            }
            if self.announced().await?.is_none() {
                let ended = SourceError::new(SourceErrorKind::Unavailable, OPERATION);
                return Err(ended.with_detail("the subscription ended within an event"));
            }
        }
    }

    fn fell_silent(&mut self) -> bool {
        self.place.used.retire();
        self.place.arrival.is_within_event()
    }
}
