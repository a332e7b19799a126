//! Registered consumers of enhanced fan-out.

use super::{
    api::{
        self, ConsumerDescription, DeregisterStreamConsumerInput, DescribeStreamConsumerInput,
        DescribeStreamConsumerOutput, Empty, ListStreamConsumersInput, ListStreamConsumersOutput,
        RegisterStreamConsumerInput, RegisterStreamConsumerOutput,
    },
    arn,
    engine::{Engine, milliseconds},
    error,
    stream::{Status, Stream},
    tags::{self, Attributes},
    token,
    validate::{self, Validation},
};
use crate::{ApiError, Timestamp};

/// The service's limits per stream (API reference, `RegisterStreamConsumer`).
const MOST_CONSUMERS: usize = 20;
const MOST_CREATING: usize = 5;
const LISTED_CONSUMERS: usize = 100;

/// A registered consumer; its status follows from the moment at which one looks.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) arn: String,
    created: Timestamp,
    active: Timestamp,
    gone: Option<Timestamp>,
    pub(super) attributes: Attributes,
}

impl Consumer {
    pub(super) fn exists(&self, now: Timestamp) -> bool {
        self.gone.is_none_or(|gone| now < gone)
    }

    fn is_creating(&self, now: Timestamp) -> bool {
        self.gone.is_none() && now < self.active
    }

    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.gone.is_none() && now >= self.active
    }

    fn status(&self, now: Timestamp) -> &'static str {
        if self.is_active(now) {
            "ACTIVE"
        } else if self.is_creating(now) {
            "CREATING"
        } else {
            "DELETING"
        }
    }

    fn to_api(&self, now: Timestamp) -> api::Consumer {
        api::Consumer {
            consumer_name: self.name.clone(),
            consumer_arn: self.arn.clone(),
            consumer_status: self.status(now),
            consumer_creation_timestamp: self.created,
        }
    }
}

impl Engine {
    pub(super) fn register_stream_consumer(
        &mut self,
        input: &RegisterStreamConsumerInput,
    ) -> Result<RegisterStreamConsumerOutput, ApiError> {
        let mut check = Validation::default();
        check.required("streamARN", &input.stream_arn, validate::STREAM_ARN);
        let name = check.required(
            "consumerName",
            &input.consumer_name,
            validate::CONSUMER_NAME,
        );
        check.tags("tags", &input.tags);
        check.finish()?;

        let (now, account) = (self.now, self.config.account.clone());
        let creating = milliseconds(self.config.consumer_transition);
        let stream = self.stream(&None, &input.stream_arn)?;
        if matches!(stream.status, Status::Creating | Status::Deleting) {
            return Err(error::not_active(&stream.name, &account, stream.status));
        }
        stream.consumers.retain(|_, consumer| consumer.exists(now));
        check_limits(stream, name, now)?;
        let mut consumer = Consumer {
            name: name.to_owned(),
            arn: arn::of_consumer(&stream.arn, name, now.0.div_euclid(1000)),
            created: now,
            active: now.plus(creating),
            gone: None,
            attributes: Attributes::default(),
        };
        let tags = input.tags.clone().unwrap_or_default();
        tags::add(&mut consumer.attributes, &stream.name, &account, tags)?;
        let mut answer = consumer.to_api(now);
        answer.consumer_status = "CREATING";
        stream.consumers.insert(name.to_owned(), consumer);
        Ok(RegisterStreamConsumerOutput { consumer: answer })
    }

