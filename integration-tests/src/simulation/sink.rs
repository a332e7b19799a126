//! The dead-letter sink of one process: it takes its time, and refuses letters now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::{BoxError, DeadLetter, DeadLetterSink, async_trait};

use super::draw::{between, fraction};
use super::history::{Event, shard_number};
use super::payload::number_of;
use super::processor::Mood;
use super::world::{Process, World};

/// How the error begins of letters that are sent because their keys are parked.
const PARKED: &str = "its partition key is parked";

/// Tells the history of every letter.
#[derive(Debug)]
pub struct SimulatedSink {
    world: World,
    mood: Mood,
    process: Process,
    /// How often each record was offered.
    offered: Arc<Mutex<BTreeMap<u32, u64>>>,
}

impl SimulatedSink {
    /// The sink of a process.
    #[must_use]
    pub fn new(world: &World, mood: &Mood, process: Process) -> Self {
        Self {
            world: world.clone(),
            mood: mood.clone(),
            process,
            offered: Arc::default(),
        }
    }

    /// A number for the draws that belong to this offer.
    fn offer(&self, record: u32) -> u64 {
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        let count = offered.entry(record).or_default();
        *count += 1;
        u64::from(record) << 24 | (*count & 0xffff) << 8 | u64::from(self.process & 0xff)
    }
}

#[async_trait]
impl DeadLetterSink for SimulatedSink {
    async fn accept(&self, letter: DeadLetter) -> Result<(), BoxError> {
        let (seed, temper) = (self.world.seed(), self.mood.get());
        let offer = self.offer(number_of(&letter.data));
        let millis = between(seed, "sink takes", offer, 0..temper.sink_millis.max(1));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let accepted = fraction(seed, "sink fails", offer) >= temper.sink_fails;
        self.world.tell(Event::Letter {
            process: self.process,
            shard: shard_number(letter.shard.as_str()),
            sequence: letter.position.sequence_number.as_str().to_owned(),
            attempts: letter.attempts,
            parked: letter.error.starts_with(PARKED),
            accepted,
        });
        match accepted {
            true => Ok(()),
            false => Err("the sink is full".into()),
        }
    }
}
