//! One byte budget for a worker: room is reserved before a call and given back when the last slice of the answer is gone.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::plan::{Learned, MAX_ANSWER_BYTES, learned};

/// The memory that the records of one worker may take, in resident bytes: buffers and tables of offsets.
///
/// Whoever waits for room is served in order of arrival, so that a shard that asks for much is not overtaken for ever by
/// shards that ask for little. Cheap to clone; clones share the budget.
///
/// Room is reserved before a read from what records took lately. A read that meets larger ones takes more, and then no
/// new read starts until use is below the total again. Reads that run at the same time are covered against that: there is
/// room for the largest answer of each of them (10 MiB) but one. Tables of user records can be larger than the answer: they
/// are made for 10 MiB at a time, get their room before they are made, and only one at a time gets more than there is. So use
/// exceeds the total by at most one answer with its table: 20 MiB, whatever records come.
///
/// A shard whose answers are kept for long, because a processor is stuck or does not acknowledge, does not keep others from
/// being read: who holds more than an equal part of the budget reads on only while half of it is free.
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
    /// What the reads that run may take beyond their reservations: bytes, and how many reads.
    open: BTreeMap<u64, usize>,
    open_bytes: u64,
    /// The grant of room for a table that was more than there was, as long as use is above the total.
    beyond: Option<u64>,
    grants: u64,
    next_ticket: u64,
    /// Those who have an answer in hand.
    tables: VecDeque<Waiting>,
    reads: VecDeque<Waiting>,
    /// What Kinesis records take in memory, as seen lately by any shard.
    learned: Option<Learned>,
}

struct Waiting {
    ticket: u64,
    bytes: u64,
    /// Whose answer it is for.
    holder: Option<Arc<Holder>>,
    /// Told the grant, if it is more than there was.
    granted: oneshot::Sender<Option<u64>>,
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
        let state = self.shared.lock();
        state.tables.len() + state.reads.len()
    }

    /// Counts in one more shard among which the budget is shared, until the result is dropped.
    #[must_use]
    pub fn join(&self) -> Member {
        self.shared.lock().shards += 1;
        Member {
            budget: self.clone(),
            holder: Arc::default(),
        }
    }

    /// Waits until a read may start whose answer takes `bytes`, and perhaps more. More than the total waits until nothing
    /// else is in use.
    ///
    /// Dropping the future gives up the place in the queue, or the room if it was just granted.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        self.reserve_for(None, bytes).await
    }

    async fn reserve_for(&self, holder: Option<&Arc<Holder>>, bytes: u64) -> Reservation {
        self.shared.wait(Queue::Reads, holder, bytes).await;
        Reservation {
            shared: Arc::clone(&self.shared),
            bytes,
            holder: holder.map(Arc::clone),
            open: Some(may_grow(bytes)),
            beyond: None,
        }
    }
}

/// The bytes that the answers of one shard take.
#[derive(Debug, Default)]
struct Holder(AtomicU64);

impl Holder {
    fn held(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn change(holder: Option<&Arc<Self>>, from: u64, to: u64) {
        if let Some(Self(held)) = holder.map(AsRef::as_ref) {
            // Changed under the lock of the budget only.
            let now = held.load(Ordering::Relaxed).saturating_sub(from);
            held.store(now.saturating_add(to), Ordering::Relaxed);
        }
    }
}

/// What a read may take beyond its reservation.
fn may_grow(bytes: u64) -> u64 {
    MAX_ANSWER_BYTES.saturating_sub(bytes)
}

/// Who waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Tables,
    Reads,
}

