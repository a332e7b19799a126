//! The lease under which a processor works, as user code sees it.

use kcl_lease::LossReason;
use tokio_util::sync::CancellationToken;

/// One grant of a lease: from taking it until it is released, handed over or lost.
#[derive(Debug, Clone)]
pub struct Grant {
    lease: kcl_lease::Grant,
    /// Cancelled when the shard is given up, before its lease is released.
    given_up: CancellationToken,
}

impl Grant {
    pub(crate) fn new(lease: kcl_lease::Grant, given_up: CancellationToken) -> Self {
        Self { lease, given_up }
    }

    /// The fencing token: strictly larger for every later grant of the same shard.
    ///
    /// No lease can stop a paused process from finishing a call that it had begun. A sink that remembers the largest
    /// token per shard and refuses smaller ones is safe from that too.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// Whether the lease is held at this moment, judged by this worker's own deadline; and not about to be released because
    /// of [`stall_timeout`](crate::WorkerBuilder::stall_timeout).
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.lease.is_current() && !self.given_up.is_cancelled()
    }

    /// Waits until this worker knows that the lease is lost, and says why.
    ///
    /// A worker that is cut off from the lease table knows of no loss: from its own deadline on, a lease duration after its last
    /// heartbeat that was stored, [`is_current`](Self::is_current) is false, but this waits on, because the lease is granted
    /// again if nobody took it meanwhile. Before a side effect that must not happen in such a lapse, ask `is_current`.
    ///
    /// Never returns while the lease is held, but when it is about to be released
    /// because of [`stall_timeout`](crate::WorkerBuilder::stall_timeout): then a call that watches this can come to its end
    /// in time. The reason is [`Released`](LossReason::Released) in that case.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn lost(&self) -> LossReason {
        tokio::select! {
            biased;
            reason = self.lease.lost() => reason,
            () = self.given_up.cancelled() => LossReason::Released,
        }
    }
}
