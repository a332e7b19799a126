//! Why a call to the stream failed, and what to do about it.

use std::error::Error;
use std::fmt;

use super::one_line::one_line;

/// What kind of failure a [`SourceError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The shard iterator is older than five minutes. A new one is needed, nothing is lost.
    ExpiredIterator,
    /// More calls or bytes than the service allows for the shard, the stream or the account.
    Throttled,
    /// There is no such stream or shard.
    StreamNotFound,
    /// The stream is being created, changed or deleted; or somebody else just subscribed to the shard with this consumer.
    StreamInUse,
    /// There is no such consumer of the stream.
    ConsumerNotFound,
    /// The consumer did not become ACTIVE in time.
    ConsumerNotActive,
    /// The stream has as many consumers as it may have.
    ConsumerLimit,
    /// The service refuses an argument.
    InvalidArgument,
    /// The credentials do not permit the call.
    AccessDenied,
    /// The KMS key of the stream is disabled.
    KmsDisabled,
    /// The KMS key of the stream is in a state that does not allow its use, such as pending deletion.
    KmsInvalidState,
    /// The credentials do not permit the use of the stream's KMS key.
    KmsAccessDenied,
    /// The KMS key of the stream does not exist.
    KmsNotFound,
    /// The account is not signed up for KMS.
    KmsOptInRequired,
    /// KMS throttles the service's calls.
    KmsThrottling,
    /// There are no credentials, or the service does not accept them.
    Credentials,
    /// The endpoint cannot be found or reached: a wrong region or endpoint URL, or the network.
    Endpoint,
    /// No answer in time.
    Timeout,
    /// The service failed or is unavailable (5xx), or the connection broke.
    Unavailable,
    /// The answer cannot be understood or contradicts itself.
    Malformed,
    /// The service, or what stands for it, does not know the operation.
    Unsupported,
    /// Anything else.
    Other,
}

impl SourceErrorKind {
    /// The name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredIterator => "expired_iterator",
            Self::Throttled => "throttled",
            Self::StreamNotFound => "stream_not_found",
            Self::StreamInUse => "stream_in_use",
            Self::ConsumerNotFound => "consumer_not_found",
            Self::ConsumerNotActive => "consumer_not_active",
            Self::ConsumerLimit => "consumer_limit",
            Self::InvalidArgument => "invalid_argument",
            Self::AccessDenied => "access_denied",
            Self::KmsDisabled => "kms_disabled",
            Self::KmsInvalidState => "kms_invalid_state",
            Self::KmsAccessDenied => "kms_access_denied",
            Self::KmsNotFound => "kms_not_found",
            Self::KmsOptInRequired => "kms_opt_in_required",
            Self::KmsThrottling => "kms_throttling",
            Self::Credentials => "credentials",
            Self::Endpoint => "endpoint",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::StreamInUse
                | Self::ConsumerNotActive
                | Self::KmsThrottling
                | Self::Timeout
                | Self::Unavailable
                | Self::Malformed
                | Self::Endpoint
        )
    }

    /// Whether somebody has to change rights, keys, names or configuration before the call can succeed.
    ///
    /// [`SourceErrorKind::Endpoint`] is both this and retryable: a wrong region looks like a broken network.
    #[must_use]
    pub fn needs_operator(self) -> bool {
        matches!(
            self,
            Self::StreamNotFound
                | Self::ConsumerNotFound
                | Self::ConsumerLimit
                | Self::Unsupported
                | Self::InvalidArgument
                | Self::AccessDenied
                | Self::KmsDisabled
                | Self::KmsInvalidState
                | Self::KmsAccessDenied
                | Self::KmsNotFound
                | Self::KmsOptInRequired
                | Self::Credentials
                | Self::Endpoint
        )
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::ExpiredIterator => "the shard iterator expired",
            Self::Throttled => "throttled",
            Self::StreamNotFound => "there is no such stream or shard",
            Self::StreamInUse => {
                "the stream is being created, changed or deleted, or the subscription is in use"
            }
            Self::ConsumerNotFound => "there is no such consumer of the stream",
            Self::ConsumerNotActive => "the consumer did not become ACTIVE in time",
            Self::ConsumerLimit => "the stream has as many consumers as it may have",
            Self::InvalidArgument => "the service refuses an argument",
            Self::AccessDenied => "access denied",
            Self::KmsDisabled => "the stream's KMS key is disabled",
            Self::KmsInvalidState => "the stream's KMS key cannot be used in its present state",
            Self::KmsAccessDenied => "access to the stream's KMS key denied",
            Self::KmsNotFound => "the stream's KMS key does not exist",
            Self::KmsOptInRequired => "the account is not signed up for KMS",
            Self::KmsThrottling => "KMS throttles the stream's decryption",
            Self::Credentials => "no usable AWS credentials",
            Self::Endpoint => "the Kinesis endpoint cannot be reached",
            Self::Timeout => "no answer in time",
            Self::Unavailable => "the service is unavailable",
            Self::Malformed => "the answer cannot be used",
            Self::Unsupported => "the service does not know this operation",
            Self::Other => "the call failed",
        }
    }

    /// What to do about it, if `operation` failed so.
    fn advice(self, operation: &str) -> Option<&'static str> {
        let subscribes = operation == "SubscribeToShard";
        Some(match self {
            Self::StreamNotFound => "check the stream's name, account and region",
            Self::StreamInUse if subscribes => {
                "if it goes on: let no other application use this consumer"
            }
            Self::StreamInUse => "wait until the stream is ACTIVE",
            Self::ConsumerNotFound if subscribes => "check the consumer's ARN",
            Self::ConsumerNotFound => "register the consumer, or let the worker do it",
            Self::ConsumerNotActive => "wait until it is, or give it more time with active_within",
            Self::ConsumerLimit => {
                "deregister consumers that nobody needs, ask for a higher limit, or use Retrieval::polling"
            }
            Self::Unsupported => "use Retrieval::polling or Retrieval::auto",
            Self::InvalidArgument if subscribes => "check the consumer's ARN",
            Self::InvalidArgument => "check the stream's name or ARN",
            Self::AccessDenied => "allow the action in the policy of these credentials",
            Self::KmsDisabled => "enable the key",
            Self::KmsInvalidState => "restore the key, for example cancel its deletion",
            Self::KmsAccessDenied => "allow kms:Decrypt on the key for these credentials",
            Self::KmsNotFound => "restore the key or change the stream's encryption",
            Self::KmsOptInRequired => "sign the account up for KMS",
            Self::Credentials => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, and see that they are not expired"
            }
            Self::Endpoint => "check the region, the endpoint URL and the network",
            _ => return None,
        })
    }
}

