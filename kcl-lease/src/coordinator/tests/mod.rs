//! The coordinator over the table in memory, in virtual time.

mod a12_refused;
mod a14_shard_end;
mod a15_hand_over;
mod a20_balance;
mod audits;
mod basics;
mod clock_jumps;
mod ends;
mod fleet;
mod forgetting;
mod former_streams;
mod hostile;
mod hostile_counters;
mod leaving;
mod liveness;
mod lost_answers;
mod orders;
mod own_thread;
mod resets;
mod resigning;
mod streams;
mod strike;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::*;
use crate::item::{Item, Value, attribute};
use crate::key::{HashKeyRange, ShardId, StreamKey};
use crate::table::{
    Consistency, Prepared, ScanPage, ScanToken, TableError, TableErrorKind, Transacted, Written,
};
use crate::test_support::at as checkpoint_at;
use crate::write::RowWrite;
use crate::{Grant, Lease, ListedShard, MemoryLeaseTable, StreamStart};

pub(super) const L: Duration = Duration::from_secs(10);
/// One way through the network: every call takes twice this.
const LATENCY: Duration = Duration::from_millis(3);

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Pass,
    /// Refused without effect.
    Reject,
    /// Refused without effect, and for good.
    Deny,
    /// Refused because there is no table.
    NoTable,
    /// Never answered, without effect.
    Swallow,
    /// Carried out, never answered.
    LoseAnswer,
    /// Not answered, and carried out this much later.
    Late(Duration),
}

/// One call as rules see it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) operation: &'static str,
    pub(super) key: String,
}

type Rule = Box<dyn FnMut(&Seen) -> Act + Send>;

/// The path of one worker to the shared table.
pub(super) struct Path {
    table: Arc<MemoryLeaseTable>,
    rule: Mutex<Rule>,
    /// What eventually consistent scans show of these items.
    stale: Mutex<BTreeMap<String, Item>>,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Path")
    }
}

impl Path {
    pub(super) fn new(table: &Arc<MemoryLeaseTable>) -> Arc<Self> {
        Arc::new(Self {
            table: Arc::clone(table),
            rule: Mutex::new(Box::new(|_| Act::Pass)),
            stale: Mutex::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    /// Every later call meets this rule.
    pub(super) fn rule(&self, rule: impl FnMut(&Seen) -> Act + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Every later scan that is not strongly consistent shows these items, not what they are now.
    pub(super) fn show_stale(&self, items: BTreeMap<String, Item>) {
        *self.stale.lock().unwrap() = items;
    }

    /// Cuts the worker off, without effect of what it sends.
    pub(super) fn cut(&self) {
        self.rule(|_| Act::Swallow);
    }

    pub(super) fn heal(&self) {
        self.rule(|_| Act::Pass);
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        act: impl Future<Output = Result<T, TableError>> + Send + 'static,
    ) -> Result<T, TableError> {
        let seen = Seen {
            operation,
            key: key.to_owned(),
        };
        let verdict = (*self.rule.lock().unwrap())(&seen);
        tokio::time::sleep(LATENCY).await;
        match verdict {
            Act::Pass => {}
            Act::Reject => {
                return Err(TableError::new(TableErrorKind::Throttled, operation, "t"));
            }
            Act::Deny => {
                let action = "dynamodb:Scan";
                let kind = TableErrorKind::AccessDenied { action };
                return Err(TableError::new(kind, operation, "t"));
            }
            Act::NoTable => {
                return Err(TableError::new(
                    TableErrorKind::TableMissing,
                    operation,
                    "t",
                ));
            }
            Act::Swallow => return never().await,
            Act::LoseAnswer => {
                drop(act.await);
                return never().await;
            }
            Act::Late(delay) => {
                let runtime = Runtime::virtual_time(0);
                let late = runtime.spawn(async move {
                    tokio::time::sleep(delay).await;
                    drop(act.await);
                });
                drop(late.detach());
                return never().await;
            }
        }
        let result = act.await;
        tokio::time::sleep(LATENCY).await;
        result
    }
}

async fn never<T>() -> T {
    std::future::pending().await
}

#[async_trait]
impl LeaseTable for Path {
    async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Item>, TableError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (table, name) = (Arc::clone(&self.table), key.to_owned());
        self.call(
            "get",
            key,
            async move { table.get(&name, consistency).await },
        )
        .await
    }

    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let table = Arc::clone(&self.table);
        let scanned = async move { table.scan(consistency, page).await };
        let mut page = self.call("scan", "", scanned).await?;
        if consistency == Consistency::Eventual {
            let stale = self.stale.lock().unwrap();
            for item in &mut page.items {
                if let Some(stale) = stale.get(&scans::key_of(item)) {
                    item.clone_from(stale);
                }
            }
        }
        Ok(page)
    }

    async fn write(&self, write: RowWrite) -> Result<Written, TableError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let (table, key) = (Arc::clone(&self.table), write.key.clone());
        self.call("write", &key, async move { table.write(write).await })
            .await
    }

    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let table = Arc::clone(&self.table);
        let key = writes.first().map(|w| w.key.clone()).unwrap_or_default();
        self.call(
            "transact",
            &key,
            async move { table.transact(writes).await },
        )
        .await
    }

