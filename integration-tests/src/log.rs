//! What processors were told, in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// One call, or one record of a call.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// The worker's name.
    pub worker: String,
    /// The shard.
    pub shard: String,
    /// What.
    pub what: What,
}

/// What a processor was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was initialized at this checkpoint (text and sub-sequence number).
    Initialize(String, u64),
    /// It was given this record.
    Record {
        /// Partition key.
        key: String,
        /// Payload.
        data: String,
        /// Sequence number.
        sequence_number: String,
        /// Index in an aggregated record.
        sub_sequence_number: u64,
        /// Outside of the shard's range.
        out_of_range: bool,
    },
    /// The shard ended.
    ShardEnded,
    /// The worker stops.
    ShutdownRequested,
    /// The lease was lost.
    LeaseLost,
}

/// What all processors of a test were told, in order. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    /// Adds an entry.
    pub fn add(&self, worker: &str, shard: &str, what: What) {
        let entry = Entry {
            at: Instant::now(),
            worker: worker.to_owned(),
            shard: shard.to_owned(),
            what,
        };
        self.lock().push(entry);
    }

    /// A copy of everything.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Payloads in the order of delivery.
    #[must_use]
    pub fn data(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter_map(|entry| data_of(&entry.what))
            .collect()
    }

    /// Payloads that one worker was given.
    #[must_use]
    pub fn data_of(&self, worker: &str) -> Vec<String> {
        let log = self.lock();
        let entries = log.iter().filter(|entry| entry.worker == worker);
        entries.filter_map(|entry| data_of(&entry.what)).collect()
    }

    /// Payloads by partition key, each in the order of delivery.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<String, Vec<String>> {
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in self.lock().iter() {
            if let What::Record { key, data, .. } = &entry.what {
                by_key.entry(key.clone()).or_default().push(data.clone());
            }
        }
        by_key
    }

    /// How many records were given to processors.
    #[must_use]
    pub fn records(&self) -> usize {
        self.lock()
            .iter()
            .filter(|entry| matches!(entry.what, What::Record { .. }))
            .count()
    }

    /// When something was told first.
    #[must_use]
    pub fn first(&self, wanted: impl Fn(&Entry) -> bool) -> Option<Instant> {
        self.lock()
            .iter()
            .find(|entry| wanted(entry))
            .map(|entry| entry.at)
    }

    /// When the first record was given to a processor.
    #[must_use]
    pub fn first_record(&self) -> Option<Instant> {
        self.first(|entry| matches!(entry.what, What::Record { .. }))
    }

    /// Where `shard` was initialized last.
    #[must_use]
    pub fn last_start(&self, shard: &str) -> Option<(String, u64)> {
        self.lock()
            .iter()
            .rev()
            .filter(|entry| entry.shard == shard)
            .find_map(|entry| match &entry.what {
                What::Initialize(text, sub) => Some((text.clone(), *sub)),
                _ => None,
            })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data_of(what: &What) -> Option<String> {
    match what {
        What::Record { data, .. } => Some(data.clone()),
        _ => None,
    }
}
