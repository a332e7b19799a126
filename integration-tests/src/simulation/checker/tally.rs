//! What a run counted besides violations.

use std::collections::BTreeMap;

/// Why a record was delivered more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The processor refused it, or a panic ended its instance.
    Retry,
    /// The worker before was killed, or ended without draining.
    Crash,
    /// The worker before stood still or was cut off, and its lease was taken.
    Lapse,
    /// The worker before lost its session.
    SessionLost,
    /// Somebody deleted the lease's row.
    RowDeleted,
    /// An operator moved the reading back.
    Sought,
    /// The lease was given away cleanly before an earlier record was complete.
    Overtaken,
    /// The lease was given away cleanly: never.
    HandOver,
    /// The worker before was alive, connected, and lost the lease anyway.
    Unexplained,
}

impl Cause {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Crash => "crash",
            Self::Lapse => "lapse",
            Self::SessionLost => "session lost",
            Self::RowDeleted => "row deleted",
            Self::Sought => "moved back",
            Self::Overtaken => "overtaken",
            Self::HandOver => "hand-over",
            Self::Unexplained => "unexplained",
        }
    }
}

/// States that a set of runs must reach: one that never does tests nothing there.
pub const SOMETIMES: &[&str] = &[
    "fenced write refused",
    "lost answer recovered",
    "answer lost",
    "late write applied",
    "late write refused",
    "clean hand-over",
    "expired lease taken",
    "lapse survived",
    "session lost",
    "merge of two workers' shards",
    "parent finished while a worker is paused",
    "finished row deleted",
    "dead worker's item deleted",
    "records trimmed unread",
    "gap told",
    "record refused again and again",
    "processor panicked",
    "scan of several pages",
    "same name again",
    "outage",
    "deleted row made again",
    "memory budget reached",
    "processor stuck",
    "call of several lease durations",
    "call cut off",
    "shard given away for its call",
    "letter accepted",
    "letter refused",
    "failing record searched for",
    "failed record named",
    "record skipped",
    "key parked",
    "later record of a parked key sent",
    "answered out of order",
    "answered that records failed",
    "handle dropped",
    "deferred records taken back",
    "answered after the call failed",
    "answered after the lease was lost",
    "given away without all answers",
    "as much in flight as allowed",
    "lanes in calls at the same time",
    "shard commanded",
    "pause obeyed",
    "shard moved back",
    "shard moved ahead",
    "paused shard moved",
];

/// The same, of runs that read by polling.
pub const SOMETIMES_POLLING: &[&str] = &["iterator expired"];

/// The same, of runs that read by enhanced fan-out.
pub const SOMETIMES_FAN_OUT: &[&str] = &[
    "subscription refused: there is one",
    "subscription ended by the service",
    "subscription cut",
    "silent subscription given up",
    "subscription lives on without its reader",
    "consumer registered",
];

/// Counters of one run, or of many.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Records put.
    pub put: u64,
    /// Records delivered, again included.
    pub delivered: u64,
    /// Deliveries of records that were delivered before, by cause.
    pub duplicates: BTreeMap<Cause, u64>,
    /// Grants that started.
    pub grants: u64,
    /// Leases given away cleanly.
    pub hand_overs: u64,
    /// Leases dropped that were still the worker's own.
    pub false_losses: u64,
    /// From a kill to the start elsewhere, in milliseconds, in calm times.
    pub takeovers: Vec<u64>,
    /// From a hand-over's write to the start elsewhere, in milliseconds, in calm times.
    pub pauses: Vec<u64>,
    /// From when a record is put to its delivery, where nothing hinders it, in milliseconds.
    pub arrivals: Vec<u64>,
    /// How long children took to start after their parents' end, in calm times, in milliseconds.
    pub births: Vec<u64>,
    /// Faults by name.
    pub faults: BTreeMap<String, u64>,
    /// How often each state was reached.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts that a state was reached.
    pub fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Counts a fault.
    pub fn fault(&mut self, name: &str) {
        *self.faults.entry(name.to_owned()).or_default() += 1;
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        self.put += other.put;
        self.delivered += other.delivered;
        self.grants += other.grants;
        self.hand_overs += other.hand_overs;
        self.false_losses += other.false_losses;
        self.takeovers.extend(&other.takeovers);
        self.pauses.extend(&other.pauses);
        self.births.extend(&other.births);
        self.arrivals.extend(&other.arrivals);
        for (cause, count) in &other.duplicates {
            *self.duplicates.entry(*cause).or_default() += count;
        }
        for (name, count) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
        for (what, count) in &other.seen {
            *self.seen.entry(what).or_default() += count;
        }
    }
}
