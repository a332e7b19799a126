//! Processors of several lanes that write down what they do, and see whether one is called twice at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ShardEndedInput, ShutdownRequestedInput, Worker, WorkerBuilder, async_trait,
};

use crate::fixture::{Fixture, texts};
use crate::poison::put_keyed;

/// What a processor did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Initialized,
    /// A call began.
    Begun(Vec<String>),
    /// A call succeeded.
    Done(Vec<String>),
    ShardEnded,
    ShutdownRequested,
    LeaseLost,
}

/// What a call does: it takes some time, and has an outcome.
type Behaviour = Arc<dyn Fn(&ProcessRecordsInput) -> (Duration, ProcessorResult) + Send + Sync>;

/// All processors of a test.
#[derive(Clone)]
pub(crate) struct Crew {
    behaviour: Behaviour,
    did: Arc<Mutex<Vec<(usize, Did)>>>,
    running: Arc<Mutex<Vec<usize>>>,
    /// The most calls that ran at a time.
    pub(crate) most: Arc<AtomicUsize>,
    /// Calls that began in a lane in which one ran.
    pub(crate) overlaps: Arc<AtomicUsize>,
}

struct Member {
    lane: usize,
    crew: Crew,
}

/// A call that runs, until it is dropped.
struct Running {
    lane: usize,
    crew: Crew,
}

impl Running {
    fn new(lane: usize, crew: &Crew) -> Self {
        let mut running = crew.running.lock().unwrap();
        if running.contains(&lane) {
            crew.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        running.push(lane);
        crew.most.fetch_max(running.len(), Ordering::SeqCst);
        Self {
            lane,
            crew: crew.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.crew.running.lock().unwrap();
        let place = running.iter().position(|lane| *lane == self.lane);
        running.swap_remove(place.unwrap());
    }
}

impl Crew {
    /// Calls take as long as this says, then have its outcome.
    pub(crate) fn new(
        behaviour: impl Fn(&ProcessRecordsInput) -> (Duration, ProcessorResult) + Send + Sync + 'static,
    ) -> Self {
        Self {
            behaviour: Arc::new(behaviour),
            did: Arc::default(),
            running: Arc::default(),
            most: Arc::default(),
            overlaps: Arc::default(),
        }
    }

    pub(crate) fn builder(&self, lanes: usize) -> WorkerBuilder {
        let crew = self.clone();
        let make = move |shard: &kcl_core::ShardInfo| {
            assert_eq!(shard.lanes(), lanes);
            Member {
                lane: shard.lane(),
                crew: crew.clone(),
            }
        };
        Worker::builder("app", "memory", make).lanes(lanes)
    }

    pub(crate) fn did(&self) -> Vec<(usize, Did)> {
        self.did.lock().unwrap().clone()
    }

    /// How often this was done in each lane.
    pub(crate) fn count(&self, what: &Did) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for (lane, did) in self.did() {
            if did == *what {
                *counts.entry(lane).or_default() += 1;
            }
        }
        counts
    }

    /// The records of all calls, in order.
    pub(crate) fn begun(&self) -> Vec<String> {
        let begun = self.did().into_iter().filter_map(|(_, did)| match did {
            Did::Begun(texts) => Some(texts),
            _ => None,
        });
        begun.flatten().collect()
    }

    /// The records of successful calls, in order.
    pub(crate) fn processed(&self) -> Vec<String> {
        let done = self.did().into_iter().filter_map(|(_, did)| match did {
            Did::Done(texts) => Some(texts),
            _ => None,
        });
        done.flatten().collect()
    }

    /// The lane of each key, if keys are what comes before the `/`. Fails if a key was in two of them.
    pub(crate) fn lane_of_keys(&self) -> BTreeMap<String, usize> {
        let mut lanes = BTreeMap::new();
        for (lane, did) in self.did() {
            if let Did::Begun(texts) = did {
                for text in texts {
                    let known = *lanes.entry(key_of(&text)).or_insert(lane);
                    assert_eq!(known, lane, "{text} came in another lane");
                }
            }
        }
        lanes
    }

    /// Whether no call runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.lock().unwrap().is_empty()
    }

    fn note(&self, lane: usize, did: Did) {
        self.did.lock().unwrap().push((lane, did));
    }
}

fn key_of(text: &str) -> String {
    text.split('/').next().unwrap().to_owned()
}

/// Records `key/number`, the numbers in order over all keys.
pub(crate) fn keyed(keys: usize, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| format!("k{}/{number}", number * 7 % keys))
        .collect()
}

pub(crate) fn put(fixture: &Fixture, texts: &[String]) {
    let keys: Vec<String> = texts.iter().map(|text| key_of(text)).collect();
    let records = keys.iter().zip(texts);
    let records: Vec<(&str, &str)> = records.map(|(k, t)| (k.as_str(), t.as_str())).collect();
    put_keyed(fixture, &records);
}

/// Fails unless the records of each key are in the order of their numbers.
pub(crate) fn assert_order_per_key(texts: &[String]) {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        let number: usize = text.split('/').nth(1).unwrap().parse().unwrap();
        let previous = last.insert(key_of(text), number);
        assert!(previous < Some(number), "{text} came after {previous:?}");
    }
}

pub(crate) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

#[async_trait]
impl RecordProcessor for Member {
    async fn initialize(&mut self, _: InitializationInput) -> ProcessorResult {
        self.crew.note(self.lane, Did::Initialized);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let running = Running::new(input.shard().lane(), &self.crew);
        let texts = texts(&input);
        self.crew.note(self.lane, Did::Begun(texts.clone()));
        let (time, outcome) = (self.crew.behaviour)(&input);
        tokio::time::sleep(time).await;
        drop(running);
        outcome?;
        self.crew.note(self.lane, Did::Done(texts));
        Ok(())
    }

    async fn shard_ended(&mut self, _: ShardEndedInput) -> ProcessorResult {
        self.crew.note(self.lane, Did::ShardEnded);
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: ShutdownRequestedInput) -> ProcessorResult {
        self.crew.note(self.lane, Did::ShutdownRequested);
        Ok(())
    }

    async fn lease_lost(&mut self, _: LeaseLostInput) -> ProcessorResult {
        self.crew.note(self.lane, Did::LeaseLost);
        Ok(())
    }
}
