//! The decoders against the SDK's own, hostile answers, errors, requests, and what a server without CBOR does.

mod corpus;
mod differential;
mod emulator;
mod errors;
mod events;
mod fallback;
mod generated;
mod hostile;
mod pooling;
mod requests;

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::config::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use aws_types::region::Region;
use bytes::Bytes;

use super::{Answer, BufferPool, DecodeError, Wire};
use crate::retrieval::kinesis::KinesisSource;
use crate::retrieval::source::{Fetched, ShardIterator, ShardSource};
use crate::retrieval::{SourceError, SourceErrorKind};

pub(super) const JSON: &str = "application/x-amz-json-1.1";
pub(super) const CBOR: &str = "application/x-amz-cbor-1.1";

fn decode(wire: Wire, body: Bytes) -> Result<Answer, DecodeError> {
    super::decode(wire, body, &BufferPool::default())
}

/// Makes a body anew for each request.
type MakeBody = Arc<dyn Fn() -> SdkBody + Send + Sync>;

/// What a made-up server says.
#[derive(Clone)]
pub(super) struct Reply {
    status: u16,
    content_type: Option<&'static str>,
    error_type: Option<&'static str>,
    body: Bytes,
    stream: Option<MakeBody>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            content_type,
            body,
            ..
        } = self;
        write!(f, "{status} {content_type:?} {body:?}")
    }
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some(content_type),
            error_type: None,
            body: body.into(),
            stream: None,
        }
    }

    /// With a body that comes bit by bit, of unknown length.
    pub(super) fn streaming(self, body: impl Fn() -> SdkBody + Send + Sync + 'static) -> Self {
        Self {
            stream: Some(Arc::new(body)),
            ..self
        }
    }

    pub(super) fn without_content_type(self) -> Self {
        Self {
            content_type: None,
            ..self
        }
    }

    pub(super) fn with_error_type(self, error_type: &'static str) -> Self {
        Self {
            error_type: Some(error_type),
            ..self
        }
    }
}

type Replies = Arc<dyn Fn(&HttpRequest) -> Reply + Send + Sync>;

/// A server in the process that keeps the requests it got.
#[derive(Clone)]
pub(super) struct Server {
    replies: Replies,
    seen: Arc<Mutex<Vec<HttpRequest>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    pub(super) fn new(replies: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            replies: Arc::new(replies),
            seen: Arc::default(),
        }
    }

    pub(super) fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    pub(super) fn sdk_config(&self) -> SdkConfig {
        let server = self.clone();
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "static");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .sleep_impl(aws_sdk_kinesis::config::SharedAsyncSleep::new(NoSleep))
            .http_client(http_client_fn(move |_: &HttpConnectorSettings, _| {
                SharedHttpConnector::new(server.clone())
            }))
            .build()
    }

    pub(super) fn source(&self, wire: Wire) -> KinesisSource {
        KinesisSource::new(&self.sdk_config(), "orders", None).with_wire(wire)
    }

    /// What the requests so far were written in.
    pub(super) fn asked_in(&self) -> Vec<Wire> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|request| Wire::of_answer(request.headers().get("content-type")).unwrap())
            .collect()
    }

    pub(super) fn last_request(&self) -> HttpRequest {
        self.seen.lock().unwrap().pop().unwrap()
    }
}

impl HttpConnector for Server {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let reply = (self.replies)(&request);
        self.seen.lock().unwrap().push(request);
        let status = reply.status.try_into().unwrap();
        let length = reply.body.len().to_string();
        let body = match &reply.stream {
            Some(stream) => stream(),
            None => SdkBody::from(reply.body),
        };
        let mut response = HttpResponse::new(status, body);
        let headers = response.headers_mut();
        if reply.stream.is_none() {
            headers.insert("content-length", length);
        }
        if let Some(content_type) = reply.content_type {
            headers.insert("content-type", content_type);
        }
        if let Some(error_type) = reply.error_type {
            headers.insert("x-amzn-errortype", error_type);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Time limits need a clock; these answers come at once.
#[derive(Debug)]
struct NoSleep;

impl aws_sdk_kinesis::config::AsyncSleep for NoSleep {
    fn sleep(&self, duration: std::time::Duration) -> aws_sdk_kinesis::config::Sleep {
        aws_sdk_kinesis::config::Sleep::new(tokio::time::sleep(duration))
    }
}

pub(super) async fn get(source: &KinesisSource) -> Result<Fetched, SourceError> {
    let iterator = ShardIterator("iterator".to_owned());
    source.get_records(&iterator, 10).await
}

pub(super) async fn kind_of_failure(source: &KinesisSource) -> SourceErrorKind {
    get(source).await.unwrap_err().kind()
}

/// Runs on a runtime with virtual time, for property tests.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// A map of texts in CBOR.
pub(super) fn cbor_texts(members: &[(&str, &str)]) -> Vec<u8> {
    use super::cbor_head::Head;
    let mut out = Vec::new();
    Head::write(&mut out, 5, members.len() as u64);
    for text in members.iter().flat_map(|(name, value)| [name, value]) {
        Head::write(&mut out, 3, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    out
}
