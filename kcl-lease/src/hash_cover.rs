//! Which hash keys some ranges leave out.

use crate::key::HashKeyRange;

/// The hash keys that no range covers, in order. The ranges may overlap.
pub(crate) fn uncovered(ranges: impl IntoIterator<Item = HashKeyRange>) -> Vec<HashKeyRange> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let mut holes = Vec::new();
    // The first hash key that nothing covers so far; `None` once everything is covered.
    let mut next = Some(0);
    for range in ranges {
        let Some(wanted) = next else {
            break;
        };
        if let Some(before) = range.start.checked_sub(1).filter(|end| wanted <= *end) {
            holes.push(HashKeyRange {
                start: wanted,
                end: before,
            });
        }
        next = range.end.checked_add(1).map(|after| after.max(wanted));
    }
    holes.extend(next.map(|start| HashKeyRange {
        start,
        end: u128::MAX,
    }));
    holes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of 256 equal parts of the hash keys, or several next to each other.
    fn parts(first: u8, last: u8) -> HashKeyRange {
        HashKeyRange {
            start: u128::from(first) << 120,
            end: (u128::from(last) << 120) | (u128::MAX >> 8),
        }
    }

    fn covers(ranges: &[HashKeyRange], part: u8) -> bool {
        ranges.iter().any(|r| r.contains(u128::from(part) << 120))
    }

    fn check(ranges: &[HashKeyRange]) {
        let holes = uncovered(ranges.iter().copied());
        for part in 0..=u8::MAX {
            assert_ne!(covers(ranges, part), covers(&holes, part), "{part}");
        }
        // Each hole is as large as it can be, and they are in order.
        for pair in holes.windows(2) {
            assert!(pair[0].end + 1 < pair[1].start, "{holes:?}");
        }
        assert!(holes.iter().all(|hole| hole.start <= hole.end));
    }

    #[test]
    fn every_single_range_and_its_complement() {
        for first in 0..=u8::MAX {
            for last in first..=u8::MAX {
                let range = parts(first, last);
                check(&[range]);
                let holes = uncovered([range]);
                assert_eq!(uncovered(holes), [range], "{first} {last}");
            }
        }
        assert_eq!(uncovered([]), [HashKeyRange::FULL]);
        assert_eq!(uncovered([HashKeyRange::FULL]), []);
    }

    proptest! {
        #[test]
        fn any_ranges(ranges in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..12)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| parts(a.min(b), a.max(b))).collect();
            check(&ranges);
        }
    }
}
