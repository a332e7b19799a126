//! The promises as predicates over a history.
//!
//! The checker follows the events of a run in order. The emulator's store is one ordered log, so the order of commits is
//! the truth and every check takes time linear in the events.
//!
//! | id | predicate | where |
//! |---|---|---|
//! | P1a | a stored checkpoint covers only records that are complete, also under the grant of whoever stores it: processed, acknowledged, accepted by the dead-letter sink, or skipped | `table` |
//! | P1b | at the end every record that was not trimmed is complete | `end` |
//! | P2 | within a grant the records of a shard, with several lanes those of a key, come in order without gaps, from the stored checkpoint on; what is complete or deferred does not come again | `calls` |
//! | F1 | a record is given up only if the policy says so, after its number of failures, alone if it is searched for; its attempts are told rightly | `letters` |
//! | F2 | later records of a parked key go to the sink, in order, and not to the processor | `letters`, `calls` |
//! | A1 | answers for deferred records count while they are in flight under that handle, and not after a failed call or a lost lease | `calls` |
//! | A2 | no more records of a shard are in flight than allowed | `calls` |
//! | L1 | the records of a key go to one lane of a process | `calls` |
//! | P3 | a child starts after each parent's row says SHARD_END | `grants` |
//! | P4 | a stored checkpoint never moves back | `table` |
//! | P5 | only the holder writes progress; every write adds one to the row's version; a row that is made again cannot reach an earlier version | `table` |
//! | P6 | after a clean hand-over nothing is delivered again | `table`, `grants` |
//! | P7 | at the end every unfinished shard has a live holder; in calm times a killed worker's shards start elsewhere in time | `end`, `timing` |
//! | P8 | at the end, six minutes after the last fault, leases are balanced within one | `end` |
//! | P9 | no row is deleted early, none comes back, none is left over | `table`, `end` |
//! | P10 | calls at rest stay below the protocol's budget | `cost` |
//! | P11 | after a crash no more is delivered again than the stored checkpoint leaves open: each start is at the stored checkpoint exactly (P2) | `grants` |
//! | P12 | who goes on after a record and jumps over trimmed ones tells of it first, with the exact range | `gaps` |
//! | P13 | no read begins while a worker's buffered bytes are over `memory_budget`, and they go beyond it only by the answers of reads that began before | `memory` |
//! | T1 | no delivery begins after another worker was granted the lease | `grants` |
//! | T2 | no lease is taken from a session whose heartbeat did not stand still for the lease duration and the margin | `table` |
//! | T3 | no worker's item is deleted by another one sooner than ten lease durations after its heartbeat moved | `validity` |
//! | V1 | no delivery begins after the holder's own deadline, counted from the send time of its last heartbeat that was applied | `validity` |
//! | V2 | after a lapse no delivery begins before a write to the lease's row that was sent after the lapse | `validity` |
//! | D1 | a lease row that somebody deleted is told of, and no other; it is never made again beyond what is complete | `deleted` |
//! | C1 | what the holder of a lease obeys was commanded, and is newer than what was obeyed before; nobody but the holder says so | `orders` |
//! | C2 | a seek is applied once, between calls, to exactly where it should go; reading begins there (P2), and what it goes back to is complete only once it is complete again (P1) | `orders` |
//! | C3 | no delivery begins, and none runs, while a shard is paused and its holder said so | `orders` |
//! | C4 | a command stays as long as its lease and is stored once | `orders` |
//! | C5 | in calm times commands are obeyed in time, and at the end all are | `orders` |
//! | R1 | in calm times a record reaches the processor in time, if its shard's holder has nothing else to do there, whatever becomes of subscriptions | `arrivals` |
//! | A6 | after an outage in calm times nothing moves that lives | `timing` |

mod arrivals;
#[cfg(test)]
mod arrivals_tests;
mod calls;
mod cost;
mod deleted;
#[cfg(test)]
mod deleted_tests;
mod end;
mod gaps;
#[cfg(test)]
mod gaps_tests;
mod grants;
mod letters;
mod memory;
mod orders;
#[cfg(test)]
mod orders_tests;
#[cfg(test)]
mod processing_tests;
#[cfg(test)]
mod release_tests;
mod stream;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod timing;
mod validity;
mod work;

