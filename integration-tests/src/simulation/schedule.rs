//! Faults as data: what happens in a run, and when.
//!
//! A schedule is a list, and every part of what goes wrong is an element of it, the weather included: shrinking removes
//! elements until none can go.

use std::fmt;
use std::time::Duration;

use kcl_emulator::faults::Rule;

/// A choice that is made when its time comes: the number modulo how many there are to choose from.
pub type Pick = u64;

/// One fault and when it begins, counted from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// When it begins.
    pub at: Duration,
    /// What happens.
    pub fault: Fault,
}

/// Which service a worker is cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The lease table only.
    Table,
    /// The stream only.
    Stream,
    /// Both.
    Both,
}

/// What an operator wants of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing is delivered.
    Pause,
    /// Delivery goes on.
    Resume,
    /// Reading goes on at the oldest record.
    Oldest,
    /// Reading goes on at the tip.
    Latest,
    /// Reading goes on after a record; of all shards at the oldest one.
    After(Pick),
    /// Reading goes on at what arrived so long ago.
    Ago(Duration),
}

/// What goes wrong, or just happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A process is killed; another one is started after this time, or none.
    Kill {
        /// Which.
        worker: Pick,
        /// When its replacement starts.
        again: Option<Duration>,
        /// The replacement has the same name.
        same_name: bool,
    },
    /// A process stands still.
    Pause {
        /// Which.
        worker: Pick,
        /// How long.
        lasts: Duration,
    },
    /// A process cannot reach a service.
    Partition {
        /// Which.
        worker: Pick,
        /// What it cannot reach.
        from: Cut,
        /// How long.
        lasts: Duration,
    },
    /// The reads of one worker from the lease table fail, its writes do not.
    ReadsFail {
        /// Which.
        worker: Pick,
        /// How long.
        lasts: Duration,
    },
    /// What a process asks the lease table is carried out, and it hears no answer.
    Deaf {
        /// Which.
        worker: Pick,
        /// How long.
        lasts: Duration,
    },
    /// The requests of a process about one lease row do not arrive, as on an overheated key.
    RowStuck {
        /// Which process.
        worker: Pick,
        /// Which of the open shards.
        shard: Pick,
        /// How long.
        lasts: Duration,
    },
    /// A process is stopped gracefully and another one started after it ended.
    Restart {
        /// Which.
        worker: Pick,
    },
    /// All processes are replaced one by one: the new one starts, then the old one stops gracefully.
    Deploy,
    /// One more process.
    Join,
    /// A process stops gracefully, if there are others.
    Leave {
        /// Which.
        worker: Pick,
    },
    /// An open shard is split.
    Split {
        /// Which.
        shard: Pick,
    },
    /// Two adjacent open shards are merged.
    Merge {
        /// Which.
        shard: Pick,
    },
    /// The lease table answers nobody.
    Outage {
        /// How long.
        lasts: Duration,
        /// Requests hang instead of being refused.
        hangs: bool,
    },
    /// A worker's item in the lease table is deleted.
    DeleteWorker {
        /// Which.
        worker: Pick,
    },
    /// The row of a lease that somebody holds is deleted.
    DeleteLease {
        /// Which.
        lease: Pick,
    },
    /// The connections of all subscriptions of a process break.
    CutSubscriptions {
        /// Which.
        worker: Pick,
    },
    /// Nothing more comes of the subscriptions of a process, though their connections stand.
    SilenceSubscriptions {
        /// Which.
        worker: Pick,
    },
    /// Somebody removes the application's consumer from the stream.
    DeregisterConsumer,
    /// The stream's clock jumps by a day: whatever was put before passes out of retention.
    Retention,
    /// An operator commands the holders of shards.
    Order {
        /// What.
        order: Order,
        /// Which lease, all if there is none.
        shard: Option<Pick>,
        /// Through which worker; a tool of its own if there is none.
        by: Option<Pick>,
    },
    /// Processors behave badly from now on.
    Processors(Temper),
    /// Requests meet this rule while it is due (it names its own time).
    Weather(Box<Rule>),
}

/// How record processors behave; shares are of calls.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Temper {
    /// This share fails.
    pub errors: f64,
    /// This share panics.
    pub panics: f64,
    /// This share takes time.
    pub slow: f64,
    /// At most so long.
    pub slow_millis: u64,
    /// This share never returns, until the process ends or processors behave well again.
    pub stuck: f64,
    /// This share of the records is refused: several times in a row if they are tried for ever, else each time.
    pub poison: f64,
    /// So are all records of this share of the keys.
    pub poison_keys: f64,
    /// This share of deferred records fails, or is never answered for.
    pub rejected: f64,
    /// The dead-letter sink refuses this share of letters.
    pub sink_fails: f64,
    /// It takes at most so long for one.
    pub sink_millis: u64,
    /// Answers for deferred records come soon.
    pub prompt: bool,
}

impl Temper {
    /// From the healing on: whatever piled up is to be caught up with before the end of the run.
    #[must_use]
    pub fn healed() -> Self {
        Self {
            prompt: true,
            ..Self::default()
        }
    }
}

impl Fault {
    /// For how long the fault lasts beyond its beginning, as far as is known before.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Pause { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::ReadsFail { lasts, .. }
            | Self::Deaf { lasts, .. }
            | Self::RowStuck { lasts, .. }
            | Self::Outage { lasts, .. } => *lasts,
            _ => Duration::ZERO,
        }
    }

    /// Whether it befalls only who reads by enhanced fan-out.
    #[must_use]
    pub fn is_of_subscriptions(&self) -> bool {
        matches!(
            self,
            Self::CutSubscriptions { .. }
                | Self::SilenceSubscriptions { .. }
                | Self::DeregisterConsumer
        )
    }

    /// Its name in statistics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::Partition {
                from: Cut::Table, ..
            } => "cut off from the table",
            Self::Partition {
                from: Cut::Stream, ..
            } => "cut off from the stream",
            Self::Partition {
                from: Cut::Both, ..
            } => "cut off",
            Self::ReadsFail { .. } => "reads fail",
            Self::Deaf { .. } => "deaf",
            Self::RowStuck { .. } => "row stuck",
            Self::Restart { .. } => "restart",
            Self::Deploy => "deploy",
            Self::Join => "join",
            Self::Leave { .. } => "leave",
            Self::Split { .. } => "split",
            Self::Merge { .. } => "merge",
            Self::Outage { .. } => "outage",
            Self::DeleteWorker { .. } => "worker item deleted",
            Self::DeleteLease { .. } => "lease row deleted",
            Self::CutSubscriptions { .. } => "subscriptions cut",
            Self::SilenceSubscriptions { .. } => "subscriptions silent",
            Self::DeregisterConsumer => "consumer removed",
            Self::Retention => "retention",
            Self::Order {
                order: Order::Pause,
                ..
            } => "paused by an operator",
            Self::Order {
                order: Order::Resume,
                ..
            } => "resumed by an operator",
            Self::Order { .. } => "moved by an operator",
            Self::Processors(_) => "bad processors",
            Self::Weather(_) => "weather",
        }
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_secs_f64();
        match &self.fault {
            Fault::Weather(rule) => {
                let name = rule.name.as_deref().unwrap_or("unnamed");
                let share = rule.probability.unwrap_or(1.0);
                let until = rule.until.unwrap_or_default().as_secs_f64();
                write!(
                    f,
                    "{seconds:9.3} s  {name} until {until:.0} s, share {share:.3}: {:?}",
                    rule.fault
                )
            }
            fault => write!(f, "{seconds:9.3} s  {fault:?}"),
        }
    }
}
