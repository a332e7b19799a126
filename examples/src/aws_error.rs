//! What an error of the AWS SDK means, in one line.

use std::error::Error;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

/// Codes after which the same call may succeed.
const TRANSIENT: &[&str] = &[
    "InternalFailure",
    "InternalFailureException",
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ResourceInUseException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
];

/// Whether the same call may succeed later without anybody doing anything.
#[must_use]
pub fn is_transient<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
        SdkError::ServiceError(answer) => {
            answer.raw().status().is_server_error()
                || answer
                    .err()
                    .code()
                    .is_some_and(|code| TRANSIENT.contains(&code))
        }
        _ => false,
    }
}

/// What happened and what to do about it, in one line.
#[must_use]
pub fn explain<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(answer) = error.as_service_error() else {
        return format!(
            "{}; {}",
            one_line(&causes(error)),
            advice_without_answer(error)
        );
    };
    let code = answer.code().unwrap_or("an error without a code");
    let line = format!("{code}: {}", one_line(answer.message().unwrap_or_default()));
    match advice(code) {
        Some(advice) => format!("{line}; {advice}"),
        None => line,
    }
}

/// Longest text of others that is repeated in a message.
const MAX_CHARS: usize = 300;

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

fn advice(code: &str) -> Option<&'static str> {
    match code {
        "ResourceNotFoundException" => Some("check the stream's name, account and region"),
        "AccessDeniedException" => Some("allow the action in the policy of these credentials"),
        "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException" => {
            Some("check the credentials")
        }
        "InvalidArgumentException" | "ValidationException" => {
            Some("check the stream's name or ARN")
        }
        _ => None,
    }
}

fn advice_without_answer<E>(error: &SdkError<E>) -> &'static str {
    match error {
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            "check the region, the endpoint URL and the network"
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => {
            "check the endpoint URL and the network"
        }
        _ => {
            "check that region and credentials are set (AWS_REGION, AWS_ACCESS_KEY_ID, a profile or a role)"
        }
    }
}

fn causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line
}
