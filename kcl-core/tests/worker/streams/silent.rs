//! Streams that never answer, beside others.

use std::time::Duration;

use tokio::time::Instant;

use super::account::SILENT;
use super::lists::streams;
use super::stage::Stage;
use crate::fixture::eventually;

#[tokio::test(start_paused = true)]
async fn many_streams_that_never_answer_keep_no_new_one_waiting() {
    let stage = Stage::new();
    stage.create("a", 2);
    let silent: Vec<String> = (0..50).map(|number| format!("{SILENT}-{number}")).collect();
    let mut names: Vec<&str> = silent.iter().map(String::as_str).collect();
    names.push("a");
    let began = Instant::now();
    let worker = stage.start(stage.builder("one", streams(&names)));
    eventually("all of a", || worker.handle.shards().len() == 2).await;
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    for name in &silent {
        eventually("what is wrong", || worker.told_unavailable(name) > 0).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    worker.stop().await;
}
