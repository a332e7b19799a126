//! Which records go into the next PutRecords request. No I/O here.

use std::collections::{BTreeSet, VecDeque};

use super::entry::Entry;

/// The service takes 500 records in a request.
const REQUEST_RECORDS: usize = 500;
/// The service takes 10 MiB in a request; smaller requests are repeated faster.
const REQUEST_BYTES: usize = 4 << 20;
/// So much may wait before the reader of the input has to wait.
const QUEUE_RECORDS: usize = 5_000;
const QUEUE_BYTES: usize = 16 << 20;

/// Records that wait to be stored, in order.
///
/// PutRecords may store a later record of a request and refuse an earlier one, so a request never holds two records of
/// one group: whatever is refused, the order within each group stays.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Entry>,
    bytes: usize,
}

impl Queue {
    /// Puts a record at the end.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.waiting.push_back(entry);
    }

    /// Whether requests should be sent before more is pushed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= QUEUE_RECORDS || self.bytes >= QUEUE_BYTES
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many user records wait.
    #[must_use]
    pub fn user_records(&self) -> u64 {
        self.waiting.iter().map(|entry| entry.user_records).sum()
    }

    /// Takes the records of the next request; empty only if nothing waits.
    pub fn next_request(&mut self) -> Vec<Entry> {
        let mut request: Vec<Entry> = Vec::new();
        let mut request_bytes = 0;
        let mut passed = BTreeSet::new();
        let mut rest = VecDeque::with_capacity(self.waiting.len());
        while let Some(entry) = self.waiting.pop_front() {
            if request.len() == REQUEST_RECORDS {
                rest.push_back(entry);
                rest.append(&mut self.waiting);
                break;
            }
            let fits = request.is_empty() || request_bytes + entry.bytes() <= REQUEST_BYTES;
            if passed.insert(entry.group.clone()) && fits {
                request_bytes += entry.bytes();
                request.push(entry);
            } else {
                rest.push_back(entry);
            }
        }
        self.waiting = rest;
        self.bytes -= request_bytes;
        request
    }

    /// Puts refused records back, ahead of all others and in their order.
    pub fn give_back(&mut self, refused: Vec<Entry>) {
        for entry in refused.into_iter().rev() {
            self.bytes += entry.bytes();
            self.waiting.push_front(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(key: &str, data: &'static str) -> Entry {
        Entry::plain(key.to_owned(), Bytes::from_static(data.as_bytes()))
    }

    fn texts(entries: &[Entry]) -> Vec<&str> {
        entries
            .iter()
            .map(|entry| std::str::from_utf8(&entry.data).unwrap())
            .collect()
    }

    #[test]
    fn a_request_holds_each_key_once_and_refused_records_keep_their_place() {
        let mut queue = Queue::default();
        for (key, data) in [
            ("a", "a1"),
            ("a", "a2"),
            ("b", "b1"),
            ("a", "a3"),
            ("b", "b2"),
        ] {
            queue.push(entry(key, data));
        }
        let first = queue.next_request();
        assert_eq!(texts(&first), ["a1", "b1"]);
        // The service stored b1 and refused a1.
        queue.give_back(first.into_iter().take(1).collect());
        assert_eq!(texts(&queue.next_request()), ["a1", "b2"]);
        assert_eq!(texts(&queue.next_request()), ["a2"]);
        assert_eq!(texts(&queue.next_request()), ["a3"]);
        assert!(queue.next_request().is_empty() && queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_request_stays_within_the_limits_and_a_huge_record_goes_alone() {
        let mut queue = Queue::default();
        for index in 0..600 {
            queue.push(entry(&format!("k{index}"), "x"));
        }
        assert_eq!(queue.next_request().len(), REQUEST_RECORDS);
        assert_eq!(queue.next_request().len(), 100);

        let huge = Bytes::from(vec![0; REQUEST_BYTES + 1]);
        queue.push(entry("small", "first"));
        queue.push(Entry::plain("huge".to_owned(), huge.clone()));
        queue.push(entry("huge", "after it"));
        assert_eq!(texts(&queue.next_request()), ["first"]);
        assert_eq!(queue.next_request().first().unwrap().data, huge);
        assert_eq!(texts(&queue.next_request()), ["after it"]);
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut queue = Queue::default();
        for _ in 0..QUEUE_RECORDS {
            assert!(!queue.is_full());
            queue.push(entry("k", "x"));
        }
        assert!(queue.is_full());
        assert_eq!(queue.user_records(), QUEUE_RECORDS as u64);
    }
}
