//! A record processor that tells the history everything, and behaves as badly as it is told to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::{
    BatchFailure, InitializationInput, LeaseLostInput, Position, ProcessRecordsInput,
    ProcessorResult, RecordProcessor, RecordRef, ShardEndedInput, ShardInfo,
    ShutdownRequestedInput, async_trait,
};
use kcl_lease::runtime::Gate;

use super::answers::{Handles, Held};
use super::draw::{between, fraction};
use super::history::{Answer, Event, KeyNo, ShardNo, Stop, Stored, key_number, shard_number};
use super::payload::number_of;
use super::practice::GivenUp;
use super::schedule::Temper;
use super::world::{Process, World};

/// How often a record is refused that is refused again and again, and tried for ever.
const POISON_LASTS: u32 = 6;
/// How often a processor that is stuck looks whether it still is.
const STUCK_LOOKS: Duration = Duration::from_secs(1);

/// How all processors of a run behave now.
#[derive(Debug, Clone, Default)]
pub struct Mood(Arc<Mutex<Temper>>);

impl Mood {
    /// From now on they behave like this.
    pub fn set(&self, temper: Temper) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = temper;
    }

    /// How they behave.
    #[must_use]
    pub fn get(&self) -> Temper {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all processors of one process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workplace {
    /// The world.
    pub world: World,
    /// How processors behave.
    pub mood: Mood,
    /// The process.
    pub process: Process,
    /// What it does stops when the process does.
    pub gate: Gate,
    /// The names of its handles.
    pub handles: Handles,
}

/// The processor of one lane of a shard in one process.
#[derive(Debug)]
pub struct SimulatedProcessor {
    place: Workplace,
    shard: ShardNo,
    lane: u32,
    lanes: u32,
}

/// A call that runs. Whoever cuts it off drops it.
struct Running<'a> {
    processor: &'a SimulatedProcessor,
    is_over: bool,
}

impl Running<'_> {
    fn ends(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_over && !self.processor.place.gate.is_killed() {
            self.processor.note("call cut off");
            self.processor.fail(false, None);
        }
    }
}

/// A record of a call.
#[derive(Debug, Clone)]
struct Item {
    number: u32,
    key: KeyNo,
    position: Position,
}

impl Item {
    fn of(record: RecordRef<'_>) -> Self {
        Self {
            number: number_of(record.data()),
            key: key_number(record.partition_key()),
            position: record.position(),
        }
    }
}

/// How a call ends.
enum Fate {
    Well,
    /// At this record, if that is said.
    Fails(Option<Item>),
    Panics,
}

impl SimulatedProcessor {
    /// A processor for a lane of a shard.
    #[must_use]
    pub fn new(place: &Workplace, shard: &ShardInfo) -> Self {
        Self {
            place: place.clone(),
            shard: shard_number(shard.shard_id().as_str()),
            lane: u32::try_from(shard.lane()).unwrap_or(u32::MAX),
            lanes: u32::try_from(shard.lanes()).unwrap_or(u32::MAX),
        }
    }

    fn stop(&self, why: Stop) {
        self.place.world.tell(Event::Stopped {
            process: self.place.process,
            shard: self.shard,
            why,
        });
    }

    /// Keeps some of the records for later. Returns the others.
    fn defer(&self, input: &ProcessRecordsInput, call: u64) -> Vec<Item> {
        let (seed, practice) = (
            self.place.world.seed(),
            &self.place.world.climate().practice,
        );
        let mut left = Vec::new();
        for record in input {
            let item = Item::of(record);
            let draw = call ^ u64::from(item.number) << 32;
            if fraction(seed, "defer", draw) < practice.deferred {
                self.keep(Held::One(input.defer(record)), vec![item]);
            } else {
                left.push(item);
            }
        }
        if !left.is_empty() && fraction(seed, "defer all", call) < practice.deferred_together {
            let items = std::mem::take(&mut left);
            self.keep(Held::All(input.defer_all()), items);
        }
        left
    }

    /// Answers for records later, as long as the process lives.
    fn keep(&self, held: Held, items: Vec<Item>) {
        let (place, shard) = (self.place.clone(), self.shard);
        let handle = place.handles.next(shard, self.lane);
        let process = place.process;
        place.world.tell(Event::Deferred {
            process,
            shard,
            lane: self.lane,
            handle,
            records: items.iter().map(|item| item.number).collect(),
        });
        let draw = handle ^ u64::from(shard) << 40 ^ u64::from(process) << 52;
        let gate = self.place.gate.clone();
        let answer = gate.guard(async move {
            tokio::time::sleep(place.answer_after(draw)).await;
            let (answer, at) = place.answer(&items, draw);
            let reply = held.answer(answer, at);
            place.world.tell(Event::Answered {
                process,
                shard,
                handle,
                answer,
                reply,
            });
        });
        self.place.world.spawn(async move {
            let _killed = answer.await;
        });
    }

