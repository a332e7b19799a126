//! Operators: pausing, resuming and moving the reading of shards, on a fleet that runs.

mod calls;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kcl_checkpoint::Position;
use tokio::time::Instant;

pub use self::error::{NotObeyed, OperatorError};
use crate::command_item::{CommandId, CommandItem};
use crate::hint::Hint;
use crate::item::Item;
use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::orders::{self, Change, StartPoint};
use crate::row::Row;
use crate::row_reader::RowError;
use crate::runtime::Runtime;
use crate::stop_cause::StopCause;
use crate::table::{Consistency, LeaseTable, Written};
use crate::worker_item::WorkerItem;
use crate::write;

/// Other operators that write at the same time.
const ROUNDS_MAX: usize = 10;
/// Hints in one write: a heartbeat of the receiver rewrites the whole item.
const HINTS_MAX: usize = 25;
/// An inbox with more hints gets no more: the leader reminds.
const INBOX_MAX: usize = 100;
/// How often it is looked whether a command was obeyed.
const LOOK: Duration = Duration::from_millis(250);
/// The moment of a seek to the tip lies so much before the operator's time, so that what arrives now is not missed.
const BEFORE_NOW_MILLIS: u64 = 1_000;

/// Which shards a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shards {
    /// All that have a lease now. Those that get one later are not concerned: children of a shard that ends before it obeys
    /// a pause ([`Standing::Over`]), and children that begin after a seek, at their first record. A paused shard does not end.
    All,
    /// These.
    Of(Vec<LeaseKey>),
}

/// Where reading should go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeekTo {
    /// After this position, which belongs to one shard: a seek that is for several is refused.
    After(Position),
    /// At the oldest record that there is.
    Oldest,
    /// At the first record that arrived at this time or later.
    Time(SystemTime),
    /// At the tip, as it is at the time of the command (by the operator's clock): nothing that arrives later is passed over,
    /// whenever the command is obeyed.
    Latest,
}

/// What became of a command for some shards.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Commanded {
    /// The commands that are stored, each to be obeyed by the lease's holder.
    pub commands: Vec<Issued>,
    /// Shards that were processed to their end: they cannot be read again.
    pub finished: Vec<LeaseKey>,
    /// Shards that have no lease.
    pub missing: Vec<LeaseKey>,
    /// Leases for which there was a command that could not be read, and why not: it is gone, and with it what it ordered.
    pub replaced: Vec<(LeaseKey, RowError)>,
    /// Shards that stay paused although all were to be resumed, because a record of theirs could not be processed, and which:
    /// they are resumed when they are named.
    pub stopped: Vec<(LeaseKey, StopCause)>,
    /// Leases for which the command was not stored, as far as is known, and why.
    pub failed: Vec<(LeaseKey, OperatorError)>,
}

/// A command that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The lease.
    pub lease: LeaseKey,
    /// The command.
    pub command: CommandId,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has obeyed it yet.
    Waiting,
    /// The lease's holder obeys: nothing is delivered from now on, or reading goes on at the new place.
    Obeyed,
    /// A later command took its place. What it ordered and the later one did not change stays in force.
    Replaced,
    /// The shard ended, or its lease is gone.
    Over,
}

/// Commands the holders of leases. Needs the lease table only: no worker of this process, and no leader.
///
/// A command that cannot be read stops the delivery of its lease like a pause, until another one replaces it: each of the calls
/// here does. What it ordered is not known, and gone then; the answer names it.
///
/// A command is stored before the call returns. The holder learns of it within a second or so; a holder that does not is
/// told again each time the leader reads the table. Whoever takes the lease later obeys as well.
#[derive(Debug)]
pub struct Operator {
    table: Arc<dyn LeaseTable>,
    runtime: Runtime,
    rng: Mutex<fastrand::Rng>,
}

/// What the table says of one lease.
struct Found {
    lease: Lease,
    command: Seen,
}

impl Found {
    fn stopped(&self) -> Option<&StopCause> {
        match &self.command {
            Seen::Command(command) => command.stopped.as_ref(),
            Seen::None | Seen::Unreadable(..) => None,
        }
    }
}

