//! Bounded replay: the records of a stretch of time, and then the end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kcl_lease::operator::Operator;
use kcl_lease::runtime::Runtime;
use kcl_lease::{Lease, ListedShard, ShardId, StartPoint};

use crate::handle::WorkerHandle;
use crate::health::ShardState;
use crate::retrieval::{
    Batch, Fetched, ShardFilter, ShardIterator, ShardSource, SourceError, StartPosition,
    StreamDescription,
};

/// A record that arrived just before the service's time may be seen a little later.
const VISIBLE_AFTER: Duration = Duration::from_secs(1);
/// How often the table is read by a worker whose own shards are done.
const LOOK: Duration = Duration::from_secs(2);

/// The records that arrived from `from` on and before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Window {
    /// What the row of a shard says that was read to the end of the window.
    pub(crate) fn end(&self) -> StartPoint {
        StartPoint::at_time(u64::try_from(millis(self.until)).unwrap_or(0))
    }

    fn is_done(&self, lease: &Lease) -> bool {
        lease.is_finished() || lease.start() == self.end()
    }
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Shows a stream without what arrived after the window, and knows which shards were read to its end.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) window: Window,
    stream: Arc<dyn ShardSource>,
    runtime: Runtime,
    reached: Mutex<BTreeSet<ShardId>>,
    /// The window is over by the service's clock.
    passed: AtomicBool,
}

impl Replay {
    pub(crate) fn new(window: Window, stream: Arc<dyn ShardSource>, runtime: Runtime) -> Self {
        Self {
            window,
            stream,
            runtime,
            reached: Mutex::default(),
            passed: AtomicBool::new(false),
        }
    }

    /// Whether nothing of the shard is left to read.
    pub(crate) fn has_reached_end(&self, shard: &ShardId) -> bool {
        self.reached().contains(shard)
    }

    fn reached(&self) -> MutexGuard<'_, BTreeSet<ShardId>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the service for its time, once the window may be over.
    async fn look_at_clock(&self) -> Result<(), SourceError> {
        let over = self.window.until + VISIBLE_AFTER;
        let here = self.runtime.wall_time();
        if here < self.window.until {
            return Ok(());
        }
        let there = self.stream.describe().await?.service_time;
        if there.unwrap_or(here) >= over {
            self.passed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Iterators carry their shard. One at the end of the window carries nothing else.
fn shard_of(iterator: &ShardIterator) -> (ShardId, Option<ShardIterator>) {
    match iterator.0.split_once(' ') {
        Some((shard, inner)) => (ShardId::from(shard), Some(ShardIterator(inner.to_owned()))),
        None => (ShardId::from(iterator.0.as_str()), None),
    }
}

fn of_shard(shard: &ShardId, inner: &ShardIterator) -> ShardIterator {
    ShardIterator(format!("{shard} {}", inner.0))
}

fn end_of_window(shard: &ShardId) -> ShardIterator {
    ShardIterator(shard.to_string())
}

/// The last records of the window, or none.
fn last(shard: &ShardId, batch: Batch) -> Fetched {
    Fetched {
        batch,
        next: Some(end_of_window(shard)),
        children: Vec::new(),
        behind: Some(Duration::ZERO),
    }
}

#[async_trait]
impl ShardSource for Replay {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        self.stream.describe().await
    }

    fn adopt(&self, arn: &str) -> bool {
        self.stream.adopt(arn)
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        self.stream.list_shards(filter).await
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.reached().remove(shard);
        let inner = self.stream.iterator(shard, from).await?;
        Ok(of_shard(shard, &inner))
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        let (shard, inner) = shard_of(iterator);
        let Some(inner) = inner else {
            // Only now: whoever reads on has passed on what was read before.
            self.reached().insert(shard.clone());
            return Ok(last(&shard, Batch::empty()));
        };
        // Before the read: what arrived before the window's end is visible by then.
        let passed = self.passed.load(Ordering::Relaxed);
        let mut fetched = self.stream.get_records(&inner, limit).await?;
        if fetched.batch.cut_from(millis(self.window.until)) {
            return Ok(last(&shard, fetched.batch));
        }
        let behind = fetched.behind.unwrap_or_default();
        if fetched.batch.kinesis_records() == 0 && behind.is_zero() && fetched.next.is_some() {
            match passed {
                true => return Ok(last(&shard, Batch::empty())),
                false => self.look_at_clock().await?,
            }
        }
        fetched.next = fetched.next.map(|next| of_shard(&shard, &next));
        Ok(fetched)
    }
}

/// Stops the worker once every shard of the application was read to the end of the window, whoever read it.
pub(crate) async fn stop_when_done(window: Window, operator: Operator, handle: WorkerHandle) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mine = handle.health().shards;
        if mine.iter().any(|shard| shard.state != ShardState::Replayed) {
            continue;
        }
        match operator.leases().await {
            Ok(leases) if !leases.is_empty() && leases.iter().all(|l| window.is_done(l)) => {
                return handle.shutdown();
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the lease table could not be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::retrieval::{Budget, MemoryStream, Poller, Polling, ShardRead, Unobserved};

    /// A shard whose end counts as reached is left once nothing of it is in flight: what nobody took in yet would be lost.
    #[tokio::test(start_paused = true)]
    async fn b03_the_end_is_reached_once_the_last_records_were_taken_in() {
        let runtime = Runtime::virtual_time(7);
        let stream = MemoryStream::new(1, runtime.clone());
        let shard = stream.shards()[0].shard_id.clone();
        let from = runtime.wall_time();
        for index in 0..20 {
            stream.put("key", format!("{index}"));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let until = runtime.wall_time();
        stream.put("key", "too late");
        let window = Window { from, until };
        let replay = Arc::new(Replay::new(window, Arc::new(stream), runtime.clone()));
        let source = Arc::clone(&replay) as Arc<dyn ShardSource>;
        let polling = Polling::new(source, Budget::new(16 << 20), runtime.clone());
        let read = ShardRead {
            shard: shard.clone(),
            hash_range: kcl_lease::HashKeyRange::FULL,
            start: StartPosition::TrimHorizon,
            skip_through: None,
            observer: Arc::new(Unobserved),
        };
        let (sender, mut deliveries) = mpsc::channel(1);
        let _reader = runtime.spawn(Poller::new(polling, read).run(sender));
        let mut taken_in = 0;
        while taken_in < 20 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(!replay.has_reached_end(&shard), "after {taken_in}");
            taken_in += deliveries.recv().await.unwrap().rows.len();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(replay.has_reached_end(&shard));
        assert!(deliveries.is_empty());
    }
}
