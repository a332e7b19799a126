//! What our crates log, at the finest level, of whole workers: never a payload, a partition key or a credential. A program of
//! its own, because one subscriber hears everything.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod damage;

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::primitives::Blob;
use aws_types::SdkConfig;
use integration_tests::{Probe, STREAM, Stage};
use kcl_core::{FailurePolicy, OnFailure, ParkTime, Retrieval, Wire, WorkerBuilder};
use kcl_emulator::faults::{Fault, Rule};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What stands in every payload, key and credential of the test, and nowhere else.
const PAYLOAD: &str = "secretpayload";
const KEY: &str = "secretkey";
const CREDENTIALS: [&str; 3] = ["AKIASECRETACCESS", "secretaccesskey", "secretsession"];

/// The log so far.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Hears all of ours, spans too.
    fn of_our_crates() -> Self {
        let log = Self::default();
        let ours = ["kcl_core", "kcl_lease", "kcl_checkpoint", "kcl_aggregation"];
        let ours = ours.map(|target| (target, LevelFilter::TRACE));
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_span_events(FmtSpan::FULL)
            .with_writer(log.clone());
        tracing_subscriber::registry()
            .with(Targets::new().with_targets(ours))
            .with(lines)
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// How a text may look in a log: as it is, as numbers, in hexadecimal digits, or in base64 wherever it began.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let numbers = format!("{bytes:?}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = (0..3).map(|before| {
        let shifted = [&b"..."[..before], bytes].concat();
        let text = base64_simd::STANDARD.encode_to_string(shifted);
        // Characters that other bytes have no part in.
        text[4..text.len() - 4].to_owned()
    });
    let plain = [
        secret.to_owned(),
        secret.to_uppercase(),
        numbers.trim_matches(['[', ']']).to_owned(),
        hex,
    ];
    plain.into_iter().chain(base64).collect()
}

fn assert_nothing_secret(what: &str, text: &str) {
    for secret in [PAYLOAD, KEY].iter().chain(&CREDENTIALS) {
        for form in forms(secret) {
            if let Some(at) = text.find(&form) {
                let from = text[..at].rfind('\n').unwrap_or_default();
                let line = text[from..].lines().nth(1).unwrap_or_default();
                panic!("{what}: {secret} stands in the log as {form}: {line}");
            }
        }
    }
}

fn with_secret_credentials(aws: SdkConfig) -> SdkConfig {
    let [id, key, token] = CREDENTIALS.map(str::to_owned);
    let credentials = Credentials::new(id, key, Some(token), None, "test");
    let provider = SharedCredentialsProvider::new(credentials);
    aws.into_builder().credentials_provider(provider).build()
}

/// Good records and hostile ones.
async fn put_all(stage: &Stage, round: usize) {
    for number in 0..5 {
        let key = format!("{KEY}-{number}");
        stage
            .put(&key, &format!("{PAYLOAD} {round} {number}"))
            .await;
    }
    stage.put(KEY, &format!("{PAYLOAD} bad {round}")).await;
    stage.put(KEY, &format!("{PAYLOAD} parked {round}")).await;
    stage
        .put_aggregate(&[(KEY, PAYLOAD), ("secretkey-b", "secretpayload b")])
        .await;
    let aggregate_of_nothing =
        [b"\xf3\x89\x9a\xc2".as_slice(), PAYLOAD.as_bytes(), &[7; 16]].concat();
    for data in [
        aggregate_of_nothing,
        b"\xff\xfe secretpayload \n\0".to_vec(),
    ] {
        let put = stage.kinesis.put_record().stream_name(STREAM);
        let put = put
            .partition_key("secretkey\n\u{1f511}")
            .data(Blob::new(data));
        put.send().await.unwrap();
    }
}

