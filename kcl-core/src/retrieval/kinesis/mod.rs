//! The stream on Amazon Kinesis, through the AWS SDK.
