//! HTTP/2 over pipes in memory to the emulator, by the pool of connections that the SDK's own client has.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_types::body::SdkBody;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, capture_connection,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kcl_emulator::Emulator;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The connections to one emulator, in the order in which they were opened.
#[derive(Debug, Clone)]
pub(super) struct Pipes {
    server: SharedHttpConnector,
    opened: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Pipes {
    pub(super) fn new(emulator: &Emulator) -> Self {
        let components = RuntimeComponentsBuilder::for_tests().build().unwrap();
        let settings = HttpConnectorSettings::builder().build();
        let client = emulator.http_client("worker");
        Self {
            server: client.http_connector(&settings, &components),
            opened: Arc::default(),
        }
    }

    /// A client that has connections of its own for each set of time limits, as the SDK's has.
    pub(super) fn http_client(&self) -> SharedHttpClient {
        let (pipes, pools) = (
            self.clone(),
            Mutex::new(Vec::<(_, SharedHttpConnector)>::new()),
        );
        http_client_fn(move |settings: &HttpConnectorSettings, _| {
            let limits = (settings.connect_timeout(), settings.read_timeout());
            let mut pools = pools.lock().unwrap();
            if let Some((_, pool)) = pools.iter().find(|(known, _)| *known == limits) {
                return pool.clone();
            }
            let mut client = Client::builder(TokioExecutor::new());
            let client = client.http2_only(true).pool_timer(TokioTimer::new());
            let pool = SharedHttpConnector::new(Pool(client.build(pipes.clone())));
            pools.push((limits, pool.clone()));
            pool
        })
    }

    pub(super) fn opened(&self) -> usize {
        self.opened.lock().unwrap().len()
    }

    /// From now on nothing comes through a connection, in either direction, and nobody is told.
    pub(super) fn freeze(&self, index: usize) {
        self.opened.lock().unwrap()[index].store(true, Ordering::Relaxed);
    }

    fn open(&self) -> Pipe {
        let (client, server) = tokio::io::duplex(1 << 20);
        let frozen = Arc::new(AtomicBool::new(false));
        self.opened.lock().unwrap().push(Arc::clone(&frozen));
        let connector = self.server.clone();
        let service = hyper::service::service_fn(move |request| answer(connector.clone(), request));
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service);
        hyper::rt::Executor::execute(&TokioExecutor::new(), async {
            // A client that goes away is no failure.
            let _ended = serving.await;
        });
        Pipe {
            stream: client,
            frozen,
        }
    }
}

async fn answer(
    connector: SharedHttpConnector,
    request: Request<Incoming>,
) -> Result<Response<SdkBody>, ConnectorError> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| ConnectorError::io(error.into()))?;
    let request = Request::from_parts(parts, SdkBody::from(body.to_bytes()));
    let answer = connector
        .call(HttpRequest::try_from(request).unwrap())
        .await?;
    Ok(answer.try_into_http1x().unwrap())
}

impl tower_service::Service<Uri> for Pipes {
    type Response = TokioIo<Pipe>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<TokioIo<Pipe>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(Ok(TokioIo::new(self.open())))
    }
}

/// One pool of connections.
#[derive(Debug)]
struct Pool(Client<Pipes, SdkBody>);

impl HttpConnector for Pool {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = request.try_into_http1x().unwrap();
        let used = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || metadata(&used));
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer
                .await
                .map_err(|error| ConnectorError::io(error.into()))?;
            Ok(HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).unwrap())
        })
    }
}

fn metadata(used: &CaptureConnection) -> Option<ConnectionMetadata> {
    used.connection_metadata().as_ref()?;
    let used = used.clone();
    let poison = move || {
        if let Some(connection) = used.connection_metadata().as_ref() {
            connection.poison();
        }
    };
    let metadata = ConnectionMetadata::builder().proxied(false);
    Some(metadata.poison_fn(poison).build())
}

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: DuplexStream,
    frozen: Arc<AtomicBool>,
}

impl Pipe {
    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.is_frozen() {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.is_frozen() {
            true => Poll::Ready(Ok(data.len())),
            false => Pin::new(&mut self.stream).poll_write(context, data),
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
