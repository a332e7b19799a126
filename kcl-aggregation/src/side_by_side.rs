//! MD5 of messages side by side: each step is done for all of them before the next one.
#![expect(
    clippy::indexing_slicing,
    reason = "lanes, words and steps are indexed by loops over the length of their arrays, which the compiler unrolls"
)]

use fearless_simd::{Simd, SimdBase, SimdCombine, u32x4, u32x8};

/// Messages in one vector.
pub(crate) const LANES: usize = 8;

const BLOCK: usize = 64;

/// One word of each message.
type Word<S, const VECTORS: usize> = [u32x8<S>; VECTORS];

/// A message and the place of its digest.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) place: usize,
    pub(crate) bytes: &'a [u8],
}

/// Puts the digests of messages into their places: at most as many as so many vectors have lanes.
///
/// Inlined into its caller with all it calls, so that it is compiled for the instructions that the caller may use.
#[inline(always)]
pub(crate) fn side_by_side<S: Simd, const VECTORS: usize>(
    simd: S,
    messages: &[Message<'_>],
    digests: &mut [[u8; 16]],
) {
    let [a, b, c, d] = START;
    let mut state = [
        [u32x8::splat(simd, a); VECTORS],
        [u32x8::splat(simd, b); VECTORS],
        [u32x8::splat(simd, c); VECTORS],
        [u32x8::splat(simd, d); VECTORS],
    ];
    let most = messages.iter().map(|message| blocks(message.bytes)).max();
    for index in 0..most.unwrap_or(0) {
        let mut words = [[u32x8::splat(simd, 0); VECTORS]; 16];
        for (vector, messages) in messages.chunks(LANES).take(VECTORS).enumerate() {
            for (words, word) in words.iter_mut().zip(transposed(simd, messages, index)) {
                words[vector] = word;
            }
        }
        compress(simd, &mut state, &words);
        for (at, message) in messages.iter().enumerate() {
            if index + 1 == blocks(message.bytes) {
                let (parts, _) = digests[message.place].as_chunks_mut();
                for (part, word) in parts.iter_mut().zip(&state) {
                    *part = word[at / LANES].as_array()[at % LANES].to_le_bytes();
                }
            }
        }
    }
}

/// How many blocks a message takes, with its padding: a one bit, zeros, and its length in 64 bits.
pub(crate) fn blocks(message: &[u8]) -> usize {
    (message.len() + 1 + size_of::<u64>()).div_ceil(BLOCK)
}

/// The block at a place of a message with its padding; anything behind the last one.
#[inline(always)]
fn block(message: &[u8], index: usize) -> [u8; BLOCK] {
    let (whole, rest) = message.as_chunks();
    if let Some(block) = whole.get(index) {
        return *block;
    }
    let mut block = [0; BLOCK];
    if index == whole.len() {
        block[..rest.len()].copy_from_slice(rest);
        block[rest.len()] = 0x80;
    }
    if index + 1 == blocks(message) {
        let bits = (message.len() as u64).wrapping_mul(8);
        block[BLOCK - size_of::<u64>()..].copy_from_slice(&bits.to_le_bytes());
    }
    block
}

/// The sixteen words of one block, each of all messages.
#[inline(always)]
fn transposed<S: Simd>(simd: S, messages: &[Message<'_>], index: usize) -> [u32x8<S>; 16] {
    let mut blocks = [[0; BLOCK]; LANES];
    for (block, message) in blocks.iter_mut().zip(messages) {
        *block = self::block(message.bytes, index);
    }
    let mut words = [u32x8::splat(simd, 0); 16];
    for quarter in 0..4 {
        let mut lanes = [u32x4::splat(simd, 0); LANES];
        for (lane, block) in lanes.iter_mut().zip(&blocks) {
            let (bytes, _) = block.as_chunks();
            let word = |word: usize| u32::from_le_bytes(bytes[quarter * 4 + word]);
            *lane = u32x4::load_array(simd, [word(0), word(1), word(2), word(3)]);
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let low = transposed_quarter(simd, [a, b, c, d]);
        let high = transposed_quarter(simd, [e, f, g, h]);
        for word in 0..4 {
            words[quarter * 4 + word] = low[word].combine(high[word]);
        }
    }
    words
}

/// Four words of four messages.
#[inline(always)]
fn transposed_quarter<S: Simd>(simd: S, [a, b, c, d]: [u32x4<S>; 4]) -> [u32x4<S>; 4] {
    let (ac, ac_high) = simd.interleave_u32x4(a, c);
    let (bd, bd_high) = simd.interleave_u32x4(b, d);
    let (first, second) = simd.interleave_u32x4(ac, bd);
    let (third, fourth) = simd.interleave_u32x4(ac_high, bd_high);
    [first, second, third, fourth]
}

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The integer part of 2^32 times the sine of 1 to 64 (RFC 1321, 3.4).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// One block of each message (RFC 1321, 3.4).
#[inline(always)]
fn compress<S: Simd, const VECTORS: usize>(
    simd: S,
    state: &mut [Word<S, VECTORS>; 4],
    words: &[Word<S, VECTORS>; 16],
) {
    let before = *state;
    round::<S, VECTORS, 0, 1, 0>(
        simd,
        state,
        words,
        [7, 12, 17, 22],
        #[inline(always)]
        |x, y, z| z ^ (x & (y ^ z)),
    );
    round::<S, VECTORS, 1, 5, 16>(
        simd,
        state,
        words,
        [5, 9, 14, 20],
        #[inline(always)]
        |x, y, z| y ^ (z & (x ^ y)),
    );
    round::<S, VECTORS, 5, 3, 32>(
        simd,
        state,
        words,
        [4, 11, 16, 23],
        #[inline(always)]
        |x, y, z| x ^ y ^ z,
    );
    round::<S, VECTORS, 0, 7, 48>(
        simd,
        state,
        words,
        [6, 10, 15, 21],
        #[inline(always)]
        |x, y, z| y ^ (x | !z),
    );
    for word in 0..4 {
        for vector in 0..VECTORS {
            state[word][vector] += before[word][vector];
        }
    }
}

/// The sixteen steps of one of the four rounds, four at a time, so that every turn is a constant.
#[inline(always)]
fn round<
    S: Simd,
    const VECTORS: usize,
    const FIRST: usize,
    const STRIDE: usize,
    const SINE: usize,
>(
    simd: S,
    state: &mut [Word<S, VECTORS>; 4],
    words: &[Word<S, VECTORS>; 16],
    [t0, t1, t2, t3]: [u32; 4],
    mix: impl Fn(u32x8<S>, u32x8<S>, u32x8<S>) -> u32x8<S> + Copy,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    for four in 0..4 {
        let add = |step: usize| {
            let step = four * 4 + step;
            (&words[(FIRST + STRIDE * step) % 16], SINES[SINE + step])
        };
        step(simd, &mut a, [&b, &c, &d], add(0), t0, mix);
        step(simd, &mut d, [&a, &b, &c], add(1), t1, mix);
        step(simd, &mut c, [&d, &a, &b], add(2), t2, mix);
        step(simd, &mut b, [&c, &d, &a], add(3), t3, mix);
    }
    *state = [a, b, c, d];
}

#[inline(always)]
fn step<S: Simd, const VECTORS: usize>(
    simd: S,
    a: &mut Word<S, VECTORS>,
    [b, c, d]: [&Word<S, VECTORS>; 3],
    (word, sine): (&Word<S, VECTORS>, u32),
    turn: u32,
    mix: impl Fn(u32x8<S>, u32x8<S>, u32x8<S>) -> u32x8<S>,
) {
    let sine = u32x8::splat(simd, sine);
    for vector in 0..VECTORS {
        let sum = a[vector] + (word[vector] + sine) + mix(b[vector], c[vector], d[vector]);
        a[vector] = b[vector] + ((sum << turn) | (sum >> (32 - turn)));
    }
}
