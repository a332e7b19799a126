//! The choice between polling and enhanced fan-out, and its options.

use std::time::Duration;

use super::fan_out::{ConsumerChoice, ConsumerOptions};
use crate::error::BuildError;
use crate::stream::{ApplicationName, StreamRef};

const OPTION: &str = "retrieval";

/// How records come from the stream to a worker.
///
/// Both ways deliver the same records in the same order, and store the same checkpoints: an application may use another one
/// each time that it starts, and workers of one application may differ.
///
/// ```
/// use kcl_core::Retrieval;
///
/// // A second does not matter, and few applications read the stream.
/// let poll = Retrieval::polling();
/// // Each record is waited for. The consumer was registered by whoever may.
/// let subscribe = Retrieval::fan_out().consumer_name("orders-printer").register_consumer(false);
/// // The same program on AWS and where there is no fan-out.
/// let either = Retrieval::auto();
/// # assert_ne!(poll, subscribe.into());
/// # assert_ne!(poll, either.into());
/// ```
///
/// What each way costs, in money, calls and delay, is in the manual: `docs/retrieval.md`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[doc(alias = "RetrievalConfig")]
pub enum Retrieval {
    /// The worker asks for records with `GetRecords`. All consumers that poll share 2 MB and 5 calls per second and shard.
    #[default]
    #[doc(alias = "PollingConfig")]
    Polling,
    /// The service sends records as they are put, 2 MB per second and shard for each registered consumer; AWS charges for it.
    #[doc(alias = "FanOutConfig")]
    FanOut(FanOutOptions),
}

impl Retrieval {
    /// Polling, the default.
    #[must_use]
    pub fn polling() -> Self {
        Self::Polling
    }

    /// Enhanced fan-out and nothing else: without a consumer the worker waits, tells why
    /// ([`ReadFailed`](crate::WorkerEvent::ReadFailed)) and tries again a few times a minute.
    #[doc(alias = "EFO")]
    pub fn fan_out() -> FanOutOptions {
        FanOutOptions {
            consumer_name: None,
            consumer_arn: None,
            register: true,
            active_within: Duration::from_secs(60),
            falls_back: false,
        }
    }

    /// Enhanced fan-out where it is to be had, else polling: when the stream has as many consumers as it may have, when rights
    /// for it are missing, when the consumer is not there and may not be registered or does not become ACTIVE, and when the
    /// service does not know it. [`FanOutUnavailable`](crate::WorkerEvent::FanOutUnavailable) tells of it once; every ten
    /// minutes one shard tries again.
    pub fn auto() -> FanOutOptions {
        FanOutOptions {
            falls_back: true,
            ..Self::fan_out()
        }
    }
}

impl From<FanOutOptions> for Retrieval {
    fn from(options: FanOutOptions) -> Self {
        Self::FanOut(options)
    }
}

/// The options of enhanced fan-out; made by [`Retrieval::fan_out`] and [`Retrieval::auto`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "pass it to WorkerBuilder::retrieval"]
pub struct FanOutOptions {
    consumer_name: Option<String>,
    consumer_arn: Option<String>,
    register: bool,
    active_within: Duration,
    falls_back: bool,
}

impl FanOutOptions {
    /// The name under which the application is registered with the stream: one for all its workers, and for no other
    /// application. Default: the application's name.
    #[doc(alias = "consumerName")]
    pub fn consumer_name(mut self, name: impl Into<String>) -> Self {
        self.consumer_name = Some(name.into());
        self
    }

    /// The consumer by its ARN: it is used as it is, and neither looked for nor registered. Needs no right but
    /// `kinesis:SubscribeToShard`.
    #[doc(alias = "consumerArn")]
    pub fn consumer_arn(mut self, arn: impl Into<String>) -> Self {
        self.consumer_arn = Some(arn.into());
        self
    }

    /// Whether a consumer that is not there is registered. Default: true. It is never removed again, see
    /// [`KinesisSource::deregister_consumer`](crate::retrieval::KinesisSource::deregister_consumer).
    pub fn register_consumer(mut self, register: bool) -> Self {
        self.register = register;
        self
    }

    /// How long a consumer may take to become ACTIVE before that is an error, or a reason to poll. Default: 1 min; 1 s to 1 h.
    pub fn active_within(mut self, time: Duration) -> Self {
        self.active_within = time;
        self
    }

    /// Whether the worker polls where there is no fan-out.
    pub(crate) fn falls_back(&self) -> bool {
        self.falls_back
    }

