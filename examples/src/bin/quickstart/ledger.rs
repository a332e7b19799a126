//! What was put, what was processed, and whether the one is the other. No I/O here.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What was put and what was processed, by partition key and in order.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    put: BTreeMap<String, Vec<String>>,
    processed: BTreeMap<String, Vec<Vec<u8>>>,
    processed_count: u64,
    put_count: u64,
    shards: BTreeMap<String, ShardStory>,
    started: Option<Instant>,
    first_record_after: Option<Duration>,
}

/// What happened to one shard.
#[derive(Debug, Default, Clone)]
pub(crate) struct ShardStory {
    pub(crate) parents: Vec<String>,
    /// User records that each worker processed.
    pub(crate) by_worker: BTreeMap<u8, u64>,
    pub(crate) aggregated: u64,
    pub(crate) ended: bool,
}

/// The comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Put and never processed.
    pub(crate) missing: u64,
    /// Processed more than once.
    pub(crate) duplicates: u64,
    /// Processed after a record of the same key that was put later.
    pub(crate) out_of_order: u64,
    /// Processed and never put.
    pub(crate) unknown: u64,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Ledger {
    /// The clock of the first record runs from the first call on.
    pub(crate) fn start_clock(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    pub(crate) fn put(&mut self, key: String, payload: String) {
        self.put_count += 1;
        self.put.entry(key).or_default().push(payload);
    }

    pub(crate) fn processed_record(&mut self, key: &str, payload: &[u8]) {
        if self.first_record_after.is_none() {
            self.first_record_after = self.started.map(|started| started.elapsed());
        }
        self.processed_count += 1;
        match self.processed.get_mut(key) {
            Some(payloads) => payloads.push(payload.to_vec()),
            None => {
                self.processed
                    .insert(key.to_owned(), vec![payload.to_vec()]);
            }
        }
    }

    pub(crate) fn shard(&mut self, id: &str) -> &mut ShardStory {
        self.shards.entry(id.to_owned()).or_default()
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = (&str, &ShardStory)> {
        self.shards.iter().map(|(id, story)| (id.as_str(), story))
    }

    pub(crate) fn put_total(&self) -> u64 {
        self.put_count
    }

    pub(crate) fn processed(&self) -> u64 {
        self.processed_count
    }

    pub(crate) fn first_record_after(&self) -> Option<Duration> {
        self.first_record_after
    }

    /// Compares contents, key by key.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (key, put) in &self.put {
            let processed = self
                .processed
                .get(key)
                .map(Vec::as_slice)
                .unwrap_or_default();
            compare(put, processed, &mut verdict);
        }
        let strangers = self
            .processed
            .iter()
            .filter(|(key, _)| !self.put.contains_key(*key));
        verdict.unknown += strangers
            .map(|(_, payloads)| payloads.len() as u64)
            .sum::<u64>();
        verdict
    }
}

/// Compares the records of one key. Payloads of a key are all different.
fn compare(put: &[String], processed: &[Vec<u8>], verdict: &mut Verdict) {
    let index: BTreeMap<&[u8], usize> = put
        .iter()
        .enumerate()
        .map(|(index, payload)| (payload.as_bytes(), index))
        .collect();
    let mut seen = vec![false; put.len()];
    let mut furthest = None;
    for payload in processed {
        let Some(&position) = index.get(payload.as_slice()) else {
            verdict.unknown += 1;
            continue;
        };
        match seen.get_mut(position) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                verdict.duplicates += 1;
                continue;
            }
        }
        if furthest.is_some_and(|furthest| position < furthest) {
            verdict.out_of_order += 1;
        }
        furthest = furthest.max(Some(position));
    }
    verdict.missing += seen.iter().filter(|seen| !**seen).count() as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(put: &[&str], processed: &[&str]) -> Verdict {
        let mut ledger = Ledger::default();
        for payload in put {
            ledger.put("key".to_owned(), (*payload).to_owned());
        }
        for payload in processed {
            ledger.processed_record("key", payload.as_bytes());
        }
        ledger.verdict()
    }

    #[test]
    fn the_same_records_in_order_are_clean() {
        assert!(verdict(&["a", "b", "c"], &["a", "b", "c"]).is_clean());
        assert!(verdict(&[], &[]).is_clean());
    }

    #[test]
    fn every_deviation_is_seen_although_the_counts_are_equal() {
        let missing_and_twice = verdict(&["a", "b", "c"], &["a", "b", "b"]);
        assert_eq!(
            missing_and_twice,
            Verdict {
                missing: 1,
                duplicates: 1,
                ..Verdict::default()
            }
        );
        let swapped = verdict(&["a", "b", "c"], &["a", "c", "b"]);
        assert_eq!(
            swapped,
            Verdict {
                out_of_order: 1,
                ..Verdict::default()
            }
        );
        let altered = verdict(&["a", "b", "c"], &["a", "b", "x"]);
        assert_eq!(
            altered,
            Verdict {
                missing: 1,
                unknown: 1,
                ..Verdict::default()
            }
        );
    }

    #[test]
    fn a_record_of_a_key_that_was_never_put_is_unknown() {
        let mut ledger = Ledger::default();
        ledger.processed_record("stranger", b"x");
        assert_eq!(
            ledger.verdict(),
            Verdict {
                unknown: 1,
                ..Verdict::default()
            }
        );
    }
}
