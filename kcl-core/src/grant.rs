//! The lease under which a processor works, as user code sees it.

use kcl_lease::LossReason;

/// One grant of a lease: from taking it until it is released, handed over or lost.
#[derive(Debug, Clone)]
pub struct Grant(kcl_lease::Grant);

impl Grant {
    pub(crate) fn new(grant: kcl_lease::Grant) -> Self {
        Self(grant)
    }

    /// The fencing token: strictly larger for every later grant of the same shard.
    ///
    /// No lease can stop a paused process from finishing a call that it had begun. A sink that remembers the largest
    /// token per shard and refuses smaller ones is safe from that too.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    /// Whether the lease is held at this moment, judged by this worker's own deadline.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Waits until the lease is lost, and says why. Never returns while the lease is held.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    pub async fn lost(&self) -> LossReason {
        self.0.lost().await
    }
}
