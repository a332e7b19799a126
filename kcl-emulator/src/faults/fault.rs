//! The kinds of faults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to a request. In scripts a fault is an object with an `action`; actions are named as
/// the AWS Fault Injection Service names them where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// The service answers `InternalFailure` (500) without doing anything.
    #[serde(rename = "aws:fis:inject-api-internal-error")]
    InternalError,
    /// The service answers `ThrottlingException` (400) without doing anything.
    #[serde(rename = "aws:fis:inject-api-throttle-error")]
    Throttle,
    /// The service answers `ServiceUnavailable` (503) without doing anything.
    #[serde(rename = "aws:fis:inject-api-unavailable-error")]
    Unavailable,
    /// The service answers `ProvisionedThroughputExceededException` (400).
    #[serde(
        rename = "aws:kinesis:stream-provisioned-throughput-exception",
        alias = "aws:kinesis:inject-api-provisioned-throughput-exception"
    )]
    ThroughputExceeded,
    /// `GetRecords` answers `ExpiredIteratorException` (400); other operations are not touched.
    #[serde(
        rename = "aws:kinesis:stream-expired-iterator-exception",
        alias = "aws:kinesis:inject-api-expired-iterator-exception"
    )]
    ExpiredIterator,
    /// Nothing gets through: requests never arrive and are never answered, subscriptions fall silent
    /// until the rule is gone or its time is over.
    #[serde(rename = "aws:network:disrupt-connectivity")]
    Disconnect,
    /// The service answers this error without doing anything.
    #[serde(rename = "emulator:error")]
    Error {
        /// The HTTP status.
        status: u16,
        /// The error code.
        code: String,
        /// The error message.
        #[serde(default)]
        message: String,
    },
    /// The service answers `AccessDeniedException`, naming the caller, the action and the resource.
    #[serde(rename = "emulator:deny")]
    Deny,
    /// The request takes this long to arrive. It arrives even if the caller has given up meanwhile.
    #[serde(rename = "emulator:delay")]
    Delay {
        /// How long.
        #[serde(with = "duration_text")]
        by: Duration,
    },
    /// The connection breaks before the request arrives: nothing is done.
    #[serde(rename = "emulator:lose-request")]
    LoseRequest,
    /// The request is carried out, then the connection breaks: the caller cannot know.
    #[serde(rename = "emulator:lose-answer")]
    LoseAnswer,
    /// The request is held and carried out later, even if the caller is gone; then the connection
    /// breaks without an answer.
    #[serde(rename = "emulator:apply-late")]
    ApplyLate {
        /// How much later.
        #[serde(with = "duration_text")]
        by: Duration,
    },
    /// The request never arrives and the connection stays open for ever.
    #[serde(rename = "emulator:hang")]
    Hang,
    /// A DynamoDB read that is not strongly consistent sees each row as it was this many versions ago.
    #[serde(rename = "emulator:stale-read")]
    StaleRead {
        /// How many versions back.
        versions: u32,
    },
    /// The connection of a subscription breaks.
    #[serde(rename = "emulator:cut-subscription")]
    CutSubscription {
        /// How long after the subscription began.
        #[serde(with = "duration_text", default)]
        after: Duration,
    },
    /// A subscription stays open but sends nothing any more.
    #[serde(rename = "emulator:silence-subscription")]
    SilenceSubscription {
        /// How long after the subscription began.
        #[serde(with = "duration_text", default)]
        after: Duration,
    },
}

/// Durations as text, such as `250ms` or `1m 30s`.
pub(super) mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format_args!(
                "`{text}` is not a duration such as 250ms: {error}"
            ))
        })
    }
}
