//! Tells the checker how much memory a worker's records take, at the moments that matter.

use std::sync::{Arc, OnceLock};

use kcl_core::WorkerHandle;

use super::checker::Look;
use super::world::{Process, World};

/// Looks at one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gauge {
    world: World,
    process: Process,
    worker: Arc<OnceLock<WorkerHandle>>,
}

impl Gauge {
    /// A gauge of the worker in `process`, which is still to be made.
    #[must_use]
    pub fn new(world: &World, process: Process) -> Self {
        Self {
            world: world.clone(),
            process,
            worker: Arc::default(),
        }
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// From now on looks at this worker.
    pub fn attach(&self, worker: &WorkerHandle) {
        // Each process has one worker.
        let _first = self.worker.set(worker.clone());
    }

    /// Lets the checker judge what is in use now. Past the events: in which order several shards act in one moment is not
    /// the seed's to decide, so what one of them sees is no part of a run's hash.
    pub fn look(&self, look: Look) {
        if !self.world.climate().big_records {
            return;
        }
        if let Some(worker) = self.worker.get() {
            let (now, used) = (self.world.millis(), worker.buffered_bytes());
            let mut history = self.world.history();
            history
                .checker
                .look_at_memory(now, self.process, used, look);
        }
    }

    /// Only notes how full the budget is, where reads pass the world by.
    pub fn note(&self) {
        if !self.world.climate().big_records {
            return;
        }
        if let Some(worker) = self.worker.get() {
            let used = worker.buffered_bytes();
            self.world.history().checker.note_memory(used);
        }
    }
}
