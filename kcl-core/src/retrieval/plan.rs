//! How much to ask for in one call: `Limit` and room in the budget, from what records took lately.

/// Most records that one call may ask for; the service's limit.
pub const MAX_RECORDS_PER_CALL: u16 = 10_000;

/// Answers are kept near this size: half of what a shard gives out in a second, so that a large answer is not
/// followed by seconds of throttling.
const TARGET_ANSWER_BYTES: u64 = 1 << 20;

/// The largest answer of the service: GetRecords returns at most 10 MiB, and so large may a single record be, in a stream that
/// was set up for it.
pub(super) const MAX_ANSWER_BYTES: u64 = 10 << 20;

/// The largest record that a stream takes unless it was set up for larger ones. Assumed until a record was seen.
const LARGEST_USUAL_RECORD: u64 = 1 << 20;

/// How many times as many records as were seen a call may ask for.
const TRUST: u64 = 16;

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Records, 1 to 10,000.
    pub(super) limit: u16,
    /// Bytes to reserve.
    pub(super) reserve: u64,
}

/// What records took in memory lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learned {
    /// Bytes for each record.
    pub(super) bytes_per_record: u64,
    /// On how many records this rests.
    pub(super) records: u64,
}

/// Plans a call so that its answer stays within `share` bytes, if records stay as large as they were.
///
/// Few records are poor evidence, so a call asks for at most [`TRUST`] times as many as were seen. One record is always
/// asked for, also when it takes more than the share: it then waits until that much is free, and for the whole budget
/// (`total`) when it takes more than that.
pub(super) fn plan(total: u64, share: u64, learned: Option<Learned>, max_records: u16) -> Plan {
    let (each, trusted) = learned.map_or((LARGEST_USUAL_RECORD, 1), |learned| {
        let trusted = learned.records.saturating_mul(TRUST);
        (learned.bytes_per_record.max(1), trusted)
    });
    let affordable = share.min(TARGET_ANSWER_BYTES) / each;
    let most = max_records.clamp(1, MAX_RECORDS_PER_CALL);
    let limit = u16::try_from(affordable.min(trusted))
        .unwrap_or(most)
        .clamp(1, most);
    Plan {
        limit,
        reserve: each.saturating_mul(u64::from(limit)).min(total),
    }
}

/// What is known after another answer. The size grows at once and shrinks slowly, so that a run of small records does not
/// make the next call forget the large ones. An answer without records teaches nothing.
pub(super) fn learned(before: Option<Learned>, bytes: u64, records: usize) -> Option<Learned> {
    let records = records as u64;
    if records == 0 {
        return before;
    }
    let now = bytes.div_ceil(records);
    Some(match before {
        Some(before) => Learned {
            bytes_per_record: match before.bytes_per_record.checked_sub(now) {
                Some(less) => before.bytes_per_record - less.div_ceil(8),
                None => now,
            },
            records: before.records.saturating_add(records),
        },
        None => Learned {
            bytes_per_record: now,
            records,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn known(bytes_per_record: u64) -> Option<Learned> {
        Some(Learned {
            bytes_per_record,
            records: 100_000,
        })
    }

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
        let limit = |each| plan(64 * MIB, 32 * MIB, known(each), 10_000).limit;
        assert_eq!(limit(50), 10_000);
        assert_eq!(limit(1024), 1024);
        assert_eq!(limit(MIB / 2), 2);
        assert_eq!(limit(9 * MIB), 1);
        assert_eq!(plan(64 * MIB, 32 * MIB, known(50), 100).limit, 100);
    }

    #[test]
    fn a_small_share_means_a_small_answer() {
        let planned = plan(64 * MIB, 64 << 10, known(1000), 10_000);
        assert_eq!(planned.limit, 65);
        assert!(planned.reserve <= 64 << 10);
    }

    #[test]
    fn a_record_larger_than_the_budget_asks_for_all_of_it() {
        let planned = plan(1000, 500, known(5000), 10_000);
        assert_eq!(
            planned,
            Plan {
                limit: 1,
                reserve: 1000
            }
        );
    }

    #[test]
    fn few_records_are_poor_evidence() {
        let mut known = None;
        let limits: Vec<u16> = (0..4)
            .map(|_| {
                let limit = plan(64 * MIB, 32 * MIB, known, 10_000).limit;
                known = learned(known, 100 * u64::from(limit), usize::from(limit));
                limit
            })
            .collect();
        assert_eq!(limits, [1, 16, 272, 4624]);
    }

    #[test]
    fn sizes_are_learned_at_once_and_forgotten_slowly() {
        let size = |learned: Option<Learned>| learned.unwrap().bytes_per_record;
        assert_eq!(size(learned(None, 1000, 10)), 100);
        assert_eq!(size(learned(known(100), 8000, 10)), 800);
        assert_eq!(learned(known(800), 0, 0), known(800));
        assert_eq!(learned(None, 0, 0), None);
        let mut large = known(800);
        for _ in 0..4 {
            large = learned(large, 100, 1);
        }
        assert!(size(large) > 400, "{large:?}");
        for _ in 0..60 {
            large = learned(large, 100, 1);
        }
        assert_eq!(size(large), 100);
    }
}
