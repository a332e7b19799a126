//! One lease without clocks: two workers with two ids each, and a network that delays, loses and repeats.
//!
//! "Expired" may be decided at any moment after a read, and a session may lapse at any moment. A request may land late,
//! twice, or with its answer lost. Of the workers, [`Holding`] is production code; so is every write and what it does to
//! an item. What a worker does without a lease is any take or accept of a version of the row that it may have read.
//!
//! Ghosts are what nobody in the protocol knows: they judge it.

mod commands;
mod holding;
mod network;
mod runs;
mod search;
mod steps;

use kcl_lease::internals::Holding;

use crate::explore::Unordered;
use crate::intern::{Id, Interner};
use crate::table::Table;

use commands::{Command, Commands};
use holding::{Event, Outcome};

const WORKERS: usize = 2;
const IDS: usize = 2 * WORKERS;
const IN_FLIGHT: usize = 2;
/// A worker of the Java library, which has no item of ours.
const JAVA: u8 = IDS as u8;
/// The first counter of a row that was deleted and made again: the epoch milliseconds are larger by then.
const AGAIN: u64 = 100;

const S1: u32 = 1;
const S2: u32 = 1 << 1;
const S3: u32 = 1 << 2;
const S4: u32 = 1 << 3;
const S5: u32 = 1 << 4;
const S6: u32 = 1 << 5;
const S7: u32 = 1 << 6;
const S8: u32 = 1 << 7;
const S9: u32 = 1 << 8;
const C1: u32 = 1 << 9;
const C2: u32 = 1 << 10;
const C3: u32 = 1 << 11;

const TWO_DELIVER: u32 = 1;
const DUPLICATE: u32 = 1 << 1;
const DONE: u32 = 1 << 2;
const CLEAN: u32 = 1 << 3;
const RECOVERED: u32 = 1 << 4;
const REGRANTED: u32 = 1 << 5;
const SOUGHT: u32 = 1 << 6;
const PAUSED: u32 = 1 << 7;
const ARRIVED_AGAIN: u32 = 1 << 8;

/// What may happen, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) records: u8,
    pub(crate) counter: u64,
    pub(crate) in_flight: usize,
    /// The network may repeat a request on its own.
    pub(crate) copies: bool,
    /// Reads may be up to two versions old.
    pub(crate) stale_reads: bool,
    pub(crate) lapses: bool,
    pub(crate) hand_overs: u8,
    /// Crashes and graceful exits.
    pub(crate) faults: u8,
    pub(crate) exits: bool,
    /// Worker items cleaned up under a live worker, and late copies of registrations.
    pub(crate) clean_ups: u8,
    /// The row may be deleted and made again.
    pub(crate) made_again: bool,
    /// A Java leader may once change the owner, which it does without moving the counter.
    pub(crate) java: bool,
    /// Commands of operators, and which.
    pub(crate) commands: u8,
    pub(crate) wishes: &'static [Command],
}

impl Bounds {
    pub(crate) const BASE: Self = Self {
        records: 2,
        counter: 4,
        in_flight: 2,
        copies: true,
        stale_reads: true,
        lapses: true,
        hand_overs: 0,
        faults: 0,
        exits: false,
        clean_ups: 0,
        made_again: false,
        java: false,
        commands: 0,
        wishes: &[],
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    row: Id,
    /// Earlier versions of the row that a read may still show.
    old: [Id; 2],
    ghost: Ghost,
    /// The workers' items by id.
    items: [Id; IDS],
    workers: [Worker; WORKERS],
    net: [Option<Request>; IN_FLIGHT],
    /// Records that somebody processed, one bit each.
    delivered: u8,
    broken: u32,
    hand_overs: u8,
    faults: u8,
    clean_ups: u8,
    made_again: bool,
    java: bool,
    commands: Commands,
}

/// What the row's history was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ghost {
    /// Changes of the owner.
    changes: u8,
    /// The checkpoint at the last one.
    start: u8,
    /// Up to here the last owner processed before it gave the lease away.
    clean: u8,
    /// The largest token of a grant.
    token: u64,
    /// The number of changes when the row was made.
    born: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Worker {
    up: bool,
    id: u8,
    draining: bool,
    held: Option<Held>,
    wait: Option<Wait>,
    /// It may not know of a command.
    hinted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Held {
    holding: Id,
    /// Ghost: the change of owner that granted it.
    change: u8,
    /// How many records this grant's holder processed, counted from the first one.
    position: u8,
    /// Ghost: how many seeks were applied when it began to read where it reads.
    era: u8,
}

/// A call whose answer a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Wait {
    attempt: u8,
    write: Id,
    /// The row as it was read, for takes and accepts.
    read: Id,
    /// It was sent before a lapse.
    lapsed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Request {
    from: u8,
    id: u8,
    attempt: u8,
    write: Id,
    read: Id,
    change: u8,
    position: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker that holds nothing takes or accepts the row as it was so many versions ago.
    Take(u8, u8),
    /// The call that the holder wants to make anyway: a re-grant, or a write again.
    Send(u8),
    Checkpoint(u8),
    Release(u8),
    HandOver(u8, u8),
    Process(u8),
    Lapse(u8),
    /// An answer is not waited for any longer.
    GiveUp(u8),
    Copy(u8),
    /// A heartbeat shows the worker that its item is gone.
    SessionOver(u8),
    Crash(u8),
    Restart(u8),
    Drain(u8),
    Exit(u8),
    CleanUp(u8),
    LateRegistration(u8),
    MakeAgain,
    JavaMoves,
    /// An operator commands; the hint for the holder arrives or is lost.
    Command(Command, bool),
    /// The first command's request arrives once more.
    LateCommand,
    /// The holder reads the command.
    Look(u8),
    /// The holder does as it is told.
    Obey(u8),
    /// The leader cares for the command, with the row as it was so many versions ago.
    Care(u8),
    /// What the leader tidies up with arrives.
    Tidy,
    Deliver(u8),
    LoseAnswer(u8),
    Lose(u8),
}

pub(crate) struct Untimed {
    bounds: Bounds,
    table: Table,
    holdings: Interner<Holding>,
    /// What the production code answered before.
    steps: Unordered<(Id, Event), (Id, Outcome)>,
}

impl Untimed {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            table: Table::new(JAVA + 1),
            holdings: Interner::default(),
            steps: Unordered::default(),
        }
    }
}
