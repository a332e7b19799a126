//! CBOR spoken with a whole Kinesis: the emulator in the process.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kcl_emulator::Emulator;
use kcl_emulator::faults::{Fault, Rule};

use super::super::Wire;
use super::{Reply, Server};
use crate::retrieval::kinesis::KinesisSource;
use crate::retrieval::source::{Fetched, ShardFilter, ShardSource, StartPosition};
use crate::retrieval::{RecordRef, SourceError, SourceErrorKind as Kind};

const STREAM: &str = "orders";

async fn stream() -> (Emulator, Client) {
    let emulator = Emulator::new();
    emulator.create_stream(STREAM, 1).unwrap();
    let client = Client::new(&emulator.sdk_config("producer"));
    (emulator, client)
}

async fn read(source: &KinesisSource) -> Result<Fetched, SourceError> {
    let shards = source.list_shards(ShardFilter::All).await.unwrap();
    let shard = &shards[0].shard_id;
    let iterator = source.iterator(shard, &StartPosition::TrimHorizon).await;
    source.get_records(&iterator.unwrap(), 100).await
}

#[tokio::test(start_paused = true)]
async fn both_wires_read_the_same_from_a_shard_to_its_end() {
    let (emulator, client) = stream().await;
    for index in 0..20_u8 {
        let put = client.put_record().stream_name(STREAM);
        let put = put.partition_key(format!("k\u{e9}y-{index}"));
        let data = vec![index; usize::from(index) * 50];
        put.data(Blob::new(data)).send().await.unwrap();
    }
    let split = client.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    let middle = (1_u128 << 127).to_string();
    split.new_starting_hash_key(middle).send().await.unwrap();

    let aws = emulator.sdk_config("worker");
    let json = KinesisSource::new(&aws, STREAM, None);
    let cbor = json.clone().with_wire(Wire::Cbor);
    let (json, cbor) = (read(&json).await.unwrap(), read(&cbor).await.unwrap());
    assert_eq!(json.batch.len(), 20);
    let records = |fetched: &Fetched| {
        let records = fetched.batch.iter().map(RecordRef::to_owned);
        records.collect::<Vec<_>>()
    };
    assert_eq!(records(&json), records(&cbor));
    assert_eq!(json.batch.payload_bytes(), cbor.batch.payload_bytes());
    assert!(cbor.batch.resident_bytes() < 2 * json.batch.resident_bytes());
    assert_eq!(
        (json.next.is_some(), &json.children),
        (cbor.next.is_some(), &cbor.children)
    );
    assert_eq!(cbor.children.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn faults_are_the_same_in_cbor() {
    let (emulator, _) = stream().await;
    let source = KinesisSource::new(&emulator.sdk_config("worker"), STREAM, None);
    let source = source.with_wire(Wire::Cbor);
    read(&source).await.unwrap();
    for (fault, kind) in [
        (Fault::ExpiredIterator, Kind::ExpiredIterator),
        (Fault::ThroughputExceeded, Kind::Throttled),
        (Fault::InternalError, Kind::Unavailable),
        (Fault::Deny, Kind::AccessDenied),
        (Fault::LoseAnswer, Kind::Unavailable),
    ] {
        let rule = Rule::new(fault.clone()).named("fault");
        emulator.faults().add(rule.operation("GetRecords"));
        let error = read(&source).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        emulator.faults().remove("fault");
    }
}

/// A server that never says anything useful is asked seldom.
#[tokio::test(start_paused = true)]
async fn garbage_is_no_reason_to_hurry() {
    use std::sync::Arc;
    use std::time::Duration;

    use kcl_lease::HashKeyRange;
    use kcl_lease::runtime::Runtime;
    use tokio::sync::mpsc;

    use crate::retrieval::{Budget, Poller, Polling, ShardRead, Unobserved};

    let garbage = Reply::new(200, "text/html", "<html>");
    let iterator = Reply::new(200, super::JSON, r#"{"ShardIterator":"iterator"}"#);
    let server = Server::new(move |request| {
        let target = request.headers().get("x-amz-target").unwrap();
        match target.ends_with("GetRecords") {
            true => garbage.clone(),
            false => iterator.clone(),
        }
    });
    let source = Arc::new(server.source(Wire::Cbor));
    let polling = Polling::new(source, Budget::new(64 << 20), Runtime::virtual_time(1));
    let read = ShardRead {
        shard: "shardId-000000000000".into(),
        hash_range: HashKeyRange::FULL,
        start: StartPosition::TrimHorizon,
        skip_through: None,
        observer: Arc::new(Unobserved),
    };
    let (sender, _receiver) = mpsc::channel(1);
    let reading = Poller::new(polling, read).run(sender);
    let minute = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert!(minute.is_err(), "it goes on");
    let calls = server.asked_in().len();
    assert!((3..=60).contains(&calls), "{calls} calls in a minute");
}
