//! The error of one API call, as a service answers it.

/// An error answer: HTTP status, error code (`__type`) and message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The error code without name space, for example `ResourceNotFoundException`.
    pub code: String,
    /// What the service says of it.
    pub message: String,
    /// Further members of the error's body, for example `CancellationReasons`.
    pub members: serde_json::Map<String, serde_json::Value>,
}

impl ApiError {
    /// A refusal by the service (status 400).
    #[must_use]
    pub fn client(code: &str, message: impl Into<String>) -> Self {
        Self::with_status(400, code, message)
    }

    /// An error with a status of its own.
    #[must_use]
    pub fn with_status(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            members: serde_json::Map::new(),
        }
    }
}
