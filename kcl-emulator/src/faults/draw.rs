//! Keyed randomness: pure functions of a seed and a key.

/// A number in `[0, 1)` for one decision.
pub(super) fn fraction(seed: u64, key: u64, n: u64) -> f64 {
    /// 2 to the power of -53: a double holds 53 random bits.
    const ULP: f64 = 1.0 / 9_007_199_254_740_992.0;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let bits = (number(seed, key, n) >> 11) as f64;
    bits * ULP
}

/// 64 random bits for one decision.
pub(super) fn number(seed: u64, key: u64, n: u64) -> u64 {
    mix(mix(mix(seed) ^ key) ^ n)
}

/// The key of a list of texts (FNV-1a over each text and a separator).
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
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
    fn fractions_are_uniform_enough() {
        let hits = (0..10_000)
            .filter(|n| fraction(7, key(["a"]), *n) < 0.25)
            .count();
        assert!((2_300..2_700).contains(&hits), "{hits} of 10000 below 0.25");
    }

    #[test]
    fn a_separator_keeps_keys_apart() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
    }
}
