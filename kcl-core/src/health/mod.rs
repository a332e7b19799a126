//! Health that means progress: what a worker and each of its shards look like at one moment.

mod monitor;

use std::fmt;
use std::time::Duration;

use kcl_checkpoint::{Checkpoint, Position};
use kcl_lease::LeaseKey;

pub(crate) use monitor::{LaneMonitor, Monitor, Phase};

/// A worker at one moment; made by [`WorkerHandle::health`](crate::WorkerHandle::health).
///
/// It tells two things apart. *Healthy*, for a liveness probe: no held shard that has something to do stands still.
/// *Ready*, for a readiness probe: the worker is caught up.
///
/// It is about shards. A worker that holds none is healthy, and ready once it has seen which leases there are, even while the
/// lease table does not answer: [`TableTrouble`](crate::WorkerEvent::TableTrouble) tells of that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What the worker as a whole does.
    pub worker: WorkerState,
    /// The shards that the worker works on, by id.
    pub shards: Vec<ShardHealth>,
    /// As [`WorkerHandle::buffered_bytes`](crate::WorkerHandle::buffered_bytes). Near the budget, reads wait for room.
    pub buffered_bytes: u64,
    pub(crate) caught_up: bool,
    pub(crate) unhealthy_after: Duration,
}

impl Health {
    /// Whether the worker runs, and every held shard with something to do moved within
    /// [`unhealthy_after`](crate::WorkerBuilder::unhealthy_after).
    ///
    /// A shard moves when its oldest incomplete record is complete, in each of its lanes. It has something to do if it has such
    /// a record, if there is more to read, if reading fails, is refused or is overdue, so that nobody knows, and while it starts, ends,
    /// rests or is given away.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_healthy_within(self.unhealthy_after)
    }

    /// As [`is_healthy`](Self::is_healthy), with another time.
    #[must_use]
    pub fn is_healthy_within(&self, time: Duration) -> bool {
        self.worker != WorkerState::Ended
            && !self.shards.iter().any(|shard| shard.stands_still(time))
    }

    /// The shards that make the worker unhealthy. Each shows its name and the cause.
    pub fn unhealthy_shards(&self) -> impl Iterator<Item = &ShardHealth> {
        let time = self.unhealthy_after;
        self.shards
            .iter()
            .filter(move |shard| shard.stands_still(time))
    }

    /// Whether the worker runs, and every shard that it could take is processed up to its tip, as
    /// [`WorkerHandle::caught_up`](crate::WorkerHandle::caught_up) waits for, and as far as is known: not while reads of a
    /// shard fail, are refused, or are not answered. It is not ready again whenever there is something new, so a probe that
    /// needs less should look at [`ShardHealth::lag`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_unknown = |shard: &ShardHealth| {
            matches!(
                shard.state,
                ShardState::ReadFailing | ShardState::WaitingForRead
            )
        };
        self.caught_up && self.worker == WorkerState::Running && !self.shards.iter().any(is_unknown)
    }
}

/// What a worker as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It was not started, or has not seen yet which leases there are.
    Starting,
    /// It works.
    Running,
    /// It drains.
    Stopping,
    /// It has ended.
    Ended,
}

/// One shard at one moment. Shown as text it is one line: its name, what it does, for how long it has stood still, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardHealth {
    /// The shard, by the key of its lease.
    pub shard: LeaseKey,
    /// What its task does.
    pub state: ShardState,
    /// The fencing token of the lease.
    pub epoch: u64,
    /// What is stored.
    pub checkpoint: Checkpoint,
    /// Everything up to here is complete; stored soon.
    pub complete: Checkpoint,
    /// How far reading is behind the tip, once there was an answer that said so.
    pub lag: Option<Lag>,
    /// Records that wait for a lane, are worked on, or are deferred. Those that a running call defers count twice until it
    /// ends.
    pub in_flight: usize,
    /// Records that are deferred and not complete.
    pub deferred: usize,
    /// The handle that has waited longest for its answer.
    pub oldest_open: Option<OpenHandle>,
    /// The call of a processor that has run longest.
    pub longest_call: Option<RunningCall>,
    /// For how long the shard has had something to do and has not moved; `None` if there is nothing to do.
    pub unmoved_for: Option<Duration>,
    /// How long ago the last record was completed under this grant, if any was.
    pub last_progress: Option<Duration>,
    /// The last error under this grant. It may be long over.
    pub last_error: Option<LastError>,
}

