//! A stream as its user names it.

use std::fmt;

/// A stream's name or its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName(String);

impl<T: Into<String>> From<T> for StreamName {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StreamName {
    /// The name, unless it is an ARN.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        (!self.is_arn()).then(|| self.0.clone())
    }

    /// The ARN, if it is one.
    #[must_use]
    pub fn arn(&self) -> Option<String> {
        self.is_arn().then(|| self.0.clone())
    }

    fn is_arn(&self) -> bool {
        self.0.starts_with("arn:")
    }
}
