//! The emulator's server, the producer and the worker processes of one run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kcl_core::{Checkpoint, Runtime};
use kcl_emulator::Emulator;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::clock::{At, Translation, now};
use super::deeds::{Deeds, Did};
use super::error::FleetError;
use super::history::History;
use super::journal::{self, What};
use super::options::FleetOptions;
use super::process::{Launch, WorkerProcess};
use super::producer::Producer;
use super::table_watch::{Snapshot, TableWatch, name_of};
use super::usage::Usage;
use crate::{APPLICATION, STREAM};

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// A worker process says within this time that it has a session, also in a debug build on a busy machine: the one that
/// leads says so only after it has made the leases.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The drain budget of a worker by default, which it may not exceed.
pub(super) const DRAIN_BUDGET: Duration = Duration::from_secs(25);
/// After this a worker that was told to stop is killed.
const EXIT_LIMIT: Duration = Duration::from_secs(35);
/// What is left when the producer stops is delivered and checkpointed within this time.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// How long a reshard takes, as the service's own take a while.
const TRANSITION: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Leaving,
    Gone,
}

#[derive(Debug)]
struct Member {
    process: WorkerProcess,
    state: State,
}

/// The emulator's server, the producer and the worker processes of one run. Dropping it kills the workers.
#[derive(Debug)]
pub struct Cluster {
    pub(super) emulator: Emulator,
    pub(super) kinesis: aws_sdk_kinesis::Client,
    pub(super) deeds: Deeds,
    dynamodb: aws_sdk_dynamodb::Client,
    clock: Translation,
    watch: Option<TableWatch>,
    members: Vec<Member>,
    producer: Option<Producer>,
    launch: Launch,
    _server: AbortOnDropHandle<()>,
}

impl Cluster {
    /// Starts the server with a stream of so many shards, which has the service's limits or none (`throttling`). `name` tells
    /// the folders of several runs apart.
    pub(super) async fn start(
        name: &str,
        shards: u32,
        options: &FleetOptions,
        throttling: bool,
    ) -> Result<Self, FleetError> {
        let emulator = Emulator::builder()
            .wall_clock()
            .throttling(throttling)
            .transition(TRANSITION)
            .table_transition(Duration::ZERO)
            .build();
        let clock = Translation::new(emulator.clock().now());
        emulator
            .create_stream(STREAM, shards)
            .map_err(|error| FleetError::service("cannot create the stream", error))?;
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|error| FleetError::system("cannot listen on loopback", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| FleetError::system("cannot listen on loopback", error))?;
        let served = emulator.clone();
        let server = Runtime::production()
            .spawn(async move { served.serve(listener, std::future::pending()).await });
        let aws = emulator.sdk_config("harness");
        Ok(Self {
            kinesis: aws_sdk_kinesis::Client::new(&aws),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            deeds: Deeds::default(),
            clock,
            watch: None,
            members: Vec::new(),
            producer: None,
            launch: launch(name, format!("http://{address}"), options)?,
            emulator,
            _server: server,
        })
    }

    /// Watches the lease table from now on.
    pub(super) fn watch_table(&mut self) {
        self.watch = Some(TableWatch::start(self.emulator.clone()));
    }

    /// Starts a worker process; returns its name.
    pub(super) fn add_worker(&mut self) -> Result<String, FleetError> {
        let name = format!("w{}", self.members.len() + 1);
        self.deeds.note(Did::Started(name.clone()));
        self.members.push(Member {
            process: self.launch.start(&name)?,
            state: State::Running,
        });
        Ok(name)
    }

    /// Starts so many worker processes and waits until each has a session.
    pub(super) async fn add_workers(&mut self, count: usize) -> Result<Vec<String>, FleetError> {
        let names: Vec<String> = (0..count)
            .map(|_| self.add_worker())
            .collect::<Result<_, _>>()?;
        for name in &names {
            self.has_session(name).await?;
        }
        Ok(names)
    }

    /// Waits until a worker has a session.
    pub(super) async fn has_session(&mut self, name: &str) -> Result<(), FleetError> {
        let journal = self.member(name)?.process.journal.clone();
        self.until(&format!("{name} has a session"), START_LIMIT, |_| {
            journal::read(&journal).is_ok_and(|lines| {
                lines
                    .iter()
                    .any(|line| matches!(line.what, What::Session { .. }))
            })
        })
        .await
    }

    pub(super) fn start_producer(&mut self) {
        self.producer = Some(Producer::start(self.kinesis.clone()));
    }

    /// Lets the fleet run for a while.
    pub(super) async fn calm(&mut self, time: Duration) -> Result<(), FleetError> {
        let end = now() + time;
        self.until("the calm is over", time + LOOK * 100, |_| now() >= end)
            .await
    }