/// What fails, a few times each.
fn calls_that_fail(stage: &Stage) {
    let error = |status, code: &str| Fault::Error {
        status,
        code: code.to_owned(),
        message: "why".to_owned(),
    };
    for (operation, fault) in [
        ("GetRecords", error(500, "InternalFailure")),
        ("GetRecords", Fault::ThroughputExceeded),
        ("GetRecords", Fault::ExpiredIterator),
        ("GetRecords", Fault::Deny),
        ("GetShardIterator", Fault::LoseAnswer),
        ("SubscribeToShard", error(400, "KMSDisabledException")),
        ("SubscribeToShard", Fault::Deny),
        ("DescribeStreamConsumer", Fault::Throttle),
        ("UpdateItem", Fault::LoseAnswer),
        ("UpdateItem", Fault::InternalError),
        ("ListShards", Fault::Unavailable),
    ] {
        let rule = Rule::new(fault).caller("a").operation(operation);
        stage.emulator.faults().add(rule.first(2));
    }
    let after = Duration::from_secs(40);
    let cut = Rule::new(Fault::CutSubscription { after });
    stage
        .emulator
        .faults()
        .add(cut.operation("SubscribeToShard").nth(4));
}

fn worker(stage: &Stage, retrieval: Retrieval, wire: Wire) -> WorkerBuilder {
    let probe = Probe::new("a", &stage.log).judged(|record| {
        let text = String::from_utf8_lossy(record.data()).into_owned();
        match text.contains("bad") {
            true => Err("it is bad".into()),
            false => Ok(()),
        }
    });
    let policy = FailurePolicy::retry()
        .attempts(2)
        .then(OnFailure::ParkKey(ParkTime::UntilLeaseEnds));
    let refused = Arc::new(AtomicU32::new(0));
    stage
        .worker_with("a", probe)
        .retrieval(retrieval)
        .wire(wire)
        .lanes(2)
        .failure_policy(policy)
        .dead_letters(move |_letter| {
            let is_first = refused.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                match is_first {
                    true => Err("the sink is full".into()),
                    false => Ok(()),
                }
            }
        })
}

/// One run: everything is processed, or goes to the dead letters.
async fn run(retrieval: Retrieval, wire: Wire) -> String {
    let stage = Stage::new(1);
    put_all(&stage, 0).await;
    calls_that_fail(&stage);
    let aws = damage::some_answers(&stage.emulator, "a");
    let worker = worker(&stage, retrieval, wire);
    let worker = worker.build(&with_secret_credentials(aws)).unwrap();
    let (handle, mut events) = (worker.handle(), worker.events());
    let script = async {
        for round in 1..4 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            put_all(&stage, round).await;
        }
        stage.split("shardId-000000000000").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        put_all(&stage, 4).await;
        let last = format!("{PAYLOAD} 4 4");
        stage
            .wait("the last record", |log| log.data().contains(&last))
            .await;
        handle.shutdown();
    };
    let mut told = String::new();
    let listen = async {
        while let Some(event) = events.next().await {
            told.push_str(&format!("{event:?}\n"));
        }
    };
    let (stopped, (), ()) = tokio::join!(worker.run(), script, listen);
    told.push_str(&format!("{:?} {stopped:?}", handle.health()));
    assert_eq!(stopped.unwrap().abandoned, 0);
    assert_nothing_secret("events", &told);
    told
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_logged_or_told_holds_a_payload_a_key_or_a_credential() {
    let log = Log::of_our_crates();
    for (retrieval, wire) in [
        (Retrieval::polling(), Wire::Json),
        (Retrieval::polling(), Wire::Cbor),
        (Retrieval::fan_out().into(), Wire::Json),
        (Retrieval::auto().into(), Wire::Json),
    ] {
        let way = format!("{retrieval:?} {wire:?}");
        let told = run(retrieval, wire).await;
        for event in [
            "ReadFailed",
            "ProcessorFailed",
            "KeyParked",
            "DeadLetterFailed",
            "DamagedAggregates",
        ] {
            assert!(told.contains(event), "{way}: no {event} in {told}");
        }
    }
    let text = log.text();
    // It is the log, and all of it.
    for line in [
        "DEBUG kcl_core",
        "WARN kcl_core",
        "kcl_lease",
        "ReadFailed",
        "KeyParked",
        "DamagedAggregates",
        "ended within an event",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert_nothing_secret("log", &text);
}

#[test]
fn a_secret_is_found_in_every_form() {
    for text in [
        format!("record {PAYLOAD}"),
        format!("{:?}", format!("x{PAYLOAD}y").as_bytes()),
        base64_simd::STANDARD.encode_to_string(format!("x{PAYLOAD}yz")),
    ] {
        let found = std::panic::catch_unwind(|| assert_nothing_secret("text", &text));
        assert!(found.is_err(), "{text}");
    }
}