impl Shared {
    /// The state holds numbers only and is never left half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` are granted. Returns the grant if that is more than there was.
    async fn wait(
        self: &Arc<Self>,
        queue: Queue,
        holder: Option<&Arc<Holder>>,
        bytes: u64,
    ) -> Option<u64> {
        let mut place = {
            let mut state = self.lock();
            if state.may_pass(queue, holder, bytes, self.total)
                && state.fits(queue, holder, bytes, self.total)
            {
                return state.grant(queue, holder, bytes, self.total);
            }
            let (sender, granted) = oneshot::channel();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.queue(queue).push_back(Waiting {
                ticket,
                bytes,
                holder: holder.map(Arc::clone),
                granted: sender,
            });
            Place {
                shared: Arc::clone(self),
                queue,
                holder: holder.map(Arc::clone),
                ticket,
                bytes,
                granted,
            }
        };
        // The sender lives in the queue until it grants, so this cannot fail.
        (&mut place.granted).await.unwrap_or_default()
    }

    fn serve(&self, state: &mut State) {
        for queue in [Queue::Tables, Queue::Reads] {
            let mut next = 0;
            while let Some(first) = state.queue(queue).get(next) {
                let (bytes, holder) = (first.bytes, first.holder.clone());
                if state.fits(queue, holder.as_ref(), bytes, self.total) {
                    if let Some(first) = state.queue(queue).remove(next) {
                        let beyond = state.grant(queue, holder.as_ref(), bytes, self.total);
                        // A waiter that goes away before it has looked gives the room back.
                        let _ = first.granted.send(beyond);
                    }
                } else if queue == Queue::Tables
                    || state.is_fair(holder.as_ref(), bytes, self.total)
                {
                    // Reads wait for those who have their answers, and for those who came before.
                    return;
                } else {
                    next += 1;
                }
            }
        }
    }
}

impl State {
    fn queue(&mut self, queue: Queue) -> &mut VecDeque<Waiting> {
        match queue {
            Queue::Tables => &mut self.tables,
            Queue::Reads => &mut self.reads,
        }
    }

    /// Whether nobody waits who comes before a newcomer: who holds much already lets others pass.
    fn may_pass(&self, queue: Queue, holder: Option<&Arc<Holder>>, bytes: u64, total: u64) -> bool {
        let is_fair =
            |waiting: &Waiting| self.is_fair(waiting.holder.as_ref(), waiting.bytes, total);
        match queue {
            _ if !self.tables.is_empty() => false,
            Queue::Tables => true,
            Queue::Reads if self.is_fair(holder, bytes, total) => !self.reads.iter().any(is_fair),
            Queue::Reads => self.reads.is_empty(),
        }
    }

    /// Whether this is within a shard's equal part of the budget. One answer is.
    fn is_fair(&self, holder: Option<&Arc<Holder>>, bytes: u64, total: u64) -> bool {
        let held = holder.map_or(0, |holder| holder.held());
        let shards = self.shards.max(1) as u64;
        held == 0 || held.saturating_add(bytes) <= total / shards
    }

    fn fits(&self, queue: Queue, holder: Option<&Arc<Holder>>, bytes: u64, total: u64) -> bool {
        match queue {
            Queue::Tables => {
                let (running, largest) = (self.open_bytes, self.open.keys().next_back());
                let covered = running - largest.copied().unwrap_or_default();
                let within = self.used.saturating_add(bytes).saturating_add(covered) <= total;
                // More than there is: one at a time, and not while a read could do the same.
                let alone = self.beyond.is_none() || self.used <= total;
                within || (alone && self.open.is_empty())
            }
            Queue::Reads if self.used == 0 => true,
            Queue::Reads => {
                let (mine, others) = (may_grow(bytes), self.open.keys().next_back());
                let largest = others.map_or(mine, |others| mine.max(*others));
                let covered = self.open_bytes.saturating_add(mine) - largest;
                let room = match self.is_fair(holder, bytes, total) {
                    true => total,
                    false => total / 2,
                };
                self.used.saturating_add(bytes).saturating_add(covered) <= room
            }
        }
    }

