//! One run: a seed's circumstances and schedule, played against real workers, then healed and judged.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use kcl_core::{Position, SeekTo, Shards};
use kcl_emulator::Emulator;
use kcl_emulator::Service;
use kcl_emulator::faults::{Fault as Request, Rule};
use kcl_lease::mutant::{self, Mutant};

use super::checker::{Calls, Look, Tally, Violation};
use super::fleet::{Command, Fleet};
use super::focus::{self, Focus};
use super::history::{Event, History, shard_number};
use super::node::Path;
use super::processor::Mood;
use super::schedule::{Fault, Order, Pick, Temper, Timed};
use super::stream::Producer;
use super::swarm::{Climate, swarm};
use super::world::{SCAN_PAGE, STREAM, World};
use crate::reading::Reading;

/// The last part of a run is without faults; the last part of that without new records.
const HEALED: Duration = Duration::from_secs(6 * 60);
const NO_MORE_RECORDS: Duration = Duration::from_secs(3 * 60);
/// So long after the last record everything about it is stored.
const SETTLED: Duration = Duration::from_secs(60);

/// The seeds that are multiples of this are always run checked.
pub const CHECKED_EVERY: u64 = 16;

/// What to run, besides the seed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a run is in virtual time, its healed end included.
    pub minutes: u64,
    /// How many workers start, and are there again at the end.
    pub workers: usize,
    /// How many shards the stream begins with.
    pub shards: u32,
    /// How the workers reach the services.
    pub path: Path,
    /// How they read the stream.
    pub reading: Reading,
    /// Each call to the lease table is carried out by the emulator's DynamoDB, too, and the answers are compared; without
    /// this only in one seed of [`CHECKED_EVERY`]. Without effect through the SDK, which talks to the emulator only.
    pub checked: bool,
    /// The rule that is switched off.
    pub mutant: Option<Mutant>,
    /// What the faults press on, instead of what the seed draws.
    pub focus: Option<&'static Focus>,
    /// Only these elements of the schedule, by number; all if there are none.
    pub only: Option<BTreeSet<usize>>,
    /// Every event is kept as a line.
    pub traced: bool,
    /// The run ends as soon as something is broken.
    pub until_broken: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            minutes: 30,
            workers: 3,
            shards: 4,
            path: Path::Direct,
            reading: Reading::Polling,
            checked: false,
            mutant: None,
            focus: None,
            only: None,
            traced: false,
            until_broken: false,
        }
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub tally: Tally,
    /// Equal for equal runs.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How many requests were sent.
    pub requests: u64,
    /// The events as lines, if they were kept.
    pub trace: Option<String>,
    /// The schedule, as it was played.
    pub schedule: Vec<Timed>,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no runtime or no thread.
    #[error("the operating system refuses what a run needs: {0}")]
    System(#[from] std::io::Error),
    /// The stream could not be made.
    #[error("the stream could not be made: {0}")]
    Stream(kcl_emulator::ApiError),
    /// The run's thread ended unexpectedly.
    #[error("the run of seed {0} panicked outside of any worker")]
    Panicked(u64),
}

/// The circumstances and the schedule of a seed, as `settings` play it.
#[must_use]
pub fn play_of(seed: u64, settings: &Settings) -> (Climate, Vec<Timed>) {
    let boosted = settings
        .focus
        .or_else(|| focus::drawn(seed, settings.reading));
    let (climate, mut schedule) = swarm(seed, quiet(settings), boosted);
    if !settings.reading.subscribes() {
        schedule.retain(|timed| !timed.fault.is_of_subscriptions());
    }
    let climate = Climate {
        reading: settings.reading,
        ..climate
    };
    let wanted = |number: &usize| {
        settings
            .only
            .as_ref()
            .is_none_or(|only| only.contains(number))
    };
    let chosen = schedule.into_iter().enumerate();
    let chosen = chosen.filter(|(number, _)| wanted(number));
    (climate, chosen.map(|(_, timed)| timed).collect())
}

fn quiet(settings: &Settings) -> Duration {
    Duration::from_secs(settings.minutes * 60).saturating_sub(HEALED)
}

/// Plays a seed on a thread of its own: whatever is bound to threads begins anew with each run.
///
/// # Errors
/// When the run cannot begin.
pub fn run(seed: u64, settings: &Settings) -> Result<Outcome, RunError> {
    let settings = settings.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "a run needs fresh thread-locals; nothing inside of it starts threads"
    )]
    let thread = std::thread::spawn(move || {
        mutant::set(settings.mutant);
        // The SDK draws from a generator of the thread.
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let outcome = runtime.block_on(play(seed, settings));
        // Tasks that are still there hold the world; the world holds nothing that waits for them.
        drop(runtime);
        outcome
    });
    thread.join().unwrap_or(Err(RunError::Panicked(seed)))
}

