//! Strings of JSON as they stand in it, and without their escapes.

use std::borrow::Cow;

use super::decode_error::DecodeError;

const BAD_ESCAPE: DecodeError = DecodeError::Expected("valid escape in a text");

#[derive(Debug, Clone, Copy)]
pub(super) struct JsonText<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> JsonText<'a> {
    #[inline]
    pub(super) fn new(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The text without escapes; not checked to be UTF-8.
    #[inline]
    pub(super) fn plain(self) -> Result<Cow<'a, [u8]>, DecodeError> {
        if self.escaped {
            unescape(self.raw).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.raw))
        }
    }
}

fn unescape(mut raw: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::with_capacity(raw.len());
    while let [first, rest @ ..] = raw {
        raw = rest;
        if *first != b'\\' {
            plain.push(*first);
            continue;
        }
        let (kind, rest) = raw.split_first().ok_or(BAD_ESCAPE)?;
        raw = rest;
        plain.push(match kind {
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = unicode(&mut raw)?;
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(BAD_ESCAPE),
        });
    }
    Ok(plain)
}

/// The character of a `\u` escape, or of two when the first is half of a surrogate pair.
fn unicode(raw: &mut &[u8]) -> Result<char, DecodeError> {
    let first = code_unit(raw)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or(BAD_ESCAPE);
    }
    *raw = raw.strip_prefix(b"\\u").ok_or(BAD_ESCAPE)?;
    let second = code_unit(raw)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(BAD_ESCAPE);
    }
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(BAD_ESCAPE)
}

fn code_unit(raw: &mut &[u8]) -> Result<u32, DecodeError> {
    let (digits, rest) = raw.split_at_checked(4).ok_or(BAD_ESCAPE)?;
    *raw = rest;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(BAD_ESCAPE)?;
        Ok(unit * 16 + digit)
    })
}
