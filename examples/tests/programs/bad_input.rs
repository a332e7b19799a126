//! What cannot work stops with one clear line and a code that is not zero.

use std::time::Duration;

use crate::common::{APPLICATION, Account, CONSUMER, PRODUCE, STREAM, finish};
use kcl_emulator::Emulator;
use tokio::process::Command;

/// Runs a program that must fail with code 1 and one line of its own that has all of these parts.
#[track_caller]
fn assert_one_clear_line(output: &std::process::Output, program: &str, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let prefix = format!("{program}: ");
    let own: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with(&prefix))
        .collect();
    assert_eq!(own.len(), 1, "{stderr}");
    for part in parts {
        assert!(own[0].contains(part), "{part:?} is not in: {}", own[0]);
    }
    assert!(output.stdout.is_empty());
}

async fn consumer_fails(mut command: Command, parts: &[&str]) {
    let output = finish(command.spawn().unwrap()).await;
    assert_one_clear_line(&output, "consumer", parts);
}

async fn produce_fails(mut command: Command, parts: &[&str]) {
    let output = finish(command.stdin(std::process::Stdio::null()).spawn().unwrap()).await;
    assert_one_clear_line(&output, "produce", parts);
}

fn consumer_of(account: &Account, stream: &str) -> Command {
    account.program(
        CONSUMER,
        "a",
        &["--application", APPLICATION, "--stream", stream],
    )
}

fn produce_to(account: &Account, stream: &str) -> Command {
    account.program(PRODUCE, "a", &["--stream", stream])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_exist() {
    let account = Account::with_stream(1).await;
    let parts = ["nowhere", "check the stream's name, account and region"];
    consumer_fails(consumer_of(&account, "nowhere"), &parts).await;
    produce_fails(produce_to(&account, "nowhere"), &parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_name_or_arn_that_is_malformed_or_of_another_region() {
    let account = Account::with_stream(1).await;
    for bad in [
        "a b",
        "arn:aws:kinesis:us-east-1:1:stream/lines",
        "arn:aws:sqs:us-east-1:000000000000:lines",
    ] {
        consumer_fails(consumer_of(&account, bad), &["stream", "is no stream"]).await;
    }
    let elsewhere = "arn:aws:kinesis:eu-west-1:000000000000:stream/lines";
    consumer_fails(
        consumer_of(&account, elsewhere),
        &["eu-west-1", "us-east-1", "region"],
    )
    .await;
    let stranger = "arn:aws:kinesis:us-east-1:999999999999:stream/lines";
    consumer_fails(consumer_of(&account, stranger), &["999999999999"]).await;
    produce_fails(
        produce_to(&account, "arn:aws:kinesis:us-east-1:1:stream/lines"),
        &["check the stream's name or ARN"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_and_no_region() {
    let account = Account::with_stream(1).await;
    for (program, mut command) in [
        ("consumer", consumer_of(&account, STREAM)),
        ("produce", produce_to(&account, STREAM)),
    ] {
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY");
        let output = finish(command.stdin(std::process::Stdio::null()).spawn().unwrap()).await;
        assert_one_clear_line(&output, program, &["credentials", "AWS_ACCESS_KEY_ID"]);
    }
    let mut command = consumer_of(&account, STREAM);
    command.env_remove("AWS_REGION");
    consumer_fails(command, &["region", "AWS_REGION"]).await;
    let mut command = produce_to(&account, STREAM);
    command.env_remove("AWS_REGION");
    produce_fails(command, &["region", "AWS_REGION"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing() {
    for action in [
        "kinesis:DescribeStreamSummary",
        "kinesis:ListShards",
        "dynamodb:CreateTable",
        "dynamodb:PutItem",
    ] {
        let account = Account::with_stream(1).await;
        account.emulator.faults().deny("a", action);
        let name = action.split(':').nth(1).unwrap();
        consumer_fails(consumer_of(&account, STREAM), &[name]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_being_deleted() {
    let emulator = Emulator::builder()
        .wall_clock()
        .transition(Duration::from_secs(300))
        // The lease table comes first: whoever leads looks at the stream.
        .table_transition(Duration::ZERO)
        .build();
    emulator.create_stream(STREAM, 1).unwrap();
    let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("test"));
    client
        .delete_stream()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    let account = Account::serve(emulator).await;
    consumer_fails(consumer_of(&account, STREAM), &[STREAM, "being deleted"]).await;
    produce_fails(produce_to(&account, STREAM), &[STREAM, "being deleted"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_created_anew() {
    let account = Account::with_stream(1).await;
    account.produce(b"one\n", &[]).await;
    account.catch_up("a", &[]).await;
    let client = aws_sdk_kinesis::Client::new(&account.emulator.sdk_config("test"));
    client
        .delete_stream()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    account.emulator.create_stream(STREAM, 1).unwrap();
    consumer_fails(consumer_of(&account, STREAM), &[STREAM]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_make_no_sense() {
    let account = Account::with_stream(1).await;
    for (option, value, named) in [
        ("--lease-duration", "0s", "lease_duration"),
        ("--lease-duration", "100years", "lease_duration"),
        ("--checkpoint-interval", "0s", "checkpoint_interval"),
        ("--worker-name", "a/b", "worker_name"),
        ("--worker-name", "", "worker_name"),
    ] {
        let arguments = [
            "--application",
            APPLICATION,
            "--stream",
            STREAM,
            option,
            value,
        ];
        consumer_fails(
            account.program(CONSUMER, "a", &arguments),
            &["option", named],
        )
        .await;
    }
    let arguments = ["--application", "x", "--stream", STREAM];
    consumer_fails(
        account.program(CONSUMER, "a", &arguments),
        &["application", "3 to 255"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_cannot_be_understood_ends_with_2() {
    let account = Account::with_stream(1).await;
    for (program, arguments) in [
        (CONSUMER, &["--stream", STREAM][..]),
        (
            CONSUMER,
            &[
                "--application",
                "app",
                "--stream",
                STREAM,
                "--initial-position",
                "yesterday",
            ][..],
        ),
        (
            CONSUMER,
            &[
                "--application",
                "app",
                "--stream",
                STREAM,
                "--lease-duration",
                "soon",
            ][..],
        ),
        (PRODUCE, &["--stream", STREAM, "--key-field", "0"][..]),
        (PRODUCE, &["--stream", STREAM, "--delimiter", ","][..]),
    ] {
        let output = finish(account.program(program, "a", arguments).spawn().unwrap()).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_do_not_fit_are_named_and_all_others_are_stored() {
    let account = Account::with_stream(1).await;
    let mut text = b"first\n".to_vec();
    text.extend_from_slice(&vec![b'x'; (1 << 20) + 1]);
    text.extend_from_slice(b"\nlast\n");
    for options in [&[][..], &["--aggregate"][..]] {
        let arguments = [&["--stream", STREAM], options].concat();
        let mut child = account.program(PRODUCE, "a", &arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async {
            tokio::io::AsyncWriteExt::write_all(&mut stdin, &text)
                .await
                .unwrap();
            drop(stdin);
        };
        let ((), output) = tokio::join!(write, finish(child));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("line 2 is not stored") && stderr.contains("stored 2 lines"),
            "{stderr}"
        );
    }
}
