//! Every option's bounds, contradictions, and its row in the manual.

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
        ("former_streams_after", |c| {
            c.former_streams_after = Duration::from_secs(119);
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
        ("shard_reads_per_second", |c| c.shard_reads_per_second = 0),
        ("shard_reads_per_second", |c| c.shard_reads_per_second = 6),
        ("read_limit", |c| c.read_limit = Some(1023)),
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
        ("idle_between_reads", "shard_reads_per_second", |c| {
            c.idle_between_reads = Duration::from_millis(250);
            c.shard_reads_per_second = 3;
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
        "Bytes of answers and their tables held by the whole worker, until the last slice of one is dropped; exceeded by one answer with its table at most, 10 MiB each, whatever records come. All reads that run but one are covered for 10 MiB, so it also bounds how many run at a time: 26 with nothing held. With fan-out an event is taken off its connection when there is room; what connections hold meanwhile is not counted, 5 MiB for up to 64 shards. Not counted either: buffers that are kept for the next answers (16 MiB at most), the body of an answer while it is decoded, and what a buffer is longer than its answer (an eighth at most). At least 16 MiB.",
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
        "shard_reads_per_second",
        |c| c.shard_reads_per_second.to_string(),
        "- (all)",
        "How often this application reads one shard per second, 1 to 5, and its part of the 2 MB. The service's five calls are for everybody who polls the stream: lower it where several applications do. `idle_between_reads` is no shorter than that.",
    ),
    (
        "read_limit",
        |_| "none".to_owned(),
        "-",
        "Bytes of records that the worker reads per second, all shards together, on average; a shard that had nothing to read before may exceed it by one answer. With fan-out a subscription that has to wait for its turn for more than a few seconds is given up, and begun again where it stopped. At least 1,024.",
    ),
    (
        "wire",
        |c| format!("{:?}", c.wire),
        "- (CBOR)",
        "With `Cbor` answers, and events of fan-out, are smaller and cheaper to read. Goes back to JSON where a server does not speak it; some imitations of Kinesis corrupt payloads in it.",
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
        "retrieval",
        |c| format!("{:?}", c.retrieval),
        "retrievalSpecificConfig (fan-out)",
        "`Retrieval::fan_out()` or `auto()`: records are sent as they are put, 2 MB per second and shard for each consumer, which AWS charges for. One consumer per application, named after it; `auto` polls where there is none to be had. May change from one start to the next; a replay polls. See [how records come](retrieval.md).",
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
        "former_streams_after",
        |c| format!("{:?}", c.former_streams_after),
        "waitPeriodToDeleteFormerStreams (1 h)",
        "With several streams: how long one is read on that left the list, or was created anew; then its leases and checkpoints are deleted. 2 min to 365 days.",
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
    let manual = include_str!("../../../docs/configuration.md");
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
