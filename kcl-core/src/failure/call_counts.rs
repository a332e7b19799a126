//! How often the records of a batch were given to the processor.

use std::collections::BTreeMap;

/// Counts the calls that each row of a batch was part of.
///
/// Every call begins with the first row that is not settled, so that its end says everything. The cost is per end, of
/// which there are few: those of a search for a failing record.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallCounts(BTreeMap<usize, u32>);

impl CallCounts {
    /// Notes a call with the rows from `first`, before which all are settled, to before `end`.
    pub(crate) fn add(&mut self, first: usize, end: usize) {
        self.0 = self.0.split_off(&(first + 1));
        let calls = self.0.entry(end).or_default();
        *calls = calls.saturating_add(1);
    }

    /// How many calls a row was part of that is not settled.
    pub(crate) fn of(&self, row: usize) -> u32 {
        let calls = self.0.range(row + 1..);
        calls.fold(0, |sum, (_, calls)| sum.saturating_add(*calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_the_calls_that_reached_it() {
        let mut counts = CallCounts::default();
        assert_eq!(counts.of(0), 0);
        for end in [8, 8, 4, 2] {
            counts.add(0, end);
        }
        assert_eq!(
            [0, 1, 2, 3, 4, 7, 8].map(|row| counts.of(row)),
            [4, 4, 3, 3, 2, 2, 0]
        );
        counts.add(3, 4);
        assert_eq!([3, 4, 8].map(|row| counts.of(row)), [4, 2, 0]);
        assert_eq!(counts.0.len(), 2, "ends that are settled are forgotten");
    }
}
