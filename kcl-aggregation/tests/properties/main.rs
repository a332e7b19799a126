//! The promises of the format, checked over generated input and against a protobuf library.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic as tests do"
)]

mod damage;
mod decoding;
mod differential;
mod message;
mod oracle;
mod packing;
