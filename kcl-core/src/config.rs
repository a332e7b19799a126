//! Every option with its default, its bounds and the Java library's name for it.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use crate::call::THREADS_MAX;
use crate::error::BuildError;
use crate::failure::{FailurePolicy, OnFailure};
use crate::replay::Window;
use crate::retrieval::OutOfRange;

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
    pub(crate) max_records: u16,
    pub(crate) idle_between_reads: Duration,
    pub(crate) idle_reads_per_second: u32,
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
            max_records: 10_000,
            idle_between_reads: Duration::from_secs(1),
            idle_reads_per_second: 500,
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
        if let Some(name) = &self.worker_name {
            validate_worker_name(name)?;
        }
        if let Some(table) = &self.lease_table {
            crate::stream::validate_table_name("lease_table", table)?;
        }
        self.validate_lanes()?;
        self.validate_time_limits()?;
        self.validate_health()?;
        self.validate_replay()?;
        self.validate_initial_position()
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

    fn validate_initial_position(&self) -> Result<(), BuildError> {
        match self.initial_position {
            InitialPosition::AtTimestamp(time) if time < SystemTime::UNIX_EPOCH => {
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
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn every_bad_value_is_refused_by_name() {
        type Spoil = fn(&mut Config);
        let cases: &[(&str, Spoil)] = &[
            ("lease_duration", |c| c.lease_duration = Duration::ZERO),
            ("lease_duration", |c| c.lease_duration = Duration::MAX),
            ("checkpoint_interval", |c| {
                c.checkpoint_interval = Duration::ZERO;
            }),
            ("idle_between_reads", |c| {
                c.idle_between_reads = Duration::from_millis(199);
            }),
            ("processor_backoff_max", |c| {
                c.processor_backoff_max = Duration::ZERO;
            }),
            ("call_time_limit", |c| {
                c.call_time_limit = Some(Duration::ZERO);
            }),
            ("jump_to_latest_when_behind", |c| {
                c.jump_to_latest_when_behind = Some(Duration::from_secs(9));
            }),
            ("stall_timeout", |c| {
                c.stall_timeout = Some(Duration::from_millis(999));
            }),
            ("unhealthy_after", |c| c.unhealthy_after = Duration::ZERO),
            ("startup_timeout", |c| c.startup_timeout = Duration::ZERO),
            ("drain_budget", |c| c.drain_budget = Duration::MAX),
            ("max_leases", |c| c.max_leases = 0),
            ("lanes", |c| c.lanes = 0),
            ("lanes", |c| c.lanes = 257),
            ("max_concurrent_calls", |c| c.max_concurrent_calls = 0),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("memory_budget", |c| c.memory_budget = 1000),
            ("max_records", |c| c.max_records = 0),
            ("max_records", |c| c.max_records = 10_001),
            ("idle_reads_per_second", |c| c.idle_reads_per_second = 0),
            ("worker_name", |c| c.worker_name = Some(String::new())),
            ("worker_name", |c| c.worker_name = Some("a/b".to_owned())),
            ("lease_table", |c| c.lease_table = Some("x".to_owned())),
            ("initial_position", |c| {
                c.initial_position =
                    InitialPosition::AtTimestamp(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
            }),
        ];
        for (option, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(option), "{option}: {error}");
        }
    }

    #[test]
    fn a12_time_limits_that_contradict_are_refused_by_both_names() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let mut config = Config {
            call_time_limit: seconds(60),
            stall_timeout: seconds(61),
            ..Config::default()
        };
        assert_eq!(config.validate(), Ok(()));
        config.stall_timeout = seconds(60);
        let text = config.validate().unwrap_err().to_string();
        assert!(text.contains("call_time_limit and stall_timeout"), "{text}");
        config.stall_timeout = None;
        config.blocking_processor = true;
        let text = config.validate().unwrap_err().to_string();
        let both = "call_time_limit and blocking_processor";
        assert!(text.contains(both), "{text}");
    }

    #[test]
    fn options_that_contradict_are_refused_by_both_names() {
        type Set = fn(&mut Config);
        let seconds = Duration::from_secs;
        let cases: &[(&str, &str, Set)] = &[
            ("max_in_flight", "lanes", |c| {
                (c.lanes, c.max_in_flight) = (4, 3);
            }),
            ("max_concurrent_calls", "lanes", |c| {
                (c.lanes, c.max_concurrent_calls) = (4, 3);
            }),
            ("max_concurrent_calls", "blocking_processor", |c| {
                (c.blocking_processor, c.max_concurrent_calls) = (true, 501);
            }),
            ("unhealthy_after", "processor_backoff_max", |c| {
                c.unhealthy_after = c.processor_backoff_max;
            }),
            ("unhealthy_after", "call_time_limit", |c| {
                c.call_time_limit = Some(c.unhealthy_after);
            }),
            ("replay", "failure_policy.then", |c| {
                let policy = FailurePolicy::retry().attempts(1);
                c.failure_policy = policy.then(OnFailure::StopShard);
            }),
            ("replay", "on_gap", |c| c.on_gap = GapPolicy::StopShard),
        ];
        for (a, b, set) in cases {
            let mut config = Config::default();
            if *a == "replay" {
                let from = SystemTime::UNIX_EPOCH + seconds(1);
                let until = from + seconds(60);
                config.replay = Some(Window { from, until });
            }
            assert_eq!(config.validate(), Ok(()));
            set(&mut config);
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains(&format!("{a} and {b} contradict")), "{text}");
        }
        let threads = Config {
            lanes: 4,
            max_in_flight: 4,
            max_concurrent_calls: 500,
            blocking_processor: true,
            unhealthy_after: seconds(31),
            ..Config::default()
        };
        assert_eq!(threads.validate(), Ok(()));
    }

    type Show = fn(&Config) -> String;

    /// The one table of options: name, default, the Java library's name and default, and what to know before changing it.
    const OPTIONS: &[(&str, Show, &str, &str)] = &[
        (
            "initial_position",
            |c| format!("{:?}", c.initial_position),
            "initialPositionInStreamExtended (LATEST)",
            "Only the first start of an application looks at it.",
        ),
        (
            "lease_duration",
            |c| format!("{:?}", c.lease_duration),
            "failoverTimeMillis (10 s)",
            "A dead worker's shards rest this long. The same in the whole fleet; 1 s to 1 h.",
        ),
        (
            "max_leases",
            |c| limit(c.max_leases),
            "maxLeasesForWorker (no limit)",
            "Shards beyond it wait for another worker.",
        ),
        (
            "reset_if_stream_changed",
            |c| c.reset_if_stream_changed.to_string(),
            "-",
            "Deletes all checkpoints of the stream before this one, if the application belonged to another or an earlier stream. Turn it off again after the start.",
        ),
        (
            "replay_deleted_leases",
            |c| c.replay_deleted_leases.to_string(),
            "- (always)",
            "A lease whose row was deleted while no worker ran that knew its progress is read again from where the application began.",
        ),
        (
            "checkpoint_interval",
            |c| format!("{:?}", c.checkpoint_interval),
            "- (by hand)",
            "At most one checkpoint write per active shard in this time; a crash redelivers at most this much. 10 ms to 1 h.",
        ),
        (
            "memory_budget",
            |c| format!("{} MiB", c.memory_budget / MIB),
            "maxByteSize (8 MiB per shard)",
            "Bytes of answers and their tables held by the whole worker, until the last slice of one is dropped; exceeded by one answer with its table at most, 10 MiB each, whatever records come. All reads that run but one are covered for 10 MiB, so it also bounds how many run at a time: 26 with nothing held. At least 16 MiB.",
        ),
        (
            "max_records",
            |c| c.max_records.to_string(),
            "maxRecords (10,000)",
            "Records asked for in one read, 1 to 10,000.",
        ),
        (
            "idle_between_reads",
            |c| format!("{:?}", c.idle_between_reads),
            "idleTimeBetweenReadsInMillis (1.5 s)",
            "An empty shard is read every 200 ms at first, then ever more seldom down to once in this time. 200 ms to 1 min.",
        ),
        (
            "idle_reads_per_second",
            |c| c.idle_reads_per_second.to_string(),
            "-",
            "All idle shards of a worker together are read at most this often; with more idle shards each waits longer.",
        ),
        (
            "out_of_range",
            |c| format!("{:?}", c.out_of_range),
            "- (withholds the whole aggregate)",
            "What happens with records of an aggregate whose key belongs to another shard.",
        ),
        (
            "max_concurrent_calls",
            |c| limit(c.max_concurrent_calls),
            "-",
            "Calls of processors that run at the same time, over all shards. Not fewer than `lanes`, and at most 500 with `blocking_processor`.",
        ),
        (
            "blocking_processor",
            |c| c.blocking_processor.to_string(),
            "- (always)",
            "Processors run on threads that they may block, one per running call, at most 500; else on the runtime's threads, which are few.",
        ),
        (
            "processor_backoff_max",
            |c| format!("{:?}", c.processor_backoff_max),
            "taskBackoffTimeMillis (500 ms)",
            "The longest wait before a failed batch is delivered again; the first is at most 100 ms.",
        ),
        (
            "failure_policy",
            |c| match c.failure_policy == FailurePolicy::retry() {
                true => "retry for ever".to_owned(),
                false => format!("{:?}", c.failure_policy),
            },
            "- (skips the batch)",
            "Bounds on retries need an outcome, and an outcome needs a bound. With `Skip` records are lost.",
        ),
        (
            "dead_letters",
            |_| "none".to_owned(),
            "-",
            "The sink of records that were given up. Until it accepts a record, the record's shard waits.",
        ),
        (
            "max_in_flight",
            |c| c.max_in_flight.to_string(),
            "-",
            "Records of one shard that are deferred and not acknowledged; delivery waits beyond it. Also the most records of one call, and with lanes the most that wait or are worked on. 1 to 1,000,000, and not fewer than `lanes`.",
        ),
        (
            "lanes",
            |c| c.lanes.to_string(),
            "-",
            "Processors of one shard that work at the same time, each on its own partition keys. No checkpoints in two phases with more than one. 1 to 256.",
        ),
        (
            "call_time_limit",
            |_| "none".to_owned(),
            "-",
            "A call that takes longer is cut off at its next `await` and counts as failed; a new processor gets its records. Shorter than `stall_timeout`, and not with `blocking_processor`; 100 ms to 24 h.",
        ),
        (
            "stall_timeout",
            |_| "none".to_owned(),
            "-",
            "A call during which no record was completed for so long sees its lease as lost; when it has ended, or a lease duration later, the shard goes to another worker. Side effects may overlap. Longer than the longest call that makes no progress of its own; 1 s to 24 h.",
        ),
        (
            "replay",
            |_| "none".to_owned(),
            "-",
            "Reads what arrived in a stretch of time, given as `replay(from, until)`, and stops by itself. Under an application name of its own; not with `initial_position`, `jump_to_latest_when_behind`, or `StopShard` as an outcome.",
        ),
        (
            "jump_to_latest_when_behind",
            |_| "none".to_owned(),
            "-",
            "A shard that an answer says to be further behind, or whose next record is older, goes on at its tip, one second before this worker's time; what lies in between is not read. Not after a seek of an operator, before the shard was within the limit again. Told (`JumpedToLatest`) and counted. 10 s to 365 days.",
        ),
        (
            "on_gap",
            |c| format!("{:?}", c.on_gap),
            "- (goes on)",
            "What happens when retention took records before they were read. With `StopShard` somebody has to look at it.",
        ),
        (
            "unhealthy_after",
            |c| format!("{:?}", c.unhealthy_after),
            "-",
            "`health()` calls a worker unhealthy when a shard with something to do has not moved for so long. Longer than the longest call; must be longer than `processor_backoff_max` and `call_time_limit`; 1 s to 24 h.",
        ),
        (
            "startup_timeout",
            |c| format!("{:?}", c.startup_timeout),
            "maxInitializationAttempts (20)",
            "How long transient errors at the start are tried again before run() gives up.",
        ),
        (
            "drain_budget",
            |c| format!("{:?}", c.drain_budget),
            "- (no limit)",
            "A graceful shutdown takes at most this long, then running calls are dropped. Keep it under the orchestrator's own limit (ECS: 30 s).",
        ),
        (
            "worker_name",
            |c| {
                c.worker_name
                    .clone()
                    .unwrap_or_else(|| "the host's name".to_owned())
            },
            "workerIdentifier",
            "For people; the worker's id adds random digits to it.",
        ),
        (
            "lease_table",
            |c| {
                c.lease_table
                    .clone()
                    .unwrap_or_else(|| "the application's name".to_owned())
            },
            "tableName",
            "The DynamoDB table.",
        ),
    ];

    fn limit(value: usize) -> String {
        if value == usize::MAX {
            "no limit".to_owned()
        } else {
            value.to_string()
        }
    }

    #[test]
    fn every_option_is_in_the_manual_with_its_default_and_the_java_name() {
        let manual = include_str!("../../docs/configuration.md");
        let defaults = Config::default();
        for (option, default, java, hazard) in OPTIONS {
            let default = default(&defaults);
            let row = format!("| `{option}` | {default} | {java} | {hazard} |");
            assert!(
                manual.contains(&row),
                "docs/configuration.md lacks this row:\n{row}"
            );
        }
    }
}
