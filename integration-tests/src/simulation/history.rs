//! What happened in a run, in order: one list of events with one hash, which the checker follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use kcl_core::Checkpoint;
use kcl_emulator::Service;
use kcl_lease::item::Item;
use kcl_lease::{CommandItem, LossReason, Obeyed, Row, RowRepair};

use super::checker::{Calls, Checker};
use super::world::Process;

/// The number in a shard's id.
pub type ShardNo = u32;

/// The number in a partition key.
pub type KeyNo = u32;

/// Progress in a shard, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Where reading starts.
    Start,
    /// So many records are complete.
    After(u32),
    /// Everything.
    End,
}

/// A stored checkpoint: records are named, not counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stored {
    /// TRIM_HORIZON, LATEST or AT_TIMESTAMP.
    Start,
    /// Through the record with this sequence number.
    Through(String),
    /// SHARD_END.
    End,
}

impl From<&Checkpoint> for Stored {
    fn from(checkpoint: &Checkpoint) -> Self {
        match checkpoint {
            Checkpoint::ShardEnd => Self::End,
            Checkpoint::At(position) => Self::Through(position.sequence_number.as_str().to_owned()),
            _ => Self::Start,
        }
    }
}

/// A lease row at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseState {
    /// The session that owns it.
    pub owner: Option<String>,
    /// Its version.
    pub counter: u64,
    /// Its progress.
    pub checkpoint: Stored,
    /// What was done about commands of operators.
    pub obeyed: Obeyed,
}

/// What one write changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A lease row.
    Lease {
        /// The shard.
        shard: ShardNo,
        /// Before.
        before: Option<LeaseState>,
        /// After.
        after: Option<LeaseState>,
    },
    /// A worker's item.
    Worker {
        /// The session.
        id: String,
        /// Its heartbeat before.
        before: Option<u64>,
        /// Its heartbeat after.
        after: Option<u64>,
    },
    /// What operators want of the holder of a lease.
    Command {
        /// The shard.
        shard: ShardNo,
        /// Before.
        before: Option<Box<CommandItem>>,
        /// After.
        after: Option<Box<CommandItem>>,
    },
    /// The leader item.
    Leader {
        /// Who leads.
        leader: Option<String>,
    },
    /// Something else.
    Other {
        /// Its key.
        key: String,
    },
}

/// Why a processor heard no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// It was told that the lease was lost.
    Lost,
    /// It was asked to stop.
    Asked,
    /// It was told that the shard ended.
    Ended,
}

/// What was said about deferred records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// They are complete.
    Done,
    /// They failed, possibly at the record with this number.
    Failed(Option<u32>),
    /// Nothing: the handle was dropped.
    Dropped,
}