    async fn prepare(&self) -> Result<Prepared, TableError> {
        let table = Arc::clone(&self.table);
        self.call("prepare", "", async move { table.prepare().await })
            .await
    }
}

/// One worker under test.
pub(super) struct Worker {
    pub(super) handle: CoordinatorHandle,
    pub(super) events: mpsc::UnboundedReceiver<CoordinatorEvent>,
    pub(super) path: Arc<Path>,
    pub(super) grants: BTreeMap<String, Grant>,
    /// Tasks that stop work on a lease as soon as they are asked to, for a worker that does so.
    pub(super) holders: Option<Vec<tokio_util::task::AbortOnDropHandle<()>>>,
    /// How long they go on after that: they have a batch in work.
    pub(super) batch: Duration,
}

pub(super) fn table() -> Arc<MemoryLeaseTable> {
    Arc::new(MemoryLeaseTable::new())
}

pub(super) fn identity() -> StreamIdentity {
    StreamIdentity {
        stream_arn: "arn:aws:kinesis:eu-west-1:1:stream/orders".to_owned(),
        created_at: 1_700_000_000_000,
        start: StreamStart::TrimHorizon,
    }
}

impl Worker {
    pub(super) fn start(name: &str, table: &Arc<MemoryLeaseTable>) -> Self {
        Self::start_with(name, table, |_| {})
    }

    pub(super) fn start_with(
        name: &str,
        table: &Arc<MemoryLeaseTable>,
        change: impl FnOnce(&mut CoordinatorOptions),
    ) -> Self {
        Self::start_on(Runtime::virtual_time(7), name, table, change)
    }

    /// A worker whose clocks and randomness are these.
    pub(super) fn start_on(
        runtime: Runtime,
        name: &str,
        table: &Arc<MemoryLeaseTable>,
        change: impl FnOnce(&mut CoordinatorOptions),
    ) -> Self {
        let mut options = CoordinatorOptions {
            worker_name: name.to_owned(),
            ..CoordinatorOptions::default()
        };
        change(&mut options);
        let path = Path::new(table);
        let used = Arc::clone(&path);
        let (handle, events) = Coordinator::start(options, runtime, move || used).unwrap();
        Self {
            handle,
            events,
            path,
            grants: BTreeMap::new(),
            holders: None,
            batch: Duration::ZERO,
        }
    }

    /// A worker that gives its leases away as soon as it is asked to, at checkpoint 9.
    pub(super) fn cooperating(name: &str, table: &Arc<MemoryLeaseTable>) -> Self {
        Self {
            holders: Some(Vec::new()),
            ..Self::start(name, table)
        }
    }

    pub(super) fn hold(&mut self, grant: Grant) {
        if let Some(holders) = &mut self.holders {
            let (holder, batch) = (grant.clone(), self.batch);
            holders.push(Runtime::virtual_time(0).spawn(async move {
                holder.recalled().await;
                tokio::time::sleep(batch).await;
                while holder
                    .release(Some(checkpoint_at(9)))
                    .await
                    .is_err_and(|e| e.is_retryable())
                {}
            }));
        }
        self.grants
            .insert(grant.lease_key().as_str().to_owned(), grant);
    }

    /// Opens the stream and creates leases for the shards.
    pub(super) async fn open(&self, listing: &[ListedShard]) -> OpenedStream {
        let opened = self
            .handle
            .open_stream(StreamKey::ONLY, identity())
            .await
            .unwrap();
        let synced = self
            .handle
            .sync_shards(StreamKey::ONLY, listing.to_vec(), opened.fresh);
        synced.await.unwrap();
        opened
    }

