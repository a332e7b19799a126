//! The examples of processing, which bring their own account and judge themselves.

use std::time::Duration;

use crate::common::{Account, finish_within};

/// One of the programs waits for what is done each minute.
const LONGEST: Duration = Duration::from_secs(180);

async fn succeeds(program: &str, options: &[&str]) {
    // Not used by the program, which must do without it.
    let account = Account::with_stream(1).await;
    let mut command = account.program(program, "nobody", options);
    let output = finish_within(LONGEST, command.spawn().unwrap()).await;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(!stdout.is_empty(), "it says what it did");
}

#[tokio::test(flavor = "multi_thread")]
async fn b01_dead_letter_ends_by_itself_and_is_right() {
    succeeds(env!("CARGO_BIN_EXE_dead-letter"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a02_async_sink_ends_by_itself_and_is_right() {
    succeeds(env!("CARGO_BIN_EXE_async-sink"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b05_key_parallel_ends_by_itself_and_is_right() {
    let options = ["--lanes", "4", "--rounds", "1000"];
    succeeds(env!("CARGO_BIN_EXE_key-parallel"), &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b03_replay_ends_by_itself_and_is_right() {
    succeeds(env!("CARGO_BIN_EXE_replay"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_ends_by_itself_and_is_right() {
    succeeds(env!("CARGO_BIN_EXE_many-streams"), &[]).await;
}
