//! Why an answer cannot be decoded.

use kcl_lease::InvalidHashKeyRange;

use crate::retrieval::batch_builder::InvalidBatch;

/// An answer that is not what Kinesis sends. Says where the answer is wrong, never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Cut somewhere.
    #[error("the answer ends early")]
    Truncated,
    /// Something else stands where this should.
    #[error("the answer has no {0} where it should")]
    Expected(&'static str),
    /// The answer is complete and goes on.
    #[error("something follows the end of the answer")]
    Trailing,
    /// Deeper than anything that Kinesis sends.
    #[error("the answer is nested too deep")]
    TooDeep,
    /// Text that is none.
    #[error("a text in the answer is not UTF-8")]
    NotUtf8,
    /// A payload that is none.
    #[error("a payload in the answer is not base64")]
    NotBase64,
    /// Offsets have 32 bits.
    #[error("the answer is larger than 4 GiB")]
    TooLarge,
    /// Without this check any object would count as the end of a shard.
    #[error("the answer has no list of records")]
    NoRecords,
    /// A CBOR string in pieces. Never leaves the decoder, which joins them and begins again.
    #[error("a string comes in pieces")]
    InPieces,
    /// A child shard without a name.
    #[error("a child shard in the answer has no id")]
    NamelessChild,
    /// Records that contradict each other.
    #[error(transparent)]
    Records(#[from] InvalidBatch),
    /// A child shard without a place.
    #[error("a child shard in the answer has no valid range: {0}")]
    Child(#[from] InvalidHashKeyRange),
}
