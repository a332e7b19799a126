//! One byte budget for a worker: room is reserved before a call and given back when the last slice of the answer is gone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::plan::{Learned, learned};

/// The memory that the records of one worker may take, in resident bytes: buffers and tables of offsets.
///
/// Whoever waits for room is served in order of arrival, so that a shard that asks for much is not overtaken for ever by
/// shards that ask for little. Cheap to clone; clones share the budget.
///
/// Room is reserved before a read from what records took lately. A read that meets larger ones takes more, by at most
/// its own answer (10 MiB and its table); then no new read starts until use is below the total again.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    total: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// The most that was ever in use.
    peak: u64,
    shards: usize,
    next_ticket: u64,
    queue: VecDeque<Waiting>,
    /// What Kinesis records take in memory, as seen lately by any shard.
    learned: Option<Learned>,
}

struct Waiting {
    ticket: u64,
    bytes: u64,
    granted: oneshot::Sender<()>,
}

impl Budget {
    /// A budget of `total` bytes, at least one.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                total: total.max(1),
                state: Mutex::default(),
            }),
        }
    }

    /// All bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shared.total
    }

    /// Bytes in use now. May exceed the total by what answers were larger than expected.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.lock().used
    }

    /// The most bytes that were ever in use.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.shared.lock().peak
    }

    /// Shards that wait for room now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Counts in one more shard among which the budget is shared, until the result is dropped.
    #[must_use]
    pub fn join(&self) -> Member {
        self.shared.lock().shards += 1;
        Member {
            budget: self.clone(),
        }
    }

    /// Waits until `bytes` fit. More than the total waits until nothing else is in use.
    ///
    /// Dropping the future gives up the place in the queue, or the room if it was just granted.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let (mut place, granted) = {
            let mut state = self.shared.lock();
            if state.queue.is_empty() && self.shared.fits(&state, bytes) {
                state.take(bytes);
                return self.reservation(bytes);
            }
            let (sender, granted) = oneshot::channel();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.queue.push_back(Waiting {
                ticket,
                bytes,
                granted: sender,
            });
            let place = Place {
                shared: Arc::clone(&self.shared),
                ticket,
                bytes,
                armed: true,
            };
            (place, granted)
        };
        // The sender lives in the queue until it grants, so this cannot fail.
        let _ = granted.await;
        place.armed = false;
        self.reservation(bytes)
    }

    fn reservation(&self, bytes: u64) -> Reservation {
        Reservation {
            shared: Arc::clone(&self.shared),
            bytes,
        }
    }
}

impl Shared {
    /// The state holds numbers only and is never left half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, bytes: u64) -> bool {
        state.used == 0 || state.used.saturating_add(bytes) <= self.total
    }

    fn release(&self, state: &mut State, bytes: u64) {
        state.used = state.used.saturating_sub(bytes);
        self.serve(state);
    }

    fn serve(&self, state: &mut State) {
        while let Some(first) = state.queue.front() {
            let bytes = first.bytes;
            if !self.fits(state, bytes) {
                return;
            }
            if let Some(first) = state.queue.pop_front() {
                state.take(bytes);
                // If the waiter is gone, its `Place` finds the ticket missing and gives the room back.
                let _ = first.granted.send(());
            }
        }
    }
}

impl State {
    fn take(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        self.peak = self.peak.max(self.used);
    }
}

/// A place in the queue. Dropped while armed, it is given up.
struct Place {
    shared: Arc<Shared>,
    ticket: u64,
    bytes: u64,
    armed: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut state = self.shared.lock();
        let before = state.queue.len();
        state.queue.retain(|waiting| waiting.ticket != self.ticket);
        if state.queue.len() == before {
            self.shared.release(&mut state, self.bytes);
        } else {
            // The first in the queue may have changed to one that fits.
            self.shared.serve(&mut state);
        }
    }
}

/// Room in the budget. Dropping it gives the room back.
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Reservation {
    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes the size to what an answer really takes, at once, even beyond the total: the memory is there already.
    pub fn resize(&mut self, bytes: u64) {
        let mut state = self.shared.lock();
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            state.take(bytes - before);
        } else {
            self.shared.release(&mut state, before - bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        self.shared.release(&mut state, self.bytes);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("total", &self.total())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// One shard's membership in a [`Budget`].
#[derive(Debug)]
pub struct Member {
    budget: Budget,
}

impl Member {
    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What one answer of this shard should take at most: with one answer in hand and one fetched ahead, all shards
    /// together fill the budget.
    #[must_use]
    pub fn share(&self) -> u64 {
        let shards = self.budget.shared.lock().shards.max(1) as u64;
        (self.budget.total() / (2 * shards)).max(1)
    }

    /// What Kinesis records take in memory, as seen lately by any shard; `None` before the first one.
    pub(super) fn learned(&self) -> Option<Learned> {
        self.budget.shared.lock().learned
    }

    /// Notes what one answer took.
    pub(super) fn learn(&self, bytes: u64, records: usize) {
        let mut state = self.budget.shared.lock();
        state.learned = learned(state.learned, bytes, records);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.budget.shared.lock();
        state.shards = state.shards.saturating_sub(1);
    }
}
