//! The completion watermark: how far a shard is complete, whatever order its records are completed in.

use std::collections::{BTreeMap, BTreeSet};

use crate::Position;

/// How far a shard is complete.
///
/// Records are handed out in order, a batch at a time ([`deliver`](Self::deliver)); batches, and single records that
/// were taken out of them ([`defer`](Self::defer)), are completed in any order. [`completed`](Self::completed) is the
/// highest position up to which everything that was delivered is complete, so a checkpoint there loses nothing. The
/// cost is per batch and per deferred record, not per record.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// The end of the last delivery: complete if nothing is open.
    delivered: Option<Position>,
    /// The open ranges by their ends. They do not overlap.
    open: BTreeMap<Position, OpenRange>,
    /// The ends of the open ranges of each delivery.
    deliveries: BTreeMap<DeliveryId, BTreeSet<Position>>,
    next_id: u64,
}

/// Records that are not complete: those after `start` (all, if there is none) up to the range's end.
#[derive(Debug, Clone)]
struct OpenRange {
    start: Option<Position>,
    delivery: DeliveryId,
}

/// Names records that are completed together: a batch, or one deferred record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u64);

/// Records that were delivered and are not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRecords {
    /// They come after this position; `None` if they begin with the first record of all.
    pub after: Option<Position>,
    /// The position of the last one.
    pub through: Position,
}

/// A delivery that does not follow the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "records up to {position} cannot be delivered after records up to {delivered}: deliveries come in order"
)]
pub struct OutOfOrder {
    position: Position,
    delivered: Position,
}

