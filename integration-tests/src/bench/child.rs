//! A consumer process as its harness sees it.

use std::time::Duration;

use kcl_core::Wire;

use super::case::Case;
use super::consumer::{CONSUME, Way};
use super::error::BenchError;
use super::meter::Sample;
use super::options::name;
use super::process::Process;

/// What a consumer is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) way: Way,
    pub(super) wire: Wire,
    pub(super) case: Case,
    pub(super) shards: u32,
    pub(super) limit: u16,
}

impl Job {
    pub(super) fn name(&self) -> String {
        let (way, case) = (name(&self.way), self.case.name());
        format!("{way} {:?} {case} {}", self.wire, self.shards)
    }

    fn arguments(&self, endpoint: &str) -> Vec<String> {
        let mut arguments = vec![
            CONSUME.to_owned(),
            format!("--way={}", name(&self.way)),
            format!("--endpoint={endpoint}"),
            format!("--shards={}", self.shards),
            format!("--limit={}", self.limit),
            format!("--users={}", self.case.users()),
        ];
        arguments.extend((self.wire == Wire::Cbor).then(|| "--cbor".to_owned()));
        arguments
    }
}

/// A consumer process. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) job: Job,
    process: Process,
}

impl Consumer {
    /// Starts a consumer and waits until it is warm.
    pub(super) async fn start(job: Job, endpoint: &str) -> Result<Self, BenchError> {
        let mut process = Process::start(job.name(), job.arguments(endpoint))?;
        match process.line(Duration::ZERO).await?.as_str() {
            "ready" => Ok(Self { job, process }),
            other => Err(process.failed(other)),
        }
    }

    /// Lets it consume for so long.
    pub(super) async fn run(&mut self, stretch: Duration) -> Result<Sample, BenchError> {
        self.process.tell(&stretch.as_millis().to_string()).await?;
        let line = self.process.line(stretch).await?;
        let sample: Sample = serde_json::from_str(&line).map_err(|_| self.process.failed(&line))?;
        match sample.records {
            0 => Err(self.process.failed("no records came")),
            _ => Ok(sample),
        }
    }
}
