//! The harness of real processes works: one short scenario, as a person would start it.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

/// Several times what it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn harness(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Runs the harness; returns its exit code and its line of JSON.
async fn fleet(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = harness(arguments).wait_with_output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output.expect("the harness hangs").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().next_back().unwrap_or_default();
    let json = serde_json::from_str(line).unwrap_or_else(|_| panic!("{stdout}\n{stderr}"));
    (output.status.code(), json)
}

#[tokio::test]
async fn a18_a_killed_worker_is_followed_within_its_lease_duration() {
    let options = [
        "failover",
        "--part",
        "only",
        "--shards",
        "2",
        "--lease-duration",
        "2s",
        "--calm",
        "1s",
    ];
    let (code, json) = fleet(&options).await;
    assert_eq!(code, Some(0), "{json}");
    let figures = &json["scenarios"]["failover-only"];
    assert_eq!(figures["missing"]["value"], 0.0, "{json}");
    assert_eq!(figures["shards taken over"]["value"], 2.0, "{json}");
    assert!(
        figures["records"]["value"].as_f64().unwrap() > 300.0,
        "{json}"
    );
}

#[tokio::test]
async fn a02_a_kill_at_any_moment_leaves_nothing_incomplete_below_the_checkpoint() {
    let (kills, take_overs) = (["--kills", "6"], ["--take-overs", "2"]);
    let options = [
        &["kills", "--lease-duration", "2s"][..],
        &kills,
        &take_overs,
    ];
    let (code, json) = fleet(&options.concat()).await;
    assert_eq!(code, Some(0), "{json}");
    let figures = &json["scenarios"]["kills"];
    assert_eq!(figures["kills"]["value"], 8.0, "{json}");
    assert!(
        figures["records completed"]["value"].as_f64().unwrap() > 100.0,
        "{json}"
    );
}

#[tokio::test]
async fn workers_do_not_outlive_a_harness_that_is_killed() {
    let mut harness = harness(&["deploy", "--shards", "2", "--workers", "2"]);
    let id = harness.id().unwrap();
    let began = tokio::time::Instant::now();
    let mut workers = children(id);
    while workers.len() < 2 {
        assert!(began.elapsed() < PATIENCE, "no workers");
        tokio::time::sleep(LOOK).await;
        workers = children(id);
    }
    harness.kill().await.unwrap();
    let began = tokio::time::Instant::now();
    while workers.iter().any(|worker| is_running(*worker)) {
        assert!(began.elapsed() < Duration::from_secs(10), "{workers:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The processes that this one started.
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")));
    let lists: Vec<String> = lists.filter_map(Result::ok).collect();
    let ids = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    ids.map(|id| id.parse().unwrap()).collect()
}

/// Whether the process exists and is more than the memory of its end.
fn is_running(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}
