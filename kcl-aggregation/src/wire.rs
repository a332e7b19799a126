//! The protobuf wire format, as far as aggregated records need it.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>. Nothing here allocates, and every step consumes input.

use crate::Damaged;
use crate::span::Span;

/// How deep groups may be nested in a field that is skipped; the limit of Google's own libraries.
pub(crate) const MAX_DEPTH: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Delimited,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// What stands before each value: which field it is and how it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) field: u32,
    pub(crate) wire_type: WireType,
}

impl Key {
    /// Fails when a known field is written in another way than the format says.
    pub(crate) fn require(self, wire_type: WireType) -> Result<(), Damaged> {
        if self.wire_type == wire_type {
            Ok(())
        } else {
            Err(Damaged::Malformed)
        }
    }
}

/// Reads forward through a message; positions are offsets into the whole record.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    /// The record up to the end of the message.
    until_end: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over `record[start..end]`, or `None` when that is not a part of `record`.
    pub(crate) fn new(record: &'a [u8], start: usize, end: usize) -> Option<Self> {
        let until_end = record.get(..end)?;
        (start <= end).then_some(Self {
            until_end,
            at: start,
        })
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.until_end.len()
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = *self.until_end.get(self.at).ok_or(Damaged::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of at most 64 bits in at most ten bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Damaged> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7F);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Damaged::Malformed);
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged::Malformed)
    }

    #[inline]
    pub(crate) fn key(&mut self) -> Result<Key, Damaged> {
        let key = u32::try_from(self.varint()?).map_err(|_| Damaged::Malformed)?;
        let field = key >> 3;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Damaged::Malformed),
        };
        if field == 0 {
            return Err(Damaged::Malformed);
        }
        Ok(Key { field, wire_type })
    }

    fn advance(&mut self, len: u64) -> Result<Span, Damaged> {
        let left = self.until_end.len().saturating_sub(self.at);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= left)
            .ok_or(Damaged::Malformed)?;
        let span = Span {
            start: u32::try_from(self.at).map_err(|_| Damaged::TooLarge)?,
            len: u32::try_from(len).map_err(|_| Damaged::TooLarge)?,
        };
        self.at += len;
        Ok(span)
    }

    /// A length and that many bytes.
    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<Span, Damaged> {
        let len = self.varint()?;
        self.advance(len)
    }

    /// A length and a message of that length, which this cursor then has passed.
    #[inline]
    pub(crate) fn message(&mut self) -> Result<Self, Damaged> {
        let range = self.delimited()?.range();
        Self::new(self.until_end, range.start, range.end).ok_or(Damaged::Malformed)
    }

    /// Passes the value of a field that nobody needs. `depth` is how many groups may still be opened.
    pub(crate) fn skip(&mut self, key: Key, depth: u32) -> Result<(), Damaged> {
        if depth == 0 {
            return Err(Damaged::Malformed);
        }
        match key.wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.advance(8).map(drop),
            WireType::Fixed32 => self.advance(4).map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::StartGroup => self.skip_group(key.field, depth),
            WireType::EndGroup => Err(Damaged::Malformed),
        }
    }

    fn skip_group(&mut self, field: u32, depth: u32) -> Result<(), Damaged> {
        loop {
            let inner = self.key()?;
            if inner.wire_type != WireType::EndGroup {
                self.skip(inner, depth - 1)?;
            } else if inner.field == field {
                return Ok(());
            } else {
                return Err(Damaged::Malformed);
            }
        }
    }
}

/// Bytes that a number takes.
pub(crate) const fn varint_len(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Bytes that a field with a number below 16 and `len` bytes of content takes.
pub(crate) const fn delimited_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a field's key and the length of its content, which the caller appends. `field` is below 16.
pub(crate) fn put_delimited_header(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(field << 3 | 2);
    put_varint(out, len);
}

/// Writes a number field. `field` is below 16.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, field: u8, value: usize) {
    out.push(field << 3);
    put_varint(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<u64, Damaged> {
        Cursor::new(bytes, 0, bytes.len()).unwrap().varint()
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 35, usize::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value), "{value}");
            assert_eq!(read(&bytes), Ok(value as u64));
        }
    }

    #[test]
    fn a_number_has_at_most_64_bits_in_ten_bytes() {
        let mut longest = [0xFF; 10];
        longest[9] = 1;
        assert_eq!(read(&longest), Ok(u64::MAX));
        longest[9] = 2;
        assert_eq!(read(&longest), Err(Damaged::Malformed));
        assert_eq!(read(&[0x80; 11]), Err(Damaged::Malformed));
        assert_eq!(
            read(&[0x80]),
            Err(Damaged::Malformed),
            "ends inside the number"
        );
    }

    #[test]
    fn groups_are_skipped_to_their_own_end_and_no_deeper_than_the_limit() {
        let skip = |bytes: &[u8]| {
            let mut cursor = Cursor::new(bytes, 0, bytes.len()).unwrap();
            let key = cursor.key().unwrap();
            cursor.skip(key, MAX_DEPTH).map(|()| cursor.at)
        };
        assert_eq!(
            skip(&[0x3B, 0x08, 0x05, 0x43, 0x44, 0x3C]),
            Ok(6),
            "group 7 with field 1 and an empty group 8"
        );
        assert_eq!(
            skip(&[0x3B, 0x44]),
            Err(Damaged::Malformed),
            "another group's end"
        );
        assert_eq!(skip(&[0x3B, 0x08, 0x05]), Err(Damaged::Malformed), "no end");
        let nested = |depth: usize| [vec![0x3B; depth], vec![0x3C; depth]].concat();
        assert_eq!(skip(&nested(100)), Ok(200));
        assert_eq!(skip(&nested(101)), Err(Damaged::Malformed));
        assert_eq!(skip(&vec![0x3B; 1 << 20]), Err(Damaged::Malformed));
    }
}
