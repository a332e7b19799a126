//! The stream on Amazon Kinesis, through the AWS SDK.

mod classify;
mod client;
mod fan_out;
mod fill;
mod service_time;
mod source;
mod wire;

pub(crate) use classify::classify;
pub(crate) use client::{control_overrides, reading_client};
pub use source::KinesisSource;
pub(crate) use wire::BufferPool;
pub use wire::Wire;
#[cfg(feature = "internals")]
pub use wire::internals;
