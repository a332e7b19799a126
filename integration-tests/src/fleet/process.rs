//! One worker process: started, signalled and ended.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::error::FleetError;
use super::options::WORKER;
use crate::reading::Reading;

/// A worker process. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pub(super) name: String,
    pub(super) journal: PathBuf,
    pub(super) log: PathBuf,
    child: Child,
}

/// What a worker process is started with.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    /// The program: the harness's own unless a test says otherwise.
    pub(super) program: PathBuf,
    pub(super) endpoint: String,
    pub(super) directory: PathBuf,
    pub(super) lease_duration: Duration,
    pub(super) application: String,
    pub(super) reading: Reading,
    /// Whether the worker acknowledges records one by one, and writes down which are complete.
    pub(super) acknowledges: bool,
}

impl Launch {
    /// Starts a worker of this name in a process group of its own, so that Ctrl-C reaches only the harness.
    pub(super) fn start(&self, name: &str) -> Result<WorkerProcess, FleetError> {
        let file = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        let (journal, log) = (file("jsonl"), file("log"));
        let stderr = File::create(&log).map_err(|error| {
            FleetError::system(format!("cannot write {}", log.display()), error)
        })?;
        let mut command = Command::new(&self.program);
        command
            .arg(WORKER)
            .args(["--endpoint", &self.endpoint, "--name", name])
            .arg("--journal")
            .arg(&journal)
            .arg("--lease-duration")
            .arg(format!("{}ms", self.lease_duration.as_millis()))
            .args(["--application", &self.application])
            .args(["--retrieval", self.reading.name()])
            .args(self.acknowledges.then_some("--acknowledges"))
            .env_clear()
            .envs(std::env::var_os("RUST_LOG").map(|filter| ("RUST_LOG", filter)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .process_group(0);
        let child = command.spawn().map_err(|error| {
            FleetError::system(format!("cannot start {}", self.program.display()), error)
        })?;
        Ok(WorkerProcess {
            name: name.to_owned(),
            journal,
            log,
            child,
        })
    }
}

impl WorkerProcess {
    /// The process's id, until its end was seen.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), FleetError> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = id.and_then(Pid::from_raw) else {
            return Err(self.end_error());
        };
        kill_process(pid, signal)
            .map_err(|error| FleetError::system(format!("cannot signal {}", self.name), error))
    }

    /// Waits for the end of the process.
    pub(super) async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, FleetError> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(ended) => ended.map_err(|error| {
                FleetError::system(format!("cannot wait for {}", self.name), error)
            }),
            Err(_) => Err(FleetError::TooLate {
                what: format!("{} ends", self.name),
                limit,
            }),
        }
    }

    /// How the process ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, FleetError> {
        self.child
            .try_wait()
            .map_err(|error| FleetError::system(format!("cannot wait for {}", self.name), error))
    }

    /// An error if the process has ended.
    pub(super) fn must_run(&mut self) -> Result<(), FleetError> {
        match self.ended()? {
            None => Ok(()),
            Some(_) => Err(self.end_error()),
        }
    }

    fn end_error(&self) -> FleetError {
        FleetError::WorkerEnded {
            worker: self.name.clone(),
            log: self.log.display().to_string(),
        }
    }
}
