//! Names of applications and streams, checked; which streams an application reads.

mod application;
mod arn;
mod config;
mod streams;
mod tracker;

pub(crate) use application::{ApplicationName, validate_table_name};
pub(crate) use arn::{StreamArn, StreamRef};
pub use config::StreamConfig;
pub use streams::Streams;
pub(crate) use streams::{Kind, StreamList};
pub use tracker::StreamTracker;
