//! The errors that this layer raises itself, in the service's words.

use crate::ApiError;

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(super) fn serialization(message: impl Into<String>) -> ApiError {
    ApiError::client("SerializationException", message)
}

pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceNotFoundException", message)
}

pub(super) fn in_use(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceInUseException", message)
}

pub(super) fn unknown_operation() -> ApiError {
    ApiError::client("UnknownOperationException", "")
}

pub(super) fn internal(message: impl Into<String>) -> ApiError {
    ApiError::with_status(500, "InternalServerError", message)
}
