//! Some records of a batch.

use std::ops::Range;
use std::sync::Arc;

use kcl_checkpoint::{Checkpoint, Position};

use crate::retrieval::{Batch, RecordRef, Records};

/// Some records of a batch, in order. Their places count from 0. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    batch: Arc<Batch>,
    /// The indexes in the batch, if they have gaps.
    picked: Option<Arc<[usize]>>,
    /// Of `picked`, or else of the batch.
    range: Range<usize>,
}

impl Selection {
    /// The records with these indexes.
    pub(crate) fn new(batch: Arc<Batch>, rows: Range<usize>) -> Self {
        Self {
            batch,
            picked: None,
            range: rows,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub(crate) fn iter(&self) -> Records<'_> {
        match &self.picked {
            Some(picked) => {
                let picked = picked.get(self.range.clone()).unwrap_or_default();
                self.batch.picked(picked)
            }
            None => self.batch.range(self.range.clone()),
        }
    }

    /// The record at a place.
    pub(crate) fn get(&self, place: usize) -> Option<RecordRef<'_>> {
        self.batch.get(self.row(place)?)
    }

    /// The place of this very record.
    pub(crate) fn find(&self, record: RecordRef<'_>) -> Option<usize> {
        if !record.is_of(&self.batch) {
            return None;
        }
        self.place_of(&record.position())
    }

    pub(crate) fn position(&self, place: usize) -> Option<Position> {
        Some(self.get(place)?.position())
    }

    /// The position of the record that comes before the one at a place in the batch, whether it is one of these or not:
    /// everything of these before the place lies up to there. `None` if none comes before.
    pub(crate) fn before(&self, place: usize) -> Option<Position> {
        let previous = self.row(place)?.checked_sub(1)?;
        Some(self.batch.get(previous)?.position())
    }

    /// Up to where nothing of these is left if those up to `position` are complete: right before the next one, or `end`.
    /// `None` if none lies up to there.
    pub(crate) fn reached(&self, position: &Position, end: &Position) -> Option<Position> {
        match self.through(&Checkpoint::At(position.clone())) {
            0 => None,
            place => Some(self.before(place).unwrap_or_else(|| end.clone())),
        }
    }

    /// The records at these places.
    pub(crate) fn slice(&self, places: Range<usize>) -> Self {
        let end = self.range.end.min(self.range.start + places.end);
        Self {
            batch: Arc::clone(&self.batch),
            picked: self.picked.clone(),
            range: (self.range.start + places.start).min(end)..end,
        }
    }

    /// How many of the records lie at or before a checkpoint.
    pub(crate) fn through(&self, checkpoint: &Checkpoint) -> usize {
        match checkpoint {
            Checkpoint::At(position) => self.before_row(self.batch.after(position)),
            Checkpoint::ShardEnd => self.len(),
            Checkpoint::AtTimestamp | Checkpoint::TrimHorizon | Checkpoint::Latest => 0,
        }
    }

    /// The place of the record at exactly this position.
    pub(crate) fn place_of(&self, position: &Position) -> Option<usize> {
        let place = self.before_row(self.batch.after(position)).checked_sub(1)?;
        (self.position(place)? == *position).then_some(place)
    }

