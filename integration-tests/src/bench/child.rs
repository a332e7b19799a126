//! A consumer process as its harness sees it.

use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use kcl_core::Wire;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::case::Case;
use super::consumer::{CONSUME, Way};
use super::error::BenchError;
use super::meter::Sample;

/// Longest that a consumer may take to begin, and to answer after its time.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let way = self.way.to_possible_value();
        let way = way.map_or_else(String::new, |way| way.get_name().to_owned());
        format!("{way} {:?} {} {}", self.wire, self.case.name(), self.shards)
    }
}

/// A consumer process. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) job: Job,
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Consumer {
    /// Starts a consumer and waits until it is warm.
    pub(super) async fn start(job: Job, endpoint: &str) -> Result<Self, BenchError> {
        let program = std::env::current_exe()
            .map_err(|error| BenchError::system("cannot find this program", error))?;
        let way = job.way.to_possible_value();
        let mut command = Command::new(program);
        command
            .arg(CONSUME)
            .args(["--way", way.as_ref().map_or("", |way| way.get_name())])
            .args((job.wire == Wire::Cbor).then_some("--cbor"))
            .args(["--endpoint", endpoint])
            .arg(format!("--shards={}", job.shards))
            .arg(format!("--limit={}", job.limit))
            .arg(format!("--users={}", job.case.users()))
            .env_clear()
            .envs(std::env::var_os("RUST_LOG").map(|filter| ("RUST_LOG", filter)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| BenchError::system("cannot start a consumer", error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&job, "it has no standard input or output"));
        };
        let mut consumer = Self {
            job,
            _child: child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
        };
        match consumer.line(PATIENCE).await?.as_str() {
            "ready" => Ok(consumer),
            other => Err(failed(&job, other)),
        }
    }

    /// Lets it consume for so long.
    pub(super) async fn run(&mut self, stretch: Duration) -> Result<Sample, BenchError> {
        let order = format!("{}\n", stretch.as_millis());
        self.stdin
            .write_all(order.as_bytes())
            .await
            .map_err(|error| BenchError::system("a consumer does not listen", error))?;
        let line = self.line(stretch + PATIENCE).await?;
        let sample: Sample =
            serde_json::from_str(&line).map_err(|_| failed(&self.job, line.as_str()))?;
        match sample.records {
            0 => Err(failed(&self.job, "no records came")),
            _ => Ok(sample),
        }
    }

    async fn line(&mut self, limit: Duration) -> Result<String, BenchError> {
        match timeout(limit, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(failed(&self.job, "it ended; what it said is above")),
            Ok(Err(error)) => Err(BenchError::system("a consumer cannot be heard", error)),
            Err(_) => Err(failed(&self.job, "it does not answer")),
        }
    }
}

fn failed(job: &Job, reason: &str) -> BenchError {
    BenchError::Consumer {
        consumer: job.name(),
        reason: reason.to_owned(),
    }
}
