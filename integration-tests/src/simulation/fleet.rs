//! The processes of a run, and what is done to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::{Operator, Runtime, SeekTo, Shards};
use kcl_emulator::faults::{Fault as Request, Rule};
use kcl_emulator::{Caller, Service};
use kcl_lease::item::Value;
use kcl_lease::write::{Change, RowWrite};
use kcl_lease::{Lease, LeaseKey, Row};

use super::history::{Event, ShardNo, shard_id};
use super::node::{Node, Path};
use super::processor::Mood;
use super::schedule::{Cut, Pick};
use super::world::{NOBODY, SimulatedTable, World};

/// A worker that is asked to stop has this long, then it is killed, as an orchestrator does it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an operator commands.
#[derive(Debug)]
pub enum Command {
    /// That nothing is delivered.
    Pause,
    /// That delivery goes on.
    Resume,
    /// That reading goes on there.
    Seek(SeekTo),
}

/// The processes of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    world: World,
    mood: Mood,
    path: Path,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    started: u32,
    names: u32,
    /// Nothing more is done to anybody.
    healed: bool,
}

impl Fleet {
    /// No process yet.
    #[must_use]
    pub fn new(world: &World, mood: &Mood, path: Path) -> Self {
        Self {
            world: world.clone(),
            mood: mood.clone(),
            path,
            state: Arc::default(),
        }
    }

    /// Starts one more process under a new name.
    pub fn join(&self) {
        let name = {
            let mut state = self.lock();
            state.names += 1;
            format!("worker-{}", state.names)
        };
        self.start(&name);
    }

    fn start(&self, name: &str) -> Option<Node> {
        let process = {
            let mut state = self.lock();
            state.started += 1;
            state.started
        };
        let node = Node::start(&self.world, &self.mood, process, name, self.path).ok()?;
        self.lock().nodes.push(node.clone());
        Some(node)
    }

    /// The processes that run.
    #[must_use]
    pub fn alive(&self) -> Vec<Node> {
        let state = self.lock();
        let alive = state.nodes.iter().filter(|node| node.is_alive());
        alive.cloned().collect()
    }

    fn pick(&self, pick: Pick) -> Option<Node> {
        let mut alive = self.alive();
        if alive.is_empty() {
            return None;
        }
        let index = usize::try_from(pick % alive.len() as u64).unwrap_or(0);
        Some(alive.swap_remove(index))
    }

    /// Kills a process; starts another one after `again`.
    pub fn kill(&self, pick: Pick, again: Option<Duration>, same_name: bool) {
        let Some(node) = self.pick(pick) else {
            return;
        };
        node.kill(&self.world);
        let Some(after) = again else {
            return;
        };
        let fleet = self.clone();
        self.world.spawn(async move {
            tokio::time::sleep(after).await;
            match same_name {
                true => drop(fleet.start(&node.name)),
                false => fleet.join(),
            }
        });
    }

    /// Lets a process stand still for a while.
    pub fn pause(&self, pick: Pick, lasts: Duration) {
        let Some(node) = self.pick(pick).filter(|node| !node.is_paused()) else {
            return;
        };
        node.pause(&self.world);
        let world = self.world.clone();
        self.world.spawn(async move {
            tokio::time::sleep(lasts).await;
            node.resume(&world);
        });
    }

    /// Cuts a process off for a while.
    pub fn partition(&self, pick: Pick, from: Cut, lasts: Duration) {
        let service = match from {
            Cut::Table => Some(Service::DynamoDb),
            Cut::Stream => Some(Service::Kinesis),
            Cut::Both => None,
        };
        self.befall(pick, lasts, |caller| Rule {
            service,
            ..Rule::new(Request::Disconnect).caller(caller)
        });
    }

    /// Lets the reads of a process from the table fail for a while.
    pub fn fail_reads(&self, pick: Pick, lasts: Duration) {
        self.befall(pick, lasts, |caller| {
            Rule::new(Request::Unavailable)
                .service(Service::DynamoDb)
                .operation("GetItem")
                .caller(caller)
        });
    }

    /// Breaks the connections of a process's subscriptions.
    pub fn cut_subscriptions(&self, pick: Pick) {
        if let Some(node) = self.pick(pick) {
            self.world.cut_subscriptions(node.caller());
        }
    }

    /// Lets nothing more come of a process's subscriptions.
    pub fn silence_subscriptions(&self, pick: Pick) {
        if let Some(node) = self.pick(pick) {
            self.world.silence_subscriptions(node.caller());
        }
    }

    /// Lets a process not hear any answer of the table for a while.
    pub fn deafen(&self, pick: Pick, lasts: Duration) {
        self.befall(pick, lasts, |caller| {
            Rule::new(Request::LoseAnswer)
                .service(Service::DynamoDb)
                .caller(caller)
        });
    }

    /// Lets the requests of a process about one of the shards' rows get lost for a while.
    pub fn stick(&self, pick: Pick, shard: ShardNo, lasts: Duration) {
        self.befall(pick, lasts, |caller| {
            Rule::new(Request::LoseRequest)
                .service(Service::DynamoDb)
                .resource(shard_id(shard))
                .caller(caller)
        });
    }

