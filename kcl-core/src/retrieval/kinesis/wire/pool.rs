//! Buffers for answers that are used again and again: fresh memory costs more than the bytes that come into it, because
//! the kernel clears every page of it first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers and bytes that are kept for later answers at most. They do not count in the memory budget of a worker.
const KEPT_BUFFERS: usize = 8;
const KEPT_BYTES: usize = 16 << 20;

/// Smaller buffers cost less than keeping them.
pub(super) const SMALLEST: usize = 16 << 10;

/// How much larger than an answer its buffer may be, if the answer stays in it: one in so many. The memory budget counts
/// answers by their length.
const SLACK: usize = 8;

/// Keeps buffers that nobody uses, the one that came last at the end. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct BufferPool(Arc<Mutex<VecDeque<Vec<u8>>>>);

/// How long an answer stays in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until it is decoded: any buffer will do.
    Short,
    /// As long as anybody keeps a record of it: the buffer must not be much larger than the answer.
    Long,
}

impl BufferPool {
    /// An empty buffer for `len` bytes.
    pub(super) fn take(&self, len: usize, stay: Stay) -> Lent {
        let mut kept = match len < SMALLEST && stay == Stay::Long {
            true => return self.lend(Vec::with_capacity(len)),
            false => self.kept(),
        };
        let sizes = kept.iter().map(Vec::capacity).enumerate();
        let fitting = sizes.filter(|(_, capacity)| match stay {
            Stay::Short => *capacity >= len,
            Stay::Long => *capacity >= len && is_tight(*capacity, len),
        });
        // What stays needs the small ones, and how long an answer will be is not always known.
        let found = fitting.max_by_key(|(_, capacity)| *capacity);
        let buffer = found.and_then(|(place, _)| kept.remove(place));
        drop(kept);
        self.lend(buffer.unwrap_or_else(|| Vec::with_capacity(len)))
    }

    fn lend(&self, buffer: Vec<u8>) -> Lent {
        Lent {
            buffer,
            pool: self.clone(),
        }
    }

    /// Those that were not used for longest go first: answers may be larger or smaller than they were.
    fn give_back(&self, mut buffer: Vec<u8>) {
        if !(SMALLEST..=KEPT_BYTES).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut kept = self.kept();
        kept.push_back(buffer);
        let mut bytes: usize = kept.iter().map(Vec::capacity).sum();
        while kept.len() > KEPT_BUFFERS || bytes > KEPT_BYTES {
            bytes -= kept.pop_front().map_or(bytes, |oldest| oldest.capacity());
        }
    }

    /// What is kept for later.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept().iter().map(Vec::capacity).sum()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("buffers", &self.kept().len())
            .finish()
    }
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    buffer: Vec<u8>,
    pool: BufferPool,
}

impl Lent {
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Makes room for so many bytes more, in another buffer if this one is too small.
    pub(super) fn reserve(&mut self, more: usize) {
        let len = self.buffer.len().saturating_add(more);
        if self.buffer.capacity() < len {
            let mut larger = self.pool.take(len, Stay::Long);
            larger.append(&self.buffer);
            *self = larger;
        }
    }

    /// What to write into.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The content. The buffer goes back when the last slice of it is dropped.
    pub(super) fn into_bytes(self, stay: Stay) -> Bytes {
        let len = self.buffer.len();
        if stay == Stay::Short || is_tight(self.buffer.capacity(), len) {
            return Bytes::from_owner(self);
        }
        if len < SMALLEST {
            return Bytes::copy_from_slice(&self.buffer);
        }
        let mut tight = self.pool.take(len, stay);
        tight.append(&self.buffer);
        Bytes::from_owner(tight)
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

    fn filled(pool: &BufferPool, len: usize, stay: Stay) -> Bytes {
        let mut lent = pool.take(len, stay);
        lent.append(&vec![7; len]);
        lent.into_bytes(stay)
    }

    fn kept(pool: &BufferPool) -> Vec<usize> {
        pool.kept().iter().map(Vec::capacity).collect()
    }

    const KB: usize = 1 << 10;

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_is_used_again() {
        let pool = BufferPool::default();
        let bytes = filled(&pool, 100 * KB, Stay::Short);
        let place = bytes.as_ptr();
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(kept(&pool), [0; 0]);
        drop(slice);
        assert_eq!(kept(&pool), [100 * KB]);
        let smaller = filled(&pool, 50 * KB, Stay::Short);
        assert_eq!(smaller.as_ptr(), place);
        // Nothing of the former answer shows.
        assert_eq!(smaller.len(), 50 * KB);
    }

    #[test]
    fn an_answer_that_stays_never_holds_a_much_larger_buffer() {
        let pool = BufferPool::default();
        drop(filled(&pool, 100 * KB, Stay::Short));
        let bytes = filled(&pool, 50 * KB, Stay::Long);
        assert_eq!(kept(&pool), [100 * KB], "too large for what stays");
        assert_eq!(bytes, vec![7; 50 * KB]);
        // The length was not known, and little came.
        let mut lent = pool.take(0, Stay::Short);
        lent.append(b"little");
        let little = lent.into_bytes(Stay::Long);
        assert_eq!(kept(&pool), [100 * KB], "it was copied out of the buffer");
        assert_eq!(little, "little");
        let close = filled(&pool, 99 * KB, Stay::Long);
        assert_eq!(kept(&pool), [0; 0]);
        drop((bytes, close));
        // More came, which is copied into a buffer that fits.
        let mut lent = pool.take(99 * KB, Stay::Short);
        lent.append(&vec![8; 49 * KB]);
        let half = lent.into_bytes(Stay::Long);
        assert_eq!(half, vec![8; 49 * KB]);
        assert_eq!(kept(&pool), [100 * KB]);
        drop(half);
        assert_eq!(kept(&pool), [100 * KB, 50 * KB]);
        let mut grown = pool.take(0, Stay::Long);
        grown.append(b"first");
        grown.reserve(95 * KB);
        assert_eq!(grown.into_bytes(Stay::Long), "first");
        assert_eq!(kept(&pool), [50 * KB, 100 * KB]);
    }

    #[test]
    fn small_buffers_are_not_kept() {
        let pool = BufferPool::default();
        for stay in [Stay::Short, Stay::Long] {
            drop(filled(&pool, SMALLEST - 1, stay));
            assert_eq!(kept(&pool), [0; 0], "{stay:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_used_last_stays() {
        let pool = BufferPool::default();
        let many: Vec<Bytes> = (20..50)
            .map(|number| filled(&pool, number * KB, Stay::Short))
            .collect();
        drop(many);
        let last = [42, 43, 44, 45, 46, 47, 48, 49];
        assert_eq!(kept(&pool), last.map(|number| number * KB));
        let too_large = filled(&pool, KEPT_BYTES + 1, Stay::Short);
        drop(too_large);
        assert_eq!(kept(&pool).len(), KEPT_BUFFERS);
        drop(filled(&pool, KEPT_BYTES - 100 * KB, Stay::Short));
        assert_eq!(kept(&pool), [48 * KB, 49 * KB, KEPT_BYTES - 100 * KB]);
        // Answers are small again.
        for size in [30, 20] {
            let small: Vec<Bytes> = (0..8)
                .map(|_| filled(&pool, size * KB, Stay::Long))
                .collect();
            drop(small);
            assert_eq!(kept(&pool), [size * KB; 8]);
        }
    }
}
