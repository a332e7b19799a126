//! The program: ready line, options, both versions of HTTP, clean stop.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Stdio;

use common::{Server, Version, header, json, kinesis, send};
use kcl_emulator::Emulator;
use kcl_emulator::faults::{Fault, Rule};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Fails a test that would hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, future).await.unwrap()
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcl-emulator"));
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts the program and waits for its ready line.
async fn start(arguments: &[&str]) -> (Child, String) {
    let mut child = program(arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let Some(line) = lines.next_line().await.unwrap() else {
        let output = child.wait_with_output().await.unwrap();
        panic!("no ready line: {}", String::from_utf8_lossy(&output.stderr));
    };
    let address = line.strip_prefix("kcl-emulator ready: http://").unwrap();
    (child, address.to_owned())
}

/// Runs the program to its end: exit code, stdout and stderr.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = within(program(arguments).output()).await.unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.await.unwrap().success());
}

#[tokio::test]
async fn serves_until_a_signal_and_ends_with_success() {
    for name in ["TERM", "INT"] {
        let (mut child, address) = start(&["--port", "0", "--create-stream", "orders:3"]).await;
        let summary = kinesis("DescribeStreamSummary", r#"{"StreamName":"orders"}"#);
        let answer = send(&address, Version::Http1, summary).await;
        let summary = &json(&answer)["StreamDescriptionSummary"];
        assert_eq!(
            (&summary["StreamStatus"], &summary["OpenShardCount"]),
            (&"ACTIVE".into(), &3.into())
        );
        signal(&child, name).await;
        assert_eq!(
            within(child.wait()).await.unwrap().code(),
            Some(0),
            "after SIG{name}"
        );
    }
}

#[tokio::test]
async fn stops_although_a_subscription_is_open() {
    let (mut child, address) = start(&[
        "--port",
        "0",
        "--create-stream",
        "s:1",
        "--transition",
        "0s",
    ])
    .await;
    let stream =
        r#"{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s","ConsumerName":"c"}"#;
    let consumer = send(
        &address,
        Version::Http1,
        kinesis("RegisterStreamConsumer", stream),
    )
    .await;
    let consumer = json(&consumer)["Consumer"]["ConsumerARN"].clone();
    let subscribe = serde_json::json!({
        "ConsumerARN": consumer, "ShardId": "shardId-000000000000", "StartingPosition": {"Type": "LATEST"},
    });
    let subscription = common::open(
        &address,
        Version::Http2,
        kinesis("SubscribeToShard", &subscribe.to_string()),
    );
    let subscription = subscription.await.unwrap();
    assert_eq!(subscription.status(), 200);
    signal(&child, "TERM").await;
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let (_child, address) = start(&["--port", "0"]).await;
    let port = address.rsplit(':').next().unwrap();
    let (code, stdout, stderr) = run(&["--port", port]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("cannot listen") && stderr.contains("--port"),
        "{stderr}"
    );
}

#[tokio::test]
async fn faults_come_from_a_file() {
    let path =
        std::env::temp_dir().join(format!("kcl-emulator-faults-{}.json", std::process::id()));
    let script = r#"{"rules": [{"operation": "ListStreams", "nth": 1,
        "fault": {"action": "aws:fis:inject-api-unavailable-error"}}]}"#;
    std::fs::write(&path, script).unwrap();
    let (_child, address) = start(&["--port", "0", "--faults", path.to_str().unwrap()]).await;
    std::fs::remove_file(&path).unwrap();
    for status in [503, 200] {
        let answer = send(&address, Version::Http1, kinesis("ListStreams", "{}")).await;
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_lost_answer_breaks_the_connection() {
    let server = Server::start(Emulator::new()).await;
    server.emulator.faults().add(Rule::new(Fault::LoseAnswer));
    for (version, name) in [(Version::Http1, "one"), (Version::Http2, "two")] {
        let create = format!(r#"{{"StreamName":"{name}","ShardCount":1}}"#);
        let lost = common::open(&server.address, version, kinesis("CreateStream", &create)).await;
        assert!(lost.is_err(), "{version:?}");
    }
    server.emulator.faults().clear();
    let streams = send(
        &server.address,
        Version::Http1,
        kinesis("ListStreams", "{}"),
    )
    .await;
    assert_eq!(
        json(&streams)["StreamNames"],
        serde_json::json!(["one", "two"])
    );
}

#[tokio::test]
async fn other_addresses_need_to_be_exposed() {
    let (code, _, stderr) = run(&["--host", "0.0.0.0", "--port", "0"]).await;
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("--expose"), "{stderr}");
}

#[tokio::test]
async fn bad_options_are_one_clear_line() {
    for bad in [
        &["--port", "70000"][..],
        &["--create-stream", "orders"],
        &["--create-stream", "orders:0"],
        &["--throttling", "maybe"],
        &["--transition", "soon"],
        &["--account-id", "1"],
        &["--faults", "/does/not/exist.json", "--port", "0"],
        &["--create-stream", "bad name:1", "--port", "0"],
        &["--nonsense"],
    ] {
        let (code, stdout, stderr) = run(bad).await;
        assert_ne!(code, Some(0), "{bad:?}");
        assert_eq!(
            (stdout.as_str(), stderr.lines().count()),
            ("", 1),
            "{bad:?}: {stderr}"
        );
        assert!(stderr.starts_with("kcl-emulator: "), "{stderr}");
    }
}

#[tokio::test]
async fn help_names_every_option() {
    let (code, stdout, _) = run(&["--help"]).await;
    assert_eq!(code, Some(0));
    for option in [
        "--port",
        "--host",
        "--expose",
        "--create-stream",
        "--throttling",
        "--transition",
        "--table-transition",
        "--faults",
        "--seed",
        "--region",
        "--account-id",
    ] {
        assert!(stdout.contains(option), "{option} is missing");
    }
}

#[tokio::test]
async fn both_versions_of_http_on_one_port() {
    let server = Server::start(Emulator::new()).await;
    for version in [Version::Http1, Version::Http2] {
        let answer = send(&server.address, version, kinesis("ListStreams", "{}")).await;
        assert_eq!(answer.status(), 200, "{version:?}");
        assert_eq!(json(&answer)["HasMoreStreams"], false);
        assert_eq!(header(&answer, "date"), "Thu, 01 Jan 2026 00:00:00 GMT");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_unread() {
    let server = Server::start(Emulator::new()).await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_chunked_body_beyond_the_limit_is_refused() {
    let server = Server::start(Emulator::new()).await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: e\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    for _ in 0..32 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let server = Server::start(Emulator::new()).await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x00\xff garbage\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = send(
        &server.address,
        Version::Http1,
        kinesis("ListStreams", "{}"),
    )
    .await;
    assert_eq!(answer.status(), 200);
}
