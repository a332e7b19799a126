//! A record processor that tells the history everything, and behaves as badly as it is told to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ShardEndedInput, ShutdownRequestedInput, async_trait,
};

use super::draw::{between, fraction};
use super::history::{Event, ShardNo, Stop, Stored, shard_number};
use super::payload::number_of;
use super::schedule::Temper;
use super::world::{Process, World};

/// How often a record that is refused again and again is refused.
const POISON_LASTS: u32 = 6;

/// How all processors of a run behave now.
#[derive(Debug, Clone, Default)]
pub struct Mood(Arc<Mutex<Temper>>);

impl Mood {
    /// From now on they behave like this.
    pub fn set(&self, temper: Temper) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = temper;
    }

    fn get(&self) -> Temper {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processor of one shard in one process.
#[derive(Debug)]
pub struct SimulatedProcessor {
    world: World,
    mood: Mood,
    process: Process,
    shard: ShardNo,
}

impl SimulatedProcessor {
    /// A processor for the shard with this id.
    #[must_use]
    pub fn new(world: &World, mood: &Mood, process: Process, shard: &str) -> Self {
        Self {
            world: world.clone(),
            mood: mood.clone(),
            process,
            shard: shard_number(shard),
        }
    }

    fn stop(&self, why: Stop) {
        self.world.tell(Event::Stopped {
            process: self.process,
            shard: self.shard,
            why,
        });
    }

    fn fail(&self, panicked: bool) {
        self.world.tell(Event::Failed {
            process: self.process,
            shard: self.shard,
            panicked,
        });
    }

    /// Fails, panics or takes time, by draws that belong to this call.
    async fn suffer(&self, records: &[u32], attempt: u32) -> ProcessorResult {
        let (seed, temper) = (self.world.seed(), self.mood.get());
        let first = records.first().copied().unwrap_or_default();
        let call = u64::from(first) << 16
            | u64::from(attempt.min(0xff)) << 8
            | u64::from(self.process & 0xff);
        if fraction(seed, "slow call", call) < temper.slow {
            let millis = between(seed, "slow for", call, 0..temper.slow_millis.max(1));
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        let poisoned =
            |record: &u32| fraction(seed, "poison record", u64::from(*record)) < temper.poison;
        if attempt <= POISON_LASTS && records.iter().any(poisoned) {
            self.world
                .history()
                .checker
                .tally
                .note("record refused again and again");
            self.fail(false);
            return Err("this record is not to my taste".into());
        }
        if fraction(seed, "failing call", call) < temper.errors {
            self.fail(false);
            return Err("something went wrong".into());
        }
        if fraction(seed, "panicking call", call) < temper.panics {
            self.fail(true);
            // Past the panic hook: thousands of intended panics would drown everything else.
            std::panic::resume_unwind(Box::new("a processor panics, as it was told to"));
        }
        Ok(())
    }
}

#[async_trait]
impl RecordProcessor for SimulatedProcessor {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        self.world.tell(Event::Initialized {
            process: self.process,
            shard: self.shard,
            epoch: input.grant().epoch(),
            from: Stored::from(input.checkpoint()),
        });
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let records: Vec<u32> = input
            .iter()
            .map(|record| number_of(record.data()))
            .collect();
        self.world.tell(Event::Delivered {
            process: self.process,
            shard: self.shard,
            records: records.clone(),
        });
        self.suffer(&records, input.attempt()).await?;
        self.world.tell(Event::Completed {
            process: self.process,
            shard: self.shard,
        });
        Ok(())
    }

    async fn shard_ended(&mut self, _input: ShardEndedInput) -> ProcessorResult {
        self.stop(Stop::Ended);
        Ok(())
    }

    async fn shutdown_requested(&mut self, _input: ShutdownRequestedInput) -> ProcessorResult {
        self.stop(Stop::Asked);
        Ok(())
    }

    async fn lease_lost(&mut self, _input: LeaseLostInput) -> ProcessorResult {
        self.stop(Stop::Lost);
        Ok(())
    }
}
