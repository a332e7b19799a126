//! The ids of answers: unlike each other, alike in every run of a seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the answers of one emulator.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

/// The ids of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId {
    seed: u64,
    number: u64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn next(&self) -> RequestId {
        RequestId {
            seed: self.seed,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl RequestId {
    /// In the form of a UUID, as the services write it.
    pub(crate) fn request_id(self) -> String {
        let [high, low] = [self.word(0), self.word(1)];
        let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0x0fff);
        let (fourth, fifth) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
        format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{fifth:012x}")
    }

    /// The longer id that support asks for.
    pub(crate) fn extended(self) -> String {
        let bytes: Vec<u8> = (2..9)
            .flat_map(|word| self.word(word).to_be_bytes())
            .collect();
        base64_simd::STANDARD.encode_to_string(bytes)
    }

    fn word(self, index: u64) -> u64 {
        let stream = self.number.wrapping_mul(16).wrapping_add(index);
        fastrand::Rng::with_seed(self.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
    }
}
