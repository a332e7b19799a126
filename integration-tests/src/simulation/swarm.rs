//! What a seed stands for: which kinds of faults its run has, how strong, and when.
//!
//! A run that has every kind of fault hides most of them behind the strongest. So each seed draws for each kind whether it
//! exists at all.

use std::ops::Range;
use std::time::Duration;

use kcl_emulator::Service;
use kcl_emulator::faults::{Fault as Request, Rule};

use super::draw::{between, fraction};
use super::focus::Focus;
use super::practice::{GivenUp, Practice};
use super::schedule::{Cut, Fault, Order, Temper, Timed};
use crate::reading::Reading;

/// A kind of fault is in this share of the runs.
const SHARE_OF_KINDS: f64 = 0.4;
/// Operators command shards in this share of the runs.
const SHARE_OF_ORDERS: f64 = 0.4;
/// Nothing happens before the fleet had this much time to start.
const CALM_START: Duration = Duration::from_secs(20);

/// The memory that the workers of a run with big records have for them, in bytes: as little as can be set.
pub const MEMORY_BUDGET: u64 = 16 << 20;
/// Records are big in this share of the runs.
const SHARE_OF_BIG_RECORDS: f64 = 0.125;

/// The fixed circumstances of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Climate {
    /// Requests take between these many milliseconds to arrive.
    pub latency: (u64, u64),
    /// Records are put so often, on average.
    pub put_every: Duration,
    /// The first start of the application is at LATEST instead of TRIM_HORIZON.
    pub latest: bool,
    /// How often progress is stored.
    pub checkpoint_interval: Duration,
    /// How many versions of each row are kept for stale reads.
    pub row_versions: usize,
    /// How far clocks are wrong, at most, in millionths.
    pub drift: u32,
    /// How far the dates that processes know are wrong, at most.
    pub dates_differ: Duration,
    /// There are spells of big records, processors are slow, and workers have little memory.
    pub big_records: bool,
    /// How workers read the stream.
    pub reading: Reading,
    /// When the service ends a subscription: sooner or later than after the five minutes that are promised.
    pub subscription_lifetime: Duration,
    /// How the application processes records.
    pub practice: Practice,
}

/// The circumstances and the schedule of one seed, all of it on one spot if there is a `focus`. Faults begin before
/// `quiet`, and what has a length ends before it.
#[must_use]
pub fn swarm(seed: u64, quiet: Duration, focus: Option<&Focus>) -> (Climate, Vec<Timed>) {
    let mut schedule = Vec::new();
    // Records that pass out of retention before slow processors let a valid iterator reach them are jumped over without a
    // word: the service says nothing, and only a new iterator shows it. P12 does not hold there.
    let possible = |kind: &&Kind| match kind.name {
        "retention" => !has_big_records(seed),
        // Who makes a row again remembers how far it was read, and not that somebody moved it since.
        "lease row deleted" => !has_orders(seed),
        _ => true,
    };
    for kind in KINDS.iter().filter(possible) {
        if let Some(mean) = kind.mean(seed, focus) {
            kind.schedule(seed, mean, quiet, &mut schedule);
        }
    }
    weather(seed, quiet, focus, &mut schedule);
    let practice = Practice::drawn(seed, focus);
    temper(seed, focus, &practice, &mut schedule);
    schedule.sort_by_key(|timed| timed.at);
    let stale = schedule.iter().any(|timed| is_stale(&timed.fault));
    (climate(seed, stale, practice), schedule)
}

fn climate(seed: u64, stale: bool, practice: Practice) -> Climate {
    let slow = between(seed, "latency", 0, 2..40);
    Climate {
        latency: (1 + slow / 4, 2 + slow),
        put_every: Duration::from_millis(between(seed, "puts", 0, 300..2_500)),
        latest: fraction(seed, "latest", 0) < 0.2,
        checkpoint_interval: Duration::from_millis(between(seed, "checkpoints", 0, 800..6_000)),
        row_versions: if stale { 16 } else { 0 },
        drift: match fraction(seed, "drift", 0) < SHARE_OF_KINDS {
            true => 10_000,
            false => 0,
        },
        dates_differ: match fraction(seed, "dates differ", 0) < SHARE_OF_KINDS {
            true => Duration::from_secs(60 * 60),
            false => Duration::ZERO,
        },
        big_records: has_big_records(seed),
        reading: Reading::Polling,
        subscription_lifetime: Duration::from_millis(between(
            seed,
            "subscription lifetime",
            0,
            20_000..420_000,
        )),
        practice,
    }
}