    /// The records that are wanted, and the others.
    pub(crate) fn partition(self, wanted: impl Fn(usize, RecordRef<'_>) -> bool) -> (Self, Self) {
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        for place in 0..self.len() {
            if let (Some(row), Some(record)) = (self.row(place), self.get(place)) {
                match wanted(place, record) {
                    true => chosen.push(row),
                    false => others.push(row),
                }
            }
        }
        (self.of_rows(chosen), self.of_rows(others))
    }

    /// The records by lane.
    pub(crate) fn split(&self, lanes: usize, lane_of: impl Fn(&str) -> usize) -> Vec<Self> {
        let mut rows = vec![Vec::new(); lanes];
        for place in 0..self.len() {
            if let (Some(row), Some(record)) = (self.row(place), self.get(place))
                && let Some(rows) = rows.get_mut(lane_of(record.partition_key()))
            {
                rows.push(row);
            }
        }
        rows.into_iter().map(|rows| self.of_rows(rows)).collect()
    }

    fn of_rows(&self, rows: Vec<usize>) -> Self {
        Self {
            batch: Arc::clone(&self.batch),
            range: 0..rows.len(),
            picked: Some(rows.into()),
        }
    }

    /// How many of the records come before a row of the batch.
    fn before_row(&self, row: usize) -> usize {
        match &self.picked {
            Some(picked) => picked
                .get(self.range.clone())
                .unwrap_or_default()
                .partition_point(|picked| *picked < row),
            None => row.clamp(self.range.start, self.range.end) - self.range.start,
        }
    }

    /// The index in the batch of the record at a place.
    pub(crate) fn row(&self, place: usize) -> Option<usize> {
        let place = self.range.start + place;
        if place >= self.range.end {
            return None;
        }
        match &self.picked {
            Some(picked) => picked.get(place).copied(),
            None => Some(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kcl_checkpoint::SequenceNumber;

    use super::*;
    use crate::retrieval::{BatchBuilder, RawRecord};

    /// Records 0, 10, 20, ... with their indexes as payload.
    fn batch(records: u8) -> Arc<Batch> {
        let mut builder = BatchBuilder::with_capacity(usize::from(records));
        for index in 0..records {
            let sequence_number = (u32::from(index) * 10 + 10).to_string();
            let record = RawRecord {
                sequence_number: &sequence_number,
                partition_key: "key",
                arrival_millis: None,
                encryption_type: None,
            };
            builder.push(record, Bytes::from(vec![index])).unwrap();
        }
        Arc::new(builder.finish())
    }

    fn at(record: u32) -> Position {
        let number = (record * 10 + 10).to_string();
        Position::new(SequenceNumber::parse(&number).unwrap(), 0)
    }

    fn indexes(records: &Selection) -> Vec<u8> {
        records.iter().map(|record| record.data()[0]).collect()
    }

    #[test]
    fn records_keep_their_order_and_can_be_found_in_ranges_and_among_picked_ones() {
        let all = Selection::new(batch(8), 1..7);
        assert_eq!(indexes(&all), [1, 2, 3, 4, 5, 6]);
        let middle = all.slice(2..4);
        assert_eq!(indexes(&middle), [3, 4]);
        assert_eq!(
            (middle.place_of(&at(4)), middle.place_of(&at(5))),
            (Some(1), None)
        );
        let (odd, even) = all.partition(|_, record| record.data()[0] % 2 == 1);
        assert_eq!(
            (indexes(&odd), indexes(&even)),
            (vec![1, 3, 5], vec![2, 4, 6])
        );
        let late = odd.slice(1..9);
        assert_eq!(indexes(&late), [3, 5]);
        assert_eq!(late.iter().next_back().unwrap().data(), [5]);
        assert_eq!(
            (late.place_of(&at(5)), late.place_of(&at(1))),
            (Some(1), None)
        );
        assert_eq!(late.place_of(&at(4)), None);
        assert_eq!(late.get(2).map(RecordRef::data), None);
    }

    #[test]
    fn what_comes_before_a_record_is_found_among_all_records_of_the_batch() {
        let all = Selection::new(batch(8), 0..8);
        assert_eq!(all.before(0), None);
        assert_eq!((all.before(3), all.before(8)), (Some(at(2)), None));
        let (odd, _) = all.partition(|_, record| record.data()[0] % 2 == 1);
        assert_eq!(
            (odd.before(0), odd.before(1), odd.before(4)),
            (Some(at(0)), Some(at(2)), None)
        );
    }

    #[test]
    fn a_record_of_another_batch_is_not_found_although_its_position_is_the_same() {
        let (mine, other) = (
            Selection::new(batch(3), 0..3),
            Selection::new(batch(3), 0..3),
        );
        assert_eq!(mine.find(mine.get(1).unwrap()), Some(1));
        assert_eq!(mine.find(other.get(1).unwrap()), None);
        assert_eq!(mine.slice(2..3).find(mine.get(1).unwrap()), None);
    }

    #[test]
    fn what_is_complete_is_counted() {
        let all = Selection::new(batch(8), 1..7);
        assert_eq!(all.through(&Checkpoint::TrimHorizon), 0);
        assert_eq!(all.through(&at(0).into()), 0);
        assert_eq!(all.through(&at(3).into()), 3);
        assert_eq!(all.through(&at(7).into()), 6);
        assert_eq!(all.through(&Checkpoint::ShardEnd), 6);
        let (odd, _) = all.partition(|_, record| record.data()[0] % 2 == 1);
        assert_eq!(
            (odd.through(&at(3).into()), odd.through(&at(4).into())),
            (2, 2)
        );
        assert_eq!(odd.slice(1..3).through(&at(3).into()), 1);
    }
}
