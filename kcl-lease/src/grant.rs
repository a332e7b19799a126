//! A grant as its user sees it: whether it may be used right now, and the writes that a holder may ask for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kcl_checkpoint::Checkpoint;
use tokio::sync::{mpsc, oneshot, watch};

use crate::coordinator::{Command, StreamIdentity};
pub use crate::grant_error::{GrantError, LossReason};
use crate::key::{HashKeyRange, LeaseKey, ShardId};
use crate::lease::{Lease, PendingCheckpoint};
use crate::listed_shard::ListedShard;
use crate::mutant::{self, Mutant};
use crate::orders::{self, Obey, Orders, StartPoint};
use crate::runtime::{Moment, Runtime};
use crate::session::Validity;

/// What became of a shard's children when the shard was finished.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShardEndOutcome {
    /// Children that have a row now. Each starts when all its parents ended.
    pub children: Vec<ShardId>,
    /// Children of a merge whose row is made later, because the other parent has no row yet.
    pub waiting: Vec<ShardId>,
}

/// One grant of one lease: from taking it until it is released, finished or lost. Cheap to clone.
///
/// Dropping it does not release the lease.
#[derive(Clone)]
pub struct Grant {
    pub(crate) shared: Arc<GrantShared>,
    pub(crate) era: u64,
    /// Where reading begins, and what was prepared there.
    pub(crate) start: StartPoint,
    pub(crate) pending: Option<PendingCheckpoint>,
}

/// What the holder and coordination share about one grant.
pub(crate) struct GrantShared {
    key: LeaseKey,
    shard: ShardId,
    stream: Arc<StreamIdentity>,
    lease: Lease,
    number: u64,
    runtime: Runtime,
    validity: watch::Receiver<Validity>,
    state: watch::Sender<GrantState>,
    commands: mpsc::UnboundedSender<Command>,
    orders: watch::Sender<Option<Orders>>,
}

/// Whether the grant may be used, and under which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GrantState {
    confirmed: Moment,
    epoch: u64,
    releasing: bool,
    recall: Option<Recall>,
    loss: Option<LossReason>,
}

impl GrantState {
    /// A lease that was granted under `counter` by a write that was sent at `confirmed`.
    pub(crate) fn new(counter: u64, confirmed: Moment) -> Self {
        Self {
            confirmed,
            epoch: counter,
            releasing: false,
            recall: None,
            loss: None,
        }
    }

    /// Notes that the lease is held under `counter`, confirmed by a write that was sent at `confirmed`. A grant that had
    /// lapsed goes on under a new token.
    pub(crate) fn confirm(&mut self, confirmed: Moment, counter: u64, chain_start: Moment) {
        if self.confirmed < chain_start && confirmed >= chain_start {
            self.epoch = counter;
        }
        self.confirmed = self.confirmed.max(confirmed);
    }

    pub(crate) fn begin_release(&mut self) {
        self.releasing = true;
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether records may be given to the processor.
    pub(crate) fn is_current(&self, validity: Validity, now: Moment) -> bool {
        self.loss.is_none()
            && (!self.releasing || mutant::is(Mutant::DeliverWhileReleasing))
            && validity.allows(self.confirmed, now)
    }
}

#[cfg(feature = "internals")]
impl crate::internals::Moments for GrantState {
    fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Moment)) {
        visit(&mut self.confirmed);
    }
}

/// Why a holder is asked to give its lease away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recall {
    /// The worker stops.
    WorkerStops,
    /// Another worker has fewer leases.
    Rebalance,
    /// The application does not read the shard's stream any more: the lease will be deleted.
    StreamRemoved,
}

/// Where the answer to a holder's request goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, GrantError>>;

/// What a holder asks of coordination.
#[derive(Debug)]
pub(crate) enum GrantRequest {
    Checkpoint(Checkpoint, Reply<()>),
    Prepare(PendingCheckpoint, Reply<()>),
    Obey(Obey, Reply<u64>),
    Release(Option<Checkpoint>, Reply<Checkpoint>),
    EndShard(Vec<ListedShard>, Reply<ShardEndOutcome>),
}

impl Grant {
    pub(crate) fn new(shared: Arc<GrantShared>) -> Self {
        Self {
            era: 0,
            start: shared.lease.start(),
            pending: shared.lease.pending.clone(),
            shared,
        }
    }

