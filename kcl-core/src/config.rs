//! Every option with its default, its bounds and the Java library's name for it.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use crate::call::THREADS_MAX;
use crate::error::BuildError;
use crate::failure::{FailurePolicy, OnFailure};
use crate::replay::Window;
use crate::retrieval::{OutOfRange, Retrieval, Wire};

/// Where reading starts when the application has no checkpoint for a shard yet.
///
/// Stored once per application and stream at its very first start; later values are ignored. Shards that come from a
/// later split or merge start at their oldest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(alias = "InitialPositionInStreamExtended")]
pub enum InitialPosition {
    /// The oldest record that the stream retains (`TRIM_HORIZON`).
    #[default]
    TrimHorizon,
    /// The records that arrive after the application's first start (`LATEST`). That moment is stored, so nothing that
    /// arrived later is passed over, whoever reads the shard.
    Latest,
    /// The records that arrived at this time or later (`AT_TIMESTAMP`).
    AtTimestamp(SystemTime),
}

/// What happens when records have passed out of retention before they were read, so that a shard cannot go on where it was.
///
/// Either way [`GapDetected`](crate::WorkerEvent::GapDetected) tells of it, once, and a counter counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GapPolicy {
    /// The shard goes on at the oldest record that is left; at its end, with its children.
    #[default]
    Continue,
    /// The shard is stopped as by [`OnFailure::StopShard`](crate::OnFailure::StopShard): nothing that comes after the gap is
    /// delivered, whoever holds the lease, until an [`Operator`](crate::Operator) resumes the shard and its holder goes on at
    /// gaps, or the operator moves it first.
    StopShard,
}

/// The options of a worker, validated.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) worker_name: Option<String>,
    pub(crate) lease_table: Option<String>,
    pub(crate) initial_position: InitialPosition,
    pub(crate) lease_duration: Duration,
    pub(crate) max_leases: usize,
    pub(crate) reset_if_stream_changed: bool,
    pub(crate) replay_deleted_leases: bool,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) memory_budget: usize,
    pub(crate) retrieval: Retrieval,
    pub(crate) max_records: u16,
    pub(crate) idle_between_reads: Duration,
    pub(crate) idle_reads_per_second: u32,
    pub(crate) shard_reads_per_second: u32,
    pub(crate) read_limit: Option<u64>,
    pub(crate) wire: Wire,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) max_concurrent_calls: usize,
    pub(crate) blocking_processor: bool,
    pub(crate) processor_backoff_max: Duration,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) max_in_flight: usize,
    pub(crate) lanes: usize,
    pub(crate) call_time_limit: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) replay: Option<Window>,
    /// Whether the initial position was chosen.
    pub(crate) positioned: bool,
    pub(crate) jump_to_latest_when_behind: Option<Duration>,
    pub(crate) on_gap: GapPolicy,
    pub(crate) former_streams_after: Duration,
    pub(crate) unhealthy_after: Duration,
    pub(crate) startup_timeout: Duration,
    pub(crate) drain_budget: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            worker_name: None,
            lease_table: None,
            initial_position: InitialPosition::TrimHorizon,
            lease_duration: Duration::from_secs(10),
            max_leases: usize::MAX,
            reset_if_stream_changed: false,
            replay_deleted_leases: false,
            checkpoint_interval: Duration::from_secs(5),
            memory_budget: 256 * MIB,
            retrieval: Retrieval::Polling,
            max_records: 10_000,
            idle_between_reads: Duration::from_secs(1),
            idle_reads_per_second: 500,
            shard_reads_per_second: 5,
            read_limit: None,
            wire: Wire::Json,
            out_of_range: OutOfRange::Deliver,
            max_concurrent_calls: usize::MAX,
            blocking_processor: false,
            processor_backoff_max: Duration::from_secs(30),
            failure_policy: FailurePolicy::default(),
            max_in_flight: 10_000,
            lanes: 1,
            call_time_limit: None,
            stall_timeout: None,
            replay: None,
            positioned: false,
            jump_to_latest_when_behind: None,
            on_gap: GapPolicy::Continue,
            former_streams_after: HOUR,
            unhealthy_after: Duration::from_secs(300),
            startup_timeout: Duration::from_secs(120),
            drain_budget: Duration::from_secs(25),
        }
    }
}

