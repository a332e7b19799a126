//! Names and ARNs of streams, checked and taken apart.

use std::fmt;

use crate::error::BuildError;

/// One stream, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRef {
    pub(crate) name: String,
    pub(crate) arn: Option<StreamArn>,
}

impl StreamRef {
    /// Checks a name or an ARN and takes it apart.
    pub(crate) fn parse(text: &str) -> Result<Self, BuildError> {
        let invalid = |reason: &str| BuildError::InvalidOption {
            option: "stream",
            value: format!("{text:?}"),
            reason: reason.to_owned(),
        };
        if !text.starts_with("arn:") {
            validate_stream_name(text).map_err(invalid)?;
            return Ok(Self {
                name: text.to_owned(),
                arn: None,
            });
        }
        let arn = StreamArn::parse(text).map_err(invalid)?;
        Ok(Self {
            name: arn.name.clone(),
            arn: Some(arn),
        })
    }

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
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) name: String,
}

impl StreamArn {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
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
            account: (*account).to_owned(),
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

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_told_apart() {
        let by_name = StreamRef::parse("orders").unwrap();
        assert_eq!((by_name.name.as_str(), by_name.arn), ("orders", None));
        let by_arn =
            StreamRef::parse("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/orders").unwrap();
        assert_eq!(by_arn.name, "orders");
        assert!(by_arn.check_region("cn-north-1").is_ok());
        let elsewhere = by_arn.check_region("eu-west-1").unwrap_err().to_string();
        assert!(elsewhere.contains("cn-north-1"));
        assert_eq!(by_arn.arn.unwrap().account, "123456789012");
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
            let error = StreamRef::parse(bad).unwrap_err().to_string();
            assert!(
                error.contains("stream") && error.contains("is no stream"),
                "{bad}: {error}"
            );
        }
    }
}
