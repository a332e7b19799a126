//! Kinesis, DynamoDB and CloudWatch on one endpoint: a library, an in-process HTTP client, a server.

mod activity;
mod caller;
mod calls;
mod clock;
pub mod cloudwatch;
pub mod dynamodb;
mod emulator;
mod error;
pub mod faults;
mod front;
mod in_process;
pub mod kinesis;
mod request_id;
mod server;
mod service;
mod settings;
mod tasks;
mod time;
mod wire;

pub use caller::Caller;
pub use calls::{CallKey, Calls};
pub use clock::Clock;
pub use emulator::Emulator;
pub use error::ApiError;
pub use front::{Body, ConnectionLost};
pub use service::Service;
pub use settings::Builder;
pub use time::Timestamp;
