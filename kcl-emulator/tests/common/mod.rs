//! A server on a free port and requests without an SDK.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kcl_emulator::Emulator;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const JSON: &str = "application/x-amz-json-1.1";
pub(crate) const CBOR: &str = "application/x-amz-cbor-1.1";
pub(crate) const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/us-east-1/kinesis/aws4_request, \
                          SignedHeaders=host, Signature=00";

/// The two versions of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// An emulator that serves until this is dropped.
pub(crate) struct Server {
    pub(crate) emulator: Emulator,
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(emulator: Emulator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = emulator.clone();
        #[expect(clippy::disallowed_methods, reason = "the server of a test")]
        let task =
            tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
        Self {
            emulator,
            address,
            task,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A signed call of an operation.
pub(crate) fn call(
    target: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    Request::post("/")
        .header("host", "emulator")
        .header("x-amz-target", target)
        .header("content-type", content_type)
        .header("authorization", SIGNED)
        .body(Full::new(body.into()))
        .unwrap()
}

pub(crate) fn kinesis(operation: &str, body: &str) -> Request<Full<Bytes>> {
    call(
        &format!("Kinesis_20131202.{operation}"),
        JSON,
        body.to_owned(),
    )
}

/// Sends one request on a connection of its own; the body may still be coming.
pub(crate) async fn open(
    address: &str,
    version: Version,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    match version {
        Version::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            drive(connection);
            sender.send_request(request).await
        }
        Version::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, stream).await?;
            drive(connection);
            let mut request = request;
            *request.uri_mut() = format!("http://emulator{}", request.uri()).parse().unwrap();
            request.headers_mut().remove("host");
            sender.send_request(request).await
        }
    }
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the client of a test")]
    tokio::spawn(async move {
        let _ = connection.await;
    });
}

/// Sends one request and reads the whole answer.
pub(crate) async fn send(
    address: &str,
    version: Version,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let answer = open(address, version, request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

/// Sends one request to an emulator without a socket.
pub(crate) async fn respond(emulator: &Emulator, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = emulator
        .respond(Request::from_parts(parts, body))
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

pub(crate) fn json(answer: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(answer.body()).unwrap()
}

pub(crate) fn header<'a, B>(answer: &'a Response<B>, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}
