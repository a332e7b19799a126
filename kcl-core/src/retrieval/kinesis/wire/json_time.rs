//! Times in JSON: seconds since 1970, as a decimal number.

/// A mantissa of so many digits fits an `f64` exactly, and an `i64` even as milliseconds.
const MOST_DIGITS: u32 = 15;

/// The time in milliseconds.
///
/// In integers where that is exact, which the service's times are (`1.767225600123E9`, `1767225600.123`): an `f64` of
/// seconds can be a millisecond off when it is cut. Anything else is rounded.
pub(super) fn millis_of_seconds(number: &[u8]) -> Option<i64> {
    exact_millis(number).or_else(|| {
        let seconds: f64 = str::from_utf8(number).ok()?.parse().ok()?;
        Some((seconds * 1000.0).round() as i64)
    })
}

fn exact_millis(number: &[u8]) -> Option<i64> {
    let (mut mantissa, mut digits, mut decimals) = (0_i64, 0, None);
    let mut bytes = number.iter();
    let mut exponent = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' if digits < MOST_DIGITS => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                digits += 1;
                decimals = decimals.map(|decimals: u32| decimals + 1);
            }
            b'.' if decimals.is_none() && digits > 0 => decimals = Some(0),
            b'e' | b'E' => {
                exponent = match bytes.as_slice() {
                    [digit @ b'0'..=b'9'] => u32::from(digit - b'0'),
                    _ => return None,
                };
                break;
            }
            _ => return None,
        }
    }
    let more = (exponent + 3).checked_sub(decimals.unwrap_or(0))?;
    (digits > 0).then_some(())?;
    mantissa.checked_mul(10_i64.checked_pow(more)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time_gives_its_milliseconds() {
        for (text, millis) in [
            ("1767225600.123", 1_767_225_600_123),
            ("1.767225600123E9", 1_767_225_600_123),
            ("1.767225600123e9", 1_767_225_600_123),
            ("1767225600", 1_767_225_600_000),
            ("1.7672256E9", 1_767_225_600_000),
            ("0", 0),
            ("0.001", 1),
            ("1767225600.1234567", 1_767_225_600_123),
            ("1.767225600123E+9", 1_767_225_600_123),
            ("-1.5", -1_500),
            ("1e300", i64::MAX),
        ] {
            assert_eq!(millis_of_seconds(text.as_bytes()), Some(millis), "{text}");
        }
        for text in ["", ".", "E9", "1.2.3", "--1", "1e"] {
            assert_eq!(millis_of_seconds(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn no_millisecond_is_lost_to_floating_point() {
        for millis in (1_767_225_600_000..1_767_225_602_000).step_by(1) {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            assert_eq!(millis_of_seconds(text.as_bytes()), Some(millis), "{text}");
        }
    }
}
