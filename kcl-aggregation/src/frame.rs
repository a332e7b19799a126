//! What surrounds the protobuf message of an aggregated record: four magic bytes and an MD5 trailer.

use std::ops::Range;

use crate::digest::md5;

/// The first bytes of every aggregated record.
pub(crate) const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

const TRAILER_LEN: usize = 16;

/// Bytes of an aggregated record that are not its protobuf message.
pub(crate) const FRAME_LEN: usize = MAGIC.len() + TRAILER_LEN;

/// Whether `data` starts like an aggregated record: the magic bytes and more than a trailer after them.
///
/// Costs a comparison of four bytes. `true` is no proof: a payload may begin with the same bytes by chance;
/// only [`Decoder::decode`](crate::Decoder::decode) checks the digest. The rule is that of the Java KCL 3.5
/// (`AggregatorUtil`).
#[must_use]
pub fn looks_aggregated(data: &[u8]) -> bool {
    data.len() > FRAME_LEN && data.starts_with(&MAGIC)
}

/// The protobuf message in `data` and the digest behind it. `data` must look aggregated.
pub(crate) fn message(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.len().saturating_sub(TRAILER_LEN);
    (
        data.get(MAGIC.len()..end).unwrap_or_default(),
        data.get(end..).unwrap_or_default(),
    )
}

/// Where the protobuf message of `data` lies. `data` must look aggregated.
pub(crate) fn message_range(data: &[u8]) -> Range<usize> {
    MAGIC.len()..data.len().saturating_sub(TRAILER_LEN)
}

/// Puts the frame around a message that is given in parts.
pub(crate) fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let message_len: usize = parts.iter().map(|part| part.len()).sum();
    let mut framed = Vec::with_capacity(message_len + FRAME_LEN);
    framed.extend_from_slice(&MAGIC);
    for part in parts {
        framed.extend_from_slice(part);
    }
    let trailer = md5(framed.get(MAGIC.len()..).unwrap_or_default());
    framed.extend_from_slice(&trailer);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_without_a_message_is_a_plain_record() {
        let framed = frame(&[]);
        assert_eq!(framed.len(), FRAME_LEN);
        assert!(!looks_aggregated(&framed));
        assert!(looks_aggregated(&frame(&[b"x"])));
    }

    #[test]
    fn the_digest_covers_every_byte_between_magic_and_trailer() {
        let is_right = |data: &[u8]| {
            let (message, digest) = message(data);
            md5(message) == digest
        };
        let framed = frame(&[b"some", b"thing"]);
        assert_eq!(message_range(&framed), 4..13);
        assert!(is_right(&framed));
        for at in 4..framed.len() {
            let mut damaged = framed.clone();
            damaged[at] ^= 1;
            assert!(!is_right(&damaged), "byte {at}");
        }
    }

    #[test]
    fn short_input_is_not_aggregated() {
        let framed = frame(&[b"x"]);
        for len in 0..framed.len() {
            assert!(!looks_aggregated(&framed[..len]), "{len} bytes");
        }
    }
}