/// What the framework made of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It counts.
    Taken,
    /// The lease is over.
    LeaseLost,
    /// The records are not in flight under this handle.
    Over,
    /// They never were.
    NotInCall,
    /// Nobody is there to hear it.
    Unheard,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum Event {
    /// A shard was opened.
    Opened {
        shard: ShardNo,
        parents: Vec<ShardNo>,
    },
    /// A shard was closed.
    Closed { shard: ShardNo },
    /// A record was put.
    Put {
        shard: ShardNo,
        sequence: String,
        key: KeyNo,
        /// By the stream's clock, epoch milliseconds.
        arrived: u64,
    },
    /// Records before this moment of the stream's clock passed out of retention.
    Trimmed { shards: Vec<(ShardNo, u32)> },
    /// A process started.
    Started { process: Process, name: String },
    /// A process was killed.
    Killed { process: Process },
    /// A process stands still, or goes on.
    Paused { process: Process, paused: bool },
    /// A process cannot reach a service, or can again.
    CutOff { process: Process, cut: bool },
    /// A process is asked to stop.
    Stopping { process: Process },
    /// A process ended by itself.
    Exited { process: Process, how: Exit },
    /// Something that befalls everybody began.
    FaultBegan { name: String, until: u64 },
    /// All faults are over.
    Healed,
    /// A write was carried out.
    Written {
        process: Process,
        sent: Option<u64>,
        change: Change,
    },
    /// A write's condition did not hold.
    Refused { process: Process, key: String },
    /// A request was carried out and its answer lost.
    AnswerLost {
        caller: String,
        operation: &'static str,
    },
    /// A request that was given up by now is about to be carried out.
    AppliesLate {
        caller: String,
        operation: &'static str,
    },
    /// A scan had more than one page.
    ScanPaged,
    /// An iterator expired.
    IteratorExpired,
    /// A processor was made for a shard.
    Initialized {
        process: Process,
        shard: ShardNo,
        /// Of how many it is which, from 0.
        lanes: u32,
        lane: u32,
        epoch: u64,
        from: Stored,
    },
    /// A processor was given records, each by its number in the run.
    Delivered {
        process: Process,
        shard: ShardNo,
        lane: u32,
        records: Vec<u32>,
    },
    /// It deferred some of them, and has a handle for them.
    Deferred {
        process: Process,
        shard: ShardNo,
        lane: u32,
        handle: u64,
        records: Vec<u32>,
    },
    /// It completed what it did not defer.
    Completed {
        process: Process,
        shard: ShardNo,
        lane: u32,
    },
    /// It failed, and possibly said at which record.
    Failed {
        process: Process,
        shard: ShardNo,
        lane: u32,
        panicked: bool,
        named: Option<u32>,
    },
    /// A handle was answered.
    Answered {
        process: Process,
        shard: ShardNo,
        handle: u64,
        answer: Answer,
        reply: Reply,
    },
    /// A process offered a record to the dead-letter sink.
    Letter {
        process: Process,
        shard: ShardNo,
        sequence: String,
        attempts: u32,
        /// The letter says that it is sent because its key is parked.
        parked: bool,
        accepted: bool,
    },
    /// A worker told that it passed over a record.
    Skipped {
        process: Process,
        shard: ShardNo,
        sequence: String,
        attempts: u32,
    },
    /// It heard its last call.
    Stopped {
        process: Process,
        shard: ShardNo,
        why: Stop,
    },
    /// The worker told of a lost lease.
    LeaseLost {
        process: Process,
        shard: ShardNo,
        reason: &'static str,
    },
    /// The worker told that it released a lease.
    Released { process: Process, shard: ShardNo },
    /// The worker told of a gap.
    GapTold {
        process: Process,
        shard: ShardNo,
        from: String,
        to: String,
    },
    /// The lease table and the emulator's DynamoDB answered a call differently.
    EnginesDiffer { text: String },
    /// The worker told that somebody deleted a lease's row.
    RowDeletionTold {
        process: Process,
        shard: ShardNo,
        repair: &'static str,
    },
}

/// How a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Everything was released.
    Drained,
    /// The drain budget ran out.
    NotDrained,
    /// With an error.
    Error(String),
}

/// A stable name for a reason.
#[must_use]
pub fn loss_name(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Taken => "taken",
        LossReason::RowMissing => "row missing",
        LossReason::RowUnreadable => "row unreadable",
        LossReason::SessionOver => "session over",
        LossReason::Released => "released",
        LossReason::ShardEnded => "shard ended",
        LossReason::Abandoned => "abandoned",
        LossReason::Stopped => "stopped",
        _ => "other",
    }
}

/// The name of a repair that did nothing: no worker knows how far the shard was read.
pub const PROGRESS_UNKNOWN: &str = "progress unknown";

/// A stable name for what was done about a deleted row.
#[must_use]
pub fn repair_name(repair: &RowRepair) -> &'static str {
    match repair {
        RowRepair::Restored { .. } => "restored",
        RowRepair::Replayed => "replayed",
        _ => PROGRESS_UNKNOWN,
    }
}

/// Everything that happened in one run.
#[derive(Debug)]
pub struct History {
    hash: Fnv,
    /// The present millisecond, and the sum over its events.
    moment: (u64, u64),
    events: u64,
    trace: Option<String>,
    calls: BTreeMap<(&'static str, &'static str), u64>,
    /// What the checker made of it.
    pub checker: Checker,
}

