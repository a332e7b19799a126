//! An emulated account on a loopback port, and the example programs as processes on it.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use kcl_core::Runtime;
use kcl_emulator::Emulator;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

pub(crate) const STREAM: &str = "lines";
pub(crate) const APPLICATION: &str = "reader";
pub(crate) const CONSUMER: &str = env!("CARGO_BIN_EXE_consumer");
pub(crate) const PRODUCE: &str = env!("CARGO_BIN_EXE_produce");
pub(crate) const FLEET_DEMO: &str = env!("CARGO_BIN_EXE_fleet-demo");

/// No process may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An emulated account on a loopback port.
pub(crate) struct Account {
    pub(crate) emulator: Emulator,
    pub(crate) url: String,
    _server: AbortOnDropHandle<()>,
}

impl Account {
    /// Serves this account.
    pub(crate) async fn serve(emulator: Emulator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = emulator.clone();
        let server = Runtime::production()
            .spawn(async move { served.serve(listener, std::future::pending()).await });
        Self {
            emulator,
            url,
            _server: server,
        }
    }

    /// An account with a stream of so many shards.
    pub(crate) async fn with_stream(shards: u32) -> Self {
        let emulator = Emulator::builder().wall_clock().build();
        emulator.create_stream(STREAM, shards).unwrap();
        Self::serve(emulator).await
    }

    /// A program on this account, known to it as `caller`, with nothing else in its environment.
    pub(crate) fn program(&self, program: &str, caller: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", caller)
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Pipes text through `produce`.
    pub(crate) async fn produce(&self, text: &[u8], options: &[&str]) {
        let arguments = [&["--stream", STREAM], options].concat();
        let mut child = self
            .program(PRODUCE, "producer", &arguments)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async move {
            stdin.write_all(text).await.unwrap();
            drop(stdin);
        };
        let ((), output) = tokio::join!(write, finish(child));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A consumer of the application.
    pub(crate) fn consumer(&self, name: &str, options: &[&str]) -> Command {
        let named = [
            "--application",
            APPLICATION,
            "--stream",
            STREAM,
            "--worker-name",
            name,
        ];
        self.program(CONSUMER, name, &[&named, options].concat())
    }

    /// Runs a consumer until it has caught up; returns its lines.
    pub(crate) async fn catch_up(&self, name: &str, options: &[&str]) -> Vec<Value> {
        let options = [&["--exit-when-caught-up"], options].concat();
        let output = finish(self.consumer(name, &options).spawn().unwrap()).await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        parse_lines(&output.stdout)
    }
}

/// Waits for the end of a process.
pub(crate) async fn finish(child: Child) -> Output {
    finish_within(PATIENCE, child).await
}

pub(crate) async fn finish_within(time: Duration, child: Child) -> Output {
    tokio::time::timeout(time, child.wait_with_output())
        .await
        .expect("the process hangs")
        .unwrap()
}

/// The whole lines among these bytes; a killed process may leave half of one.
pub(crate) fn parse_lines(stdout: &[u8]) -> Vec<Value> {
    let lines = stdout
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"));
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The payload of a `record` line.
pub(crate) fn data(line: &Value) -> Option<Vec<u8>> {
    (line["event"] == "record").then(|| match line["data"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let text = line["data_base64"].as_str().unwrap();
            base64_simd::STANDARD.decode_to_vec(text).unwrap()
        }
    })
}

/// How often each element occurs.
pub(crate) fn multiset(elements: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for element in elements {
        *counts.entry(element).or_insert(0) += 1;
    }
    counts
}

/// The lines of a running consumer.
pub(crate) struct Following {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) seen: Vec<Value>,
}

impl Following {
    pub(crate) fn start(mut command: Command) -> Self {
        // Logs would fill the pipe when nobody reads them.
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The next line.
    pub(crate) async fn next(&mut self) -> &Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line
            .expect("no line comes")
            .unwrap()
            .expect("the consumer ended");
        self.seen.push(serde_json::from_str(&line).unwrap());
        self.seen.last().unwrap()
    }

    /// Reads on until so many lines of this kind were seen in all.
    pub(crate) async fn until(&mut self, event: &str, count: usize) {
        let mut seen = self
            .seen
            .iter()
            .filter(|line| line["event"] == event)
            .count();
        while seen < count {
            seen += usize::from(self.next().await["event"] == event);
        }
    }

    /// Reads to the end of the output and waits for the end of the process. Returns its exit code.
    pub(crate) async fn end(&mut self) -> Option<i32> {
        let read = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                // A killed process may leave half a line.
                self.seen.extend(serde_json::from_str::<Value>(&line));
            }
            self.child.wait().await.unwrap().code()
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the consumer hangs")
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }
}