/// The command item of a lease as it was read.
enum Seen {
    None,
    Command(CommandItem),
    Unreadable(Item, RowError),
}

impl Seen {
    fn new(item: Option<Item>) -> Self {
        match item.map(|item| (CommandItem::expect_from(&item), item)) {
            None => Self::None,
            Some((Ok(command), _)) => Self::Command(command),
            Some((Err(error), item)) => Self::Unreadable(item, error),
        }
    }
}

impl Operator {
    /// An operator of the application whose leases are in `table`.
    #[must_use]
    pub fn new(table: Arc<dyn LeaseTable>, runtime: Runtime) -> Self {
        let rng = runtime.rng(&format!("operator {:?}", runtime.wall_time()));
        Self {
            table,
            runtime,
            rng: Mutex::new(rng),
        }
    }

    /// Pauses shards: their holders finish the call that runs and deliver nothing more, until they are resumed. Leases and
    /// processors stay, acknowledgements are accepted. A pause outlives its holder.
    ///
    /// # Errors
    /// When the table cannot be read; what concerns one lease only is in the answer.
    ///
    /// # Cancellation
    /// Commands may be stored when the future is dropped.
    pub async fn pause(&self, shards: &Shards) -> Result<Commanded, OperatorError> {
        self.command(shards, &Change::Paused(true)).await
    }

    /// Pauses a shard because a record cannot be processed. All its holders show the cause until it is resumed.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancellation
    /// As [`pause`](Self::pause).
    pub async fn stop(
        &self,
        lease: &LeaseKey,
        cause: StopCause,
    ) -> Result<Commanded, OperatorError> {
        let this = Shards::Of(vec![lease.clone()]);
        self.command(&this, &Change::Stopped(cause)).await
    }