    /// The key of the lease's row.
    #[must_use]
    pub fn lease_key(&self) -> &LeaseKey {
        &self.shared.key
    }

    /// The shard.
    #[must_use]
    pub fn shard_id(&self) -> &ShardId {
        &self.shared.shard
    }

    /// The stream that the shard belongs to, as it is stored.
    #[must_use]
    pub fn stream(&self) -> &StreamIdentity {
        &self.shared.stream
    }

    /// The shards from which this one came.
    #[must_use]
    pub fn parents(&self) -> &BTreeSet<ShardId> {
        &self.shared.lease.parents
    }

    /// The hash keys of the shard, if the row says them.
    #[must_use]
    pub fn hash_range(&self) -> Option<HashKeyRange> {
        self.shared.lease.hash_range
    }

    /// The progress that was stored when the lease was granted, or the place to which reading was moved since then.
    #[must_use]
    pub fn start(&self) -> &Checkpoint {
        &self.start.checkpoint
    }

    /// As [`start`](Self::start), with the moment that a seek to a time speaks of.
    #[must_use]
    pub fn start_point(&self) -> &StartPoint {
        &self.start
    }

    /// The first phase of a two-phase checkpoint that an earlier holder left behind.
    #[must_use]
    pub fn pending(&self) -> Option<&PendingCheckpoint> {
        self.pending.as_ref()
    }