    /// Returns the grant if that is more room than there was.
    fn grant(
        &mut self,
        queue: Queue,
        holder: Option<&Arc<Holder>>,
        bytes: u64,
        total: u64,
    ) -> Option<u64> {
        self.used = self.used.saturating_add(bytes);
        match queue {
            // What is used for good is known, and counts for the peak, once the table is made.
            Queue::Tables if self.used > total => {
                self.grants += 1;
                self.beyond = Some(self.grants);
                self.beyond
            }
            Queue::Tables => None,
            Queue::Reads => {
                self.peak = self.peak.max(self.used);
                let open = may_grow(bytes);
                *self.open.entry(open).or_default() += 1;
                self.open_bytes = self.open_bytes.saturating_add(open);
                Holder::change(holder, 0, bytes);
                None
            }
        }
    }

    fn undo(&mut self, place: &Place, beyond: Option<u64>) {
        self.used = self.used.saturating_sub(place.bytes);
        match place.queue {
            Queue::Tables => self.end_beyond(beyond),
            Queue::Reads => {
                self.close(may_grow(place.bytes));
                Holder::change(place.holder.as_ref(), place.bytes, 0);
            }
        }
    }

    /// A grant that was more than there was is over, unless another one took its place.
    fn end_beyond(&mut self, grant: Option<u64>) {
        if grant.is_some() && self.beyond == grant {
            self.beyond = None;
        }
    }

    fn close(&mut self, open: u64) {
        if let Some(reads) = self.open.get_mut(&open) {
            *reads -= 1;
            if *reads == 0 {
                self.open.remove(&open);
            }
            self.open_bytes = self.open_bytes.saturating_sub(open);
        }
    }
}

/// A place in the queue. Dropped before its owner has looked at the grant, it is given up.
struct Place {
    shared: Arc<Shared>,
    queue: Queue,
    holder: Option<Arc<Holder>>,
    ticket: u64,
    bytes: u64,
    granted: oneshot::Receiver<Option<u64>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.granted.is_terminated() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        match self.granted.try_recv() {
            Ok(beyond) => state.undo(self, beyond),
            Err(_) => {
                let queue = state.queue(self.queue);
                queue.retain(|waiting| waiting.ticket != self.ticket);
            }
        }
        // The first in the queue may have changed to one that fits.
        shared.serve(&mut state);
    }
}

/// Room in the budget. Dropping it gives the room back.
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
    holder: Option<Arc<Holder>>,
    /// What the read may take beyond that, while it runs.
    open: Option<u64>,
    /// The grant by which it got more than there was.
    beyond: Option<u64>,
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
        if let Some(open) = self.open.take() {
            state.close(open);
        }
        let before = std::mem::replace(&mut self.bytes, bytes);
        state.used = state.used.saturating_sub(before).saturating_add(bytes);
        state.peak = state.peak.max(state.used);
        Holder::change(self.holder.as_ref(), before, bytes);
        self.shared.serve(&mut state);
    }

    /// Waits until a table of at most `bytes` may be made beside the answer. [`resize`](Self::resize) then says what it takes.
    ///
    /// Dropping the future gives up the place in the queue.
    pub async fn add_table(&mut self, bytes: u64) {
        self.beyond = self.shared.wait(Queue::Tables, None, bytes).await;
        let _state = self.shared.lock();
        Holder::change(self.holder.as_ref(), 0, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(open) = self.open.take() {
            state.close(open);
        }
        state.used = state.used.saturating_sub(self.bytes);
        Holder::change(self.holder.as_ref(), self.bytes, 0);
        state.end_beyond(self.beyond);
        self.shared.serve(&mut state);
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
    holder: Arc<Holder>,
}

impl Member {
    /// The budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// As [`Budget::reserve`], for an answer of this shard: one that holds much lets others pass.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        self.budget.reserve_for(Some(&self.holder), bytes).await
    }

    /// A reservation of nothing yet, for a table beside an answer that is held already.
    pub(super) fn nothing(&self) -> Reservation {
        Reservation {
            shared: Arc::clone(&self.budget.shared),
            bytes: 0,
            holder: Some(Arc::clone(&self.holder)),
            open: None,
            beyond: None,
        }
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
