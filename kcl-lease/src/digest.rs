//! A hash of texts that is the same in every process and release: FNV-1a with 64 bits and a final mix.

use crate::key::LeaseKey;

/// The hash of some texts in this order. Their borders count.
pub(crate) fn of(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(hash)
}

/// The digest over lease keys that workers publish: the same in whatever order.
pub(crate) fn of_keys<'a>(keys: impl Iterator<Item = &'a LeaseKey>) -> u64 {
    keys.fold(0, |xor, key| xor ^ of(&[key.as_str()]))
}

/// The hash of two hashes in this order.
pub(crate) fn pair(first: u64, second: u64) -> u64 {
    mix(mix(first) ^ second)
}

/// FNV's high bits hardly depend on the last bytes, which is where shard names differ.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::{of, pair};

    #[test]
    fn the_hash_never_changes_and_keeps_borders() {
        assert_eq!(of(&["shardId-000000000000"]), 2_149_639_965_452_876_435);
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["a"]), of(&["b"]));
        assert_ne!(pair(1, 2), pair(2, 1));
    }
}
