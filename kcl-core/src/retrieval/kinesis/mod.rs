//! The stream on Amazon Kinesis, through the AWS SDK.

mod classify;
mod client;
mod fill;
mod service_time;
mod source;

pub use source::KinesisSource;