    /// The stream and the consumer that a request names by the consumer's ARN, or by the stream's ARN and its own name.
    fn consumer(
        &mut self,
        consumer_arn: &Option<String>,
        stream_arn: &Option<String>,
        name: &Option<String>,
    ) -> Result<(&mut Stream, Consumer), ApiError> {
        let mut check = Validation::default();
        check.optional("consumerARN", consumer_arn, validate::CONSUMER_ARN);
        check.optional("streamARN", stream_arn, validate::STREAM_ARN);
        check.optional("consumerName", name, validate::CONSUMER_NAME);
        check.finish()?;

        let now = self.now;
        if let Some(arn) = consumer_arn {
            return self.consumer_by_arn(arn);
        }
        let (Some(_), Some(name)) = (stream_arn, name) else {
            return Err(error::invalid_argument(
                "Either ConsumerARN or both StreamARN and ConsumerName should be provided.",
            ));
        };
        let account = self.config.account.clone();
        let stream = self.stream(&None, stream_arn)?;
        let consumer = stream
            .consumers
            .get(name)
            .filter(|consumer| consumer.exists(now));
        let consumer = consumer.cloned().ok_or_else(|| {
            let stream = &stream.name;
            error::not_found(format!(
                "Consumer {name} of stream {stream} under account {account} not found."
            ))
        })?;
        Ok((stream, consumer))
    }

    pub(super) fn describe_stream_consumer(
        &mut self,
        input: &DescribeStreamConsumerInput,
    ) -> Result<DescribeStreamConsumerOutput, ApiError> {
        let now = self.now;
        let (stream, consumer) =
            self.consumer(&input.consumer_arn, &input.stream_arn, &input.consumer_name)?;
        Ok(DescribeStreamConsumerOutput {
            consumer_description: ConsumerDescription {
                consumer_name: consumer.name.clone(),
                consumer_arn: consumer.arn.clone(),
                consumer_status: consumer.status(now),
                consumer_creation_timestamp: consumer.created,
                stream_arn: stream.arn.clone(),
            },
        })
    }

    pub(super) fn deregister_stream_consumer(
        &mut self,
        input: &DeregisterStreamConsumerInput,
    ) -> Result<Empty, ApiError> {
        let gone = self.now.plus(milliseconds(self.config.consumer_transition));
        let (stream, consumer) =
            self.consumer(&input.consumer_arn, &input.stream_arn, &input.consumer_name)?;
        if let Some(consumer) = stream.consumers.get_mut(&consumer.name) {
            consumer.gone.get_or_insert(gone);
        }
        let woken: Vec<_> = stream.followers().collect();
        self.woken.extend(woken);
        Ok(Empty {})
    }

    pub(super) fn list_stream_consumers(
        &mut self,
        input: &ListStreamConsumersInput,
    ) -> Result<ListStreamConsumersOutput, ApiError> {
        let mut check = Validation::default();
        check.required("streamARN", &input.stream_arn, validate::STREAM_ARN);
        let limit = check.page("maxResults", input.max_results, 10_000, LISTED_CONSUMERS);
        check.optional("nextToken", &input.next_token, validate::NEXT_TOKEN);
        check.finish()?;

        let now = self.now;
        let first = match &input.next_token {
            None => String::new(),
            Some(text) => {
                let (_, first) = token::open::<0>(token::Kind::Consumers, text)
                    .ok_or_else(|| error::invalid_argument("Invalid NextToken."))?;
                first
            }
        };
        let stream = self.stream(&None, &input.stream_arn)?;
        let rest = stream
            .consumers
            .range(first..)
            .map(|(_, consumer)| consumer);
        let mut rest = rest.filter(|consumer| consumer.exists(now));
        let consumers = rest.by_ref().take(limit);
        let consumers = consumers.map(|consumer| consumer.to_api(now)).collect();
        let next = rest.next();
        Ok(ListStreamConsumersOutput {
            consumers,
            next_token: next
                .map(|consumer| token::seal(token::Kind::Consumers, [], &consumer.name)),
        })
    }
}

fn check_limits(stream: &Stream, name: &str, now: Timestamp) -> Result<(), ApiError> {
    if stream.consumers.contains_key(name) {
        let arn = &stream.arn;
        return Err(error::in_use(format!(
            "Consumer {name} already exists under stream {arn}."
        )));
    }
    let creating = stream
        .consumers
        .values()
        .filter(|consumer| consumer.is_creating(now));
    if stream.consumers.len() >= MOST_CONSUMERS || creating.count() >= MOST_CREATING {
        let arn = &stream.arn;
        return Err(error::limit_exceeded(format!(
            "Stream {arn} has {MOST_CONSUMERS} registered consumers, or {MOST_CREATING} in CREATING, which is the limit."
        )));
    }
    Ok(())
}
