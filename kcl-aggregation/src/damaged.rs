//! Why a record that looks aggregated is none.

use thiserror::Error;

/// Why a record that begins like an aggregated one cannot be taken apart.
///
/// Such a record is to be delivered as it is, whole: nothing of it has been handed out. It may also be an ordinary payload
/// that happens to begin with the magic bytes; then the digest is what tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damaged {
    /// The trailer is not the MD5 digest of the message.
    #[error("the digest of the aggregated record does not match its content")]
    Digest,
    /// The message is not protobuf, or a known field is written in another way than the format says.
    #[error("the aggregated record is not a valid protobuf message")]
    Malformed,
    /// A partition key or explicit hash key is not UTF-8.
    #[error("a key of the aggregated record is not valid utf-8")]
    KeyNotUtf8,
    /// A user record lacks its partition key index or its data.
    #[error("a user record of the aggregated record lacks a required field")]
    MissingField,
    /// A user record points outside a key table.
    #[error("a user record of the aggregated record refers to a key that is not there")]
    KeyIndex,
    /// More user records or keys than the decoder accepts.
    #[error("the aggregated record holds more user records or keys than the limit of the decoder")]
    TooMany,
    /// The record does not fit offsets of 32 bits.
    #[error("the aggregated record is larger than 4 GiB")]
    TooLarge,
}
