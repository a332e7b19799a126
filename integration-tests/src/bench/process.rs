//! A child process of this program that is told and tells things in lines.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::error::BenchError;

/// Longest that a process may take to begin, and to answer after its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program with these arguments and nothing of the environment but `RUST_LOG`.
    pub(super) fn start(
        name: String,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Self, BenchError> {
        let program = std::env::current_exe()
            .map_err(|error| BenchError::system("cannot find this program", error))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("RUST_LOG").map(|filter| ("RUST_LOG", filter)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| BenchError::system("cannot start a consumer", error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Consumer {
                consumer: name,
                reason: "it has no standard input or output".to_owned(),
            });
        };
        Ok(Self {
            name,
            child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
        })
    }

    pub(super) async fn tell(&mut self, line: &str) -> Result<(), BenchError> {
        self.stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(|error| BenchError::system("a consumer does not listen", error))
    }

    /// The next line of its standard output, which may take this long more than usual.
    pub(super) async fn line(&mut self, more: Duration) -> Result<String, BenchError> {
        match timeout(PATIENCE + more, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(self.failed("it ended; what it said is above")),
            Ok(Err(error)) => Err(BenchError::system("a consumer cannot be heard", error)),
            Err(_) => Err(self.failed("it does not answer")),
        }
    }

    /// Ends its standard input, and waits until it has ended.
    pub(super) async fn end(mut self) -> Result<(), BenchError> {
        drop(self.stdin);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(BenchError::Consumer {
                consumer: self.name,
                reason: format!("it ended with {status}"),
            }),
            Ok(Err(error)) => Err(BenchError::system("cannot wait for a consumer", error)),
            Err(_) => Err(BenchError::Consumer {
                consumer: self.name,
                reason: "it does not end".to_owned(),
            }),
        }
    }

    pub(super) fn failed(&self, reason: &str) -> BenchError {
        BenchError::Consumer {
            consumer: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}
