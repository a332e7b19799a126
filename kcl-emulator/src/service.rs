//! The services behind the one endpoint.

use serde::{Deserialize, Serialize};

/// A service that the emulator answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Amazon Kinesis Data Streams.
    Kinesis,
    /// Amazon DynamoDB.
    DynamoDb,
    /// Amazon CloudWatch (metrics).
    CloudWatch,
}

impl Service {
    /// The name that the service has in IAM actions, such as `kinesis` in `kinesis:GetRecords`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kinesis => "kinesis",
            Self::DynamoDb => "dynamodb",
            Self::CloudWatch => "cloudwatch",
        }
    }

    /// The service and operation that an `X-Amz-Target` header names.
    pub(crate) fn of_target(target: &str) -> Option<(Self, &str)> {
        let (prefix, operation) = target.split_once('.')?;
        let service = match prefix {
            "Kinesis_20131202" => Self::Kinesis,
            "DynamoDB_20120810" => Self::DynamoDb,
            "GraniteServiceVersion20100801" => Self::CloudWatch,
            _ => return None,
        };
        Some((service, operation))
    }
}