use std::collections::BTreeMap;
use std::fmt;

use super::history::{Event, Exit, KeyNo, PROGRESS_UNKNOWN};
use super::practice::Practice;
use super::world::{NOBODY, Process};
use crate::reading::Reading;
use arrivals::Arrivals;
pub use cost::Calls;
use deleted::Deleted;
use gaps::Gaps;
use grants::Grants;
pub use memory::Look;
use memory::Memory;
use orders::Commands;
use stream::Stream;
use table::Table;
pub use tally::{Cause, SOMETIMES, SOMETIMES_FAN_OUT, SOMETIMES_POLLING, Tally};
use timing::Timing;

/// The lease duration of every run, in milliseconds.
pub(super) const LEASE: u64 = 10_000;

/// More than this many violations of one run say nothing new.
const VIOLATIONS_MAX: usize = 50;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in milliseconds since the start of the run.
    pub at: u64,
    /// Which promise.
    pub rule: &'static str,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at / 1000, self.at % 1000);
        write!(f, "{} at {seconds}.{millis:03} s: {}", self.rule, self.text)
    }
}

/// What is known of a process.
#[derive(Debug, Clone, Default)]
pub(super) struct ProcessState {
    pub(super) name: String,
    pub(super) started: u64,
    pub(super) killed: bool,
    pub(super) exited: bool,
    pub(super) paused: bool,
    pub(super) cut: bool,
    /// Since when it is asked to stop.
    pub(super) stopping: Option<u64>,
    /// When it was last paused or cut off.
    pub(super) troubled: Option<u64>,
    pub(super) ended: u64,
}

impl ProcessState {
    pub(super) fn is_alive(&self) -> bool {
        !self.killed && !self.exited
    }
}

/// Follows a history and keeps what was broken.
#[derive(Debug, Default)]
pub struct Checker {
    /// The application's first start is at LATEST: what was put before it is nobody's business.
    pub latest: bool,
    /// How workers read the stream.
    pub reading: Reading,
    /// What the application does with its records.
    pub practice: Practice,
    now: u64,
    violations: Vec<Violation>,
    processes: BTreeMap<Process, ProcessState>,
    stream: Stream,
    table: Table,
    grants: Grants,
    timing: Timing,
    gaps: Gaps,
    /// The lane of each key in each process.
    key_lanes: BTreeMap<(Process, KeyNo), u32>,
    /// When grants went on after records that failed, whose policy it is to skip them: the worker says so.
    skips: Vec<(u64, usize, u32)>,
    deleted: Deleted,
    commands: Commands,
    memory: BTreeMap<Process, Memory>,
    arrivals: Arrivals,
    late: bool,
    /// What was counted.
    pub tally: Tally,
}

