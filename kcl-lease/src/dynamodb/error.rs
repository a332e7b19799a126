//! What a failed call to DynamoDB means for leases.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::table::{TableError, TableErrorKind};
use crate::write::Change;

/// A kind of call: how it is called, what it needs, and whether it can leave a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    action: &'static str,
    writes: bool,
}

impl Operation {
    pub(super) const DESCRIBE: Self = Self::read("DescribeTable", "dynamodb:DescribeTable");
    pub(super) const GET: Self = Self::read("GetItem", "dynamodb:GetItem");
    pub(super) const SCAN: Self = Self::read("Scan", "dynamodb:Scan");
    pub(super) const CREATE: Self = Self::write("CreateTable", "dynamodb:CreateTable");
    pub(super) const PUT: Self = Self::write("PutItem", "dynamodb:PutItem");
    pub(super) const UPDATE: Self = Self::write("UpdateItem", "dynamodb:UpdateItem");
    pub(super) const DELETE: Self = Self::write("DeleteItem", "dynamodb:DeleteItem");
    pub(super) const TRANSACT: Self = Self::write(
        "TransactWriteItems",
        "dynamodb:PutItem, dynamodb:UpdateItem and dynamodb:ConditionCheckItem",
    );

    /// The call that carries out a change.
    pub(super) fn of(change: &Change) -> Self {
        match change {
            Change::Put(_) => Self::PUT,
            Change::Update(_) => Self::UPDATE,
            Change::Delete => Self::DELETE,
            Change::Check => Self::TRANSACT,
        }
    }

    const fn read(name: &'static str, action: &'static str) -> Self {
        Self {
            name,
            action,
            writes: false,
        }
    }

    const fn write(name: &'static str, action: &'static str) -> Self {
        Self {
            name,
            action,
            writes: true,
        }
    }

    /// No answer: a write may have happened, a read can simply be repeated.
    fn unanswered(self) -> TableErrorKind {
        match self.writes {
            true => TableErrorKind::Unknown,
            false => TableErrorKind::Unavailable,
        }
    }
}

/// Names the failure of a call.
pub(super) fn failure<E>(
    operation: Operation,
    table: &str,
    error: SdkError<E, HttpResponse>,
) -> TableError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let kind = match &error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            service_failure(operation, status, context.err())
        }
        SdkError::DispatchFailure(dispatch) => match dispatch.as_connector_error() {
            Some(source) if lacks_credentials(source) => TableErrorKind::NoCredentials,
            _ => operation.unanswered(),
        },
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => operation.unanswered(),
        SdkError::ConstructionFailure(_) => TableErrorKind::Invalid {
            reason: "the request could not be built; check region and endpoint".to_owned(),
        },
        _ => operation.unanswered(),
    };
    let failure = TableError::new(kind, operation.name, table);
    match error.into_source() {
        Ok(source) => failure.with_source(source),
        Err(error) => failure.with_source(error),
    }
}

/// The codes are those of the DynamoDB developer guide, "Error handling with DynamoDB", and of the common errors of the
/// API reference.
fn service_failure(
    operation: Operation,
    status: u16,
    error: &impl ProvideErrorMetadata,
) -> TableErrorKind {
    match error.code().unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "ThrottlingError"
        | "RequestLimitExceeded"
        | "LimitExceededException" => TableErrorKind::Throttled,
        "TransactionConflictException" | "TransactionInProgressException" => {
            TableErrorKind::Conflict
        }
        "ResourceNotFoundException" => TableErrorKind::TableMissing,
        "AccessDeniedException" => TableErrorKind::AccessDenied {
            action: operation.action,
        },
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException" => TableErrorKind::NoCredentials,
        _ if status >= 500 => operation.unanswered(),
        code => TableErrorKind::Invalid {
            reason: format!("{code}: {}", error.message().unwrap_or("no message")),
        },
    }
}

fn lacks_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}
