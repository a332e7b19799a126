//! MD5 of messages side by side: each step is done for all of them before the next one.
#![expect(
    clippy::indexing_slicing,
    reason = "lanes and words are indexed by loops over the length of their arrays, which the compiler unrolls"
)]

pub(crate) const BLOCK: usize = 64;

/// One word of each message.
type Word<const LANES: usize> = [u32; LANES];

/// A message with its padding.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    whole: &'a [[u8; BLOCK]],
    /// The rest of the message, a one bit, zeros, and the length in bits: one block or two.
    end: [[u8; BLOCK]; 2],
    blocks: usize,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        const LENGTH: usize = 8;
        let (whole, rest) = message.as_chunks();
        let mut end = [[0; BLOCK]; 2];
        let ends = if rest.len() < BLOCK - LENGTH { 1 } else { 2 };
        let bytes = end.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let bits = (message.len() as u64).wrapping_mul(8);
        bytes[ends * BLOCK - LENGTH..ends * BLOCK].copy_from_slice(&bits.to_le_bytes());
        Self {
            whole,
            end,
            blocks: whole.len() + ends,
        }
    }

    /// The block at this place; anything behind the last one.
    #[inline(always)]
    fn block(&self, index: usize) -> &[u8; BLOCK] {
        match self.whole.get(index) {
            Some(block) => block,
            None => &self.end[usize::from(index > self.whole.len())],
        }
    }
}

/// The digest of each message.
///
/// Inlined into its caller with all it calls, so that it is compiled for the instructions that the caller may use.
#[inline(always)]
pub(crate) fn side_by_side<const LANES: usize>(lanes: &[Lane<'_>; LANES]) -> [[u8; 16]; LANES] {
    let mut digests = [[0; 16]; LANES];
    let mut state = START.map(|word| [word; LANES]);
    let blocks = lanes.iter().map(|lane| lane.blocks).max().unwrap_or(0);
    for index in 0..blocks {
        let mut words = [[0; LANES]; 16];
        for (lane, message) in lanes.iter().enumerate() {
            let (bytes, _) = message.block(index).as_chunks();
            for (word, bytes) in words.iter_mut().zip(bytes) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        compress(&mut state, &words);
        for (lane, message) in lanes.iter().enumerate() {
            if message.blocks == index + 1 {
                let (parts, _) = digests[lane].as_chunks_mut();
                for (part, word) in parts.iter_mut().zip(state) {
                    *part = word[lane].to_le_bytes();
                }
            }
        }
    }
    digests
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
fn compress<const LANES: usize>(state: &mut [Word<LANES>; 4], words: &[Word<LANES>; 16]) {
    let mut rotated = *state;
    round::<LANES, 0, 1, 0>(&mut rotated, words, [7, 12, 17, 22], |x, y, z| {
        z ^ (x & (y ^ z))
    });
    round::<LANES, 1, 5, 16>(&mut rotated, words, [5, 9, 14, 20], |x, y, z| {
        y ^ (z & (x ^ y))
    });
    round::<LANES, 5, 3, 32>(&mut rotated, words, [4, 11, 16, 23], |x, y, z| x ^ y ^ z);
    round::<LANES, 0, 7, 48>(&mut rotated, words, [6, 10, 15, 21], |x, y, z| y ^ (x | !z));
    for (sum, word) in state.iter_mut().zip(rotated) {
        for lane in 0..LANES {
            sum[lane] = sum[lane].wrapping_add(word[lane]);
        }
    }
}

/// The sixteen steps of one of the four rounds, four at a time, so that every turn is a constant.
#[inline(always)]
fn round<const LANES: usize, const FIRST: usize, const STRIDE: usize, const SINE: usize>(
    state: &mut [Word<LANES>; 4],
    words: &[Word<LANES>; 16],
    [t0, t1, t2, t3]: [u32; 4],
    mix: impl Fn(u32, u32, u32) -> u32 + Copy,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    for four in 0..4 {
        let add = |step: usize| {
            let step = four * 4 + step;
            (&words[(FIRST + STRIDE * step) % 16], SINES[SINE + step])
        };
        step(&mut a, &b, &c, &d, add(0), t0, mix);
        step(&mut d, &a, &b, &c, add(1), t1, mix);
        step(&mut c, &d, &a, &b, add(2), t2, mix);
        step(&mut b, &c, &d, &a, add(3), t3, mix);
    }
    *state = [a, b, c, d];
}

#[inline(always)]
fn step<const LANES: usize>(
    a: &mut Word<LANES>,
    b: &Word<LANES>,
    c: &Word<LANES>,
    d: &Word<LANES>,
    (word, sine): (&Word<LANES>, u32),
    turn: u32,
    mix: impl Fn(u32, u32, u32) -> u32,
) {
    for lane in 0..LANES {
        let sum = a[lane]
            .wrapping_add(mix(b[lane], c[lane], d[lane]))
            .wrapping_add(word[lane])
            .wrapping_add(sine);
        a[lane] = b[lane].wrapping_add(sum.rotate_left(turn));
    }
}