impl Checker {
    /// What was broken so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Takes in one event.
    pub fn follow(&mut self, now: u64, event: Event) {
        self.now = now;
        self.judge_jumps(now);
        self.judge_skips(now);
        self.disturbed(&event);
        self.judge_arrivals();
        match event {
            Event::Opened { shard, parents } => self.opened(shard, &parents),
            Event::Closed { shard } => self.closed(shard),
            Event::Put {
                shard,
                sequence,
                key,
                arrived,
            } => self.put(shard, sequence, key, arrived),
            Event::Trimmed { shards } => self.trimmed(&shards),
            Event::Started { process, name } => {
                let again = self.processes.values().any(|p| p.name == name);
                self.note_if(again, "same name again");
                let state = ProcessState {
                    name,
                    started: now,
                    ..ProcessState::default()
                };
                self.processes.insert(process, state);
            }
            Event::Killed { process } => self.killed(process),
            Event::Paused { process, paused } => self.process(process).paused = paused,
            Event::CutOff { process, cut } => self.process(process).cut = cut,
            Event::Stopping { process } => self.process(process).stopping = Some(now),
            Event::Exited { process, how } => self.exited(process, &how),
            Event::FaultBegan { .. } => {}
            Event::Healed => {}
            Event::Written {
                process,
                sent,
                change,
            } => {
                let late = std::mem::take(&mut self.late);
                self.note_if(late, "late write applied");
                self.written(process, sent, change);
            }
            Event::Refused { process, key } => {
                let late = std::mem::take(&mut self.late);
                self.note_if(late, "late write refused");
                self.refused(process, &key);
            }
            Event::AnswerLost { .. } => self.note("answer lost"),
            Event::AppliesLate { operation, .. } => {
                self.late = !matches!(operation, "GetItem" | "Scan" | "DescribeTable");
            }
            Event::RowDeletionTold {
                process,
                shard,
                repair,
            } => self.row_deletion_told(process, shard, repair == PROGRESS_UNKNOWN),
            Event::EnginesDiffer { text } => self.violate("engines agree", text),
            Event::ScanPaged => self.note("scan of several pages"),
            Event::IteratorExpired => self.note("iterator expired"),
            Event::Initialized {
                process,
                shard,
                lanes,
                lane,
                epoch,
                from,
            } => self.initialized(process, shard, (lane, lanes), epoch, &from),
            Event::Delivered {
                process,
                shard,
                lane,
                records,
            } => {
                self.arrived(&records);
                self.delivered(process, shard, lane, &records);
            }
            Event::Deferred {
                process,
                shard,
                lane,
                handle,
                records,
            } => self.deferred(process, shard, lane, handle, &records),
            Event::Completed {
                process,
                shard,
                lane,
            } => self.completed(process, shard, lane),
            Event::Failed {
                process,
                shard,
                lane,
                panicked,
                named,
            } => self.failed(process, shard, lane, panicked, named),
            Event::Answered {
                process,
                shard,
                handle,
                answer,
                reply,
            } => self.answered(process, shard, handle, answer, reply),
            Event::Letter {
                process,
                shard,
                sequence,
                attempts,
                parked,
                accepted,
            } => self.letter(process, shard, &sequence, attempts, parked, accepted),
            Event::Skipped {
                process,
                shard,
                sequence,
                attempts,
            } => self.skipped(process, shard, &sequence, attempts),
            Event::Stopped {
                process,
                shard,
                why,
            } => self.stopped(process, shard, why),
            Event::LeaseLost {
                process,
                shard,
                reason,
            } => self.lease_lost(process, shard, reason),
            Event::Released { process, shard } => self.released(process, shard),
            Event::GapTold {
                process,
                shard,
                from,
                to,
            } => self.gap_told(process, shard, &from, &to),
        }
    }

    fn process(&mut self, process: Process) -> &mut ProcessState {
        let state = self.processes.entry(process).or_default();
        state.troubled = Some(self.now);
        state
    }

    fn killed(&mut self, process: Process) {
        let now = self.now;
        let state = self.process(process);
        state.killed = true;
        state.ended = now;
        self.await_takeover(process);
        self.end_grants(process, Cause::Crash);
    }

    fn exited(&mut self, process: Process, how: &Exit) {
        let now = self.now;
        let state = self.process(process);
        let stopping = state.stopping.is_some();
        state.exited = true;
        state.ended = now;
        let cause = match how {
            Exit::Drained if stopping => Cause::HandOver,
            _ => Cause::Crash,
        };
        match how {
            Exit::Drained => self.judge_farewell(process),
            Exit::NotDrained => self.note("drain budget ran out"),
            // A start that found no table for its whole startup timeout may end; a framework's own task may not.
            Exit::Error(error) if error.contains("please report this") => {
                self.violate("no crash", format!("process {process} ended: {error}"));
            }
            Exit::Error(_) => self.note("worker ended with an error"),
        }
        self.end_grants(process, cause);
    }

    fn violate(&mut self, rule: &'static str, text: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let at = self.now;
            self.violations.push(Violation { at, rule, text });
        }
    }

    fn note(&mut self, what: &'static str) {
        self.tally.note(what);
    }

    fn note_if(&mut self, seen: bool, what: &'static str) {
        if seen {
            self.note(what);
        }
    }
}
