//! A Kinesis that does as little as can be, so that whoever reads is what takes the time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kcl_core::{Runtime, Wire};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::answers::{Answers, iterator};
use super::case::Case;
use super::error::BenchError;

/// The name of its one stream.
pub(super) const STREAM: &str = "null";
pub(super) const JSON: &str = "application/x-amz-json-1.1";
pub(super) const CBOR: &str = "application/x-amz-cbor-1.1";

/// Serves one case until it is dropped, on a port of its own.
#[derive(Debug)]
pub(super) struct NullServer {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct State {
    answers: Answers,
    calls: AtomicU64,
    records: AtomicU64,
}

impl NullServer {
    pub(super) async fn start(
        runtime: &Runtime,
        case: Case,
        shards: u32,
    ) -> Result<Self, BenchError> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(|error| BenchError::system("cannot listen on loopback", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| BenchError::system("cannot tell the port", error))?;
        let state = Arc::new(State {
            answers: Answers::new(case, shards),
            calls: AtomicU64::new(0),
            records: AtomicU64::new(0),
        });
        let accepting = runtime.spawn(accept(listener, Arc::clone(&state), runtime.clone()));
        Ok(Self {
            address,
            state,
            _accepting: accepting,
        })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kinesis records in an answer, in the mean since this was asked last.
    pub(super) fn records_per_answer(&self) -> u16 {
        let calls = self.state.calls.swap(0, Ordering::Relaxed).max(1);
        let records = self.state.records.swap(0, Ordering::Relaxed);
        u16::try_from(records / calls).unwrap_or(u16::MAX).max(1)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, runtime: Runtime) {
    while let Ok((stream, _)) = listener.accept().await {
        runtime.spawn(serve(stream, Arc::clone(&state))).detach();
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let _slower_at_worst = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { state.answer(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // It ends when the consumer does.
    let _ended = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl State {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let target = header("x-amz-target").unwrap_or_default();
        let wire = match header("content-type").as_deref() {
            Some(CBOR) => Wire::Cbor,
            _ => Wire::Json,
        };
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        let operation = target.rsplit('.').next().unwrap_or_default();
        Ok(match operation {
            "GetRecords" => self.records(wire, &body),
            "GetShardIterator" => said(200, &first_iterator(&body)),
            "ListShards" => said(200, &self.answers.shards()),
            "DescribeStreamSummary" => said(200, &description()),
            _ => said(400, &json!({ "__type": "UnknownOperationException" })),
        })
    }

    fn records(&self, wire: Wire, body: &[u8]) -> Response<Full<Bytes>> {
        let limit = limit(wire, body).unwrap_or(10_000);
        let answer =
            place(body).and_then(|(shard, from)| self.answers.records(wire, shard, from, limit));
        let Some(answer) = answer else {
            return said(400, &json!({ "__type": "InvalidArgumentException" }));
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(limit), Ordering::Relaxed);
        let content_type = match wire {
            Wire::Json => JSON,
            Wire::Cbor => CBOR,
        };
        response(200, content_type, answer)
    }
}

fn said(status: u16, body: &Value) -> Response<Full<Bytes>> {
    response(status, JSON, Bytes::from(body.to_string()))
}

fn response(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    let content_type = http::HeaderValue::from_static(content_type);
    headers.insert(http::header::CONTENT_TYPE, content_type);
    let id = http::HeaderValue::from_static("00000000-0000-0000-0000-000000000000");
    headers.insert("x-amzn-requestid", id);
    response
}

fn first_iterator(body: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let shard = request
        .get("ShardId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let index = shard.rsplit('-').next().unwrap_or_default();
    json!({ "ShardIterator": iterator(index.parse().unwrap_or(0), 0) })
}

fn description() -> Value {
    json!({ "StreamDescriptionSummary": {
        "StreamName": STREAM,
        "StreamARN": format!("arn:aws:kinesis:us-east-1:123456789012:stream/{STREAM}"),
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1_767_225_600,
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }})
}

/// The shard and the place that an iterator in a request names.
fn place(body: &[u8]) -> Option<(usize, u64)> {
    let behind = behind(body, b"at:")?;
    let text = str::from_utf8(behind.get(..behind.len().min(64))?);
    // In CBOR what follows the iterator need not be text.
    let text =
        text.or_else(|error| str::from_utf8(behind.get(..error.valid_up_to()).unwrap_or_default()));
    let mut numbers = text.ok()?.split(':');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn limit(wire: Wire, body: &[u8]) -> Option<u16> {
    let behind = behind(body, b"Limit")?;
    match (wire, behind) {
        (Wire::Json, [b'"', b':', digits @ ..]) => {
            let len = digits
                .iter()
                .take_while(|digit| digit.is_ascii_digit())
                .count();
            str::from_utf8(digits.get(..len)?).ok()?.parse().ok()
        }
        (Wire::Cbor, [0x19, high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
        (Wire::Cbor, [0x18, low, ..]) => Some(u16::from(*low)),
        (Wire::Cbor, [low @ 0..0x18, ..]) => Some(u16::from(*low)),
        _ => None,
    }
}

fn behind<'a>(body: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let at = body.windows(what.len()).position(|part| part == what)?;
    body.get(at + what.len()..)
}
