//! Opaque tokens: iterators and the next page of listings. Base64 of their fields with a checksum, so that a token that
//! was not issued here is told from one that was. They carry all that they mean; the engine keeps no list of them.

use bytes::{Buf, BufMut};

/// What a token is for; one kind is not taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Iterator = 1,
    Shards = 2,
    Streams = 3,
    Consumers = 4,
}

/// Writes a token: numbers, then one text.
pub(super) fn seal<const N: usize>(kind: Kind, numbers: [u64; N], text: &str) -> String {
    let mut bytes = Vec::with_capacity(8 + 8 * N + text.len());
    bytes.put_u32(0);
    bytes.put_u8(kind as u8);
    for number in numbers {
        bytes.put_u64(number);
    }
    bytes.put_slice(text.as_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.put_u32(checksum);
    base64_simd::STANDARD.encode_to_string(&bytes)
}

/// Reads a token of this kind, or nothing if it is none.
pub(super) fn open<const N: usize>(kind: Kind, token: &str) -> Option<([u64; N], String)> {
    let bytes = base64_simd::STANDARD.decode_to_vec(token).ok()?;
    let (mut fields, checksum) = bytes.split_last_chunk::<4>()?;
    let intact = crc32fast::hash(fields) == u32::from_be_bytes(*checksum);
    if !intact || fields.len() < 5 + 8 * N {
        return None;
    }
    let of_this_kind = fields.get_u32() == 0 && fields.get_u8() == kind as u8;
    let numbers = [0; N].map(|_: u64| fields.get_u64());
    let text = String::from_utf8(fields.to_vec()).ok()?;
    of_this_kind.then_some((numbers, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let token = seal(Kind::Shards, [1, u64::MAX], "orders");
        assert_eq!(
            open(Kind::Shards, &token),
            Some(([1, u64::MAX], "orders".to_owned()))
        );
    }

    #[test]
    fn bogus_tokens_are_refused() {
        let token = seal(Kind::Iterator, [7], "orders");
        assert_eq!(open::<1>(Kind::Shards, &token), None);
        assert_eq!(open::<9>(Kind::Iterator, &token), None);
        for position in 0..token.len() {
            let mut damaged = token.clone().into_bytes();
            damaged[position] = if damaged[position] == b'Q' {
                b'R'
            } else {
                b'Q'
            };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(open::<1>(Kind::Iterator, &damaged), None, "{damaged}");
        }
        for text in ["", "bogus", "AAAA", "AAAAAAAAAAA="] {
            assert_eq!(open::<1>(Kind::Iterator, text), None, "{text}");
        }
    }
}
