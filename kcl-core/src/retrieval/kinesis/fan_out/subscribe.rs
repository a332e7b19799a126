//! One subscription: the call by the SDK, the events by ourselves.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use aws_smithy_types::DateTime;
use kcl_lease::ShardId;
use tokio::time::timeout;

use super::super::classify::classify;
use super::super::source::KinesisSource;
use super::super::wire::{EventError, Events};
use super::connections::Place;
use super::event;
use super::taken_body::TakenBody;
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::StartPosition;
use crate::retrieval::subscription::{Pushed, Subscription};

const OPERATION: &str = "SubscribeToShard";
/// Somewhat shorter than the patience of whoever subscribes, so that the connection is noticed, not only the call given up.
const CALL_LIMIT: Duration = Duration::from_secs(7);

impl KinesisSource {
    pub(in super::super) async fn open_subscription(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        let place = self.connections().place();
        let taken = TakenBody::default();
        let call = place
            .client
            .subscribe_to_shard()
            .consumer_arn(consumer_arn)
            .shard_id(shard.as_str())
            .starting_position(starting_position(from)?)
            .customize()
            .interceptor(place.used.clone())
            .interceptor(taken.clone())
            .send();
        let begun = async {
            let answer = call.await;
            answer.map_err(|error| classify(OPERATION, self.label(), error))?;
            let body = taken.take();
            let body =
                body.ok_or_else(|| self.malformed(OPERATION, "the SDK changed it on the way"))?;
            let mut events = self.events(body.body);
            let begun = events.begun().await;
            begun.map_err(|error| event::failed(self.label(), body.foreign.as_deref(), error))?;
            Ok((events, body.foreign))
        };
        let Ok(begun) = timeout(CALL_LIMIT, begun).await else {
            place.used.retire();
            return Err(SourceError::new(SourceErrorKind::Timeout, OPERATION)
                .about(format!("stream {}", self.label()))
                .with_detail("the call was not answered"));
        };
        let (events, foreign) = begun?;
        Ok(Box::new(Subscribed {
            events,
            foreign,
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

#[derive(Debug)]
struct Subscribed {
    events: Events,
    /// The type of the answer, if it is not that of an event stream.
    foreign: Option<String>,
    label: String,
    place: Place,
}

impl Subscribed {
    fn failed(&self, error: EventError) -> SourceError {
        event::failed(&self.label, self.foreign.as_deref(), error)
    }
}

#[async_trait]
impl Subscription for Subscribed {
    async fn announced(&mut self) -> Result<Option<u64>, SourceError> {
        let announced = self.events.announced().await;
        announced.map_err(|error| self.failed(error))
    }

    async fn receive(&mut self) -> Result<Pushed, SourceError> {
        let received = self.events.receive().await;
        let event = received.map_err(|error| self.failed(error))?;
        let pushed = event::pushed(event);
        pushed.map_err(|error| error.about(format!("stream {}", self.label)))
    }

    fn fell_silent(&mut self) -> bool {
        self.place.used.retire();
        self.events.is_within()
    }
}