const MIB: usize = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    /// Checks every option by itself and against the others.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        within(
            "lease_duration",
            self.lease_duration,
            Duration::from_secs(1),
            HOUR,
        )?;
        within(
            "checkpoint_interval",
            self.checkpoint_interval,
            Duration::from_millis(10),
            HOUR,
        )?;
        within(
            "idle_between_reads",
            self.idle_between_reads,
            Duration::from_millis(200),
            Duration::from_secs(60),
        )?;
        within(
            "processor_backoff_max",
            self.processor_backoff_max,
            Duration::from_millis(100),
            HOUR,
        )?;
        within(
            "unhealthy_after",
            self.unhealthy_after,
            Duration::from_secs(1),
            24 * HOUR,
        )?;
        within(
            "startup_timeout",
            self.startup_timeout,
            Duration::from_secs(1),
            24 * HOUR,
        )?;
        within(
            "former_streams_after",
            self.former_streams_after,
            Duration::from_secs(120),
            365 * 24 * HOUR,
        )?;
        within("drain_budget", self.drain_budget, Duration::ZERO, 24 * HOUR)?;
        if let Some(behind) = self.jump_to_latest_when_behind {
            let (least, most) = (Duration::from_secs(10), 365 * 24 * HOUR);
            within("jump_to_latest_when_behind", behind, least, most)?;
        }
        within("max_leases", self.max_leases, 1, usize::MAX)?;
        within(
            "max_concurrent_calls",
            self.max_concurrent_calls,
            1,
            usize::MAX,
        )?;
        within("max_in_flight", self.max_in_flight, 1, 1_000_000)?;
        within("lanes", self.lanes, 1, 256)?;
        within("memory_budget", self.memory_budget, 16 * MIB, 1 << 40)?;
        within("max_records", self.max_records, 1, 10_000)?;
        within(
            "idle_reads_per_second",
            self.idle_reads_per_second,
            1,
            1_000_000,
        )?;
        within("shard_reads_per_second", self.shard_reads_per_second, 1, 5)?;
        if let Some(limit) = self.read_limit {
            within("read_limit", limit, 1024, 1 << 40)?;
        }
        if let Some(name) = &self.worker_name {
            validate_worker_name(name)?;
        }
        if let Some(table) = &self.lease_table {
            crate::stream::validate_table_name("lease_table", table)?;
        }
        self.validate_reads()?;
        self.validate_lanes()?;
        self.validate_time_limits()?;
        self.validate_health()?;
        self.validate_replay()?;
        self.initial_position.validate()
    }

    /// A shard without records is not read more often than one with records.
    fn validate_reads(&self) -> Result<(), BuildError> {
        let least = Duration::from_secs(1) / self.shard_reads_per_second;
        if self.idle_between_reads < least {
            let reason = format!("a shard is read every {least:?} at most: use no shorter wait");
            return conflict("idle_between_reads", "shard_reads_per_second", &reason);
        }
        Ok(())
    }

    /// Lanes that can never all work are fewer lanes.
    fn validate_lanes(&self) -> Result<(), BuildError> {
        let lanes = self.lanes;
        if self.max_in_flight < lanes {
            let reason = format!("each of the {lanes} lanes needs a record to work on");
            return conflict("max_in_flight", "lanes", &reason);
        }
        if self.max_concurrent_calls < lanes {
            let reason = format!("the {lanes} lanes of a shard could never all work at a time");
            return conflict("max_concurrent_calls", "lanes", &reason);
        }
        let most = self.max_concurrent_calls;
        if self.blocking_processor && most > THREADS_MAX && most != usize::MAX {
            let reason = format!("no more than {THREADS_MAX} threads can be blocked at a time");
            return conflict("max_concurrent_calls", "blocking_processor", &reason);
        }
        Ok(())
    }

    /// What is allowed to take its time does not make a worker unhealthy.
    fn validate_health(&self) -> Result<(), BuildError> {
        let waits = [
            ("processor_backoff_max", Some(self.processor_backoff_max)),
            ("call_time_limit", self.call_time_limit),
        ];
        for (name, wait) in waits {
            if let Some(wait) = wait.filter(|wait| self.unhealthy_after <= *wait) {
                let reason = format!("nothing is wrong for {wait:?}: use a longer unhealthy_after");
                return conflict("unhealthy_after", name, &reason);
            }
        }
        Ok(())
    }

    fn validate_time_limits(&self) -> Result<(), BuildError> {
        let conflict = |b, reason| conflict("call_time_limit", b, reason);
        let second = Duration::from_secs(1);
        if let Some(timeout) = self.stall_timeout {
            within("stall_timeout", timeout, second, 24 * HOUR)?;
        }
        let Some(limit) = self.call_time_limit else {
            return Ok(());
        };
        within("call_time_limit", limit, second / 10, 24 * HOUR)?;
        if self.blocking_processor {
            return conflict(
                "blocking_processor",
                "a call on a thread of its own cannot be cut off; use a processor that only waits with await",
            );
        }
        match self.stall_timeout {
            Some(timeout) if limit >= timeout => conflict(
                "stall_timeout",
                "a shard would be given up before the call reaches its limit; use a longer stall_timeout",
            ),
            _ => Ok(()),
        }
    }

    fn validate_replay(&self) -> Result<(), BuildError> {
        let Some(window) = self.replay else {
            return Ok(());
        };
        let conflict = |b, reason| conflict("replay", b, reason);
        if self.positioned {
            return conflict(
                "initial_position",
                "a replay begins where it says; leave the other out",
            );
        }
        if self.jump_to_latest_when_behind.is_some() {
            return conflict(
                "jump_to_latest_when_behind",
                "a replay is behind on purpose; leave the other out",
            );
        }
        if matches!(&self.retrieval, Retrieval::FanOut(options) if !options.falls_back()) {
            return conflict("retrieval", "a replay polls; use polling or auto");
        }
        let never_done =
            "a shard that is stopped is never done, and the replay never over; use another outcome";
        if self.failure_policy.outcome() == Some(OnFailure::StopShard) {
            return conflict("failure_policy.then", never_done);
        }
        if self.on_gap == GapPolicy::StopShard {
            return conflict("on_gap", never_done);
        }
        if window.from < SystemTime::UNIX_EPOCH || window.from >= window.until {
            return Err(BuildError::InvalidOption {
                option: "replay",
                value: format!("{:?} to {:?}", window.from, window.until),
                reason: "must begin after 1970, and end after it begins".to_owned(),
            });
        }
        Ok(())
    }

    /// What is about one stream only.
    pub(crate) fn validate_several(&self) -> Result<(), BuildError> {
        if self.replay.is_some() {
            return conflict("replay", "streams", "a replay is of one stream");
        }
        if self.reset_if_stream_changed {
            let reason = "a stream that is created anew gets leases of its own by itself; leave the option out";
            return conflict("reset_if_stream_changed", "streams", reason);
        }
        Ok(())
    }
}

impl InitialPosition {
    pub(crate) fn validate(self) -> Result<(), BuildError> {
        match self {
            Self::AtTimestamp(time) if time < SystemTime::UNIX_EPOCH => {
                Err(BuildError::InvalidOption {
                    option: "initial_position",
                    value: format!("{time:?}"),
                    reason: "lies before 1970: use TrimHorizon to read from the oldest record"
                        .to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

fn conflict(a: &'static str, b: &'static str, reason: &str) -> Result<(), BuildError> {
    Err(BuildError::Conflict {
        a,
        b,
        reason: reason.to_owned(),
    })
}

fn within<T: PartialOrd + Debug + Copy>(
    option: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), BuildError> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(BuildError::InvalidOption {
        option,
        value: format!("{value:?}"),
        reason: format!("is out of bounds: use {least:?} to {most:?}"),
    })
}

fn validate_worker_name(name: &str) -> Result<(), BuildError> {
    let ok = (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b'|');
    if ok {
        return Ok(());
    }
    Err(BuildError::InvalidOption {
        option: "worker_name",
        value: format!("{name:?}"),
        reason: "is no worker name: use 1 to 128 visible ASCII characters without / and |"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests;