    /// Lets shards that were paused go on, exactly where they stopped. [`Shards::All`] leaves out those that a worker stopped
    /// because of a record: they begin with the same record again, and are resumed when they are named.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancellation
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, shards: &Shards) -> Result<Commanded, OperatorError> {
        self.command(shards, &Change::Paused(false)).await
    }

    /// Moves the place where reading goes on, back or ahead. The call that runs comes to its end first, its progress is
    /// stored; what comes after the seek is read with new processors. A shard that is paused moves and stays paused.
    ///
    /// Shards that were processed to their end are not read again: they are named in the answer. After a reshard a seek of
    /// all shards to a time before it therefore repeats only what is in shards that have not ended.
    ///
    /// # Errors
    /// As [`pause`](Self::pause), and [`OperatorError::PositionOfOneShard`]: then nothing was commanded.
    ///
    /// # Cancellation
    /// As [`pause`](Self::pause).
    pub async fn seek(&self, shards: &Shards, to: SeekTo) -> Result<Commanded, OperatorError> {
        let to = match to {
            SeekTo::After(position) => StartPoint::after(position),
            SeekTo::Oldest => StartPoint::oldest(),
            SeekTo::Time(time) => StartPoint::at_time(millis(time)),
            SeekTo::Latest => {
                let now = millis(self.runtime.wall_time());
                StartPoint::at_time(now.saturating_sub(BEFORE_NOW_MILLIS))
            }
        };
        self.command(shards, &Change::Seek(to)).await
    }

    /// Looks how far a command is.
    ///
    /// # Errors
    /// When the table cannot be read, or the lease's row.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn standing(&self, issued: &Issued) -> Result<Standing, OperatorError> {
        // The item first: it is deleted only after the row says that it was obeyed.
        let item = self.get(&CommandItem::key_of(&issued.lease)).await?;
        let Some(lease) = self.lease(&issued.lease).await? else {
            return Ok(Standing::Over);
        };
        if lease.obeyed.command.as_ref() == Some(&issued.command) {
            return Ok(Standing::Obeyed);
        }
        if lease.is_finished() {
            return Ok(Standing::Over);
        }
        let stored = item
            .map(|item| CommandItem::expect_from(&item))
            .transpose()?;
        match stored.is_some_and(|stored| stored.command == issued.command) {
            true => Ok(Standing::Waiting),
            false => Ok(Standing::Replaced),
        }
    }

    /// Waits until each of these commands was obeyed, replaced, or is void because its shard ended.
    ///
    /// # Errors
    /// When that takes longer than `within`: which leases are still waited for.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn obeyed(&self, commands: &[Issued], within: Duration) -> Result<(), NotObeyed> {
        let deadline = Instant::now() + within;
        let mut open: Vec<&Issued> = commands.iter().collect();
        loop {
            let mut waiting = Vec::new();
            let mut error = None;
            for issued in open {
                match self.standing(issued).await {
                    Ok(Standing::Waiting) => waiting.push(issued),
                    Ok(_) => {}
                    Err(failure) => {
                        waiting.push(issued);
                        error = Some(failure);
                    }
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() + LOOK > deadline {
                let leases = waiting.into_iter().map(|issued| issued.lease.clone());
                let leases = leases.collect();
                return Err(NotObeyed { leases, error });
            }
            open = waiting;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The commands that are in force: leases that are paused, and seeks that were not applied yet.
    ///
    /// # Errors
    /// When the table cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn commands(&self) -> Result<Vec<CommandItem>, OperatorError> {
        let all = self.find(&Shards::All).await?;
        let in_force = all.into_iter().filter_map(|(_, found)| {
            let Found { lease, command } = found?;
            match command {
                Seen::Command(command) => command.in_force(&lease),
                Seen::None | Seen::Unreadable(..) => None,
            }
        });
        Ok(in_force.collect())
    }

    /// All leases that can be read.
    ///
    /// # Errors
    /// When the table cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn leases(&self) -> Result<Vec<Lease>, OperatorError> {
        let items = self.scan().await?;
        let leases = items.iter().filter_map(|item| match Row::from_item(item) {
            Ok(Row::Lease(lease)) => Some(lease),
            _ => None,
        });
        Ok(leases.collect())
    }

    async fn command(&self, shards: &Shards, change: &Change) -> Result<Commanded, OperatorError> {
        let mut done = Commanded::default();
        let mut owners: BTreeMap<WorkerId, Vec<LeaseKey>> = BTreeMap::new();
        let found = self.find(shards).await?;
        if change.is_for_one_shard() && found.len() > 1 {
            let shards = found.len();
            return Err(OperatorError::PositionOfOneShard { shards });
        }
        for (key, found) in found {
            if let (Shards::All, Change::Paused(false), Some(cause)) =
                (shards, change, found.as_ref().and_then(Found::stopped))
            {
                done.stopped.push((key, cause.clone()));
                continue;
            }
            match self.command_one(&key, found, change).await {
                Ok(Told::Stored {
                    issued,
                    owner,
                    replaced,
                }) => {
                    let replaced = replaced.map(|error| (key.clone(), error));
                    done.replaced.extend(replaced);
                    if let Some(owner) = owner.filter(WorkerId::is_session) {
                        owners.entry(owner).or_default().push(key);
                    }
                    done.commands.push(issued);
                }
                Ok(Told::Finished) => done.finished.push(key),
                Ok(Told::Missing) => done.missing.push(key),
                Err(error) => done.failed.push((key, error)),
            }
        }
        for (owner, leases) in owners {
            self.hint(&owner, leases).await;
        }
        Ok(done)
    }

    /// What the table says of the shards that are meant: of all in one scan, of single ones by themselves, later.
    async fn find(&self, shards: &Shards) -> Result<Vec<(LeaseKey, Option<Found>)>, OperatorError> {
        let keys = match shards {
            Shards::Of(keys) => return Ok(keys.iter().map(|key| (key.clone(), None)).collect()),
            Shards::All => self.scan().await?,
        };
        let mut leases = Vec::new();
        let mut commands = BTreeMap::new();
        for row in keys.iter().filter_map(|item| Row::from_item(item).ok()) {
            match row {
                Row::Lease(lease) => leases.push(lease),
                Row::Command(command) => {
                    commands.insert(command.lease.clone(), command);
                }
                _ => {}
            }
        }
        let found = |lease: Lease| {
            // One that could not be read is found where the command is stored.
            let command = commands.remove(&lease.key);
            let command = command.map_or(Seen::None, Seen::Command);
            (lease.key.clone(), Some(Found { lease, command }))
        };
        Ok(leases.into_iter().map(found).collect())
    }

    async fn command_one(
        &self,
        key: &LeaseKey,
        mut found: Option<Found>,
        change: &Change,
    ) -> Result<Told, OperatorError> {
        let id = CommandId::generate(&mut self.rng());
        for _ in 0..ROUNDS_MAX {
            let Found { lease, command } = match found.take() {
                Some(found) => found,
                None => match self.look(key).await? {
                    Some(found) => found,
                    None => return Ok(Told::Missing),
                },
            };
            if lease.is_finished() {
                return Ok(Told::Finished);
            }
            let replace = |seen: Option<&CommandItem>| {
                orders::commanded(key, seen, &lease.obeyed, change, id.clone())
            };
            let write = match &command {
                Seen::None => write::command(&replace(None), None),
                Seen::Command(seen) => write::command(&replace(Some(seen)), Some(&seen.command)),
                Seen::Unreadable(item, _) => {
                    let seen = orders::unreadable(key, id.clone());
                    write::replace_unreadable(&replace(Some(&seen)), item)
                }
            };
            let stored = match self.write(write).await? {
                Written::Applied(_) => true,
                // Perhaps an earlier attempt was carried out, whose answer was lost.
                Written::Refused(found) => found.is_some_and(|found| is_command(&found, &id)),
            };
            if stored {
                let lease_key = key.clone();
                let issued = Issued {
                    lease: lease_key,
                    command: id,
                };
                return Ok(Told::Stored {
                    issued,
                    owner: lease.owner,
                    replaced: match command {
                        Seen::Unreadable(_, error) => Some(error),
                        _ => None,
                    },
                });
            }
        }
        Err(OperatorError::Contended { key: key.clone() })
    }

    async fn look(&self, key: &LeaseKey) -> Result<Option<Found>, OperatorError> {
        let Some(lease) = self.lease(key).await? else {
            return Ok(None);
        };
        let command = Seen::new(self.get(&CommandItem::key_of(key)).await?);
        Ok(Some(Found { lease, command }))
    }

    async fn lease(&self, key: &LeaseKey) -> Result<Option<Lease>, OperatorError> {
        let item = self.get(key.as_str()).await?;
        let lease = item.map(|item| Lease::from_item(&item)).transpose()?;
        Ok(lease.flatten())
    }

    /// Tells the holder. What goes wrong costs time only: the leader reminds.
    async fn hint(&self, owner: &WorkerId, leases: Vec<LeaseKey>) {
        for some in leases.chunks(HINTS_MAX) {
            let hints: BTreeSet<String> = {
                let mut rng = self.rng();
                let hints = some.iter().map(|key| Hint::ordered(key.clone(), &mut rng));
                hints.map(|hint| hint.encode()).collect()
            };
            let Ok(Written::Applied(item)) = self.write(write::hint(owner, &hints)).await else {
                return;
            };
            let item = WorkerItem::from_item(&item).ok().flatten();
            if item.is_none_or(|item| item.inbox.len() > INBOX_MAX) {
                return;
            }
        }
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, key: &str) -> Result<Option<Item>, OperatorError> {
        calls::repeated(|| self.table.get(key, Consistency::Strong)).await
    }

    async fn write(&self, write: write::RowWrite) -> Result<Written, OperatorError> {
        calls::repeated(|| self.table.write(write.clone())).await
    }

    async fn scan(&self) -> Result<Vec<Item>, OperatorError> {
        calls::scan(self.table.as_ref()).await
    }
}

/// What became of a command for one lease.
enum Told {
    Stored {
        issued: Issued,
        owner: Option<WorkerId>,
        /// What was wrong with the command before, if it could not be read.
        replaced: Option<RowError>,
    },
    Finished,
    Missing,
}

fn is_command(item: &Item, id: &CommandId) -> bool {
    matches!(CommandItem::from_item(item), Ok(Some(item)) if item.command == *id)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
