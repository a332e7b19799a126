//! Collects the options of a worker and checks them. No network here.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_types::SdkConfig;
use kcl_lease::LeaseTable;
use kcl_lease::runtime::Runtime;

use crate::config::{Config, GapPolicy, InitialPosition};
use crate::dead_letter::{DeadLetterSink, StreamSink};
use crate::error::BuildError;
use crate::failure::FailurePolicy;
use crate::lease_table;
use crate::many::{ListedStream, Rules, Sources, check_list};
use crate::processor::{ProcessorFactory, RecordProcessor};
use crate::replay::Window;
use crate::retrieval::{BufferPool, OutOfRange, Retrieval, ShardSource, Wire};
use crate::shard_info::ShardInfo;
use crate::stream::{ApplicationName, Kind, StreamConfig, StreamList, Streams};
use crate::worker::{OneStream, StreamParts, TableFactory, Worker, WorkerParts};

/// Builds a [`Worker`]; made by [`Worker::builder`].
#[must_use = "a builder does nothing until build() is called"]
pub struct WorkerBuilder {
    application: ApplicationName,
    streams: Streams,
    factory: ProcessorFactory,
    config: Config,
    dead_letters: Option<Arc<dyn DeadLetterSink>>,
    /// The sink, if it is a stream.
    letter_stream: Option<StreamSink>,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("application", &self.application)
            .field("streams", &self.streams)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    pub(crate) fn new<F, P>(application: ApplicationName, streams: Streams, factory: F) -> Self
    where
        F: Fn(&ShardInfo) -> P + Send + Sync + 'static,
        P: RecordProcessor,
    {
        Self {
            application,
            streams,
            factory: Box::new(move |shard| Box::new(factory(shard))),
            config: Config::default(),
            dead_letters: None,
            letter_stream: None,
            runtime: None,
        }
    }

    /// Where the application's very first start begins to read. Default: [`InitialPosition::TrimHorizon`].
    ///
    /// (The Java library's default is LATEST.)
    pub fn initial_position(mut self, position: InitialPosition) -> Self {
        self.config.initial_position = position;
        self.config.positioned = true;
        self
    }

    /// Reads the records that arrived from `from` on and before `until` (to the millisecond), and then stops by itself:
    /// [`run`](crate::Worker::run) returns. Give it an application name of its own, so that it runs beside the live one; a
    /// fleet of such workers shares the work. Not together with [`initial_position`](Self::initial_position),
    /// [`jump_to_latest_when_behind`](Self::jump_to_latest_when_behind), or an outcome that stops a shard, which would never be
    /// done. ([`ParkKey`](crate::OnFailure::ParkKey) stops one as well, when more keys fail than may be parked: the replay then
    /// waits for an operator to resume it.)
    ///
    /// A shard is done with its first record that arrived at `until` or later, at its end, or at its tip once the service's
    /// clock has passed `until`; then its processors are told by `shutdown_requested`, with
    /// [`ReplayDone`](crate::ShutdownReason::ReplayDone), and its row says AT_TIMESTAMP `until`. Children of shards that ended
    /// are read, too. Every worker stops when all leases are done.
    ///
    /// An application whose table exists goes on where it was: what was replayed is not replayed again. If it began at
    /// another time than `from`, the start fails.
    pub fn replay(mut self, from: SystemTime, until: SystemTime) -> Self {
        self.config.replay = Some(Window { from, until });
        self.config.initial_position = InitialPosition::AtTimestamp(from);
        self
    }

