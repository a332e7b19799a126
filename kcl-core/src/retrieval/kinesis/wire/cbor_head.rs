//! The head of a CBOR item: its kind and its value or length.

use super::decode_error::DecodeError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The major type, 0 to 7.
    pub(super) kind: u8,
    info: u8,
    pub(super) value: u64,
    /// Whether the item goes on until a break; of kind 7, whether it is that break.
    pub(super) is_endless: bool,
}

/// The additional information that says how many bytes of value follow.
const ONE_BYTE: u8 = 24;
const TWO_BYTES: u8 = 25;
const FOUR_BYTES: u8 = 26;
const EIGHT_BYTES: u8 = 27;
const ENDLESS: u8 = 31;

impl Head {
    /// Takes a head off the front.
    #[inline]
    pub(super) fn take(rest: &mut &[u8]) -> Result<Self, DecodeError> {
        let (first, behind) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = behind;
        let (kind, info) = (first >> 5, first & 0x1f);
        let value = match info {
            0..ONE_BYTE => u64::from(info),
            ONE_BYTE => u64::from(u8::from_be_bytes(bytes(rest)?)),
            TWO_BYTES => u64::from(u16::from_be_bytes(bytes(rest)?)),
            FOUR_BYTES => u64::from(u32::from_be_bytes(bytes(rest)?)),
            EIGHT_BYTES => u64::from_be_bytes(bytes(rest)?),
            ENDLESS if matches!(kind, 2..=5 | 7) => 0,
            _ => return Err(DecodeError::Expected("valid item")),
        };
        Ok(Self {
            kind,
            info,
            value,
            is_endless: info == ENDLESS,
        })
    }

    /// Null or undefined.
    #[inline]
    pub(super) fn is_null(self) -> bool {
        self.kind == 7 && matches!(self.info, 22 | 23)
    }

    /// The value of a floating-point number.
    pub(super) fn float(self) -> Option<f64> {
        match (self.kind, self.info) {
            (7, TWO_BYTES) => u16::try_from(self.value).ok().map(half),
            (7, FOUR_BYTES) => u32::try_from(self.value)
                .ok()
                .map(|bits| f64::from(f32::from_bits(bits))),
            (7, EIGHT_BYTES) => Some(f64::from_bits(self.value)),
            _ => None,
        }
    }

    /// Writes the head of an item of this kind, in as few bytes as it takes.
    pub(super) fn write(out: &mut Vec<u8>, kind: u8, value: u64) {
        let first = kind << 5;
        if let Ok(value) = u8::try_from(value) {
            if value < ONE_BYTE {
                out.push(first | value);
            } else {
                out.extend_from_slice(&[first | ONE_BYTE, value]);
            }
        } else if let Ok(value) = u16::try_from(value) {
            out.push(first | TWO_BYTES);
            out.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            out.push(first | FOUR_BYTES);
            out.extend_from_slice(&value.to_be_bytes());
        } else {
            out.push(first | EIGHT_BYTES);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[inline]
fn bytes<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (bytes, behind) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *rest = behind;
    Ok(*bytes)
}

/// Takes this many bytes off the front.
#[inline]
pub(super) fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
    let (taken, behind) = rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *rest = behind;
    Ok(taken)
}

/// A floating-point number of 16 bits: sign, five bits of exponent, ten of mantissa (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_head_reads_as_it_was() {
        for value in [
            0,
            23,
            24,
            255,
            256,
            65_535,
            65_536,
            u64::from(u32::MAX),
            1 << 32,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            Head::write(&mut out, 3, value);
            let mut rest = out.as_slice();
            let head = Head::take(&mut rest).unwrap();
            assert_eq!((head.kind, head.value, rest.len()), (3, value, 0));
        }
    }

    #[test]
    fn halves_are_numbers() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc400, -4.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x7bff, 65_504.0),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan());
    }
}
