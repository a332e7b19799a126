//! Names of applications and streams, checked.

use std::fmt;

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

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

impl<T: Into<String>> From<T> for ApplicationName {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

/// The streams that an application consumes: at present one, by name or by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams(String);

impl<T: Into<String>> From<T> for Streams {
    fn from(name_or_arn: T) -> Self {
        Self(name_or_arn.into())
    }
}

impl Streams {
    /// Checks the text and takes it apart.
    pub(crate) fn resolve(&self) -> Result<StreamRef, BuildError> {
        let invalid = |reason: &str| BuildError::InvalidOption {
            option: "stream",
            value: format!("{:?}", self.0),
            reason: reason.to_owned(),
        };
        if !self.0.starts_with("arn:") {
            validate_stream_name(&self.0).map_err(invalid)?;
            return Ok(StreamRef {
                name: self.0.clone(),
                arn: None,
            });
        }
        let arn = StreamArn::parse(&self.0).map_err(invalid)?;
        Ok(StreamRef {
            name: arn.name.clone(),
            arn: Some(arn),
        })
    }
}

fn validate_stream_name(name: &str) -> Result<(), &'static str> {
    if (1..=128).contains(&name.len()) && name.bytes().all(is_name_byte) {
        Ok(())
    } else {
        Err(
            "is no stream name: use 1 to 128 characters of a-z, A-Z, 0-9, _ . and -, or a stream's ARN",
        )
    }
}

/// One stream, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRef {
    pub(crate) name: String,
    pub(crate) arn: Option<StreamArn>,
}

impl StreamRef {
    /// Refuses an ARN of another region than the client's: the service would answer that there is no such stream.
    pub(crate) fn check_region(&self, region: &str) -> Result<(), BuildError> {
        match &self.arn {
            Some(arn) if arn.region != region => Err(BuildError::InvalidOption {
                option: "stream",
                value: arn.to_string(),
                reason: format!(
                    "is in region {}, but the AWS configuration says {region}: set the region to match",
                    arn.region
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// The parts of a stream's ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamArn {
    text: String,
    region: String,
    name: String,
}

impl StreamArn {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "is no stream ARN: it should look like arn:aws:kinesis:us-east-1:123456789012:stream/orders";
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, partition, "kinesis", region, account, resource] = parts.as_slice() else {
            return Err(SHAPE);
        };
        let name = resource.strip_prefix("stream/").ok_or(SHAPE)?;
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if !partition.starts_with("aws")
            || region.is_empty()
            || !account_ok
            || validate_stream_name(name).is_err()
        {
            return Err(SHAPE);
        }
        Ok(Self {
            text: text.to_owned(),
            region: (*region).to_owned(),
            name: name.to_owned(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `arn` is that of the stream that `named` (a name or an ARN) names for a client of this region.
    pub(crate) fn names(arn: &str, named: &str, region: &str) -> bool {
        Self::parse(arn)
            .is_ok_and(|arn| arn.region == region && (arn.text == named || arn.name == named))
    }
}

impl fmt::Display for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_told_apart() {
        let by_name = Streams::from("orders").resolve().unwrap();
        assert_eq!((by_name.name.as_str(), by_name.arn), ("orders", None));
        let by_arn = Streams::from("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/orders")
            .resolve()
            .unwrap();
        assert_eq!(by_arn.name, "orders");
        assert!(by_arn.check_region("cn-north-1").is_ok());
        assert!(
            by_arn
                .check_region("eu-west-1")
                .unwrap_err()
                .to_string()
                .contains("cn-north-1")
        );
    }

    #[test]
    fn an_arn_is_compared_with_what_the_user_named() {
        const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
        let other = ARN.replace('1', "2");
        assert!(StreamArn::names(ARN, "orders", "us-east-1"));
        assert!(StreamArn::names(ARN, ARN, "us-east-1"));
        for (named, region) in [
            ("order", "us-east-1"),
            (other.as_str(), "us-east-1"),
            ("orders", "us-east-2"),
            ("", "us-east-1"),
        ] {
            assert!(!StreamArn::names(ARN, named, region), "{named} {region}");
        }
        assert!(!StreamArn::names("stream/orders", "orders", "us-east-1"));
    }

    #[test]
    fn malformed_names_are_refused_with_the_value_and_the_remedy() {
        let too_long = "x".repeat(129);
        for bad in [
            "",
            "a b",
            too_long.as_str(),
            "arn:aws:kinesis:us-east-1:123456789012:orders",
            "arn:aws:sqs:us-east-1:123456789012:stream/orders",
            "arn:aws:kinesis:us-east-1:1234:stream/orders",
            "arn:aws:kinesis::123456789012:stream/orders",
            "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/c:1",
        ] {
            let error = Streams::from(bad).resolve().unwrap_err().to_string();
            assert!(
                error.contains("stream") && error.contains("is no stream"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn application_names_follow_the_rule_of_table_names() {
        assert!(ApplicationName::from("abc").validate().is_ok());
        for bad in ["", "ab", "a/b/c", "café"] {
            assert!(ApplicationName::from(bad).validate().is_err(), "{bad}");
        }
    }
}
