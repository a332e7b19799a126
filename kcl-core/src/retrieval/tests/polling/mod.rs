//! The polling driver over the stream in memory, on virtual time.

mod delivering;
mod ending;
mod failing;
mod memory_bound;
mod throttling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_checkpoint::{Position, SequenceNumber};
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ShardId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::retrieval::{
    Budget, DeaggregationCounts, Delivery, FetchReport, MemoryStream, PollEnd, Poller, Polling,
    RetrievalObserver, ShardRead, ShardSource, SourceError, StartPosition,
};

const MIB: u64 = 1 << 20;

/// What an observer heard, as text.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    /// The notes so far that begin with `word`.
    pub(super) fn of(&self, word: &str) -> Vec<String> {
        let notes = self.0.lock().unwrap();
        notes
            .iter()
            .filter(|note| note.starts_with(word))
            .cloned()
            .collect()
    }

    /// Kinesis records in all answers so far.
    fn records_fetched(&self) -> usize {
        let last_word = |note: &String| note.rsplit(' ').next().map(str::to_owned);
        let counts = self.of("fetched");
        counts
            .iter()
            .filter_map(last_word)
            .map(|count| count.parse::<usize>().unwrap())
            .sum()
    }
}

impl RetrievalObserver for Notes {
    fn fetched(&self, report: &FetchReport) {
        self.add(format!(
            "fetched {} of {}",
            report.user_records, report.kinesis_records
        ));
    }

    fn deaggregated(&self, counts: &DeaggregationCounts) {
        self.add(format!(
            "deaggregated {} damaged {}",
            counts.user_records, counts.damaged
        ));
    }

    fn throttled(&self, _: &SourceError, retry_in: Duration) {
        self.add(format!("throttled {}", retry_in.as_millis()));
    }

    fn expired_iterator(&self) {
        self.add("expired".to_owned());
    }

    fn failed(&self, error: &SourceError, attempt: u32, _: Duration) {
        self.add(format!("failed {attempt} {}", error.kind()));
    }

    fn ahead_of_tip(&self, last: &SequenceNumber) {
        self.add(format!("ahead of {last}"));
    }

    fn restarted_at_trim_horizon(&self, unknown: &SequenceNumber, _: &SourceError) {
        self.add(format!("restarted {unknown}"));
    }
}

/// A stream and what is needed to poll it.
struct Setup {
    stream: MemoryStream,
    runtime: Runtime,
    polling: Polling,
}

/// One shard that is being read.
struct Reading {
    notes: Arc<Notes>,
    deliveries: mpsc::Receiver<Delivery>,
    end: AbortOnDropHandle<PollEnd>,
}

impl Setup {
    fn new(shards: u32) -> Self {
        Self::with_budget(shards, 64 * MIB)
    }

    fn with_budget(shards: u32, bytes: u64) -> Self {
        let runtime = Runtime::virtual_time(1);
        let stream = MemoryStream::new(shards, runtime.clone());
        let source = Arc::new(stream.clone());
        Self {
            polling: Polling::new(source, Budget::new(bytes), runtime.clone()),
            stream,
            runtime,
        }
    }

    fn with_source(mut self, source: Arc<dyn ShardSource>) -> Self {
        self.polling.source = source;
        self
    }

    fn shard(&self, index: usize) -> ShardId {
        self.stream.shards()[index].shard_id.clone()
    }

    /// Puts `name-0`, `name-1`, ... into the first shard.
    fn put(&self, name: &str, count: usize) -> Vec<SequenceNumber> {
        let shard = self.shard(0);
        (0..count)
            .map(|index| {
                self.stream
                    .put_to(&shard, "key", format!("{name}-{index}"))
                    .unwrap()
            })
            .collect()
    }

    /// Reads the first shard.
    fn read(&self, start: StartPosition, skip_through: Option<Position>) -> Reading {
        self.read_shard(self.shard(0), start, skip_through)
    }

    fn read_shard(
        &self,
        shard: ShardId,
        start: StartPosition,
        skip_through: Option<Position>,
    ) -> Reading {
        let notes = Arc::new(Notes::default());
        let read = ShardRead {
            shard,
            hash_range: HashKeyRange::FULL,
            start,
            skip_through,
            observer: Arc::clone(&notes) as Arc<dyn RetrievalObserver>,
        };
        let (sender, deliveries) = mpsc::channel(1);
        let poller = Poller::new(self.polling.clone(), read);
        Reading {
            notes,
            deliveries,
            end: self.runtime.spawn(poller.run(sender)),
        }
    }
}

impl Reading {
    async fn next(&mut self) -> Delivery {
        let next = timeout(Duration::from_secs(3600), self.deliveries.recv());
        let delivery = next
            .await
            .expect("a delivery within an hour")
            .expect("more deliveries");
        if let Some(gap) = &delivery.gap {
            self.notes.add(format!("gap {gap}"));
        }
        delivery
    }

    /// The payloads of the next deliveries, until there are `count` of them.
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let delivery = self.next().await;
            assert!(
                delivery.end.is_none(),
                "the shard ended early, after {texts:?}"
            );
            texts.extend(delivered(&delivery));
        }
        texts
    }

    async fn end(self) -> PollEnd {
        timeout(Duration::from_secs(3600), self.end)
            .await
            .expect("an end within an hour")
            .unwrap()
    }
}

fn delivered(delivery: &Delivery) -> Vec<String> {
    let records = delivery.batch.range(delivery.rows.clone());
    records
        .map(|record| String::from_utf8_lossy(record.data()).into_owned())
        .collect()
}

fn numbered(name: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| format!("{name}-{index}")).collect()
}