fn has_big_records(seed: u64) -> bool {
    fraction(seed, "big records", 0) < SHARE_OF_BIG_RECORDS
}

fn has_orders(seed: u64) -> bool {
    fraction(seed, "orders", 0) < SHARE_OF_ORDERS
}

fn is_stale(fault: &Fault) -> bool {
    matches!(fault, Fault::Weather(rule) if matches!(rule.fault, Request::StaleRead { .. }))
}

/// A kind of fault that happens again and again.
struct Kind {
    name: &'static str,
    /// The mean time between two of them lies in this range of seconds.
    every: (u64, u64),
    make: fn(&Draws<'_>) -> Fault,
}

/// The draws for one fault.
struct Draws<'a> {
    seed: u64,
    kind: &'a str,
    n: u64,
}

impl Draws<'_> {
    /// An operator's command, one in three given by a tool.
    fn order(&self, order: Order, of_all: bool) -> Fault {
        Fault::Order {
            order,
            shard: (!of_all).then(|| self.pick()),
            by: (self.number(5, 0, 3) > 0).then(|| self.number(6, 0, u64::MAX)),
        }
    }

    fn number(&self, what: u64, low: u64, high: u64) -> u64 {
        between(self.seed, self.kind, self.n * 8 + what, low..high)
    }

    fn pick(&self) -> u64 {
        self.number(1, 0, u64::MAX)
    }

    /// Most are short, some last several lease durations.
    fn length(&self) -> Duration {
        let longest = match self.number(2, 0, 10) {
            0..5 => 6_000,
            5..9 => 20_000,
            _ => 45_000,
        };
        Duration::from_millis(self.number(3, 300, longest))
    }
}

const KINDS: &[Kind] = &[
    Kind {
        name: "kill",
        every: (40, 300),
        make: |draws| Fault::Kill {
            worker: draws.pick(),
            again: match draws.number(4, 0, 4) {
                0 => None,
                1 => Some(Duration::ZERO),
                _ => Some(Duration::from_millis(draws.number(5, 0, 40_000))),
            },
            same_name: draws.number(6, 0, 2) == 0,
        },
    },
    Kind {
        name: "pause",
        every: (20, 200),
        make: |draws| Fault::Pause {
            worker: draws.pick(),
            lasts: draws.length(),
        },
    },
    Kind {
        name: "pause of a lease",
        every: (60, 300),
        make: |draws| Fault::Pause {
            worker: draws.pick(),
            lasts: Duration::from_millis(draws.number(2, 9_500, 13_000)),
        },
    },
    Kind {
        name: "pause of an item's life",
        every: (300, 900),
        make: |draws| Fault::Pause {
            worker: draws.pick(),
            lasts: Duration::from_millis(draws.number(2, 98_000, 125_000)),
        },
    },
    Kind {
        name: "cut off from the table",
        every: (20, 200),
        make: |draws| Fault::Partition {
            worker: draws.pick(),
            from: Cut::Table,
            lasts: draws.length(),
        },
    },
    Kind {
        name: "cut off from the stream",
        every: (60, 300),
        make: |draws| Fault::Partition {
            worker: draws.pick(),
            from: Cut::Stream,
            lasts: draws.length(),
        },
    },
    Kind {
        name: "cut off",
        every: (60, 300),
        make: |draws| Fault::Partition {
            worker: draws.pick(),
            from: Cut::Both,
            lasts: draws.length(),
        },
    },
    Kind {
        name: "reads fail",
        every: (40, 300),
        make: |draws| Fault::ReadsFail {
            worker: draws.pick(),
            lasts: draws.length() * 2,
        },
    },
    Kind {
        name: "deaf",
        every: (60, 300),
        make: |draws| Fault::Deaf {
            worker: draws.pick(),
            // About as long as a lease: shorter changes nothing, longer and somebody takes.
            lasts: Duration::from_millis(draws.number(2, 8_500, 13_000)),
        },
    },
    Kind {
        name: "row stuck",
        every: (20, 120),
        make: |draws| Fault::RowStuck {
            worker: draws.pick(),
            shard: draws.number(4, 0, u64::MAX),
            lasts: draws.length(),
        },
    },
    Kind {
        name: "restart",
        every: (30, 240),
        make: |draws| Fault::Restart {
            worker: draws.pick(),
        },
    },
    Kind {
        name: "deploy",
        every: (120, 600),
        make: |_| Fault::Deploy,
    },
    Kind {
        name: "join",
        every: (120, 600),
        make: |_| Fault::Join,
    },
    Kind {
        name: "leave",
        every: (120, 600),
        make: |draws| Fault::Leave {
            worker: draws.pick(),
        },
    },
    Kind {
        name: "split",
        every: (40, 400),
        make: |draws| Fault::Split {
            shard: draws.pick(),
        },
    },
    Kind {
        name: "merge",
        every: (40, 400),
        make: |draws| Fault::Merge {
            shard: draws.pick(),
        },
    },
    Kind {
        name: "outage",
        every: (180, 900),
        make: |draws| Fault::Outage {
            lasts: draws.length() * 2,
            hangs: draws.number(4, 0, 3) == 0,
        },
    },
    Kind {
        name: "worker item deleted",
        every: (120, 600),
        make: |draws| Fault::DeleteWorker {
            worker: draws.pick(),
        },
    },
    // In few runs: a deleted row excuses much.
    Kind {
        name: "lease row deleted",
        every: (900, 7_200),
        make: |draws| Fault::DeleteLease {
            lease: draws.pick(),
        },
    },
    Kind {
        name: "paused by an operator",
        every: (60, 300),
        make: |draws| draws.order(Order::Pause, draws.number(4, 0, 4) == 0),
    },
    Kind {
        name: "resumed by an operator",
        every: (40, 120),
        make: |draws| draws.order(Order::Resume, draws.number(4, 0, 2) == 0),
    },
    Kind {
        name: "moved by an operator",
        every: (40, 300),
        make: |draws| {
            let order = match draws.number(7, 0, 6) {
                0 => Order::Oldest,
                1 => Order::Latest,
                2..=3 => Order::After(draws.number(2, 0, u64::MAX)),
                _ => Order::Ago(Duration::from_millis(draws.number(3, 0, 300_000))),
            };
            draws.order(order, draws.number(4, 0, 4) == 0)
        },
    },
    Kind {
        name: "subscriptions cut",
        every: (20, 200),
        make: |draws| Fault::CutSubscriptions {
            worker: draws.pick(),
        },
    },
    Kind {
        name: "subscriptions silent",
        every: (40, 300),
        make: |draws| Fault::SilenceSubscriptions {
            worker: draws.pick(),
        },
    },
    Kind {
        name: "consumer removed",
        every: (300, 1_800),
        make: |_| Fault::DeregisterConsumer,
    },
    Kind {
        name: "retention",
        every: (600, 1_800),
        make: |_| Fault::Retention,
    },
];