    /// The fencing token: larger for every later grant of this lease, and after every lapse that this one survived.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.state.borrow().epoch()
    }

    /// Whether records may be given to the processor at this moment.
    ///
    /// False from the worker's own deadline on, until a heartbeat and then a re-grant of this lease succeeded; false
    /// once the lease is being released.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.is_current()
    }

    /// Why the grant is over, if it is.
    #[must_use]
    pub fn loss(&self) -> Option<LossReason> {
        let loss = self.shared.state.borrow().loss;
        loss.or_else(|| self.shared.is_orphaned().then_some(LossReason::Stopped))
    }

    /// Waits until the grant is over, for whatever reason, its own release included.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn lost(&self) -> LossReason {
        let mut state = self.shared.state.subscribe();
        let mut validity = self.shared.validity.clone();
        tokio::select! {
            biased;
            lost = state.wait_for(|state| state.loss.is_some()) => {
                lost.ok().and_then(|state| state.loss).unwrap_or(LossReason::Stopped)
            }
            _ = validity.wait_for(|_| false) => LossReason::Stopped,
        }
    }

    /// Waits until the holder should stop, store what is complete and [release](Self::release) the lease. Until then it
    /// may go on. Never resolves if the grant ends in another way.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn recalled(&self) -> Recall {
        let mut state = self.shared.state.subscribe();
        let recalled = state.wait_for(|state| state.recall.is_some()).await;
        match recalled.ok().and_then(|state| state.recall) {
            Some(recall) => recall,
            // The sender is in `self`, so this cannot happen; waiting for ever is the harmless answer.
            None => std::future::pending().await,
        }
    }

    /// Why the holder was asked to give the lease away, if it was.
    #[must_use]
    pub fn recall(&self) -> Option<Recall> {
        self.shared.state.borrow().recall
    }

    /// Waits until records may be given to the processor: at once while the grant is current, else until it was granted
    /// again after a lapse.
    ///
    /// # Errors
    /// Why the grant is over, if it is.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn deliverable(&self) -> Result<(), LossReason> {
        let mut state = self.shared.state.subscribe();
        let mut validity = self.shared.validity.clone();
        loop {
            if let Some(reason) = state.borrow_and_update().loss {
                return Err(reason);
            }
            validity.borrow_and_update();
            if self.is_current() {
                return Ok(());
            }
            let orphaned = tokio::select! {
                changed = state.changed() => changed.is_err(),
                changed = validity.changed() => changed.is_err(),
            };
            if orphaned {
                return Err(self.loss().unwrap_or(LossReason::Stopped));
            }
        }
    }

    /// Stores progress: everything up to `checkpoint` is complete. The stored checkpoint never moves back: what is
    /// already covered is answered at once.
    ///
    /// # Errors
    /// [`GrantError::Lost`] when the grant is over. After any other error the write is still tried, until it or a later
    /// one is stored or the lease is lost.
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), GrantError> {
        self.ask(|reply| GrantRequest::Checkpoint(checkpoint, reply))
            .await
    }

    /// Stores the first phase of a two-phase checkpoint: what is about to be committed, and bytes of the application.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn prepare(
        &self,
        checkpoint: Checkpoint,
        state: Option<Vec<u8>>,
    ) -> Result<(), GrantError> {
        let pending = PendingCheckpoint { checkpoint, state };
        self.ask(|reply| GrantRequest::Prepare(pending, reply))
            .await
    }

    /// Stores the final progress and gives the lease away: after a [recall](Self::recalled) to the worker that was chosen
    /// to go on, else to whoever wants it. The grant is not current from now on. The answer is the progress that is stored:
    /// less than `checkpoint` if an earlier attempt was applied, or if the other worker took the lease meanwhile.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint). While the error [is retryable](GrantError::is_retryable), calling again
    /// waits for the outcome.
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn release(&self, checkpoint: Option<Checkpoint>) -> Result<Checkpoint, GrantError> {
        self.ask(|reply| GrantRequest::Release(checkpoint, reply))
            .await
    }

    /// Stores that the shard was processed to its end and makes the rows of its children, all or nothing.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint), and [`GrantError::InvalidChild`] when `children` are not this shard's.
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back.
    pub async fn end_shard(
        &self,
        children: Vec<ListedShard>,
    ) -> Result<ShardEndOutcome, GrantError> {
        self.ask(|reply| GrantRequest::EndShard(children, reply))
            .await
    }

    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> GrantRequest,
    ) -> Result<T, GrantError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Grant {
            key: self.shared.key.clone(),
            number: self.shared.number,
            era: self.era,
            request: request(reply),
        };
        // A closed channel shows in the answer's: both mean that coordination is gone.
        let _ = self.shared.commands.send(command);
        answer.await.unwrap_or_else(|_| {
            Err(GrantError::Lost {
                key: self.shared.key.clone(),
                reason: self.loss().unwrap_or(LossReason::Stopped),
            })
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lease_key", &self.shared.key)
            .field("epoch", &self.epoch())
            .field("loss", &self.loss())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for GrantShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantShared")
            .field("key", &self.key)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl GrantShared {
    /// A grant of `lease` as it is after the write that took it, which was sent at `confirmed`. `number` tells the
    /// grants of one run apart.
    pub(crate) fn new(
        lease: Lease,
        stream: Arc<StreamIdentity>,
        number: u64,
        confirmed: Moment,
        runtime: Runtime,
        validity: watch::Receiver<Validity>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        let state = GrantState::new(lease.counter, confirmed);
        Self {
            key: lease.key.clone(),
            shard: lease.key.shard(),
            stream,
            lease,
            number,
            runtime,
            validity,
            state: watch::Sender::new(state),
            commands,
            orders: watch::Sender::new(orders::before_the_first_look()),
        }
    }

    pub(crate) fn orders(&self) -> &watch::Sender<Option<Orders>> {
        &self.orders
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// As [`GrantState::confirm`].
    pub(crate) fn confirm(&self, confirmed: Moment, counter: u64, chain_start: Moment) {
        self.state
            .send_modify(|state| state.confirm(confirmed, counter, chain_start));
    }

    /// Asks the holder to give the lease away.
    pub(crate) fn recall(&self, reason: Recall) {
        self.state.send_modify(|state| {
            state.recall.get_or_insert(reason);
        });
    }

    pub(crate) fn is_recalled(&self) -> bool {
        self.state.borrow().recall.is_some()
    }

    pub(crate) fn begin_release(&self) {
        self.state.send_modify(GrantState::begin_release);
    }

    pub(crate) fn end(&self, reason: LossReason) {
        self.state.send_modify(|state| {
            state.loss.get_or_insert(reason);
        });
    }

    fn is_current(&self) -> bool {
        let state = *self.state.borrow();
        let validity = *self.validity.borrow();
        state.is_current(validity, self.runtime.now()) && !self.is_orphaned()
    }

    /// Coordination is gone: its end of the channel is dropped.
    fn is_orphaned(&self) -> bool {
        self.validity.has_changed().is_err()
    }
}
