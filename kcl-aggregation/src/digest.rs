//! MD5, in one place: the format uses it for the trailer of an aggregated record and Kinesis for hash keys.

use md5::{Digest, Md5};

/// The MD5 digest of `bytes`.
///
/// The only function here that hashes, so that several messages can be hashed side by side one day
/// without touching the format.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}