    /// A worker on a stream of `shards` shards, which holds all of them.
    pub(super) async fn running(name: &str, table: &Arc<MemoryLeaseTable>, shards: u32) -> Self {
        let mut worker = Self::start(name, table);
        worker.open(&listing(shards)).await;
        worker.wait_granted(shards as usize).await;
        worker
    }

    /// Takes events in for so long.
    pub(super) async fn listen(&mut self, time: Duration) -> Vec<CoordinatorEvent> {
        let end = Instant::now() + time;
        let mut others = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            match event {
                CoordinatorEvent::Granted(grant) => self.hold(grant),
                other => others.push(other),
            }
        }
        tokio::time::sleep_until(end).await;
        others
    }

    /// Takes events in until so many leases were granted; fails after a minute.
    pub(super) async fn wait_granted(&mut self, count: usize) {
        let waited = timeout(Duration::from_secs(60), async {
            while self.grants.len() < count || self.held() < count {
                if let CoordinatorEvent::Granted(grant) = self.events.recv().await.unwrap() {
                    self.hold(grant);
                }
            }
        });
        waited.await.expect("granted in time");
    }

    /// Takes events in until one is as wanted; fails after a minute.
    pub(super) async fn wait_event(&mut self, wanted: impl Fn(&CoordinatorEvent) -> bool) {
        let waited = timeout(Duration::from_secs(60), async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return;
                }
                if let CoordinatorEvent::Granted(grant) = event {
                    self.hold(grant);
                }
            }
        });
        waited.await.expect("told in time");
    }

    /// Whether the worker may work on a lease right now.
    pub(super) fn serves(&self, number: u32) -> bool {
        let grant = self.grants.get(id(number).as_str());
        grant.is_some_and(Grant::is_current)
    }

    pub(super) fn held(&self) -> usize {
        let held = self.grants.values().filter(|grant| grant.loss().is_none());
        held.count()
    }

    pub(super) fn grant(&self, number: u32) -> Grant {
        self.grants[id(number).as_str()].clone()
    }
}

pub(super) fn id(number: u32) -> ShardId {
    ShardId::from(format!("shardId-{number:012}"))
}

/// A shard that covers part `index` of `of`.
pub(super) fn shard(number: u32, parents: &[u32], index: u32, of: u32) -> ListedShard {
    let size = u128::MAX / u128::from(of);
    let end = match index + 1 == of {
        true => u128::MAX,
        false => size * u128::from(index + 1) - 1,
    };
    ListedShard {
        shard_id: id(number),
        parent: parents.first().map(|p| id(*p)),
        adjacent_parent: parents.get(1).map(|p| id(*p)),
        hash_range: HashKeyRange {
            start: size * u128::from(index),
            end,
        },
        open: true,
    }
}

/// So many open shards without parents.
pub(super) fn listing(shards: u32) -> Vec<ListedShard> {
    (0..shards).map(|n| shard(n, &[], n, shards)).collect()
}

pub(super) fn row(table: &MemoryLeaseTable, number: u32) -> Option<Lease> {
    let item = table.items().get(id(number).as_str()).cloned()?;
    Lease::from_item(&item).unwrap()
}

/// Changes attributes of an item as somebody else would.
pub(super) fn change(table: &MemoryLeaseTable, key: &str, set: &[(&str, Value)]) {
    let mut item = table.items().get(key).cloned().unwrap();
    for (name, value) in set {
        item.insert((*name).to_owned(), value.clone());
    }
    table.put(key, item);
}

pub(super) fn owned_by(table: &MemoryLeaseTable, number: u32, owner: &str, counter: u64) {
    let set = [
        (attribute::OWNER, Value::text(owner)),
        (attribute::COUNTER, Value::number(counter)),
    ];
    change(table, id(number).as_str(), &set);
}

/// Puts the row of a lease into the table.
pub(super) fn put_lease(table: &MemoryLeaseTable, lease: &Lease) {
    table.put(lease.key.as_str(), crate::test_support::lease_item(lease));
}

pub(super) fn lease_of(number: u32) -> Lease {
    crate::test_support::lease(id(number).as_str())
}
