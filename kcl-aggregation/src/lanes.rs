//! MD5 of many messages: several side by side where that takes less time.
//!
//! One message is a chain of additions that wait for one another, and most of the processor waits with them. Several chains
//! do not.

use std::cmp::Reverse;

use fearless_simd::{Level, Simd, SimdBase, dispatch};

use crate::digest::md5;
use crate::side_by_side::{LANES, Message, blocks, side_by_side};

/// How many messages one after the other take as long as one vector of them, two vectors, and four; measured.
const COSTS: [usize; 3] = [3, 4, 5];

/// The digest of each message, in the order of the messages.
pub(crate) fn md5_each<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<[u8; 16]> {
    let messages = longest_first(messages);
    dispatch!(Level::new(), simd => in_groups(simd, &messages, COSTS))
}

/// Side by side all take as long as the longest, so those of about one length stand together.
fn longest_first<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message<'a>> {
    let messages = (0..).zip(messages);
    let mut messages: Vec<Message<'a>> = messages
        .map(|(place, bytes)| Message { place, bytes })
        .collect();
    messages.sort_unstable_by_key(|message| Reverse(message.bytes.len()));
    messages
}

/// Hashes messages, the longest first.
fn in_groups<S: Simd>(simd: S, messages: &[Message<'_>], costs: [usize; 3]) -> Vec<[u8; 16]> {
    let mut digests = vec![[0; 16]; messages.len()];
    // Four vectors that are each two of the processor's do not fit its registers.
    let most = if S::u32s::LEN < LANES { 2 } else { 4 };
    let mut rest = messages;
    while let Some((longest, shorter)) = rest.split_first() {
        let (group, others) = rest.split_at(rest.len().min(most * LANES));
        let alone: usize = group.iter().map(|message| blocks(message.bytes)).sum();
        let pays = |cost: usize| alone >= blocks(longest.bytes) * cost;
        let [one, two, four] = costs;
        let digests = &mut digests;
        rest = others;
        match group.len().div_ceil(LANES) {
            1 if pays(one) => simd.vectorize(
                #[inline(always)]
                || side_by_side::<S, 1>(simd, group, digests),
            ),
            2 if pays(two) => simd.vectorize(
                #[inline(always)]
                || side_by_side::<S, 2>(simd, group, digests),
            ),
            3.. if pays(four) => simd.vectorize(
                #[inline(always)]
                || side_by_side::<S, 4>(simd, group, digests),
            ),
            _ => {
                if let Some(digest) = digests.get_mut(longest.place) {
                    *digest = md5(longest.bytes);
                }
                rest = shorter;
            }
        }
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
        let sorted = longest_first(messages.iter().map(Vec::as_slice));
        let alone: Vec<[u8; 16]> = messages.iter().map(|message| md5(message)).collect();
        assert_eq!(md5_each(messages.iter().map(Vec::as_slice)), alone);
        // However wide the vectors of this machine are, and whatever is worth it.
        for level in [Level::new(), Level::baseline()] {
            for costs in [[0; 3], COSTS] {
                let digests = dispatch!(level, simd => in_groups(simd, &sorted, costs));
                assert_eq!(digests, alone, "{level:?} {costs:?}");
            }
        }
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
