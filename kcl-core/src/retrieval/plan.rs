//! How much to ask for in one call: `Limit` and room in the budget, from what records took lately.

/// Most records that one call may ask for; the service's limit.
pub const MAX_RECORDS_PER_CALL: u16 = 10_000;

/// Answers are kept near this size: half of what a shard gives out in a second, so that a large answer is not
/// followed by seconds of throttling.
const TARGET_ANSWER_BYTES: u64 = 1 << 20;

/// The largest record that a stream takes unless it was set up for larger ones. Assumed until a record was seen.
const LARGEST_USUAL_RECORD: u64 = 1 << 20;

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Records, 1 to 10,000.
    pub(super) limit: u16,
    /// Bytes to reserve.
    pub(super) reserve: u64,
}

/// Plans a call so that its answer stays within `share` bytes, if records stay as large as they were.
///
/// One record is always asked for, also when it takes more than the share: it then waits until that much is free, and
/// for the whole budget (`total`) when it takes more than that.
pub(super) fn plan(
    total: u64,
    share: u64,
    bytes_per_record: Option<u64>,
    max_records: u16,
) -> Plan {
    let each = bytes_per_record.unwrap_or(LARGEST_USUAL_RECORD).max(1);
    let affordable = share.min(TARGET_ANSWER_BYTES) / each;
    let most = max_records.clamp(1, MAX_RECORDS_PER_CALL);
    let limit = u16::try_from(affordable).unwrap_or(most).clamp(1, most);
    Plan {
        limit,
        reserve: each.saturating_mul(u64::from(limit)).min(total),
    }
}

/// What a record takes in memory, after another answer: grows at once, shrinks slowly, so that a run of small records
/// does not make the next call forget the large ones. An answer without records teaches nothing.
pub(super) fn learned(before: Option<u64>, bytes: u64, records: usize) -> Option<u64> {
    let records = records as u64;
    if records == 0 {
        return before;
    }
    let now = bytes.div_ceil(records);
    Some(match before {
        Some(before) if before > now => before - (before - now).div_ceil(8),
        _ => now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn before_any_record_was_seen_room_for_the_largest_is_taken() {
        assert_eq!(
            plan(64 * MIB, 32 * MIB, None, 10_000),
            Plan {
                limit: 1,
                reserve: MIB
            }
        );
    }

    #[test]
    fn the_limit_follows_the_size_of_records() {
        let limit = |each| plan(64 * MIB, 32 * MIB, Some(each), 10_000).limit;
        assert_eq!(limit(50), 10_000);
        assert_eq!(limit(1024), 1024);
        assert_eq!(limit(MIB / 2), 2);
        assert_eq!(limit(9 * MIB), 1);
        assert_eq!(plan(64 * MIB, 32 * MIB, Some(50), 100).limit, 100);
    }

    #[test]
    fn a_small_share_means_a_small_answer() {
        let planned = plan(64 * MIB, 64 << 10, Some(1000), 10_000);
        assert_eq!(planned.limit, 65);
        assert!(planned.reserve <= 64 << 10);
    }

    #[test]
    fn a_record_larger_than_the_budget_asks_for_all_of_it() {
        let planned = plan(1000, 500, Some(5000), 10_000);
        assert_eq!(
            planned,
            Plan {
                limit: 1,
                reserve: 1000
            }
        );
    }

    #[test]
    fn sizes_are_learned_at_once_and_forgotten_slowly() {
        assert_eq!(learned(None, 1000, 10), Some(100));
        assert_eq!(learned(Some(100), 8000, 10), Some(800));
        assert_eq!(learned(Some(800), 0, 0), Some(800));
        let mut size = Some(800);
        for _ in 0..4 {
            size = learned(size, 100, 1);
        }
        assert!(size > Some(400), "{size:?}");
        for _ in 0..60 {
            size = learned(size, 100, 1);
        }
        assert_eq!(size, Some(100));
    }
}
