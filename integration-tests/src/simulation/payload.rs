//! What records hold: their number in the run, and in some runs many bytes after it.

use std::ops::Range;

use bytes::Bytes;

use super::draw::{between, fraction};

/// How long large records are.
const LARGE: Range<u64> = 100_000..1_000_000;
/// Each spell of large or small records lasts so long.
const SPELL_MILLIS: u64 = 30_000;
const SHARE_OF_LARGE: f64 = 0.5;
/// Later ones are small: what piled up is read at 2 MB a second and shard, and all of it before the run ends.
const LARGE_UNTIL: u64 = 10 * 60 * 1_000;
/// So many numbers are on one strip.
const STRIP: u32 = 1 << 14;

/// Makes the payloads of a run. Large ones are windows on one shared strip of numbers, each beginning at its own: a run
/// keeps thousands of them, and they take the memory of one.
#[derive(Debug, Default)]
pub struct Payloads {
    /// The first number on the strip.
    first: u32,
    strip: Bytes,
}

impl Payloads {
    /// The payload of a record without anything else.
    #[must_use]
    pub fn small(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// The payload of a record that is put at `now`, in milliseconds, in a run with spells of large records.
    pub fn in_spells(&mut self, seed: u64, number: u32, now: u64) -> Bytes {
        let spell = fraction(seed, "spell of large records", now / SPELL_MILLIS);
        if spell >= SHARE_OF_LARGE || now >= LARGE_UNTIL {
            return Self::small(number);
        }
        let length = between(seed, "large record", u64::from(number), LARGE);
        self.large(number, usize::try_from(length).unwrap_or_default())
    }

    fn large(&mut self, number: u32, length: usize) -> Bytes {
        let begin = number - number % STRIP;
        if self.strip.is_empty() || self.first != begin {
            let longest = usize::try_from(LARGE.end).unwrap_or_default();
            let numbers = begin..begin.saturating_add(STRIP);
            let mut strip: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
            strip.resize(strip.len() + longest, 0);
            self.first = begin;
            self.strip = strip.into();
        }
        let start = (number - begin) as usize * 4;
        self.strip.slice(start..start + length.max(4))
    }
}

/// The number with which a payload begins.
#[must_use]
pub fn number_of(payload: &[u8]) -> u32 {
    payload
        .first_chunk()
        .map_or(u32::MAX, |number| u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_begins_with_its_number_however_long_it_is() {
        let mut payloads = Payloads::default();
        for number in [0, 1, STRIP - 1, STRIP, 5 * STRIP + 7, 3] {
            assert_eq!(number_of(&Payloads::small(number)), number);
            for length in [100_000, 999_999] {
                let large = payloads.large(number, length);
                assert_eq!((number_of(&large), large.len()), (number, length));
            }
        }
        assert_eq!(number_of(&[1, 2]), u32::MAX);
    }
}