impl fmt::Display for SourceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call to the stream that failed.
///
/// Displays as one line: the call, what it means, what the service said and what to do.
#[derive(Debug)]
pub struct SourceError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: SourceErrorKind,
    operation: &'static str,
    subject: Option<String>,
    detail: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// A failure of `operation`, named as in an IAM policy (`GetRecords`).
    #[must_use]
    pub fn new(kind: SourceErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Parts {
            kind,
            operation,
            subject: None,
            detail: None,
            source: None,
        }))
    }

    /// Names what the call was about, such as the stream.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = Some(one_line(&subject.into()));
        self
    }

    /// Adds what the service said.
    #[must_use]
    pub fn with_detail(mut self, detail: impl AsRef<str>) -> Self {
        let detail = one_line(detail.as_ref());
        self.0.detail = (!detail.is_empty()).then_some(detail);
        self
    }

    /// Keeps the error below.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure, better understood.
    pub(super) fn of_kind(mut self, kind: SourceErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> SourceErrorKind {
        self.0.kind
    }

    /// The call, named as in an IAM policy.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What the service said, in one line.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// See [`SourceErrorKind::is_retryable`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// See [`SourceErrorKind::needs_operator`].
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        self.kind().needs_operator()
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            kind,
            operation,
            subject,
            detail,
            ..
        } = &*self.0;
        write!(f, "kinesis:{operation}")?;
        if let Some(subject) = subject {
            write!(f, " on {subject}")?;
        }
        write!(f, ": {}", kind.meaning())?;
        if let Some(detail) = detail {
            write!(f, " ({detail})")?;
        }
        if let Some(advice) = kind.advice(operation) {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_call_cause_and_advice() {
        let error = SourceError::new(SourceErrorKind::AccessDenied, "GetRecords")
            .about("stream orders")
            .with_detail("User: arn:aws:iam::1:user/x is not\n  authorized");
        assert_eq!(
            error.to_string(),
            "kinesis:GetRecords on stream orders: access denied (User: arn:aws:iam::1:user/x is not authorized); \
             allow the action in the policy of these credentials"
        );
        assert!(error.needs_operator() && !error.is_retryable());
    }
}
