//! Lets loops run for a stretch of time.

use tokio::sync::watch;

/// The loops' end.
#[derive(Debug, Clone)]
pub(super) struct Gate(watch::Receiver<bool>);

impl Gate {
    /// A gate that is open, and what closes it.
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(true);
        (sender, Self(receiver))
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        if !*self.0.borrow() {
            // Its keeper is gone only when the process ends.
            let mut gate = self.0.clone();
            let _open = gate.wait_for(|open| *open).await;
        }
    }
}
