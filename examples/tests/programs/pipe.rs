//! A text that is piped through `produce` and `consumer`, as processes, comes out whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{Account, Following, data, multiset};
use serde_json::Value;

/// Lines of all kinds: doubled, empty, not UTF-8, with a carriage return, large, without a last line feed.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..600 {
        text.extend_from_slice(format!("user-{} says {}\n", n % 7, n / 2).as_bytes());
    }
    text.extend_from_slice(
        b"\n\nwith a carriage return\r\n\xff\xfe not text\nGr\xc3\xbc\xc3\x9fe \"quoted\"\t\\\n",
    );
    text.extend_from_slice(&vec![b'x'; 200_000]);
    text.extend_from_slice(b"\nno line feed at the end");
    text
}

fn lines_of(text: &[u8]) -> BTreeMap<Vec<u8>, usize> {
    multiset(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec))
}

fn records_of(lines: &[Value]) -> BTreeMap<Vec<u8>, usize> {
    multiset(lines.iter().filter_map(data))
}

async fn comes_out_as_it_went_in(options: &[&str]) {
    let account = Account::with_stream(3).await;
    account.produce(&text(), options).await;
    let lines = account.catch_up("a", &[]).await;
    assert_eq!(records_of(&lines), lines_of(&text()));
    // Nothing is left for a second worker of the same application.
    assert!(records_of(&account.catch_up("b", &[]).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_comes_out_as_the_same_multiset_of_lines() {
    comes_out_as_it_went_in(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregated_text_comes_out_as_the_same_multiset_of_lines() {
    comes_out_as_it_went_in(&["--aggregate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_with_the_same_key_stay_in_order() {
    for options in [
        &["--key-field", "1"][..],
        &["--key-field", "1", "--aggregate"][..],
    ] {
        let account = Account::with_stream(3).await;
        let text: String = (0..2000)
            .map(|n| format!("user-{} {n:05}\n", n % 11))
            .collect();
        account.produce(text.as_bytes(), options).await;
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in account
            .catch_up("a", &[])
            .await
            .iter()
            .filter(|line| line["event"] == "record")
        {
            let key = line["partition_key"].as_str().unwrap().to_owned();
            by_key
                .entry(key)
                .or_default()
                .push(line["data"].as_str().unwrap().to_owned());
        }
        assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 2000);
        assert_eq!(by_key.len(), 11);
        assert!(by_key.values().all(|lines| lines.is_sorted()));
    }
}

/// The last checkpoint of each shard among these lines.
fn checkpoints(lines: &[Value]) -> BTreeMap<String, String> {
    let stored = lines.iter().filter(|line| line["event"] == "checkpoint");
    stored
        .map(|line| (string(line, "shard"), string(line, "position")))
        .collect()
}

fn string(line: &Value, field: &str) -> String {
    line[field].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_when_the_consumer_is_killed_half_way() {
    let account = Account::with_stream(2).await;
    let lines = |range: std::ops::Range<u32>| -> String {
        range.map(|n| format!("line {n:05}\n")).collect()
    };
    let options = ["--lease-duration", "2s", "--checkpoint-interval", "100ms"];
    account.produce(lines(0..500).as_bytes(), &[]).await;
    let mut first = Following::start(account.consumer("first", &options));
    first.until("record", 500).await;
    first.until("checkpoint", 2).await;
    account.produce(lines(500..1000).as_bytes(), &[]).await;
    first.until("record", 600).await;
    first.child.kill().await.unwrap();
    first.end().await;

    let all = lines(0..1000);
    let mut missing: BTreeSet<Vec<u8>> = all.lines().map(|line| line.as_bytes().to_vec()).collect();
    for line in first.seen.iter().filter_map(data) {
        missing.remove(&line);
    }
    let mut second = Following::start(account.consumer("second", &options));
    while !missing.is_empty() {
        if let Some(line) = data(second.next().await) {
            missing.remove(&line);
        }
    }
    second.signal("TERM").await;
    assert_eq!(second.end().await, Some(0));
    let second = second.seen;
    let stored = checkpoints(&first.seen);
    for line in second.iter().filter(|line| line["event"] == "record") {
        let below = stored
            .get(&string(line, "shard"))
            .is_some_and(|checkpoint| string(line, "sequence_number") <= *checkpoint);
        assert!(!below, "came again although it was checkpointed: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_the_consumer_cleanly_and_another_goes_on_at_once() {
    for signal in ["TERM", "INT"] {
        let account = Account::with_stream(2).await;
        account.produce(b"one\ntwo\nthree\n", &[]).await;
        let mut first = Following::start(account.consumer("first", &[]));
        first.until("record", 3).await;
        first.signal(signal).await;
        assert_eq!(first.end().await, Some(0), "after SIG{signal}");
        let told = first
            .seen
            .iter()
            .filter(|line| line["event"] == "shutdown_requested")
            .count();
        assert_eq!(told, 2);

        account.produce(b"four\n", &[]).await;
        let began = tokio::time::Instant::now();
        let mut second = Following::start(account.consumer("second", &[]));
        second.until("record", 1).await;
        assert!(
            began.elapsed() <= Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(records_of(&second.seen), multiset([b"four".to_vec()]));
        for line in second
            .seen
            .iter()
            .filter(|line| line["event"] == "initialize")
        {
            assert_ne!(string(line, "position"), "", "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_reader_goes_away_stops_and_says_so() {
    let account = Account::with_stream(1).await;
    account.produce(b"one\n", &[]).await;
    let mut child = account.consumer("first", &[]).spawn().unwrap();
    drop(child.stdout.take());
    let output = crate::common::finish(child).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("cannot write to standard output"),
        "{stderr}"
    );
    assert_eq!(
        records_of(&account.catch_up("second", &[]).await),
        multiset([b"one".to_vec()])
    );
}