async fn play(seed: u64, settings: Settings) -> Result<Outcome, RunError> {
    let (climate, schedule) = play_of(seed, &settings);
    let (low, high) = climate.latency;
    let emulator = Emulator::builder()
        .seed(seed)
        .row_versions(climate.row_versions)
        .subscription_lifetime(climate.subscription_lifetime)
        .latency(Duration::from_millis(low + high))
        .build();
    emulator
        .create_stream(STREAM, settings.shards)
        .map_err(RunError::Stream)?;
    let mut history = History::new(seed, settings.traced);
    history.checker.latest = climate.latest;
    history.checker.reading = settings.reading;
    history.checker.practice = climate.practice.clone();
    let world = match settings.path {
        Path::Direct => {
            let checked = settings.checked || seed.is_multiple_of(CHECKED_EVERY);
            World::new(seed, climate, emulator, history).checked(checked)
        }
        Path::Sdk => World::observing(seed, climate, emulator, history),
    };
    let mood = Mood::default();
    let fleet = Fleet::new(&world, &mood, settings.path);
    let mut producer = Producer::new(&world);
    fleet.keep(settings.workers);
    let mut stage = Stage {
        world: world.clone(),
        fleet,
        mood,
        workers: settings.workers,
        path: settings.path,
    };
    stage.play(&mut producer, &schedule, &settings).await;
    world.take_in_writes();
    let now = world.millis();
    let requests = world.requests();
    let mut history = world.history();
    let cut_short = settings.until_broken && !history.checker.violations().is_empty();
    if !cut_short {
        history.checker.finish(now);
    }
    Ok(Outcome {
        seed,
        violations: history.checker.violations().to_vec(),
        tally: history.checker.tally.clone(),
        hash: history.hash(),
        events: history.events(),
        requests,
        trace: history.trace().map(str::to_owned),
        schedule,
    })
}

/// Everything that a schedule acts on.
struct Stage {
    world: World,
    fleet: Fleet,
    mood: Mood,
    workers: usize,
    path: Path,
}

