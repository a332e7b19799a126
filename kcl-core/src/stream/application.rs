//! The name of an application, checked.

use super::arn::is_name_byte;
use crate::error::BuildError;

/// The name of an application: also the name of its lease table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationName(String);

impl ApplicationName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// DynamoDB's rule for table names.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        validate_table_name("application", &self.0)
    }
}

impl<T: Into<String>> From<T> for ApplicationName {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

pub(crate) fn validate_table_name(option: &'static str, name: &str) -> Result<(), BuildError> {
    if (3..=255).contains(&name.len()) && name.bytes().all(is_name_byte) {
        return Ok(());
    }
    Err(BuildError::InvalidOption {
        option,
        value: format!("{name:?}"),
        reason:
            "is no name of a DynamoDB table: use 3 to 255 characters of a-z, A-Z, 0-9, _ . and -"
                .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_names_follow_the_rule_of_table_names() {
        assert!(ApplicationName::from("abc").validate().is_ok());
        for bad in ["", "ab", "a/b/c", "café"] {
            assert!(ApplicationName::from(bad).validate().is_err(), "{bad}");
        }
    }
}
