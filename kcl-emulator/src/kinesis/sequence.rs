//! Sequence numbers: 56 digits that order records across a stream.
//!
//! The layout follows what the service's numbers show: 186 bits, most significant first: the version 2, seconds of the
//! stream's creation (36 bits), a position that only grows (64), the milliseconds of arrival (48), the number of the shard (32)
//! and again the version (4). The Java consumer library reads version and shard from these very bits.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::Timestamp;

const VERSION: u64 = 2;
/// The largest power of ten in 64 bits: the base in which numbers are written and read.
const CHUNK: u64 = 10_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 19;
/// Digits of every number of this layout.
const DIGITS: usize = 56;

/// A sequence number. Numbers of one engine order as their positions do, across shards and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceNumber {
    /// Seconds since the epoch at which the stream was created.
    pub stream_created: u64,
    /// The position: every record, and every opening and closing of a shard, has one of its own.
    pub index: u64,
    /// When the record arrived, in milliseconds since the epoch.
    pub arrived: u64,
    /// The number of the shard.
    pub shard: u32,
}

impl SequenceNumber {
    pub(super) fn new(
        stream_created: Timestamp,
        index: u64,
        arrived: Timestamp,
        shard: u32,
    ) -> Self {
        Self {
            stream_created: (stream_created.0 / 1000).max(0).cast_unsigned() & 0xf_ffff_ffff,
            index,
            arrived: arrived.0.max(0).cast_unsigned() & 0xffff_ffff_ffff,
            shard,
        }
    }

    /// The number as three 64-bit digits, most significant first.
    fn limbs(self) -> [u64; 3] {
        let high = (VERSION << 56) | (self.stream_created << 20) | (self.index >> 44);
        let middle = (self.index << 20) | (self.arrived >> 28);
        let low = (self.arrived << 36) | (u64::from(self.shard) << 4) | VERSION;
        [high, middle, low]
    }

    fn from_limbs([high, middle, low]: [u64; 3]) -> Option<Self> {
        let of_this_layout = high >> 56 == VERSION && low & 0xf == VERSION;
        of_this_layout.then_some(Self {
            stream_created: (high >> 20) & 0xf_ffff_ffff,
            index: (high << 44) | (middle >> 20),
            arrived: ((middle << 28) & 0xffff_ffff_ffff) | (low >> 36),
            shard: (low >> 4) as u32,
        })
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quotient, last) = divide(self.limbs());
        let (first, middle) = divide(quotient);
        write!(formatter, "{}{middle:019}{last:019}", first[2])
    }
}

/// Quotient and remainder by [`CHUNK`].
fn divide(number: [u64; 3]) -> ([u64; 3], u64) {
    let mut remainder = 0;
    let quotient = number.map(|digit| {
        let (high, low) = (u128::from(remainder), u128::from(digit));
        let value = (high << 64) | low;
        remainder = (value % u128::from(CHUNK)) as u64;
        (value / u128::from(CHUNK)) as u64
    });
    (quotient, remainder)
}

/// A text that is no sequence number of this layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sequence number of this service")]
pub struct InvalidSequenceNumber;

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, InvalidSequenceNumber> {
        if text.len() != DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidSequenceNumber);
        }
        let (first, rest) = text.split_at(DIGITS - 2 * CHUNK_DIGITS);
        let (middle, last) = rest.split_at(CHUNK_DIGITS);
        let mut limbs = [0, 0, 0];
        for chunk in [first, middle, last] {
            let chunk = chunk.parse().map_err(|_| InvalidSequenceNumber)?;
            limbs = multiply_add(limbs, chunk);
        }
        Self::from_limbs(limbs).ok_or(InvalidSequenceNumber)
    }
}

/// `number` × [`CHUNK`] + `addend`; 56 digits fit in 192 bits.
fn multiply_add(number: [u64; 3], addend: u64) -> [u64; 3] {
    let mut carry = u128::from(addend);
    let mut result = number;
    for digit in result.iter_mut().rev() {
        let value = u128::from(*digit) * u128::from(CHUNK) + carry;
        *digit = value as u64;
        carry = value >> 64;
    }
    result
}

impl Serialize for SequenceNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = SequenceNumber> {
        (0..1_u64 << 33, any::<u64>(), 0..1_u64 << 48, any::<u32>()).prop_map(
            |(stream_created, index, arrived, shard)| SequenceNumber {
                stream_created,
                index,
                arrived,
                shard,
            },
        )
    }

    #[test]
    fn looks_like_the_services() {
        let now = Timestamp(1_790_000_000_123);
        let text = SequenceNumber::new(now, 1, now, 7).to_string();
        assert_eq!((text.len(), &text[..2]), (56, "49"));
    }

    #[test]
    fn other_numbers_are_refused() {
        for text in [
            "",
            "0",
            "1",
            "49",
            &"9".repeat(56),
            &"4".repeat(56),
            &"a".repeat(56),
        ] {
            assert_eq!(
                text.parse::<SequenceNumber>(),
                Err(InvalidSequenceNumber),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_goes_both_ways(number in number()) {
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }

        #[test]
        fn text_orders_as_numbers_do(a in number(), b in number()) {
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }
    }
}
