//! Enhanced fan-out on the emulator's engine: a subscription as one process sees it, with the network between.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::retrieval::{Pushed, Subscription};
use kcl_core::{SequenceNumber, ShardId, SourceError, SourceErrorKind as Kind};
use kcl_emulator::kinesis::SubscriptionPoll;
use kcl_emulator::kinesis::api::{SubscribeToShardEvent, SubscriptionId};
use kcl_emulator::{Caller, Service};
use tokio::time::Instant;

use super::source::{batch, children, kind, unexpected};
use super::{Request, STREAM, World};
use crate::simulation::checker::Look;
use crate::simulation::gauge::Gauge;

const OPERATION: &str = "SubscribeToShard";
/// How often a subscription of which nothing comes looks whether the network lives again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What a record takes in an event beside its data and its key, about.
const RECORD_OVERHEAD: usize = 1_000;

/// What befell the connections of each process's subscriptions: those opened up to this one.
#[derive(Debug, Default)]
pub(super) struct Connections {
    opened: u64,
    broken: BTreeMap<String, u64>,
    silent: BTreeMap<String, u64>,
}

impl World {
    pub(super) fn note(&self, what: &'static str) {
        self.history().checker.tally.note(what);
    }

    /// Breaks the connections of all subscriptions that a process has now.
    pub fn cut_subscriptions(&self, caller: String) {
        let mut connections = self.connections();
        let opened = connections.opened;
        connections.broken.insert(caller, opened);
        drop(connections);
        self.0.connection_broke.notify_waiters();
    }

    /// Nothing more comes of the subscriptions that a process has now, though their connections stand.
    pub fn silence_subscriptions(&self, caller: String) {
        let mut connections = self.connections();
        let opened = connections.opened;
        connections.silent.insert(caller, opened);
    }
}

/// A subscription. The service learns that it was dropped, unless its connection is dead.
#[derive(Debug)]
pub(super) struct SimulatedSubscription {
    world: World,
    caller: Caller,
    shard: ShardId,
    gauge: Gauge,
    id: SubscriptionId,
    /// Its number among all that were opened.
    number: u64,
    /// The event that is on its way, and when it is there.
    coming: Option<(Instant, SubscribeToShardEvent)>,
}

impl SimulatedSubscription {
    pub(super) fn new(
        world: &World,
        caller: &Caller,
        shard: &ShardId,
        gauge: &Gauge,
        id: SubscriptionId,
    ) -> Self {
        let mut connections = world.connections();
        connections.opened += 1;
        let number = connections.opened;
        drop(connections);
        Self {
            world: world.clone(),
            caller: caller.clone(),
            shard: shard.clone(),
            gauge: gauge.clone(),
            id,
            number,
            coming: None,
        }
    }

    fn is_broken(&self) -> bool {
        self.is_among(&self.world.connections().broken)
    }

    fn is_silenced(&self) -> bool {
        self.is_among(&self.world.connections().silent)
    }

    /// Whether it was open when something last befell the subscriptions of its process.
    fn is_among(&self, befell: &BTreeMap<String, u64>) -> bool {
        let last = befell.get(&self.caller.0);
        last.is_some_and(|last| self.number <= *last)
    }

    fn is_cut_off(&self) -> bool {
        let faults = self.world.emulator().faults();
        faults.is_partitioned(&self.caller, Service::Kinesis, self.world.elapsed())
    }

    /// Waits while nothing gets through.
    async fn connected(&self) -> Result<(), SourceError> {
        loop {
            if self.is_broken() {
                self.world.note("subscription cut");
                return Err(SourceError::new(Kind::Unavailable, OPERATION).with_detail("cut"));
            }
            if !self.is_silenced() && !self.is_cut_off() {
                return Ok(());
            }
            self.wait(LOOK_AGAIN).await;
        }
    }

    async fn wait(&self, most: Duration) {
        let broke = self.world.0.connection_broke.notified();
        tokio::select! {
            biased;
            () = broke => {}
            () = tokio::time::sleep(most) => {}
        }
    }

    /// When an event that is sent now arrives.
    fn arrival(&self) -> Instant {
        let resources = [STREAM.to_owned(), self.shard.as_str().to_owned()];
        let number = self.world.number(&Request {
            caller: &self.caller,
            service: Service::Kinesis,
            operation: "SubscribeToShardEvent",
            resources: &resources,
        });
        Instant::now() + self.world.latency(number)
    }
}

impl Drop for SimulatedSubscription {
    fn drop(&mut self) {
        if self.is_cut_off() {
            self.world.note("subscription lives on without its reader");
            return;
        }
        if self.is_silenced() {
            self.world.note("silent subscription given up");
            return;
        }
        self.world.emulator().close_subscription(self.id);
    }
}

#[async_trait]
impl Subscription for SimulatedSubscription {
    async fn announced(&mut self) -> Result<Option<u64>, SourceError> {
        loop {
            self.connected().await?;
            if let Some((there, event)) = &self.coming {
                if Instant::now() >= *there {
                    return Ok(Some(size(event)));
                }
                tokio::time::sleep_until(*there).await;
                continue;
            }
            let world = &self.world;
            let emulator = world.emulator();
            let waker = emulator.waker(self.id);
            match emulator.poll_subscription(world.stream_time(), self.id) {
                SubscriptionPoll::Event(event) => self.coming = Some((self.arrival(), event)),
                SubscriptionPoll::Ended => {
                    world.note("subscription ended by the service");
                    return Ok(None);
                }
                SubscriptionPoll::Error(error) => {
                    let error =
                        SourceError::new(kind(&error), OPERATION).with_detail(error.message);
                    return Err(error);
                }
                SubscriptionPoll::Idle { wake_at } => {
                    let until = wake_at.since(world.stream_time()).max(1);
                    let until = Duration::from_millis(until.unsigned_abs());
                    tokio::select! {
                        biased;
                        () = waker.notified() => {}
                        () = self.wait(until) => {}
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Pushed, SourceError> {
        let bytes = self.coming.as_ref().map_or(0, |(_, event)| size(event));
        // An event without records takes no room and waits for none.
        if bytes > 0 {
            self.gauge.look(Look::Receives(bytes));
        }
        self.connected().await?;
        let (_, event) = self.coming.take().ok_or_else(|| unexpected(OPERATION))?;
        let continuation = event
            .continuation_sequence_number
            .map(|number| number.to_string());
        let continuation = continuation
            .as_deref()
            .map(SequenceNumber::parse)
            .transpose();
        Ok(Pushed {
            batch: batch(event.records, OPERATION)?,
            continuation: continuation.map_err(|_| unexpected(OPERATION))?,
            children: children(event.child_shards, OPERATION)?,
            behind: u64::try_from(event.millis_behind_latest)
                .ok()
                .map(Duration::from_millis),
        })
    }
}

fn size(event: &SubscribeToShardEvent) -> u64 {
    let records = event.records.iter();
    let bytes: usize = records
        .map(|record| record.data.0.len() + record.partition_key.len() + RECORD_OVERHEAD)
        .sum();
    bytes as u64
}
