//! Hash keys: where in 0 to 2^128 - 1 a record and a shard lie.

use md5::{Digest, Md5};

use super::{api, validate};

/// The hash keys of a shard, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashRange {
    /// The first hash key.
    pub(super) start: u128,
    /// The last hash key.
    pub(super) end: u128,
}

impl HashRange {
    /// The range in the form of the API.
    pub(super) fn to_api(self) -> api::HashKeyRange {
        api::HashKeyRange {
            starting_hash_key: self.start.to_string(),
            ending_hash_key: self.end.to_string(),
        }
    }
}

/// The hash key of a partition key: its MD5 digest as a number.
pub(super) fn of_partition_key(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// The first hash keys of `count` ranges of even size: range `i` begins at ⌊2^128 × i / count⌋.
pub(super) fn uniform_starts(count: usize) -> impl Iterator<Item = u128> {
    let count = u128::try_from(count).unwrap_or(1).max(1);
    // 2^128 = quotient × count + remainder, worked out without a 129th bit.
    let (quotient, remainder) = match u128::MAX % count + 1 {
        remainder if remainder == count => ((u128::MAX / count).wrapping_add(1), 0),
        remainder => (u128::MAX / count, remainder),
    };
    (0..count).map(move |i| i.wrapping_mul(quotient) + i * remainder / count)
}

/// The ranges that tile all hash keys, one from each start to the next.
pub(super) fn tiles(starts: impl Iterator<Item = u128>) -> Vec<HashRange> {
    let starts: Vec<_> = starts.collect();
    let ends = starts.iter().skip(1).map(|next| next - 1);
    let ends = ends.chain([u128::MAX]);
    let tiles = starts.iter().zip(ends);
    tiles
        .map(|(&start, end)| HashRange { start, end })
        .collect()
}

/// Reads an explicit hash key: a decimal number below 2^128.
pub(super) fn parse(text: &str) -> Option<u128> {
    validate::is_decimal(text, 39)
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_even_and_complete() {
        let two = tiles(uniform_starts(2));
        assert_eq!(two[0].end, (1 << 127) - 1);
        assert_eq!(
            two[1],
            HashRange {
                start: 1 << 127,
                end: u128::MAX
            }
        );
        for count in [1, 2, 3, 7, 10, 1000] {
            let tiles = tiles(uniform_starts(count));
            assert_eq!((tiles.len(), tiles[0].start), (count, 0));
            assert_eq!(tiles[count - 1].end, u128::MAX);
            let sizes: Vec<_> = tiles.iter().map(|tile| tile.end - tile.start).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(
                most - least <= 1,
                "{count} shards differ by {}",
                most - least
            );
        }
    }

    #[test]
    fn partition_keys_hash_with_md5() {
        // The documentation of PutRecord: the MD5 digest as an unsigned 128-bit number.
        assert_eq!(
            of_partition_key("a"),
            0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661
        );
    }

    #[test]
    fn explicit_hash_keys_are_below_2_to_the_128() {
        assert_eq!(parse(&u128::MAX.to_string()), Some(u128::MAX));
        assert_eq!(parse("340282366920938463463374607431768211456"), None);
        assert_eq!(parse("01"), None);
    }
}