    /// The options as the reader of this stream needs them; `own` is the ARN of a consumer for this stream only.
    ///
    /// # Errors
    /// When a name or an ARN is none.
    pub(crate) fn resolve(
        &self,
        application: &ApplicationName,
        stream: &StreamRef,
        own: Option<&str>,
    ) -> Result<ConsumerOptions, BuildError> {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
        if !(least..=most).contains(&self.active_within) {
            let value = format!("active_within {:?}", self.active_within);
            return invalid(
                value,
                &format!("is out of bounds: use {least:?} to {most:?}"),
            );
        }
        let arn = own.or(self.consumer_arn.as_deref());
        let choice = match (arn, &self.consumer_name) {
            (Some(arn), _) if own.is_some() => ConsumerChoice::Arn(of_stream(arn, stream)?),
            (Some(_), Some(_)) => {
                return Err(BuildError::Conflict {
                    a: "consumer_arn",
                    b: "consumer_name",
                    reason: "an ARN has its name in it; leave one of them out".to_owned(),
                });
            }
            (Some(arn), None) => ConsumerChoice::Arn(of_stream(arn, stream)?),
            (None, name) => ConsumerChoice::Name {
                name: valid_name(name.as_deref().unwrap_or(application.as_str()))?,
                register: self.register,
            },
        };
        Ok(ConsumerOptions {
            choice,
            active_within: self.active_within,
            falls_back: self.falls_back,
        })
    }
}

fn invalid<T>(value: String, reason: &str) -> Result<T, BuildError> {
    Err(BuildError::InvalidOption {
        option: OPTION,
        value,
        reason: reason.to_owned(),
    })
}

/// The service's rule (API reference, `RegisterStreamConsumer`).
fn valid_name(name: &str) -> Result<String, BuildError> {
    let is_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=128).contains(&name.len()) && name.bytes().all(is_byte) {
        return Ok(name.to_owned());
    }
    let reason = "is no name of a consumer: set consumer_name, 1 to 128 characters of a-z, A-Z, 0-9, _ . and -";
    invalid(format!("{name:?}"), reason)
}

/// The ARN, if it is one of a consumer of this stream.
fn of_stream(arn: &str, stream: &StreamRef) -> Result<String, BuildError> {
    let shape = "is no ARN of a consumer: it should look like \
                 arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/app:1600000000";
    let consumer = arn.split_once("/consumer/");
    let Some((of, name)) = consumer.filter(|_| arn.starts_with("arn:")) else {
        return invalid(format!("{arn:?}"), shape);
    };
    let created = name.rsplit_once(':').map(|(_, created)| created);
    if !created.is_some_and(|created| created.bytes().all(|b| b.is_ascii_digit())) {
        return invalid(format!("{arn:?}"), shape);
    }
    let is_same = match &stream.arn {
        Some(stream) => stream.as_str() == of,
        None => of.ends_with(&format!(":stream/{}", stream.name)),
    };
    match is_same {
        true => Ok(arn.to_owned()),
        false => invalid(format!("{arn:?}"), "is a consumer of another stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamRef;

    const ARN: &str =
        "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/app:1600000000";

    fn resolve(options: &FanOutOptions, application: &str) -> Result<ConsumerOptions, String> {
        let stream = StreamRef::parse("orders").unwrap();
        let resolved = options.resolve(&ApplicationName::from(application), &stream, None);
        resolved.map_err(|error| error.to_string())
    }

    #[test]
    fn the_consumer_is_named_as_the_application_unless_it_is_said_otherwise() {
        let name = |options: &FanOutOptions| match resolve(options, "printer").unwrap().choice {
            ConsumerChoice::Name { name, register } => (name, register),
            ConsumerChoice::Arn(arn) => (arn, false),
        };
        assert_eq!(name(&Retrieval::fan_out()), ("printer".to_owned(), true));
        let named = Retrieval::auto()
            .consumer_name("other")
            .register_consumer(false);
        assert_eq!(name(&named), ("other".to_owned(), false));
        let given = Retrieval::fan_out().consumer_arn(ARN);
        assert_eq!(name(&given), (ARN.to_owned(), false));
    }

    #[test]
    fn what_cannot_be_a_consumer_of_the_stream_is_refused() {
        let long = "x".repeat(129);
        for (options, application, what) in [
            (Retrieval::fan_out(), long.as_str(), "set consumer_name"),
            (Retrieval::fan_out().consumer_name("a b"), "app", "no name"),
            (Retrieval::fan_out().consumer_arn("app"), "app", "no ARN"),
            (
                Retrieval::fan_out().consumer_arn(ARN.replace("app:", "app")),
                "app",
                "no ARN",
            ),
            (
                Retrieval::fan_out().consumer_arn(ARN.replace("orders", "other")),
                "app",
                "another stream",
            ),
            (
                Retrieval::fan_out().consumer_arn(ARN).consumer_name("a"),
                "app",
                "contradict",
            ),
            (
                Retrieval::fan_out().active_within(Duration::ZERO),
                "app",
                "out of bounds",
            ),
        ] {
            let error = resolve(&options, application).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