impl History {
    /// An empty one. With `traced` every event is kept as a line.
    #[must_use]
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut hash = Fnv::default();
        seed.hash(&mut hash);
        Self {
            hash,
            moment: (0, 0),
            events: 0,
            trace: traced.then(String::new),
            calls: BTreeMap::new(),
            checker: Checker::default(),
        }
    }

    /// Adds an event that happened at `now`, in milliseconds since the start of the run.
    pub fn record(&mut self, now: u64, event: Event) {
        self.take_in(now, &event);
        if let Some(trace) = &mut self.trace {
            let _ok = writeln!(trace, "{:>9}.{:03} {event:?}", now / 1000, now % 1000);
        }
        let before = self.checker.violations().len();
        self.checker.follow(now, event);
        if let Some(trace) = &mut self.trace {
            for violation in self.checker.violations().iter().skip(before) {
                let _ok = writeln!(trace, "              VIOLATION {violation}");
            }
        }
    }

    /// The hash does not depend on the order of events in the same millisecond: which of several tasks that wait for the
    /// same signal goes first is drawn by tokio, and nobody can hand it a seed.
    fn take_in(&mut self, now: u64, event: &Event) {
        if now != self.moment.0 {
            self.moment.hash(&mut self.hash);
            self.moment = (now, 0);
        }
        let mut hash = Fnv::default();
        event.hash(&mut hash);
        self.moment.1 = self.moment.1.wrapping_add(hash.finish());
        self.events += 1;
    }

    /// Counts a request.
    pub fn call(&mut self, service: Service, operation: &'static str) {
        *self.calls.entry((service.name(), operation)).or_default() += 1;
    }

    /// What was called on the lease table so far.
    #[must_use]
    pub fn table_calls(&self) -> Calls {
        let mut calls = Calls::default();
        for ((_, operation), count) in &self.calls {
            match *operation {
                "GetItem" => calls.reads += count,
                "Scan" => calls.scans += count,
                "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" => {
                    calls.writes += count;
                }
                _ => {}
            }
        }
        calls
    }

    /// A hash over all events with their times: equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = self.hash.clone();
        self.moment.hash(&mut hash);
        hash.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The events as lines, if they were kept.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }
}

/// What a write to the item `key` changed.
#[must_use]
pub fn change(key: &str, before: Option<&Item>, after: Option<&Item>) -> Change {
    let row = |item: Option<&Item>| item.and_then(|item| Row::from_item(item).ok());
    let lease = |row: Option<Row>| match row {
        Some(Row::Lease(lease)) => Some(LeaseState {
            owner: lease.owner.map(|owner| owner.as_str().to_owned()),
            counter: lease.counter,
            checkpoint: Stored::from(&lease.checkpoint),
            obeyed: lease.obeyed,
        }),
        _ => None,
    };
    let heartbeat = |row: Option<Row>| match row {
        Some(Row::Worker(worker)) => Some(worker.heartbeat),
        _ => None,
    };
    let command = |row: Option<Row>| match row {
        Some(Row::Command(command)) => Some(Box::new(command)),
        _ => None,
    };
    let (was, is) = (row(before), row(after));
    match (&was, &is) {
        (Some(Row::Command(_)), _) | (_, Some(Row::Command(_))) => Change::Command {
            shard: shard_number(key),
            before: command(was),
            after: command(is),
        },
        (Some(Row::Lease(_)), _) | (_, Some(Row::Lease(_))) => Change::Lease {
            shard: shard_number(key),
            before: lease(was),
            after: lease(is),
        },
        (Some(Row::Worker(_)), _) | (_, Some(Row::Worker(_))) => Change::Worker {
            id: key.to_owned(),
            before: heartbeat(was),
            after: heartbeat(is),
        },
        (_, Some(Row::Leader(leader))) => Change::Leader {
            leader: Some(leader.leader.as_str().to_owned()),
        },
        _ => Change::Other {
            key: key.to_owned(),
        },
    }
}

/// The number of `shardId-000000000012`.
#[must_use]
pub fn shard_number(id: &str) -> ShardNo {
    let digits = id.rsplit('-').next().unwrap_or_default();
    digits.parse().unwrap_or(ShardNo::MAX)
}

/// The number in `key-12`.
#[must_use]
pub fn key_number(key: &str) -> KeyNo {
    let digits = key.rsplit('-').next().unwrap_or_default();
    digits.parse().unwrap_or(KeyNo::MAX)
}

/// The id of shard 12: `shardId-000000000012`.
#[must_use]
pub fn shard_id(number: ShardNo) -> String {
    format!("shardId-{number:012}")
}

/// A hash that is the same in every process.
#[derive(Debug, Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
