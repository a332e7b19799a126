//! MD5 of many messages: several side by side where that takes less time.
//!
//! One message is a chain of additions that wait for one another, and most of the processor waits with them. Several chains
//! do not. Written without intrinsics: the compiler makes vectors of the lanes, as wide as it may.
#![expect(
    clippy::indexing_slicing,
    reason = "indexes of messages are made here, from their number"
)]

use std::cmp::Reverse;

use crate::digest::md5;
use crate::side_by_side::{BLOCK, Lane, side_by_side};

/// With the 128-bit vectors that every processor has. More lanes are slower there.
const NARROW_LANES: usize = 4;
/// So many messages, one after the other, take as long as that many side by side; measured.
const NARROW_COST: usize = 3;

/// With AVX2: four vectors of eight lanes.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
const WIDE_LANES: usize = 32;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
const WIDE_COST: usize = 5;

/// The digest of each message, in the order of the messages.
pub(crate) fn md5_each(messages: &[&[u8]]) -> Vec<[u8; 16]> {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(avx2) = fearless_simd::Level::new().as_avx2() {
        return in_groups::<WIDE_LANES>(messages, WIDE_COST, |lanes| {
            fearless_simd::Simd::vectorize(avx2, || side_by_side(lanes))
        });
    }
    in_groups::<NARROW_LANES>(messages, NARROW_COST, side_by_side)
}

fn in_groups<const LANES: usize>(
    messages: &[&[u8]],
    cost: usize,
    side_by_side: impl Fn(&[Lane<'_>; LANES]) -> [[u8; 16]; LANES],
) -> Vec<[u8; 16]> {
    let mut digests = vec![[0; 16]; messages.len()];
    let blocks = |index: &usize| messages[*index].len() / BLOCK + 1;
    // Side by side all take as long as the longest, so those of about one length stand together.
    let mut longest_first: Vec<usize> = (0..messages.len()).collect();
    longest_first.sort_unstable_by_key(|index| Reverse(messages[*index].len()));
    let mut rest = longest_first.as_slice();
    while let Some((longest, shorter)) = rest.split_first() {
        let (group, others) = rest.split_at(rest.len().min(LANES));
        let alone: usize = group.iter().map(blocks).sum();
        if alone < blocks(longest) * cost {
            digests[*longest] = md5(messages[*longest]);
            rest = shorter;
            continue;
        }
        let mut filled = [Lane::new(&[]); LANES];
        for (lane, index) in filled.iter_mut().zip(group) {
            *lane = Lane::new(messages[*index]);
        }
        for (index, digest) in group.iter().zip(side_by_side(&filled)) {
            digests[*index] = digest;
        }
        rest = others;
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize, seed: usize) -> Vec<u8> {
        (0..len)
            .map(|at| u8::try_from((at * 31 + seed * 7 + at / 251) % 256).unwrap())
            .collect()
    }

    #[track_caller]
    fn assert_right(messages: &[Vec<u8>]) {
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let alone: Vec<[u8; 16]> = messages.iter().map(|message| md5(message)).collect();
        assert_eq!(md5_each(&messages), alone);
        // However wide the vectors of this machine are, and whatever is worth it.
        assert_eq!(in_groups::<4>(&messages, 0, side_by_side), alone);
        assert_eq!(in_groups::<4>(&messages, NARROW_COST, side_by_side), alone);
        assert_eq!(in_groups::<32>(&messages, 0, side_by_side), alone);
    }

    #[test]
    fn every_length_is_hashed_as_it_is_alone() {
        for len in 0..=300 {
            let same: Vec<Vec<u8>> = (0..40).map(|seed| message(len, seed)).collect();
            assert_right(&same);
        }
    }

    #[test]
    fn messages_of_all_lengths_side_by_side_do_not_mix() {
        let all: Vec<Vec<u8>> = (0..=300).rev().map(|len| message(len, len)).collect();
        assert_right(&all);
        let uneven: Vec<Vec<u8>> = [0, 70_000, 55, 56, 64, 1, 119, 120, 128]
            .iter()
            .map(|len| message(*len, 3))
            .collect();
        assert_right(&uneven);
    }

    #[test]
    fn any_number_of_messages_will_do() {
        for count in 0..70 {
            let messages: Vec<Vec<u8>> = (0..count).map(|seed| message(100, seed)).collect();
            assert_right(&messages);
        }
    }
}
