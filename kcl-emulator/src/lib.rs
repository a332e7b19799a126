//! Kinesis, DynamoDB and CloudWatch on one endpoint: a library, an in-process HTTP client, a server.

mod caller;
pub mod cloudwatch;
pub mod dynamodb;
mod error;
pub mod kinesis;
mod time;

pub use caller::Caller;
pub use error::ApiError;
pub use time::Timestamp;