impl ShardHealth {
    fn stands_still(&self, time: Duration) -> bool {
        // Nothing moves a shard that was stopped, however short it has been so.
        self.state == ShardState::Stopped || self.unmoved_for.is_some_and(|unmoved| unmoved > time)
    }
}

/// What the task of a shard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardState {
    /// Its processor is being initialized.
    Starting,
    /// Its records are read and delivered.
    Running,
    /// The processor failed, and is called again.
    Retrying,
    /// A call made no progress: the lease is about to be given to another worker.
    Stalled,
    /// So many records are deferred, in a lane at least, that no more are delivered until some are acknowledged; or the
    /// shard's end waits for the last of them.
    WaitingForAcknowledgements,
    /// There was no answer of the stream although the next read has been due for a while: the call takes long, or there is no
    /// room in the [memory budget](crate::WorkerBuilder::memory_budget).
    WaitingForRead,
    /// The lease is not surely held: it has to be granted again first.
    WaitingForLease,
    /// Reading fails, or is refused for the service's limits.
    ReadFailing,
    /// It was read to the end of a bounded replay.
    Replayed,
    /// An operator has paused it, and no call runs any more: that it stands still is no fault.
    Paused,
    /// A record could not be processed, and nothing more is delivered.
    Stopped,
    /// All records are complete, and the shard's end is being stored.
    Ending,
    /// The lease is being given away, or was lost.
    Leaving,
}

impl fmt::Display for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Stalled => "stalled, and about to be given to another worker",
            Self::WaitingForAcknowledgements => "waiting for acknowledgements",
            Self::WaitingForLease => "waiting for its lease",
            Self::WaitingForRead => {
                "waiting for an answer of the stream or room in the memory budget"
            }
            Self::ReadFailing => "cannot be read",
            Self::Replayed => "replayed",
            Self::Paused => "paused by an operator",
            Self::Stopped => "stopped",
            Self::Ending => "ending",
            Self::Leaving => "leaving",
        })
    }
}

/// How far reading is behind the tip of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// What the service said (`MillisBehindLatest`).
    pub behind: Duration,
    /// How long ago it said so.
    pub age: Duration,
}

/// A deferred record whose handle was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenHandle {
    /// The record, or the first of those that are acknowledged together.
    pub position: Position,
    /// How long ago it was deferred.
    pub age: Duration,
}

/// A call of a processor that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningCall {
    /// Which call, for example `process_records`.
    pub call: &'static str,
    /// For how long it has run.
    pub age: Duration,
}

/// An error, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastError {
    /// What failed: a call of the processor, `acknowledgement`, `dead letter`, `read` or `gap`; `another holder` if that one
    /// stopped the shard.
    pub what: &'static str,
    /// The error's text.
    pub error: String,
    /// How long ago.
    pub age: Duration,
}

impl fmt::Display for ShardHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.shard, self.state)?;
        if let Some(unmoved) = self.unmoved_for {
            write!(f, ", has not moved for {} s", unmoved.as_secs())?;
        }
        if let Some(RunningCall { call, age }) = &self.longest_call {
            write!(f, ", {call} has run for {} s", age.as_secs())?;
        }
        if let Some(open) = &self.oldest_open {
            let (position, age) = (&open.position, open.age.as_secs());
            write!(
                f,
                ", record {position} was deferred {age} s ago and is not acknowledged"
            )?;
        }
        if let Some(last) = &self.last_error {
            let (what, age, error) = (last.what, last.age.as_secs(), &last.error);
            write!(f, ", last error {age} s ago ({what}): {error}")?;
        }
        Ok(())
    }
}
