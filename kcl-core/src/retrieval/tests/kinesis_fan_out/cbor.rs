//! Subscriptions in CBOR.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;

use super::{ARN, STREAM, Stream, stream, through};
use crate::retrieval::{KinesisSource, Record, RecordRef, Wire};

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";

/// Calls the emulator, and notes what subscriptions are asked for in.
#[derive(Debug, Clone)]
struct Listener {
    emulator: SharedHttpConnector,
    refuses_cbor: bool,
    asked_in: Arc<Mutex<Vec<String>>>,
}

impl HttpConnector for Listener {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name| request.headers().get(name).unwrap_or_default().to_owned();
        let content_type = header("content-type");
        if header("x-amz-target").ends_with(".SubscribeToShard") {
            self.asked_in.lock().unwrap().push(content_type.clone());
            if self.refuses_cbor && content_type == CBOR {
                let error = r#"{"__type":"SerializationException"}"#;
                let refusal = HttpResponse::new(400.try_into().unwrap(), SdkBody::from(error));
                return HttpConnectorFuture::ready(Ok(refusal));
            }
        }
        self.emulator.call(request)
    }
}

fn with_listener(stream: &mut Stream, refuses_cbor: bool) -> Arc<Mutex<Vec<String>>> {
    let asked_in = Arc::new(Mutex::new(Vec::new()));
    let aws = through(stream, |emulator| Listener {
        emulator,
        refuses_cbor,
        asked_in: Arc::clone(&asked_in),
    });
    let source = KinesisSource::new(&aws, STREAM, Some(ARN.to_owned()));
    stream.source = source.with_wire(Wire::Cbor);
    asked_in
}

async fn first_event(stream: &Stream, consumer: &str) -> Vec<Record> {
    let mut subscription = stream.subscribe(consumer).await;
    let announced = subscription.announced().await.unwrap().unwrap();
    let batch = subscription.receive().await.unwrap().batch;
    assert!(batch.resident_bytes() <= announced);
    batch.iter().map(RecordRef::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn events_say_the_same_in_both_wires() {
    let mut stream = stream(1);
    let json = stream.consumer("json").await;
    let cbor = stream.consumer("cbor").await;
    for index in 0..100 {
        stream.put(&format!("record {index} ").repeat(index)).await;
    }
    let in_json = first_event(&stream, &json).await;
    assert_eq!(in_json.len(), 100);
    let asked_in = with_listener(&mut stream, false);
    assert_eq!(first_event(&stream, &cbor).await, in_json);
    assert_eq!(*asked_in.lock().unwrap(), [CBOR]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_cbor_is_asked_in_json_at_once() {
    let mut stream = stream(1);
    let consumer = stream.consumer("app").await;
    stream.put("a").await;
    let asked_in = with_listener(&mut stream, true);
    assert_eq!(first_event(&stream, &consumer).await.len(), 1);
    assert_eq!(*asked_in.lock().unwrap(), [CBOR, JSON]);
}