impl Watermark {
    /// The watermark of a shard that is complete up to `completed` (`None`: nothing is).
    #[must_use]
    pub fn new(completed: Option<Position>) -> Self {
        Self {
            delivered: completed,
            open: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// The highest position up to which everything that was delivered is complete; `None` if there is none yet.
    #[must_use]
    pub fn completed(&self) -> Option<&Position> {
        match self.open.first_key_value() {
            Some((_, first)) => first.start.as_ref(),
            None => self.delivered.as_ref(),
        }
    }

    /// The position of the last record that was delivered.
    #[must_use]
    pub fn delivered(&self) -> Option<&Position> {
        self.delivered.as_ref()
    }

    /// How many batches and deferred records are not complete.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.deliveries.len()
    }

    /// True if everything that was delivered is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Hands out the records that follow the last delivery, up to and including `last`.
    ///
    /// # Errors
    /// When `last` does not lie after the last delivery.
    pub fn deliver(&mut self, last: Position) -> Result<DeliveryId, OutOfOrder> {
        if let Some(delivered) = &self.delivered
            && last <= *delivered
        {
            return Err(OutOfOrder {
                position: last,
                delivered: delivered.clone(),
            });
        }
        let start = self.delivered.replace(last.clone());
        let delivery = self.new_id();
        self.open_range(start, last, delivery);
        Ok(delivery)
    }

    /// Completes what is left of a delivery. Returns false if nothing was: it was completed or replaced before.
    pub fn complete(&mut self, delivery: DeliveryId) -> bool {
        let Some(ends) = self.deliveries.remove(&delivery) else {
            return false;
        };
        for end in &ends {
            self.open.remove(end);
        }
        true
    }

    /// Takes the record at `position` out of a delivery, to be completed on its own. `previous` is the position of the
    /// record before it in the same batch (`None` for the first one).
    ///
    /// Returns `None` if that record is not open in this delivery.
    pub fn defer(
        &mut self,
        delivery: DeliveryId,
        previous: Option<&Position>,
        position: &Position,
    ) -> Option<DeliveryId> {
        let (end, range) = self.open.range(position..).next()?;
        let after_start = range.start.as_ref().is_none_or(|start| position > start);
        if range.delivery != delivery || !after_start || previous.is_some_and(|p| p >= position) {
            return None;
        }
        let (end, start) = (end.clone(), range.start.clone());
        self.close_range(&end);
        // `None` is below every position: of the two, the later one is where the record's own range begins.
        let before = previous.cloned().max(start.clone());
        if let Some(before) = before.clone()
            && Some(&before) != start.as_ref()
        {
            self.open_range(start, before, delivery);
        }
        let record = self.new_id();
        self.open_range(before, position.clone(), record);
        if *position < end {
            self.open_range(Some(position.clone()), end, delivery);
        }
        Some(record)
    }

    /// Takes what is left of a delivery up to and including `through` out of it, to be completed on its own.
    ///
    /// Returns `None` if nothing is left up to there.
    pub fn split(&mut self, delivery: DeliveryId, through: &Position) -> Option<DeliveryId> {
        let first: Vec<OpenRecords> = self
            .open_records(delivery)
            .take_while(|open| open.after.as_ref().is_none_or(|after| after < through))
            .collect();
        if first.is_empty() {
            return None;
        }
        let part = self.new_id();
        for OpenRecords {
            after,
            through: end,
        } in first
        {
            self.close_range(&end);
            if end > *through {
                self.open_range(Some(through.clone()), end.clone(), delivery);
            }
            self.open_range(after, end.min(through.clone()), part);
        }
        Some(part)
    }

    /// Makes what is left of `part` belong to the delivery `whole`, from which it was taken, again. A late completion of
    /// `part` counts no more. Returns false if nothing was left.
    pub fn give_back(&mut self, part: DeliveryId, whole: DeliveryId) -> bool {
        let Some(ends) = self.deliveries.remove(&part) else {
            return false;
        };
        for end in ends {
            if let Some(range) = self.open.get_mut(&end) {
                range.delivery = whole;
            }
            self.deliveries.entry(whole).or_default().insert(end);
        }
        true
    }

    /// Whether something is left of a delivery, or it was not completed as a whole.
    #[must_use]
    pub fn is_open(&self, delivery: DeliveryId) -> bool {
        self.deliveries.contains_key(&delivery)
    }

    /// Hands out what is left of a delivery again, after a failure. A late completion of the old id counts no more.
    ///
    /// Returns `None` if nothing is left.
    pub fn redeliver(&mut self, delivery: DeliveryId) -> Option<DeliveryId> {
        let ends = self.deliveries.remove(&delivery)?;
        let again = self.new_id();
        for end in &ends {
            if let Some(range) = self.open.get_mut(end) {
                range.delivery = again;
            }
        }
        self.deliveries.insert(again, ends);
        Some(again)
    }

    /// Completes everything up to and including `position`, whoever holds it: what a checkpoint by hand declares.
    /// A position beyond the last delivery completes everything that was delivered.
    pub fn complete_through(&mut self, position: &Position) {
        while let Some((end, range)) = self.open.first_key_value() {
            let (end, delivery) = (end.clone(), range.delivery);
            if end > *position {
                let inside = range.start.as_ref().is_none_or(|start| start < position);
                if inside && let Some(range) = self.open.get_mut(&end) {
                    range.start = Some(position.clone());
                }
                return;
            }
            self.close_range(&end);
            if self
                .deliveries
                .get(&delivery)
                .is_some_and(BTreeSet::is_empty)
            {
                self.deliveries.remove(&delivery);
            }
        }
    }

    /// What is left of a delivery, in order.
    pub fn open_records(&self, delivery: DeliveryId) -> impl Iterator<Item = OpenRecords> + '_ {
        self.deliveries
            .get(&delivery)
            .into_iter()
            .flatten()
            .filter_map(|end| {
                self.open.get(end).map(|range| OpenRecords {
                    after: range.start.clone(),
                    through: end.clone(),
                })
            })
    }

    fn new_id(&mut self) -> DeliveryId {
        let id = DeliveryId(self.next_id);
        self.next_id += 1;
        id
    }

    fn open_range(&mut self, start: Option<Position>, end: Position, delivery: DeliveryId) {
        let ends = self.deliveries.entry(delivery).or_default();
        ends.insert(end.clone());
        self.open.insert(end, OpenRange { start, delivery });
    }

    /// Closes one range. Its delivery stays known, even without any range.
    fn close_range(&mut self, end: &Position) {
        if let Some(range) = self.open.remove(end)
            && let Some(ends) = self.deliveries.get_mut(&range.delivery)
        {
            ends.remove(end);
        }
    }
}