    /// A name of this worker for people; random digits make it unique. Default: the host's name.
    #[doc(alias = "workerIdentifier")]
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.config.worker_name = Some(name.into());
        self
    }

    /// The DynamoDB table of the leases. Default: the application's name.
    #[doc(alias = "tableName")]
    pub fn lease_table(mut self, name: impl Into<String>) -> Self {
        self.config.lease_table = Some(name.into());
        self
    }

    /// How long a dead worker's shards rest until others take them. Default: 10 s; 1 s to 1 h.
    ///
    /// Must be the same in the whole fleet while it runs. A worker that cannot reach the table for this long stops
    /// delivering, so a short duration makes every hiccup of the table visible.
    #[doc(alias = "failoverTimeMillis")]
    pub fn lease_duration(mut self, duration: Duration) -> Self {
        self.config.lease_duration = duration;
        self
    }

    /// How many leases this worker holds at most. Default: no limit. Shards beyond it wait for another worker.
    #[doc(alias = "maxLeasesForWorker")]
    pub fn max_leases(mut self, leases: usize) -> Self {
        self.config.max_leases = leases;
        self
    }

    /// Lets this worker take the application over to the stream that it is given, if the application belonged to another
    /// stream or to an earlier one of the same name. Default: false; the worker refuses to start then.
    ///
    /// What is lost: every lease row of the application, and with them the checkpoints of all shards of the former stream
    /// and pending checkpoints. Records of it that were not processed are never delivered. The new stream is read from
    /// [`initial_position`](Self::initial_position). Nothing else in the table is touched.
    ///
    /// Leases that a living worker holds are not deleted: the start fails with an error that names that worker, so stop
    /// the whole fleet first. A worker that died is waited for, up to its lease duration. Several workers may be started
    /// with this option at the same time.
    pub fn reset_if_stream_changed(mut self, reset: bool) -> Self {
        self.config.reset_if_stream_changed = reset;
        self
    }

    /// Lets shards be read again from where the application began, if somebody deleted their lease rows and no running
    /// worker knows their progress. Default: false; then such a shard is not read, and
    /// [`LeaseRowDeleted`](crate::WorkerEvent::LeaseRowDeleted) says so about once a minute.
    ///
    /// It is enough that one worker of the fleet is started with it.
    ///
    /// (The Java library always reads them again. A row that is deleted while a worker runs that knows its progress is
    /// made again with that progress, whatever this option says.)
    pub fn replay_deleted_leases(mut self, replay: bool) -> Self {
        self.config.replay_deleted_leases = replay;
        self
    }

    /// How often progress is stored, per shard that makes progress. Default: 5 s; 10 ms to 1 h.
    ///
    /// After a crash at most the records of one interval are delivered again; each checkpoint is one write to DynamoDB.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.config.checkpoint_interval = interval;
        self
    }

    /// Bytes of answers that the worker holds at most, in all shards together. Default: 256 MiB; at least 16 MiB, so that
    /// the largest answer of the service fits beside what is being processed.
    ///
    /// What counts is resident: an answer counts until the last slice of it that a processor keeps is dropped.
    /// When records suddenly grow, the budget is overshot by one answer (up to 10 MiB) and by the table of one whose
    /// aggregated records hold very many user records; no read begins until use is back under it. All reads that run but one
    /// are covered for 10 MiB, so the budget also bounds how many run at a time: 26 with the default and nothing held.
    ///
    /// With enhanced fan-out an event is taken off its connection when there is room for it: how large it is, is known from its
    /// first bytes. Not counted is what a connection holds meanwhile (5 MiB at most with the SDK's own HTTP client; up to 64
    /// shards share one), and an event of less than 4 KiB per shard. Shards that have to wait for room for longer than a few
    /// seconds give the event up, with their subscription.
    ///
    /// Beside the budget stand buffers that are kept for later answers: at most eight, and 16 MiB, for each way of reading.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = bytes;
        self
    }

    /// How records come from the stream: [`Retrieval::polling`] (the default), [`Retrieval::fan_out`] or [`Retrieval::auto`].
    ///
    /// May change from one start to the next. A bounded [`replay`](Self::replay) always polls. (The Java library's default is
    /// fan-out.)
    #[doc(alias = "retrievalSpecificConfig")]
    pub fn retrieval(mut self, retrieval: impl Into<Retrieval>) -> Self {
        self.config.retrieval = retrieval.into();
        self
    }

    /// How many records one read asks for. Default: 10,000, the service's limit.
    #[doc(alias = "maxRecords")]
    pub fn max_records(mut self, records: u16) -> Self {
        self.config.max_records = records;
        self
    }

    /// The longest wait between two reads of an empty shard. Default: 1 s; 200 ms to 1 min.
    #[doc(alias = "idleTimeBetweenReadsInMillis")]
    pub fn idle_between_reads(mut self, time: Duration) -> Self {
        self.config.idle_between_reads = time;
        self
    }

    /// How often all idle shards of this worker together are read per second. Default: 500.
    pub fn idle_reads_per_second(mut self, reads: u32) -> Self {
        self.config.idle_reads_per_second = reads;
        self
    }

    /// How often this application reads one shard per second. Default: 5, all that the service allows; 1 to 5.
    ///
    /// The service allows five calls and 2 MB a second for each shard, to everybody who polls it together. Where several
    /// applications poll the same stream, give each of them its part: with 1, five have room. A shard that is refused calls for
    /// its limits reads more slowly by itself, down to once a second, and faster again later; the pace of others stays.
    pub fn shard_reads_per_second(mut self, reads: u32) -> Self {
        self.config.shard_reads_per_second = reads;
        self
    }

    /// How many bytes of records this worker reads per second, all its shards together. Default: no limit; at least 1,024.
    ///
    /// For what comes after the processors, or the network, during a catch-up. Kept on average: a shard that had nothing to
    /// read before may exceed it by one answer. Shards take turns. With a limit so low that a shard waits longer than
    /// [`unhealthy_after`](Self::unhealthy_after) for its turn, [`health`](crate::WorkerHandle::health) says so.
    pub fn read_limit(mut self, bytes_per_second: u64) -> Self {
        self.config.read_limit = Some(bytes_per_second);
        self
    }

    /// How the stream's records are asked for. Default: [`Wire::Json`].
    ///
    /// [`Wire::Cbor`] makes answers and events a quarter smaller and saves decoding payloads; it goes back to JSON by itself where a server
    /// does not speak it.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.config.wire = wire;
        self
    }

    /// What happens with user records of an aggregate whose key belongs to another shard. Default: they are delivered
    /// and counted.
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.config.out_of_range = policy;
        self
    }

    /// How many processor calls run at the same time, over all shards. Default: no limit. Not fewer than
    /// [`lanes`](Self::lanes), and at most 500 with [`blocking_processor`](Self::blocking_processor).
    pub fn max_concurrent_calls(mut self, calls: usize) -> Self {
        self.config.max_concurrent_calls = calls;
        self
    }

    /// Runs every call of a processor on a thread that it may block: for processors that do not only wait with `await`.
    /// Each running call then has a thread of tokio's pool for blocking work; at most 500 run at a time, and a larger
    /// [`max_concurrent_calls`](Self::max_concurrent_calls) is refused. Default: false.
    pub fn blocking_processor(mut self, blocking: bool) -> Self {
        self.config.blocking_processor = blocking;
        self
    }

    /// The longest wait before a failed batch is delivered again. Default: 30 s; 100 ms to 1 h.
    #[doc(alias = "taskBackoffTimeMillis")]
    pub fn processor_backoff_max(mut self, wait: Duration) -> Self {
        self.config.processor_backoff_max = wait;
        self
    }

    /// What happens with records that the processor fails on. Default: they are delivered again for ever.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.config.failure_policy = policy;
        self
    }

    /// Where records go that were given up, if the [failure policy](Self::failure_policy) says so. Default: none. A
    /// [`StreamSink`](crate::StreamSink) on the stream that is read is refused.
    pub fn dead_letters(mut self, sink: impl DeadLetterSink) -> Self {
        self.letter_stream = (&sink as &dyn Any).downcast_ref::<StreamSink>().cloned();
        self.dead_letters = Some(Arc::new(sink));
        self
    }

    /// How many records of one shard may be [deferred](crate::ProcessRecordsInput::defer) and not acknowledged; the next ones
    /// are delivered when there is room. No call has more records than that. Default: 10,000; 1 to 1,000,000, and not fewer
    /// than [`lanes`](Self::lanes).
    ///
    /// Records in flight keep their memory, so the [byte budget](Self::memory_budget) can be the tighter bound. With several
    /// [lanes](Self::lanes) this bounds all records of the shard that wait for a lane, are worked on, or are deferred.
    pub fn max_in_flight(mut self, records: usize) -> Self {
        self.config.max_in_flight = records;
        self
    }

    /// How many processors work on one shard at the same time, each on its own partition keys. Default: 1; 1 to 256.
    ///
    /// The factory makes one for each lane ([`ShardInfo::lane`]). All records of a partition key go to the same lane, in
    /// order; the lanes do not wait for one another, until [`max_in_flight`](Self::max_in_flight) records are not complete.
    /// There is one checkpoint: it follows the first record that is not complete in any lane. All processors are told of
    /// the shard's end, of a stop, and of a lost lease.
    ///
    /// For handlers that take much processor time, together with [`blocking_processor`](Self::blocking_processor) or on a
    /// runtime with several threads. Which lane a key goes to may change when the worker starts with another number.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.config.lanes = lanes;
        self
    }

    /// How long one call of a processor may take. Default: no limit; 100 ms to 24 h.
    ///
    /// A call that takes longer is dropped at its next `await`, which ends it at any place, and counts as a failure under the
    /// [failure policy](Self::failure_policy): a new processor gets its records again. Not together with
    /// [`blocking_processor`](Self::blocking_processor), whose calls cannot be dropped; must be shorter than
    /// [`stall_timeout`](Self::stall_timeout).
    pub fn call_time_limit(mut self, limit: Duration) -> Self {
        self.config.call_time_limit = Some(limit);
        self
    }

    /// Gives a shard to another worker when one call has run for so long and no record was completed meanwhile, in its lane
    /// if there are several. Default: off; 1 s to 24 h.
    ///
    /// The call sees its lease as lost ([`Grant::lost`](crate::Grant::lost)), and so do calls in the other lanes;
    /// [`CallStalled`](crate::WorkerEvent::CallStalled) tells of it. When the calls have ended, and one lease duration later at
    /// the latest, what still runs is dropped at its next `await`, everything that is complete is stored, and the lease is
    /// released. It goes to another worker if there is one with room; this one takes it back, with a new processor, only if
    /// there is none. Checkpoints by hand and acknowledgements are progress.
    ///
    /// `lease_lost` is dropped after the same time: this worker may hold the shard again only once it has ended.
    ///
    /// What this cannot do: undo side effects, which may overlap with those of the next holder; end a call of a
    /// [`blocking_processor`](Self::blocking_processor), which goes on on its thread; notice a call that blocks a thread of
    /// the runtime instead of awaiting.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.config.stall_timeout = Some(timeout);
        self
    }

    /// What happens when records have passed out of retention before they were read. Default: [`GapPolicy::Continue`].
    pub fn on_gap(mut self, policy: GapPolicy) -> Self {
        self.config.on_gap = policy;
        self
    }

    /// Passes over what is not read yet when a shard falls further behind than `behind`, and goes on at its tip: records are
    /// lost on purpose, for applications to which old ones are worth nothing. Default: off; 10 s to 365 days.
    ///
    /// When an answer of the stream says that the shard is further behind, or its first record is older than that by this
    /// worker's clock, the running work ends as for a seek of an operator, and reading goes on one second before this worker's
    /// time. Each jump is told as [`JumpedToLatest`](crate::WorkerEvent::JumpedToLatest) and counted. A shard that is paused
    /// does not jump. Nor does one that an operator has moved, before it was within the limit again: a rewind is not undone.
    /// That is not stored: if another worker takes the lease on the way, the limit counts there.
    pub fn jump_to_latest_when_behind(mut self, behind: Duration) -> Self {
        self.config.jump_to_latest_when_behind = Some(behind);
        self
    }

    /// How long a stream is read on that is not in the list of [several streams](Streams) any more; after that its leases are
    /// deleted, and with them its checkpoints. Default: 1 h; 2 min to 365 days.
    ///
    /// A stream that is back in the list by then goes on where it is. The time begins anew when another worker comes to lead.
    /// Also the leases of an earlier stream of the same name are deleted after that time.
    #[doc(alias = "waitPeriodToDeleteFormerStreams")]
    pub fn former_streams_after(mut self, time: Duration) -> Self {
        self.config.former_streams_after = time;
        self
    }

    /// A shard that has something to do and does not move for so long makes the worker unhealthy, see
    /// [`Health::is_healthy`](crate::Health::is_healthy). Default: 5 min; 1 s to 24 h, and longer than
    /// [`processor_backoff_max`](Self::processor_backoff_max) and [`call_time_limit`](Self::call_time_limit).
    pub fn unhealthy_after(mut self, time: Duration) -> Self {
        self.config.unhealthy_after = time;
        self
    }

    /// How long transient errors at the start are tried again. Default: 2 min; 1 s to 24 h.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.config.startup_timeout = timeout;
        self
    }

    /// How long a graceful shutdown may take. Default: 25 s, under the 30 s that ECS gives.
    pub fn drain_budget(mut self, budget: Duration) -> Self {
        self.config.drain_budget = budget;
        self
    }

    /// Clock, randomness and task starting. Default: [`Runtime::production`]; tests on a paused tokio runtime use
    /// [`Runtime::virtual_time`].
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Checks every option and makes the worker. Calls no service and starts no task.
    ///
    /// # Errors
    /// See [`BuildError`]: the first option that cannot work, with the reason and what to use.
    pub fn build(self, aws: &SdkConfig) -> Result<Worker, BuildError> {
        let region = aws.region().ok_or(BuildError::NO_REGION)?;
        let sources = Sources::Kinesis {
            aws: Box::new(aws.clone()),
            wire: self.config.wire,
            pool: BufferPool::default(),
        };
        if let Kind::One(stream) = self.streams.kind()
            && stream.own_aws().is_none()
        {
            // With several, the region of an ARN counts.
            stream.stream()?.check_region(region.as_ref())?;
        }
        let name = self.table_name();
        let aws = aws.clone();
        let (lease_duration, prepare_timeout) =
            (self.config.lease_duration, self.config.startup_timeout);
        // Called on the coordination thread: the client, its connections and its credentials cache live there.
        let table: TableFactory =
            Arc::new(move || lease_table::connect(&aws, &name, lease_duration, prepare_timeout));
        self.assemble(sources, table)
    }

    /// Makes a worker on a stream and a table that are not AWS, for tests and simulation. Of several streams each is this one.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(
        self,
        source: Arc<dyn ShardSource>,
        table: Arc<dyn LeaseTable>,
    ) -> Result<Worker, BuildError> {
        self.build_with_sources(move |_| Arc::clone(&source), table)
    }

    /// As [`build_with`](Self::build_with), with a source for each stream. It is asked with the name or the ARN as it is in the
    /// list, and for reading with the ARN that [`describe`](ShardSource::describe) says.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with_sources(
        self,
        sources: impl Fn(&StreamConfig) -> Arc<dyn ShardSource> + Send + Sync + 'static,
        table: Arc<dyn LeaseTable>,
    ) -> Result<Worker, BuildError> {
        let sources = Sources::Given(Arc::new(sources));
        self.assemble(sources, Arc::new(move || Arc::clone(&table)))
    }

    fn assemble(self, sources: Sources, table: TableFactory) -> Result<Worker, BuildError> {
        self.application.validate()?;
        let mut config = self.config;
        if let Kind::One(stream) = self.streams.kind() {
            config.positioned |= stream.has_position();
            config.initial_position = stream.position(config.initial_position);
        }
        config.validate()?;
        let rules = Rules {
            application: self.application.clone(),
            retrieval: config.retrieval.clone(),
            sources,
            letters: self.letter_stream,
        };
        let streams = match self.streams.kind().clone() {
            Kind::One(stream) => StreamParts::One(one_stream(*stream, &rules)?),
            Kind::Several(list) => {
                config.validate_several()?;
                check_at_build(&list, &rules)?;
                StreamParts::Several(rules, list)
            }
        };
        let has_sink = self.dead_letters.is_some();
        config.failure_policy.validate(has_sink)?;
        Ok(Worker::new(WorkerParts {
            application: self.application,
            streams,
            config,
            factory: self.factory,
            dead_letters: self.dead_letters,
            table,
            runtime: self.runtime.unwrap_or_else(Runtime::production),
        }))
    }

    fn table_name(&self) -> String {
        self.config
            .lease_table
            .clone()
            .unwrap_or_else(|| self.application.as_str().to_owned())
    }
}

fn one_stream(config: StreamConfig, rules: &Rules) -> Result<OneStream, BuildError> {
    let listed = ListedStream::new(config, rules)?;
    Ok(OneStream {
        stream: listed.stream,
        consumer: listed.consumer,
        source: listed.source,
    })
}

/// What a tracker says is checked when it says it.
fn check_at_build(list: &StreamList, rules: &Rules) -> Result<(), BuildError> {
    let StreamList::Fixed(list) = list else {
        return Ok(());
    };
    if list.is_empty() {
        return Err(BuildError::InvalidOption {
            option: "streams",
            value: "an empty list".to_owned(),
            reason: "has nothing to read: name a stream, or use a tracker".to_owned(),
        });
    }
    let (_, refused) = check_list(list.clone(), rules, |_| None);
    match refused.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
