//! MD5, in one place: the format uses it for the trailer of an aggregated record and Kinesis for hash keys.

use md5::{Digest, Md5};

/// The MD5 digest of one message; see [`md5_each`](crate::lanes::md5_each) for many.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}
