//! How many shards of a worker have nothing to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the idle shards of one worker. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct IdleShards(Arc<AtomicUsize>);

impl IdleShards {
    /// Idle shards now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn mark(&self) -> IdleMark {
        IdleMark {
            shards: self.clone(),
            idle: false,
        }
    }
}

/// Whether one shard counts as idle. Dropped, it does not.
#[derive(Debug)]
pub(super) struct IdleMark {
    shards: IdleShards,
    idle: bool,
}

impl IdleMark {
    pub(super) fn set(&mut self, idle: bool) {
        if idle == self.idle {
            return;
        }
        self.idle = idle;
        if idle {
            self.shards.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shards.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.shards.count()
    }
}

impl Drop for IdleMark {
    fn drop(&mut self) {
        self.set(false);
    }
}
