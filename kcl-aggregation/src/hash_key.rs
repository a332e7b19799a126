//! Hash keys: where in the 128-bit key space of a stream a record belongs.

use crate::digest::md5;

/// The hash key that Kinesis derives from a partition key: its MD5 digest as a big-endian number.
///
/// ```
/// assert_eq!(kcl_aggregation::hash_key("a"), 0x0cc175b9c0f1b6a831c399e269772661);
/// ```
#[must_use]
pub fn hash_key(partition_key: &str) -> u128 {
    of_digest(md5(partition_key.as_bytes()))
}

pub(crate) fn of_digest(digest: [u8; 16]) -> u128 {
    u128::from_be_bytes(digest)
}

/// The hash key that decides the shard of a record: its explicit hash key, else the one of its partition key.
///
/// An explicit hash key that is not a decimal number of at most 128 bits cannot come from the service, which refuses it;
/// inside an aggregated record nobody has checked it. It is ignored here. (The Java KCL 3.5 loses the rest of the
/// aggregated record over it.)
#[must_use]
pub fn effective_hash_key(partition_key: &str, explicit_hash_key: Option<&str>) -> u128 {
    explicit_hash_key
        .and_then(parse)
        .unwrap_or_else(|| hash_key(partition_key))
}

/// An explicit hash key as a number; `None` when it is none or does not fit.
pub(crate) fn parse(explicit_hash_key: &str) -> Option<u128> {
    explicit_hash_key.parse().ok()
}

/// The hash keys that a shard owns, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKeyRange {
    /// The lowest hash key of the shard.
    pub start: u128,
    /// The highest hash key of the shard.
    pub end: u128,
}

impl HashKeyRange {
    /// The whole key space: the range of a stream's only shard.
    pub const FULL: Self = Self {
        start: 0,
        end: u128::MAX,
    };

    /// Reads a range as `ListShards` answers it: two decimal numbers.
    ///
    /// `None` when one of them is not a number of at most 128 bits or when the start lies above the end.
    #[must_use]
    pub fn from_decimal(start: &str, end: &str) -> Option<Self> {
        let range = Self {
            start: start.parse().ok()?,
            end: end.parse().ok()?,
        };
        (range.start <= range.end).then_some(range)
    }

    /// Whether a hash key belongs to this range.
    #[must_use]
    pub const fn contains(&self, hash_key: u128) -> bool {
        self.start <= hash_key && hash_key <= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "340282366920938463463374607431768211455";
    const TOO_BIG: &str = "340282366920938463463374607431768211456";

    #[test]
    fn a_hash_key_is_the_digest_as_a_big_endian_number() {
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
        assert_eq!(hash_key(""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
    }

    #[test]
    fn an_explicit_hash_key_wins_when_it_is_a_number() {
        assert_eq!(effective_hash_key("a", Some("0")), 0);
        assert_eq!(effective_hash_key("a", Some("007")), 7);
        assert_eq!(effective_hash_key("a", Some(MAX)), u128::MAX);
        for unusable in [TOO_BIG, "", "-1", "0x10", "ten", "1 "] {
            assert_eq!(
                effective_hash_key("a", Some(unusable)),
                hash_key("a"),
                "{unusable:?}"
            );
        }
        assert_eq!(effective_hash_key("a", None), hash_key("a"));
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let range = HashKeyRange::from_decimal("10", "20").unwrap();
        let inside: Vec<u128> = (0..40).filter(|key| range.contains(*key)).collect();
        assert_eq!(inside, (10..=20).collect::<Vec<u128>>());
        assert!(HashKeyRange::FULL.contains(0) && HashKeyRange::FULL.contains(u128::MAX));
    }

    #[test]
    fn a_range_is_two_numbers_in_order() {
        assert_eq!(
            HashKeyRange::from_decimal("0", MAX),
            Some(HashKeyRange::FULL)
        );
        assert_eq!(
            HashKeyRange::from_decimal("5", "5").map(|r| r.start),
            Some(5)
        );
        assert_eq!(HashKeyRange::from_decimal("6", "5"), None);
        assert_eq!(HashKeyRange::from_decimal("0", TOO_BIG), None);
        assert_eq!(HashKeyRange::from_decimal("", "5"), None);
    }
}