    /// Waits until this holds of the lease table, and sees workers end meanwhile.
    pub(super) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Snapshot) -> bool,
    ) -> Result<(), FleetError> {
        let end = now() + limit;
        loop {
            self.see_ends()?;
            if holds(&self.table()) {
                return Ok(());
            }
            if now() >= end {
                let what = what.to_owned();
                return Err(FleetError::TooLate { what, limit });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every unfinished lease is owned by a running worker.
    pub(super) async fn owned(&mut self, limit: Duration) -> Result<(), FleetError> {
        let running = self.running();
        self.until("every shard has an owner", limit, |table| {
            let mut open = table
                .leases
                .values()
                .filter(|row| !row.is_finished())
                .peekable();
            open.peek().is_some()
                && open.all(|row| {
                    row.owner
                        .as_ref()
                        .is_some_and(|owner| running.contains(owner))
                })
        })
        .await
    }

    /// Waits until running workers own the same number of leases, to within one. False if that did not come.
    pub(super) async fn balanced(&mut self, limit: Duration) -> Result<bool, FleetError> {
        self.owned(limit).await?;
        let running = self.running();
        let waited = self.until("the leases are balanced", limit, |table| {
            let counts = held_by(table);
            let of = |name: &String| counts.get(name).copied().unwrap_or(0);
            let least = running.iter().map(of).min();
            let most = running.iter().map(of).max();
            least
                .zip(most)
                .is_some_and(|(least, most)| most - least <= 1)
        });
        match waited.await {
            Ok(()) => Ok(true),
            Err(FleetError::TooLate { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is in the lease table now; empty if it is not watched.
    pub(super) fn table(&self) -> Snapshot {
        self.watch.as_ref().map(TableWatch::now).unwrap_or_default()
    }

    /// The name of the leading worker, as the leader item says.
    pub(super) async fn leader(&self) -> Result<Option<String>, FleetError> {
        let get = self.dynamodb.get_item().table_name(APPLICATION);
        let get = get.key(
            "leaseKey",
            AttributeValue::S(kcl_lease::LEADER_KEY.to_owned()),
        );
        let answer = get.consistent_read(true).send().await.map_err(|error| {
            FleetError::service(
                "cannot read the leader item",
                aws_sdk_dynamodb::error::DisplayErrorContext(error),
            )
        })?;
        let item = answer.item.unwrap_or_default();
        let leader = item.get("leader").and_then(|leader| leader.as_s().ok());
        Ok(leader.map(|id| name_of(id).to_owned()))
    }

    /// The running workers, the oldest first.
    pub(super) fn running(&self) -> Vec<String> {
        let running = self
            .members
            .iter()
            .filter(|member| member.state == State::Running);
        running.map(|member| member.process.name.clone()).collect()
    }

    /// What each running worker used so far.
    pub(super) fn usage(&self) -> Result<Vec<Usage>, FleetError> {
        let running = self
            .members
            .iter()
            .filter(|member| member.state == State::Running);
        running
            .filter_map(|member| member.process.id())
            .map(Usage::of)
            .collect()
    }

    /// Ends a worker without a word.
    pub(super) async fn kill(&mut self, name: &str) -> Result<At, FleetError> {
        let member = self.member(name)?;
        member.process.signal(Signal::KILL)?;
        member.state = State::Gone;
        let at = self.deeds.note(Did::Killed(name.to_owned()));
        self.member(name)?.process.wait(EXIT_LIMIT).await?;
        Ok(at)
    }

    /// Tells a worker to stop.
    pub(super) fn terminate(&mut self, name: &str) -> Result<(), FleetError> {
        let member = self.member(name)?;
        member.process.signal(Signal::TERM)?;
        member.state = State::Leaving;
        self.deeds.note(Did::Terminated(name.to_owned()));
        Ok(())
    }

    /// Waits until every worker that was told to stop has ended; those that do not are killed.
    pub(super) async fn all_left(&mut self) -> Result<(), FleetError> {
        let end = now() + EXIT_LIMIT;
        while self
            .members
            .iter()
            .any(|member| member.state == State::Leaving)
        {
            self.see_ends()?;
            if now() >= end {
                self.kill_the_leaving().await?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn kill_the_leaving(&mut self) -> Result<(), FleetError> {
        let leaving = self
            .members
            .iter_mut()
            .filter(|member| member.state == State::Leaving);
        for member in leaving {
            member.process.signal(Signal::KILL)?;
            member.process.wait(EXIT_LIMIT).await?;
            member.state = State::Gone;
            self.deeds
                .note(Did::Exited(member.process.name.clone(), None));
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, name: &str) -> Result<At, FleetError> {
        self.member(name)?.process.signal(Signal::STOP)?;
        Ok(self.deeds.note(Did::Paused(name.to_owned())))
    }

    pub(super) fn resume(&mut self, name: &str) -> Result<At, FleetError> {
        self.member(name)?.process.signal(Signal::CONT)?;
        Ok(self.deeds.note(Did::Resumed(name.to_owned())))
    }

    /// Notes the ends of workers that were told to stop; an error if another one ended.
    fn see_ends(&mut self) -> Result<(), FleetError> {
        for member in &mut self.members {
            match member.state {
                State::Running => member.process.must_run()?,
                State::Leaving => {
                    if let Some(status) = member.process.ended()? {
                        member.state = State::Gone;
                        let name = member.process.name.clone();
                        self.deeds.note(Did::Exited(name, status.code()));
                    }
                }
                State::Gone => {}
            }
        }
        Ok(())
    }

    /// Stops the producer, waits until everything is delivered and checkpointed, stops all workers, and gathers what is
    /// known. That something was not delivered is for the judgement to find.
    pub(super) async fn finish(&mut self) -> Result<History, FleetError> {
        self.deeds.note(Did::Finish);
        if let Some(producer) = self.producer.take() {
            let put = producer.stop().await?;
            tracing::info!(put, "the producer stopped");
        }
        let last = self.last_put();
        let caught_up = self.until("everything is checkpointed", CATCH_UP_LIMIT, |table| {
            last.iter()
                .all(|(shard, last)| match table.leases.get(shard) {
                    Some(row) => {
                        Checkpoint::from_attributes(&row.checkpoint, 0).is_ok_and(|c| c >= *last)
                    }
                    // The row of a finished shard is deleted some time after its children have made progress.
                    None => true,
                })
        });
        match caught_up.await {
            Ok(()) | Err(FleetError::TooLate { .. }) => {}
            Err(error) => return Err(error),
        }
        for name in self.running() {
            self.terminate(&name)?;
        }
        self.all_left().await?;
        let changes = self.watch.as_ref().map(TableWatch::changes);
        let processes = self.members.iter().map(|member| &member.process);
        History::gather(
            &self.emulator,
            self.clock,
            processes,
            changes.unwrap_or_default(),
            self.deeds.all(),
        )
    }

    /// The last record of each shard.
    fn last_put(&self) -> BTreeMap<String, Checkpoint> {
        let log = self.emulator.records(STREAM).into_iter();
        log.filter_map(|record| {
            let text = record.sequence_number.to_string();
            let position = Checkpoint::from_attributes(&text, 0).ok()?;
            Some((record.shard_id, position))
        })
        .collect()
    }

    /// How to start a worker of another application that acknowledges records.
    pub(super) fn launch_acknowledging(&self, application: &str) -> Launch {
        Launch {
            application: application.to_owned(),
            acknowledges: true,
            ..self.launch.clone()
        }
    }

    /// Removes the consumer that an application registered, if it did: a stream has 20 at most.
    pub(super) async fn remove_consumer(&self, application: &str) -> Result<(), FleetError> {
        if !self.launch.reading.subscribes() {
            return Ok(());
        }
        let stream = self.emulator.stream_arn(STREAM);
        let remove = self.kinesis.deregister_stream_consumer();
        let remove = remove.stream_arn(stream).consumer_name(application);
        remove.send().await.map_err(|error| {
            FleetError::service(
                "cannot remove the consumer",
                aws_sdk_dynamodb::error::DisplayErrorContext(error),
            )
        })?;
        Ok(())
    }

    /// Where journals and logs are.
    pub(super) fn directory(&self) -> PathBuf {
        self.launch.directory.clone()
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, FleetError> {
        let mut members = self.members.iter_mut();
        let member = members.find(|member| member.process.name == name);
        member.ok_or_else(|| FleetError::service("no such worker", name))
    }
}

/// How many unfinished leases each worker owns.
pub(super) fn held_by(table: &Snapshot) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in table.leases.values().filter(|row| !row.is_finished()) {
        if let Some(owner) = &row.owner {
            *counts.entry(owner.clone()).or_default() += 1;
        }
    }
    counts
}

fn launch(name: &str, endpoint: String, options: &FleetOptions) -> Result<Launch, FleetError> {
    let directory = std::env::temp_dir().join(format!("fleet-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| {
        FleetError::system(format!("cannot create {}", directory.display()), error)
    })?;
    let program = std::env::current_exe()
        .map_err(|error| FleetError::system("cannot find this program", error))?;
    Ok(Launch {
        program,
        endpoint,
        directory,
        lease_duration: options.lease_duration,
        application: APPLICATION.to_owned(),
        reading: options.retrieval,
        acknowledges: false,
    })
}
