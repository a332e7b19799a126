//! The workers of the fleet, each with a runtime of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::{BoxError, Runtime, Worker, WorkerHandle};
use kcl_emulator::Emulator;
use tokio_util::task::AbortOnDropHandle;

use crate::processor::{SharedBoard, Teller};
use crate::script::STREAM;

/// The names that workers get, in this order.
const NAMES: [&str; 8] = ["ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hedy"];

type Run = AbortOnDropHandle<Result<kcl_core::ShutdownReport, kcl_core::WorkerError>>;

/// The workers that run.
#[derive(Debug)]
pub(crate) struct Members {
    emulator: Emulator,
    board: SharedBoard,
    lease_duration: Duration,
    started: usize,
    running: BTreeMap<String, (WorkerHandle, Run)>,
}

impl Members {
    pub(crate) fn new(emulator: Emulator, board: SharedBoard, lease_duration: Duration) -> Self {
        Self {
            emulator,
            board,
            lease_duration,
            started: 0,
            running: BTreeMap::new(),
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// Starts one more worker; returns its name.
    pub(crate) fn add(&mut self) -> Result<String, BoxError> {
        let name = NAMES.get(self.started).ok_or("no name is left")?;
        self.started += 1;
        let teller = Teller {
            worker: (*name).to_owned(),
            board: self.board.clone(),
        };
        let runtime = Runtime::production();
        let worker = Worker::builder("fleet-demo", STREAM, move |_shard| teller.clone())
            .worker_name(*name)
            .lease_duration(self.lease_duration)
            .runtime(runtime.clone())
            .build(&self.emulator.sdk_config(name))?;
        let handle = worker.handle();
        let run = runtime.spawn(worker.run());
        self.running.insert((*name).to_owned(), (handle, run));
        Ok((*name).to_owned())
    }

    /// Ends a worker in the middle of whatever it does, and cuts off what it may still have under way.
    pub(crate) fn kill(&mut self, name: &str) {
        self.emulator.faults().partition(name);
        drop(self.running.remove(name));
        self.board.lock().killed(name);
    }

    /// Stops a worker as SIGTERM does, and waits for its end. True if everything was drained.
    pub(crate) async fn stop(&mut self, name: &str) -> Result<bool, BoxError> {
        let Some((handle, run)) = self.running.remove(name) else {
            return Ok(true);
        };
        handle.shutdown();
        Ok(run.await??.abandoned == 0)
    }

    /// Stops all workers at once.
    pub(crate) async fn stop_all(&mut self) -> Result<bool, BoxError> {
        for (handle, _) in self.running.values() {
            handle.shutdown();
        }
        let mut drained = true;
        for name in self.names() {
            drained &= self.stop(&name).await?;
        }
        Ok(drained)
    }
}