    /// Takes its time, or all of it.
    async fn linger(&self, call: u64) {
        let (world, temper) = (&self.place.world, self.place.mood.get());
        let seed = world.seed();
        if fraction(seed, "stuck call", call) < temper.stuck {
            self.note("processor stuck");
            while self.place.mood.get().stuck > 0.0 {
                tokio::time::sleep(STUCK_LOOKS).await;
            }
        }
        if fraction(seed, "slow call", call) < temper.slow {
            let millis = between(seed, "slow for", call, 0..temper.slow_millis.max(1));
            if millis > 20_000 {
                self.note("call of several lease durations");
            }
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// What becomes of a call with these records, by draws that belong to it.
    fn fate(&self, items: &[Item], attempt: u32, call: u64) -> Fate {
        let (seed, temper) = (self.place.world.seed(), self.place.mood.get());
        let practice = &self.place.world.climate().practice;
        let lasts = practice.given_up != GivenUp::Never || attempt <= POISON_LASTS;
        let bad = items.iter().find(|item| self.place.is_poison(item));
        if let (Some(bad), true) = (bad, lasts) {
            self.note("record refused again and again");
            let named = fraction(seed, "named failure", call) < practice.named;
            return Fate::Fails(named.then(|| bad.clone()));
        }
        if fraction(seed, "failing call", call) < temper.errors {
            return Fate::Fails(None);
        }
        match fraction(seed, "panicking call", call) < temper.panics {
            true => Fate::Panics,
            false => Fate::Well,
        }
    }

    fn fail(&self, panicked: bool, named: Option<&Item>) {
        self.place.world.tell(Event::Failed {
            process: self.place.process,
            shard: self.shard,
            lane: self.lane,
            panicked,
            named: named.map(|item| item.number),
        });
    }

    fn note(&self, what: &'static str) {
        self.place.world.history().checker.tally.note(what);
    }
}

impl Workplace {
    fn is_poison(&self, item: &Item) -> bool {
        let (seed, temper) = (self.world.seed(), self.mood.get());
        fraction(seed, "poison record", u64::from(item.number)) < temper.poison
            || fraction(seed, "poison key", u64::from(item.key)) < temper.poison_keys
    }

    fn answer_after(&self, draw: u64) -> Duration {
        let practice = &self.world.climate().practice;
        let longest = practice.longest_answer(self.mood.get().prompt);
        let millis = between(self.world.seed(), "answer after", draw, 0..longest.max(1));
        Duration::from_millis(millis)
    }

    /// What is said about records, and the position of the one that failed, if that is said, too.
    fn answer(&self, items: &[Item], draw: u64) -> (Answer, Option<Position>) {
        let (seed, temper) = (self.world.seed(), self.mood.get());
        let bad = items.iter().find(|item| {
            let dose = u64::from(item.number) << 32 ^ draw;
            // Tried for ever, it gets better some time.
            let worn_off = self.world.climate().practice.given_up == GivenUp::Never
                && fraction(seed, "poison worn off", dose) < 0.3;
            self.is_poison(item) && !worn_off
        });
        let rejected = fraction(seed, "rejected", draw) < temper.rejected;
        if bad.is_none() && !rejected {
            return (Answer::Done, None);
        }
        if fraction(seed, "dropped", draw) < 0.4 {
            return (Answer::Dropped, None);
        }
        let named = fraction(seed, "named answer", draw) < self.world.climate().practice.named;
        let bad = bad.filter(|_| named);
        let at = bad.map(|item| item.position.clone());
        (Answer::Failed(bad.map(|item| item.number)), at)
    }
}

#[async_trait]
impl RecordProcessor for SimulatedProcessor {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        self.place.world.tell(Event::Initialized {
            process: self.place.process,
            shard: self.shard,
            lanes: self.lanes,
            lane: self.lane,
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
        let first = records.first().copied().unwrap_or_default();
        let attempt = input.attempt();
        let call = u64::from(first) << 16
            | u64::from(attempt.min(0xff)) << 8
            | u64::from(self.place.process & 0xff);
        let (process, shard, lane) = (self.place.process, self.shard, self.lane);
        self.place.world.tell(Event::Delivered {
            process,
            shard,
            lane,
            records,
        });
        let mut running = Running {
            processor: self,
            is_over: false,
        };
        let items = self.defer(&input, call);
        self.linger(call).await;
        running.ends();
        match self.fate(&items, attempt, call) {
            Fate::Well => {
                self.place.world.tell(Event::Completed {
                    process,
                    shard,
                    lane,
                });
                Ok(())
            }
            Fate::Fails(named) => {
                self.fail(false, named.as_ref());
                match named {
                    Some(item) => Err(BatchFailure::at(item.position, "not to my taste").into()),
                    None => Err("something went wrong".into()),
                }
            }
            Fate::Panics => {
                self.fail(true, None);
                // Past the panic hook: thousands of intended panics would drown everything else.
                std::panic::resume_unwind(Box::new("a processor panics, as it was told to"));
            }
        }
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
