//! Sequence numbers: decimal numbers of up to 128 digits, compared as numbers.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// More digits than this are refused: the service documents at most 128.
pub const MAX_DIGITS: usize = 128;

/// The sequence number of a Kinesis record.
///
/// Today's are 56 digits long and so need 186 bits: they fit no machine integer. They are kept as text
/// without leading zeros and compared by (length, digits), which is their order as numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(Arc<str>);

/// Text that is no sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a sequence number has 1 to {MAX_DIGITS} decimal digits and nothing else, got {length} bytes of text"
)]
pub struct InvalidSequenceNumber {
    length: usize,
}

impl SequenceNumber {
    /// Reads a sequence number. Leading zeros are dropped.
    ///
    /// # Errors
    /// When `text` is empty, longer than [`MAX_DIGITS`] or holds anything but ASCII digits.
    pub fn parse(text: &str) -> Result<Self, InvalidSequenceNumber> {
        let length = text.len();
        if length == 0 || length > MAX_DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidSequenceNumber { length });
        }
        let digits = text.trim_start_matches('0');
        Ok(Self(Arc::from(if digits.is_empty() {
            "0"
        } else {
            digits
        })))
    }

    /// The decimal digits, without leading zeros.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two texts of digits without leading zeros as numbers.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
