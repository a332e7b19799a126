//! Buffers for answers that are used again and again: fresh memory costs more than the bytes that come into it, because
//! the kernel clears every page of it first.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers and bytes that are kept for later answers at most. They do not count in the memory budget of a worker.
const KEPT_BUFFERS: usize = 8;
const KEPT_BYTES: usize = 16 << 20;

/// How much larger than an answer its buffer may be, if the answer stays in it: one in so many. The memory budget counts
/// answers by their length.
const SLACK: usize = 8;

/// Keeps buffers that nobody uses. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// How long an answer stays in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until it is decoded: any buffer will do.
    Short,
    /// As long as anybody keeps a record of it: the buffer must not be much larger than the answer.
    Long,
}

impl Pool {
    /// An empty buffer for `len` bytes.
    pub(super) fn take(&self, len: usize, stay: Stay) -> Lent {
        let mut kept = self.kept();
        let fits = |buffer: &Vec<u8>| {
            buffer.capacity() >= len && (stay == Stay::Short || is_tight(buffer.capacity(), len))
        };
        let place = kept.iter().position(fits);
        let buffer = place.map(|place| kept.swap_remove(place));
        drop(kept);
        Lent {
            buffer: buffer.unwrap_or_else(|| Vec::with_capacity(len)),
            pool: self.clone(),
        }
    }

    /// Keeps the largest ones: they fit most.
    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.kept();
        kept.push(buffer);
        kept.sort_unstable_by_key(|buffer| std::cmp::Reverse(buffer.capacity()));
        let mut bytes = 0;
        kept.retain(|buffer| {
            bytes += buffer.capacity();
            bytes <= KEPT_BYTES
        });
        kept.truncate(KEPT_BUFFERS);
    }

    /// What is kept for later.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept().iter().map(Vec::capacity).sum()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("buffers", &self.kept().len())
            .finish()
    }
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl Lent {
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The content. The buffer goes back when the last slice of it is dropped.
    pub(super) fn into_bytes(self, stay: Stay) -> Bytes {
        if stay == Stay::Long && !is_tight(self.buffer.capacity(), self.buffer.len()) {
            return Bytes::copy_from_slice(&self.buffer);
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

fn is_tight(capacity: usize, len: usize) -> bool {
    capacity - len.min(capacity) <= len / SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &Pool, len: usize, stay: Stay) -> Bytes {
        let mut lent = pool.take(len, stay);
        lent.append(&vec![7; len]);
        lent.into_bytes(stay)
    }

    fn kept(pool: &Pool) -> Vec<usize> {
        pool.kept().iter().map(Vec::capacity).collect()
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_is_used_again() {
        let pool = Pool::default();
        let bytes = filled(&pool, 1000, Stay::Short);
        let place = bytes.as_ptr();
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(kept(&pool), [0; 0]);
        drop(slice);
        assert_eq!(kept(&pool), [1000]);
        let smaller = filled(&pool, 500, Stay::Short);
        assert_eq!(smaller.as_ptr(), place);
        // Nothing of the former answer shows.
        assert_eq!(smaller.len(), 500);
    }

    #[test]
    fn an_answer_that_stays_never_holds_a_much_larger_buffer() {
        let pool = Pool::default();
        drop(filled(&pool, 1000, Stay::Short));
        let bytes = filled(&pool, 500, Stay::Long);
        assert_eq!(kept(&pool), [1000], "too large for what stays");
        assert_eq!(bytes, vec![7; 500]);
        // The length was not known, and little came.
        let mut lent = pool.take(0, Stay::Short);
        lent.append(b"little");
        let little = lent.into_bytes(Stay::Long);
        assert_eq!(kept(&pool), [1000], "it was copied out of the buffer");
        assert_eq!(little, "little");
        let close = filled(&pool, 990, Stay::Long);
        assert_eq!(kept(&pool), [0; 0]);
        drop(close);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = Pool::default();
        let many: Vec<Bytes> = (1..30).map(|len| filled(&pool, len, Stay::Short)).collect();
        drop(many);
        assert_eq!(kept(&pool), [29, 28, 27, 26, 25, 24, 23, 22]);
        let large: Vec<Bytes> = (0..3)
            .map(|_| filled(&pool, 10 << 20, Stay::Short))
            .collect();
        drop(large);
        assert!(kept(&pool).iter().sum::<usize>() <= KEPT_BYTES);
    }
}