    fn befall(&self, pick: Pick, lasts: Duration, rule: impl FnOnce(String) -> Rule) {
        let Some(node) = self.pick(pick) else {
            return;
        };
        let now = self.world.elapsed();
        let name = format!("{} at {}", node.caller(), self.world.millis());
        let rule = rule(node.caller()).named(&name).between(now, now + lasts);
        let (world, process) = (self.world.clone(), node.process);
        world.emulator().faults().add(rule);
        world.tell(Event::CutOff { process, cut: true });
        self.world.spawn(async move {
            tokio::time::sleep(lasts).await;
            world.emulator().faults().remove(&name);
            world.tell(Event::CutOff {
                process,
                cut: false,
            });
        });
    }

    /// Stops a process gracefully; a new one of the same name follows.
    pub fn restart(&self, pick: Pick) {
        let Some(node) = self.pick(pick) else {
            return;
        };
        let fleet = self.clone();
        self.world.spawn(async move {
            fleet.retire(&node).await;
            fleet.start(&node.name);
        });
    }

    /// Replaces all processes one by one.
    pub fn deploy(&self) {
        let fleet = self.clone();
        self.world.spawn(async move {
            for node in fleet.alive() {
                if fleet.lock().healed {
                    return;
                }
                fleet.join();
                tokio::time::sleep(Duration::from_secs(2)).await;
                fleet.retire(&node).await;
            }
        });
    }

    /// Stops a process gracefully, if it is not the last one.
    pub fn leave(&self, pick: Pick) {
        if self.alive().len() < 2 {
            return;
        }
        let Some(node) = self.pick(pick) else {
            return;
        };
        let fleet = self.clone();
        self.world.spawn(async move { fleet.retire(&node).await });
    }

    async fn retire(&self, node: &Node) {
        node.stop(&self.world);
        node.ended(PATIENCE).await;
        node.kill(&self.world);
    }

    /// Deletes the items of a process in the lease table, as an operator by mistake.
    pub fn delete_item(&self, pick: Pick) {
        let Some(node) = self.pick(pick) else {
            return;
        };
        let prefix = format!("{}/", node.name);
        let keys: Vec<String> = {
            let rows = self.world.rows();
            let keys = rows.iter().filter(|(key, item)| {
                key.starts_with(&prefix) && matches!(item.get("heartbeat"), Some(Value::N(_)))
            });
            keys.map(|(key, _)| key.clone()).collect()
        };
        for key in keys {
            self.delete(key);
        }
    }

    /// The leases of shards that have not ended.
    #[must_use]
    pub fn unfinished_leases(&self) -> Vec<LeaseKey> {
        self.leases(|lease| !lease.is_finished())
    }

    fn leases(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<LeaseKey> {
        let rows = self.world.rows();
        let leases = rows
            .iter()
            .filter_map(|(_, item)| match Row::from_item(item) {
                Ok(Row::Lease(lease)) => wanted(&lease).then_some(lease.key),
                _ => None,
            });
        leases.collect()
    }

    /// Commands the holders of leases: through a worker, whose requests may be late or lost as its others are, and who may die
    /// over it, or by a tool of its own.
    pub fn command(&self, by: Option<Pick>, shards: Shards, command: Command) {
        let node = by.and_then(|pick| self.pick(pick));
        // By the date of a process that is wrong the tip may be in the future.
        let by_date = matches!(command, Command::Seek(SeekTo::Latest))
            && !self.world.climate().dates_differ.is_zero();
        let node = match self.path {
            Path::Direct => node.filter(|_| !by_date),
            // The SDK's requests of a tool would be those of an unknown process.
            Path::Sdk => node.or_else(|| self.pick(0)),
        };
        let operator = match &node {
            Some(node) => node.operator(),
            None => {
                let table = SimulatedTable::new(&self.world, NOBODY, "operator");
                let runtime = Runtime::virtual_time(self.world.seed());
                let runtime = runtime.counting_from(self.world.began());
                Operator::new(Arc::new(table), runtime)
            }
        };
        let act = async move {
            let _told = match command {
                Command::Pause => operator.pause(&shards).await,
                Command::Resume => operator.resume(&shards).await,
                Command::Seek(to) => operator.seek(&shards, to).await,
            };
        };
        match node {
            Some(node) => {
                let act = node.guard(act);
                self.world.spawn(async move {
                    let _killed = act.await;
                });
            }
            None => self.world.spawn(act),
        }
    }

    /// Deletes the row of a lease that somebody holds, as an operator by mistake.
    pub fn delete_lease(&self, pick: Pick) {
        let keys = self.leases(|lease| lease.owner.is_some() && !lease.is_finished());
        let index = pick.checked_rem(keys.len() as u64);
        let key = index.and_then(|index| keys.get(usize::try_from(index).ok()?));
        if let Some(key) = key {
            let until = self.world.millis();
            let name = "lease row deleted".to_owned();
            self.world.tell(Event::FaultBegan { name, until });
            self.delete(key.as_str().to_owned());
        }
    }

    fn delete(&self, key: String) {
        let delete = RowWrite {
            key,
            condition: Vec::new(),
            change: Change::Delete,
        };
        let (now, operator) = (self.world.millis(), Caller::new("operator"));
        let _outcome = self.world.write(NOBODY, &operator, now, &delete);
    }

    /// Ends everything that was done to processes, and sees that there are `at_least` so many.
    pub fn heal(&self, at_least: usize) {
        self.lock().healed = true;
        for node in self.alive() {
            node.resume(&self.world);
        }
        self.keep(at_least);
    }

    /// Starts processes until there are `at_least` so many.
    pub fn keep(&self, at_least: usize) {
        for _ in self.alive().len()..at_least {
            self.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
