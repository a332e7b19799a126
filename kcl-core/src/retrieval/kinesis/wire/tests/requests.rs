//! Requests, byte by byte.

use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpRequest;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use aws_smithy_types::DateTime;

use super::super::{BufferPool, KinesisWire, Negotiation, Wire};
use super::{CBOR, JSON, Reply, Server};
use crate::retrieval::kinesis::client::{reading_client, records_client};

fn server_and_client(wire: Wire) -> (Server, Client) {
    let error = r#"{"__type":"ResourceInUseException"}"#;
    let server = Server::always(Reply::new(400, JSON, error));
    let reading = reading_client(&server.sdk_config());
    let protocol = KinesisWire::new(Arc::new(Negotiation::new(wire)));
    let client = records_client(&reading, protocol, &BufferPool::default());
    (server, client)
}

const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const CONSUMER: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1";

async fn get_records(wire: Wire) -> HttpRequest {
    let (server, client) = server_and_client(wire);
    let call = client
        .get_records()
        .shard_iterator("it\"er\u{e4}tor")
        .limit(300)
        .stream_arn(STREAM);
    call.send().await.unwrap_err();
    server.last_request()
}

#[tokio::test(start_paused = true)]
async fn get_records_is_written_as_the_sdk_does() {
    let request = get_records(Wire::Json).await;
    let body = request.body().bytes().unwrap();
    assert_eq!(
        str::from_utf8(body).unwrap(),
        "{\"ShardIterator\":\"it\\\"er\u{e4}tor\",\"Limit\":300,\"StreamARN\":\"arn:aws:kinesis:us-east-1:000000000000:stream/s\"}"
    );

    let server = Server::always(Reply::new(200, JSON, r#"{"Records":[]}"#));
    let sdk = Client::new(&server.sdk_config()).get_records();
    let sdk = sdk.shard_iterator("it\"er\u{e4}tor").limit(300);
    sdk.stream_arn(STREAM).send().await.unwrap();
    let sdk = server.last_request();
    assert_eq!(body, sdk.body().bytes().unwrap());
    assert_eq!((request.method(), request.uri()), (sdk.method(), sdk.uri()));
    for name in ["content-type", "content-length", "x-amz-target", "accept"] {
        assert_eq!(
            request.headers().get(name),
            sdk.headers().get(name),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn get_records_in_cbor_is_a_map_and_says_so() {
    let request = get_records(Wire::Cbor).await;
    let expected = [
        b"\xbf\x6dShardIterator\x6ait\"er\xc3\xa4tor\x65Limit\x19\x01\x2c\x69StreamARN\x78\x2f"
            .as_slice(),
        STREAM.as_bytes(),
        b"\xff",
    ];
    assert_eq!(request.body().bytes().unwrap(), expected.concat());
    let header = |name| request.headers().get(name);
    assert_eq!(header("content-type"), Some(CBOR));
    assert_eq!(header("accept"), Some(CBOR));
    assert_eq!(header("x-amz-target"), Some("Kinesis_20131202.GetRecords"));
    // Signed as every request is, what was added included.
    let authorization = header("authorization").unwrap();
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap();
    assert!(signed.contains("content-type") && signed.contains("x-amz-target"));
    assert!(authorization.contains("us-east-1/kinesis"));
}

async fn subscribe(wire: Wire) -> HttpRequest {
    let (server, client) = server_and_client(wire);
    let position = StartingPosition::builder()
        .r#type(ShardIteratorType::AtTimestamp)
        .timestamp(DateTime::from_millis(1_767_225_600_023))
        .build()
        .unwrap();
    let call = client
        .subscribe_to_shard()
        .consumer_arn(CONSUMER)
        .shard_id("shard")
        .starting_position(position);
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(error.is_resource_in_use_exception(), "{error:?}");
    server.last_request()
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_written_in_both() {
    let request = subscribe(Wire::Json).await;
    let body = str::from_utf8(request.body().bytes().unwrap()).unwrap();
    assert_eq!(
        body,
        format!(
            r#"{{"ConsumerARN":"{CONSUMER}","ShardId":"shard","StartingPosition":{{"Type":"AT_TIMESTAMP","Timestamp":1767225600.023}}}}"#
        )
    );
    let request = subscribe(Wire::Cbor).await;
    let expected = [
        b"\xbf\x6bConsumerARN\x78\x3c".as_slice(),
        CONSUMER.as_bytes(),
        b"\x67ShardId\x65shard\x70StartingPosition\xbf",
        b"\x64Type\x6cAT_TIMESTAMP\x69Timestamp\xc1\x1b",
        &1_767_225_600_023_u64.to_be_bytes(),
        b"\xff\xff",
    ];
    assert_eq!(request.body().bytes().unwrap(), expected.concat());
    let target = request.headers().get("x-amz-target");
    assert_eq!(target, Some("Kinesis_20131202.SubscribeToShard"));
}

#[tokio::test(start_paused = true)]
async fn other_operations_are_refused_before_they_are_sent() {
    let (server, client) = server_and_client(Wire::Json);
    let error = client.list_streams().send().await.unwrap_err();
    assert!(matches!(
        error,
        aws_sdk_kinesis::error::SdkError::ConstructionFailure(_)
    ));
    assert_eq!(server.asked_in(), []);
}
