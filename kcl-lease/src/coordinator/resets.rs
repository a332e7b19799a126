//! A reset: the application goes over to another stream, and the leases of the one before are deleted.
//!
//! First nobody may work on them any more, then each row is deleted under the counter and owner that were seen, then the
//! stream item is replaced. Whoever does the same at the same time finds rows that are gone, or the item replaced: every
//! step ends in looking at the stream item again.

use std::collections::VecDeque;

use super::audits::Audits;
use super::calls::{Answer as Call, CallError};
use super::driver::{BACKGROUND_MAX, Driver};
use super::event::{CoordinatorError, CoordinatorEvent};
use super::handle::{Answer, OpenedStream, StreamIdentity};
use crate::command_item::CommandItem;
use crate::key::{StreamKey, WorkerId};
use crate::lease::Lease;
use crate::reset::{self, Situation, Verdict};
use crate::runtime::Moment;
use crate::stream_item::StreamItem;
use crate::table::Written;
use crate::worker_item::WorkerItem;
use crate::write;

/// Rounds that others upset by writing at the same time.
const ROUNDS_MAX: u32 = 5;
/// A worker that holds nothing and has sent more heartbeats than this is not one that is starting.
const STARTING_HEARTBEATS: u64 = 40;
/// A hostile counter larger than this cannot be exceeded by much: new rows start with the time again.
const COUNTER_MAX: u64 = 1 << 62;

/// A reset that is under way.
#[derive(Debug)]
pub(super) struct Reset {
    old: StreamItem,
    proposed: StreamIdentity,
    answer: Answer<OpenedStream>,
    begun: Moment,
    /// The reading of the table that was judged last.
    judged: Option<Moment>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Finding out whether anybody works on the leases.
    Watching,
    Deleting(Deleting),
    Replacing {
        on_its_way: bool,
    },
}

/// Rows that are being deleted.
#[derive(Debug)]
struct Deleting {
    waiting: VecDeque<Lease>,
    on_their_way: usize,
    /// Somebody wrote to a row meanwhile.
    upset: bool,
}

/// What earlier rounds of a reset found.
#[derive(Debug, Default)]
pub(super) struct Resets {
    pub(super) current: Option<Reset>,
    rounds: u32,
    refused: Option<WorkerId>,
    /// Larger than every counter of a row that was deleted.
    pub(super) counter_floor: u64,
    /// The workers that had an item when the table was read last, and whether they count as working.
    workers: Vec<(WorkerId, bool)>,
    /// The commands that the table held when it was read last.
    commands: Vec<CommandItem>,
}

impl Resets {
    fn deleting(&mut self) -> Option<&mut Deleting> {
        match &mut self.current.as_mut()?.phase {
            Phase::Deleting(deleting) => Some(deleting),
            _ => None,
        }
    }
}

impl Driver {
    /// The stored stream is another one: begins a reset, if that was asked for.
    pub(super) fn begin_reset(
        &mut self,
        old: StreamItem,
        proposed: StreamIdentity,
        answer: Answer<OpenedStream>,
        now: Moment,
    ) {
        let resets = &mut self.streams.resets;
        let stored = StreamIdentity::from_item(old.clone());
        let error = match resets.refused.take() {
            Some(worker) => Some(CoordinatorError::ResetRefused {
                worker,
                stored: Box::new(stored),
            }),
            None if !self.options.reset_if_stream_changed || resets.rounds >= ROUNDS_MAX => {
                Some(CoordinatorError::StreamMismatch {
                    stored: Box::new(stored),
                    found: Box::new(proposed.clone()),
                })
            }
            None => None,
        };
        if let Some(error) = error {
            let _ = answer.send(Err(error));
            return;
        }
        resets.rounds += 1;
        resets.current = Some(Reset {
            old,
            proposed,
            answer,
            begun: now,
            judged: None,
            phase: Phase::Watching,
        });
    }

    /// Notes who would be disturbed by a reset.
    pub(super) fn note_workers(&mut self, workers: &[WorkerItem]) {
        let runs = |worker: &WorkerItem| {
            let counts = worker.held_count > 0 || worker.heartbeat > STARTING_HEARTBEATS;
            (worker.id.clone(), counts)
        };
        self.streams.resets.workers = workers.iter().map(runs).collect();
    }

    /// Notes the commands that end with a reset: a shard of the next stream may have the same name.
    pub(super) fn note_commands(&mut self, commands: &[CommandItem]) {
        self.streams.resets.commands = commands.to_vec();
    }

    pub(super) fn drive_reset(&mut self, now: Moment) {
        self.judge_reset(now);
        self.delete_rows();
        self.replace_stream();
    }