impl Stage {
    async fn play(&mut self, producer: &mut Producer, schedule: &[Timed], settings: &Settings) {
        let end = Duration::from_secs(settings.minutes * 60);
        let heal = quiet(settings);
        let last_put = end.saturating_sub(NO_MORE_RECORDS);
        let mut faults = schedule.iter().peekable();
        let mut healed = false;
        let mut next_put = Duration::from_secs(1);
        let mut number = 0;
        let mut before_rest = None;
        loop {
            let now = self.world.elapsed();
            while let Some(timed) = faults.next_if(|timed| timed.at <= now) {
                self.befall(&timed.fault, producer);
            }
            if now >= heal && !healed {
                healed = true;
                self.heal();
            }
            if now >= next_put && now < last_put {
                producer.put_some();
                number += 1;
                let every = self.world.climate().put_every.mul_f64(2.0);
                let share = super::draw::fraction(self.world.seed(), "put", number);
                next_put = now + every.mul_f64(share).max(Duration::from_millis(20));
            }
            // The last record's checkpoints are stored by then.
            if now >= last_put + SETTLED && before_rest.is_none() {
                before_rest = Some(self.world.history().table_calls());
            }
            if settings.until_broken && !self.world.history().checker.violations().is_empty() {
                return;
            }
            if now >= end {
                if let (Some(before), Path::Direct) = (before_rest, settings.path) {
                    self.judge_rest(before, end.saturating_sub(last_put + SETTLED));
                }
                return;
            }
            self.look_at_memory();
            self.keep_running(healed);
            let next_fault = faults.peek().map_or(end, |timed| timed.at);
            let next_put = if now < last_put { next_put } else { end };
            let watch = now + Duration::from_secs(1);
            let next = [next_fault, next_put, watch, end].into_iter().min();
            let wait = next.unwrap_or(end).saturating_sub(now);
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    fn look_at_memory(&self) {
        if !self.world.climate().big_records {
            return;
        }
        for node in self.fleet.alive() {
            match self.path {
                Path::Direct => node.gauge.look(Look::Sample),
                // Nobody sees when the SDK's reads begin and end.
                Path::Sdk => node.gauge.note(),
            }
        }
    }

    fn judge_rest(&self, before: Calls, rest: Duration) {
        let rows = self.world.rows().len() as u64;
        let mut history = self.world.history();
        let after = history.table_calls();
        let calls = Calls {
            writes: after.writes - before.writes,
            reads: after.reads - before.reads,
            scans: after.scans - before.scans,
        };
        let pages = rows / SCAN_PAGE + 1;
        history
            .checker
            .judge_cost(rest.as_secs() / 60, pages, calls);
    }

    /// There is always somebody; after the healing as many as at the start.
    fn keep_running(&self, healed: bool) {
        let at_least = if healed { self.workers } else { 1 };
        self.fleet.keep(at_least);
    }

    fn heal(&self) {
        self.world.emulator().faults().clear();
        self.mood.set(Temper::healed());
        self.world.tell(Event::Healed);
        self.fleet.heal(self.workers);
    }

    fn befall(&self, fault: &Fault, producer: &mut Producer) {
        self.world.history().checker.tally.fault(fault.name());
        match fault {
            Fault::Kill {
                worker,
                again,
                same_name,
            } => self.fleet.kill(*worker, *again, *same_name),
            Fault::Pause { worker, lasts } => self.fleet.pause(*worker, *lasts),
            Fault::Partition {
                worker,
                from,
                lasts,
            } => self.fleet.partition(*worker, *from, *lasts),
            Fault::ReadsFail { worker, lasts } => self.fleet.fail_reads(*worker, *lasts),
            Fault::CutSubscriptions { worker } => self.fleet.cut_subscriptions(*worker),
            Fault::SilenceSubscriptions { worker } => self.fleet.silence_subscriptions(*worker),
            Fault::DeregisterConsumer => producer.deregister_consumer(),
            Fault::Deaf { worker, lasts } => self.fleet.deafen(*worker, *lasts),
            Fault::RowStuck {
                worker,
                shard,
                lasts,
            } => {
                if let Some(shard) = producer.open_shard(*shard) {
                    self.fleet.stick(*worker, shard, *lasts);
                }
            }
            Fault::Restart { worker } => self.fleet.restart(*worker),
            Fault::Deploy => self.fleet.deploy(),
            Fault::Join if self.fleet.alive().len() >= self.workers * 3 => {}
            Fault::Join => self.fleet.join(),
            Fault::Leave { worker } => self.fleet.leave(*worker),
            Fault::Split { shard } => producer.split(*shard),
            Fault::Merge { shard } => producer.merge(*shard),
            Fault::Outage { lasts, hangs } => self.outage(*lasts, *hangs),
            Fault::DeleteWorker { worker } => self.fleet.delete_item(*worker),
            Fault::DeleteLease { lease } => self.fleet.delete_lease(*lease),
            // The SDK's requests reach the stream past the world's clock.
            Fault::Retention if self.path == Path::Sdk => {}
            Fault::Retention => producer.expire(),
            Fault::Order { order, shard, by } => self.order(*order, *shard, *by, producer),
            Fault::Processors(temper) => self.mood.set(*temper),
            Fault::Weather(rule) => self.weather(rule),
        }
    }

    fn order(&self, order: Order, shard: Option<Pick>, by: Option<Pick>, producer: &Producer) {
        let leases = self.fleet.unfinished_leases();
        let shards = match shard {
            None => Shards::All,
            Some(pick) => match pick.checked_rem(leases.len() as u64) {
                Some(index) => {
                    let index = usize::try_from(index).unwrap_or(0);
                    Shards::Of(leases.into_iter().skip(index).take(1).collect())
                }
                None => return,
            },
        };
        let now = self.world.stream_time().0;
        let time = |ago: Duration| {
            let ago = i64::try_from(ago.as_millis()).unwrap_or(0);
            let millis = u64::try_from(now - ago).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
        };
        let after = |pick: Pick| {
            let Shards::Of(leases) = &shards else {
                return None;
            };
            let shard = shard_number(leases.first()?.as_str());
            let record = producer.record(shard, pick)?;
            Some(SeekTo::After(Position::new(record.clone(), 0)))
        };
        let command = match order {
            Order::Pause => Command::Pause,
            Order::Resume => Command::Resume,
            Order::Oldest => Command::Seek(SeekTo::Oldest),
            Order::Latest => Command::Seek(SeekTo::Latest),
            Order::After(pick) => Command::Seek(after(pick).unwrap_or(SeekTo::Oldest)),
            Order::Ago(ago) => Command::Seek(SeekTo::Time(time(ago))),
        };
        self.fleet.command(by, shards, command);
    }

    fn weather(&self, rule: &Rule) {
        let until = rule.until.unwrap_or_default();
        self.world.tell(Event::FaultBegan {
            name: rule.name.clone().unwrap_or_default(),
            until: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
        });
        self.world.emulator().faults().add(rule.clone());
    }

    fn outage(&self, lasts: Duration, hangs: bool) {
        let now = self.world.elapsed();
        let fault = match hangs {
            true => Request::Disconnect,
            false => Request::Unavailable,
        };
        let rule = Rule::new(fault)
            .named("outage")
            .service(Service::DynamoDb)
            .between(now, now + lasts);
        self.weather(&rule);
    }
}
