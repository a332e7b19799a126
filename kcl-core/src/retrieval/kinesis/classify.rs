//! From the SDK's errors to ours: by code, by HTTP status, by what the transport says.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ConnectorError, ProvideErrorMetadata, SdkError};

use crate::retrieval::error::{SourceError, SourceErrorKind as Kind};

/// Classifies the failure of `operation` on `stream`.
pub(crate) fn classify<E>(
    operation: &'static str,
    stream: &str,
    error: SdkError<E, HttpResponse>,
) -> SourceError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let (kind, detail) = match &error {
        SdkError::ServiceError(service) => {
            let answer = service.err().meta();
            let kind = match answer.code() {
                code if is_unsupported(operation, code, status) => Kind::Unsupported,
                code => code.and_then(by_code).unwrap_or_else(|| by_status(status)),
            };
            let detail = match (answer.code(), answer.message()) {
                (Some(_), Some(message)) => message.to_owned(),
                (Some(code), None) => code.to_owned(),
                (None, _) => format!("HTTP status {}", status.unwrap_or(0)),
            };
            (kind, detail)
        }
        SdkError::TimeoutError(_) => (Kind::Timeout, String::new()),
        SdkError::DispatchFailure(failure) => {
            let kind = failure
                .as_connector_error()
                .map_or(Kind::Unavailable, by_connector);
            (kind, innermost(&error))
        }
        SdkError::ResponseError(answer) => unreadable(answer.raw(), &error),
        SdkError::ConstructionFailure(_) => (by_construction(&error), innermost(&error)),
        _ => (Kind::Other, innermost(&error)),
    };
    SourceError::new(kind, operation)
        .about(format!("stream {stream}"))
        .with_detail(detail)
        .with_source(error)
}

/// Whether what stands for the service has no enhanced fan-out. To other calls only what is no Kinesis, or is in trouble,
/// answers so.
fn is_unsupported(operation: &str, code: Option<&str>, status: Option<u16>) -> bool {
    let is_fan_out = matches!(
        operation,
        "DescribeStreamConsumer" | "RegisterStreamConsumer" | "SubscribeToShard"
    );
    let is_unknown = matches!(
        code,
        Some("UnknownOperationException" | "UnknownOperation" | "NotImplemented")
    );
    is_fan_out && (is_unknown || status == Some(501))
}

/// Whether Kinesis, or AWS in front of it, is known to answer this code.
pub(super) fn is_known_code(code: &str) -> bool {
    by_code(code).is_some() || code == "DryRunOperationException"
}

/// An answer without a code, such as the page of a proxy, or one of success that is none of Kinesis.
fn unreadable(answer: &HttpResponse, error: &(dyn Error + 'static)) -> (Kind, String) {
    let status = answer.status();
    if status.is_success() {
        return (Kind::Malformed, innermost(error));
    }
    let kind = match by_status(Some(status.as_u16())) {
        Kind::Other => Kind::Malformed,
        kind => kind,
    };
    let content_type = answer.headers().get("content-type").unwrap_or("no type");
    let detail = format!("HTTP status {} with {content_type}", status.as_u16());
    (kind, detail)
}

/// The codes of the Kinesis API (also as LocalStack and kinesalite write them) and those that all AWS services share.
pub(super) fn by_code(code: &str) -> Option<Kind> {
    Some(match code {
        "ExpiredIteratorException" => Kind::ExpiredIterator,
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Kind::Throttled,
        "ResourceNotFoundException" => Kind::StreamNotFound,
        "ResourceInUseException" => Kind::StreamInUse,
        "InvalidArgumentException" | "ValidationException" | "SerializationException" => {
            Kind::InvalidArgument
        }
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => Kind::AccessDenied,
        "KMSDisabledException" => Kind::KmsDisabled,
        "KMSInvalidStateException" => Kind::KmsInvalidState,
        "KMSAccessDeniedException" => Kind::KmsAccessDenied,
        "KMSNotFoundException" => Kind::KmsNotFound,
        "KMSOptInRequired" => Kind::KmsOptInRequired,
        "KMSThrottlingException" => Kind::KmsThrottling,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "OptInRequired" => Kind::Credentials,
        "InternalFailure"
        | "InternalFailureException"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Kind::Unavailable,
        // The next call starts the listing again.
        "ExpiredNextTokenException" => Kind::Unavailable,
        "RequestTimeout" | "RequestTimeoutException" => Kind::Timeout,
        _ => return None,
    })
}

fn by_status(status: Option<u16>) -> Kind {
    match status {
        Some(429) => Kind::Throttled,
        Some(401) => Kind::Credentials,
        Some(403) => Kind::AccessDenied,
        Some(408) => Kind::Timeout,
        Some(500..) => Kind::Unavailable,
        _ => Kind::Other,
    }
}

fn by_connector(error: &ConnectorError) -> Kind {
    if is_about_credentials(error) {
        Kind::Credentials
    } else if error.is_timeout() {
        Kind::Timeout
    } else if error.is_user() || never_connected(error) {
        Kind::Endpoint
    } else {
        Kind::Unavailable
    }
}

fn by_construction(error: &(dyn Error + 'static)) -> Kind {
    if is_about_credentials(error) {
        Kind::Credentials
    } else {
        Kind::Endpoint
    }
}

/// Credentials that fail to load come as an error of the provider; credentials that were never configured only as text.
fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| {
        cause.is::<CredentialsError>() || cause.to_string().contains("no identity resolver")
    })
}

/// The transport tells failed connections from broken ones only by text (`dns error`, `tcp connect error`).
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| {
        let text = cause.to_string();
        text.starts_with("dns error")
            || text.starts_with("tcp connect error")
            || text.contains("(Connect)")
            || cause.downcast_ref::<io::Error>().is_some_and(|io| {
                matches!(
                    io.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                )
            })
    })
}

fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + 'a {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

/// The last cause: what happened, without the layers that passed it on.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}
