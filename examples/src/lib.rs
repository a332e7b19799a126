//! What the example programs share.

pub mod aws;
pub mod aws_error;
pub mod emulated;
pub mod logging;
pub mod outcome;
pub mod progress;
pub mod put;
pub mod stream_name;
