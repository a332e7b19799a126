//! The Kinesis that does nothing, behind a socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderValue;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kcl_core::Runtime;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::case::Case;
use super::error::BenchError;
use super::null_kinesis::{NullKinesis, Reply, Subscribed};

/// Serves one case until it is dropped, on a port of its own.
#[derive(Debug)]
pub(super) struct NullServer {
    address: SocketAddr,
    kinesis: Arc<NullKinesis>,
    _accepting: AbortOnDropHandle<()>,
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
        let kinesis = Arc::new(NullKinesis::new(case, shards));
        let accepting = runtime.spawn(accept(listener, Arc::clone(&kinesis), runtime.clone()));
        Ok(Self {
            address,
            kinesis,
            _accepting: accepting,
        })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn records_per_answer(&self) -> u16 {
        self.kinesis.records_per_answer()
    }
}

async fn accept(listener: TcpListener, kinesis: Arc<NullKinesis>, runtime: Runtime) {
    while let Ok((stream, _)) = listener.accept().await {
        runtime.spawn(serve(stream, Arc::clone(&kinesis))).detach();
    }
}

async fn serve(stream: TcpStream, kinesis: Arc<NullKinesis>) {
    let _slower_at_worst = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let kinesis = Arc::clone(&kinesis);
        async move { Ok::<_, Infallible>(answer(kinesis, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // It ends when the consumer does.
    let _ended = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(kinesis: Arc<NullKinesis>, request: Request<Incoming>) -> Response<Body> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        let value = value.and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (target, content_type) = (header("x-amz-target"), header("content-type"));
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    match kinesis.subscribed(&target, &content_type, &body) {
        Some((subscribed, begin)) => subscription(kinesis, subscribed, begin),
        None => response(kinesis.answer(&target, &content_type, &body)),
    }
}

/// Events as fast as they are taken.
fn subscription(kinesis: Arc<NullKinesis>, of: Subscribed, begin: Bytes) -> Response<Body> {
    let events = stream::unfold((kinesis, None), move |(kinesis, from)| {
        let event = match from {
            None => Some((0, begin.clone())),
            Some(from) => kinesis.event(of, from),
        };
        let event = event.map(|(next, frame)| (Ok(Frame::data(frame)), (kinesis, Some(next))));
        std::future::ready(event)
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let content_type = HeaderValue::from_static("application/vnd.amazon.eventstream");
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, content_type);
    response
}

fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Full::new(reply.body).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(reply.content_type);
    headers.insert(http::header::CONTENT_TYPE, content_type);
    let id = HeaderValue::from_static("00000000-0000-0000-0000-000000000000");
    headers.insert("x-amzn-requestid", id);
    response
}