impl Kind {
    /// The mean time between two in seconds, if the run has this kind.
    fn mean(&self, seed: u64, focus: Option<&Focus>) -> Option<f64> {
        let drawn = || between(seed, self.name, 1, self.every.0..self.every.1);
        let mean = match focus {
            Some(focus) => focus.mean_of(self.name)?,
            None if self.is_drawn(seed) => drawn(),
            None => return None,
        };
        Some(mean as f64)
    }

    fn is_drawn(&self, seed: u64) -> bool {
        match self.name.ends_with("by an operator") {
            true => has_orders(seed),
            false => fraction(seed, self.name, 0) < SHARE_OF_KINDS,
        }
    }

    fn schedule(&self, seed: u64, mean: f64, quiet: Duration, schedule: &mut Vec<Timed>) {
        let mut at = CALM_START;
        for n in 1.. {
            at += Duration::from_secs_f64(mean * 2.0 * fraction(seed, self.name, n * 8));
            let draws = Draws {
                seed,
                kind: self.name,
                n,
            };
            let fault = (self.make)(&draws);
            if at + fault.lasts() >= quiet {
                return;
            }
            schedule.push(Timed { at, fault });
        }
    }
}

/// Spells of trouble with single requests.
fn weather(seed: u64, quiet: Duration, focus: Option<&Focus>, schedule: &mut Vec<Timed>) {
    let table = Some(Service::DynamoDb);
    let stream = Some(Service::Kinesis);
    let late = |name| Duration::from_millis(between(seed, name, 2, 500..15_000));
    let slow = |name| Duration::from_millis(between(seed, name, 2, 50..1_500));
    let versions = u32::try_from(between(seed, "stale reads", 2, 1..5)).unwrap_or(1);
    let throttled = Request::Error {
        status: 400,
        code: "ProvisionedThroughputExceededException".to_owned(),
        message: String::new(),
    };
    let kinds: [(&'static str, Option<Service>, f64, Request); 13] = [
        ("table errors", table, 0.15, Request::InternalError),
        ("stream errors", stream, 0.2, Request::InternalError),
        ("unavailable", None, 0.2, Request::Unavailable),
        ("table throttled", table, 0.6, throttled),
        ("stream throttled", stream, 0.5, Request::ThroughputExceeded),
        ("requests lost", None, 0.15, Request::LoseRequest),
        ("answers lost", table, 0.3, Request::LoseAnswer),
        (
            "late writes",
            table,
            0.15,
            Request::ApplyLate {
                by: late("late writes"),
            },
        ),
        (
            "slow table",
            table,
            0.5,
            Request::Delay {
                by: slow("slow table"),
            },
        ),
        (
            "very slow table",
            table,
            0.1,
            Request::Delay {
                by: late("very slow table"),
            },
        ),
        ("stale reads", table, 1.0, Request::StaleRead { versions }),
        ("expired iterators", stream, 0.05, Request::ExpiredIterator),
        ("requests hang", None, 0.05, Request::Hang),
    ];
    for (name, service, strongest, fault) in kinds {
        let spells = Spells {
            name,
            gaps: if focus.is_some() { FREQUENT } else { SELDOM },
            strongest,
            rule: Rule {
                service,
                ..Rule::new(fault)
            },
        };
        match focus {
            Some(focus) => {
                if let Some(strongest) = focus.share_of(name) {
                    Spells {
                        strongest,
                        ..spells
                    }
                    .schedule(seed, quiet, schedule);
                }
            }
            None if fraction(seed, name, 0) < SHARE_OF_KINDS => {
                spells.schedule(seed, quiet, schedule);
            }
            None => {}
        }
    }
}

/// The time between two spells of the same trouble, in milliseconds.
const SELDOM: Range<u64> = 10_000..300_000;
const FREQUENT: Range<u64> = 5_000..60_000;

/// Spells of one kind of trouble.
struct Spells {
    name: &'static str,
    gaps: Range<u64>,
    /// The largest share of requests that meets it.
    strongest: f64,
    rule: Rule,
}

impl Spells {
    fn schedule(self, seed: u64, quiet: Duration, schedule: &mut Vec<Timed>) {
        let name = self.name;
        let mut at = CALM_START;
        for n in 1.. {
            let gap = between(seed, name, n * 8, self.gaps.clone());
            let lasts = Duration::from_millis(between(seed, name, n * 8 + 1, 1_000..90_000));
            at += Duration::from_millis(gap);
            let until = at + lasts;
            if until >= quiet {
                return;
            }
            let rule = self
                .rule
                .clone()
                .named(format!("{name} {n}"))
                .probability(self.strongest * fraction(seed, name, n * 8 + 2))
                .between(at, until);
            schedule.push(Timed {
                at,
                fault: Fault::Weather(Box::new(rule)),
            });
            at = until;
        }
    }
}

/// How processors and sinks behave: now and then some seeds, and surely those that press on it.
fn temper(seed: u64, focus: Option<&Focus>, practice: &Practice, schedule: &mut Vec<Timed>) {
    let pressed = focus.is_some_and(|focus| !focus.habits.is_empty());
    let drawn = |name, strongest: f64, sure: bool| {
        let exists = sure || fraction(seed, name, 0) < SHARE_OF_KINDS;
        if exists {
            strongest * fraction(seed, name, 1)
        } else {
            0.0
        }
    };
    let share = |name, strongest| drawn(name, strongest, pressed);
    let gives_up = practice.given_up != GivenUp::Never;
    let defers = practice.deferred > 0.0;
    // Memory fills up while processors take their time.
    let (slow, slow_millis) = match (has_big_records(seed), fraction(seed, "very slow", 0) < 0.2) {
        (true, _) => (0.7, 15_000),
        (false, true) => (
            share("slow", 0.05),
            between(seed, "slow", 2, 10_000..45_000),
        ),
        (false, false) => (share("slow", 0.2), between(seed, "slow", 2, 10..15_000)),
    };
    let temper = Temper {
        errors: share("errors", 0.1),
        panics: share("panics", 0.02),
        slow,
        slow_millis,
        stuck: drawn("stuck", 0.001, false),
        poison: drawn("poison", if gives_up { 0.04 } else { 0.01 }, gives_up),
        poison_keys: if gives_up {
            share("poison keys", 0.05)
        } else {
            0.0
        },
        rejected: if defers {
            drawn("rejected", 0.2, true)
        } else {
            0.0
        },
        sink_fails: if practice.has_sink() {
            drawn("sink fails", 0.7, true)
        } else {
            0.0
        },
        sink_millis: between(seed, "slow sink", 0, 1..3_000),
        prompt: false,
    };
    schedule.push(Timed {
        at: Duration::ZERO,
        fault: Fault::Processors(temper),
    });
}
