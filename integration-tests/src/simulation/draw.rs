//! Keyed randomness: pure functions of a seed, the name of a stream of draws, and a number.
//!
//! Nothing is shared between two streams, so removing one fault from a run leaves every other draw as it was. Shrinking a
//! schedule depends on that.

use std::ops::Range;

/// 64 bits.
#[must_use]
pub fn draw(seed: u64, stream: &str, n: u64) -> u64 {
    let key = stream
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    mix(mix(mix(seed) ^ key) ^ n)
}

/// A number in `[0, 1)`.
#[must_use]
pub fn fraction(seed: u64, stream: &str, n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let bits = (draw(seed, stream, n) >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

/// A number of the range, its start if it is empty.
#[must_use]
pub fn between(seed: u64, stream: &str, n: u64, range: Range<u64>) -> u64 {
    let width = range.end.saturating_sub(range.start).max(1);
    range.start + draw(seed, stream, n) % width
}

/// The finalizer of SplitMix64: every input bit changes about half of the output bits.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_all_of_their_key_and_spread_out() {
        assert_eq!(draw(1, "a", 2), draw(1, "a", 2));
        assert_ne!(draw(1, "a", 2), draw(2, "a", 2));
        assert_ne!(draw(1, "a", 2), draw(1, "b", 2));
        assert_ne!(draw(1, "a", 2), draw(1, "a", 3));
        let hits = (0..10_000).filter(|n| fraction(7, "x", *n) < 0.25).count();
        assert!((2_300..2_700).contains(&hits), "{hits} of 10000 below 0.25");
        assert!((0..1_000).all(|n| (3..9).contains(&between(7, "x", n, 3..9))));
    }
}