    /// Judges each reading of the table that began after the reset did.
    fn judge_reset(&mut self, now: Moment) {
        let (Some(running), Some(reset)) = (self.running(), &self.streams.resets.current) else {
            return;
        };
        let fresh = self
            .scanned
            .filter(|at| *at > reset.begun && reset.judged != Some(*at));
        if !matches!(reset.phase, Phase::Watching) || fresh.is_none() {
            return;
        }
        let leases: Vec<&Lease> = self.view.leases().collect();
        let verdict = reset::judge(Situation {
            me: &running.session.id,
            leases: &leases,
            workers: &self.streams.resets.workers,
            liveness: &self.liveness,
            undisturbed_since: running.session.undisturbed_since(),
            begun: reset.begun,
            now,
        });
        let waiting: VecDeque<Lease> = leases.into_iter().cloned().collect();
        if let Verdict::Refuse(worker) = &verdict {
            self.streams.resets.refused = Some(worker.clone());
            return self.look_again();
        }
        let Some(reset) = &mut self.streams.resets.current else {
            return;
        };
        reset.judged = fresh;
        if verdict == Verdict::Delete {
            tracing::warn!(
                leases = waiting.len(),
                stream = reset.old.arn,
                "the leases of another stream are deleted"
            );
            reset.phase = Phase::Deleting(Deleting {
                waiting,
                on_their_way: 0,
                upset: false,
            });
            for command in std::mem::take(&mut self.streams.resets.commands) {
                self.background += 1;
                let delete = write::delete_command(&command);
                self.calls.write(delete, Call::Housekeeping);
            }
        }
    }

    fn delete_rows(&mut self) {
        let Some(deleting) = self.streams.resets.deleting() else {
            return;
        };
        while self.background < BACKGROUND_MAX && !deleting.upset {
            let Some(lease) = deleting.waiting.pop_front() else {
                break;
            };
            deleting.on_their_way += 1;
            self.background += 1;
            self.calls
                .write(write::delete_lease(&lease), move |result| {
                    Call::ResetRow(Box::new(lease), result)
                });
        }
        if deleting.on_their_way > 0 {
            return;
        }
        if deleting.upset {
            self.look_again();
        } else if let Some(reset) = &mut self.streams.resets.current {
            reset.phase = Phase::Replacing { on_its_way: false };
        }
    }

    pub(super) fn on_reset_row(
        &mut self,
        lease: Lease,
        result: Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard_of_stream(&result, now);
        let resets = &mut self.streams.resets;
        let Some(deleting) = resets.deleting() else {
            return;
        };
        deleting.on_their_way -= 1;
        match result {
            Ok(Written::Applied(_) | Written::Refused(None)) => {
                if lease.counter < COUNTER_MAX {
                    resets.counter_floor = resets.counter_floor.max(lease.counter + 1);
                }
                self.saw_no_row(&lease.key, now);
            }
            Ok(Written::Refused(Some(_))) => deleting.upset = true,
            Err(error) if error.is_retryable() => {
                deleting.waiting.push_back(lease);
                self.streams.setback.failed(now);
            }
            Err(error) => self.fail_reset(error.into()),
        }
    }

    fn replace_stream(&mut self) {
        let Some(reset) = &mut self.streams.resets.current else {
            return;
        };
        if let Phase::Replacing { on_its_way } = &mut reset.phase
            && !*on_its_way
        {
            *on_its_way = true;
            self.background += 1;
            let write = write::replace_stream(&reset.old, &reset.proposed.to_item(StreamKey::ONLY));
            self.calls.write(write, Call::ResetStream);
        }
    }

    pub(super) fn on_reset_stream(&mut self, result: Result<Written, CallError>, now: Moment) {
        self.heard_of_stream(&result, now);
        let Some(reset) = &mut self.streams.resets.current else {
            return;
        };
        match result {
            Ok(written) => {
                if matches!(written, Written::Applied(_)) {
                    let event = CoordinatorEvent::ApplicationReset {
                        before: StreamIdentity::from_item(reset.old.clone()),
                    };
                    self.tell(event);
                }
                self.table_was_empty = true;
                self.look_again();
            }
            Err(error) if error.is_retryable() => {
                reset.phase = Phase::Replacing { on_its_way: false };
                self.streams.setback.failed(now);
            }
            Err(error) => self.fail_reset(error.into()),
        }
    }

    /// Ends the round: the stream item says what is true now.
    fn look_again(&mut self) {
        // Rows that were deleted on purpose do not come back.
        self.streams.entry(&StreamKey::ONLY).audits = Audits::default();
        if let Some(reset) = self.streams.resets.current.take() {
            self.streams
                .open(&StreamKey::ONLY, reset.proposed, reset.answer);
        }
    }

    fn fail_reset(&mut self, error: CoordinatorError) {
        if let Some(reset) = self.streams.resets.current.take() {
            let _ = reset.answer.send(Err(error));
        }
    }
}
