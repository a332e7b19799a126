//! The emulator on a socket: HTTP/1.1 and HTTP/2 with prior knowledge on one port.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::activity::Activity;
use crate::front::{Body, ConnectionLost};
use crate::{Emulator, tasks};

/// So many connections are open at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 2_000;
/// The largest body: ten mebibytes of records in base64, with room for keys.
const MAX_BODY: u64 = 24 << 20;
/// All bodies that are being read or answered may take so many kibibytes together.
const BODY_BUDGET_KIB: usize = 512 << 10;
/// A body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without a request for so long is closed: so is one whose request never becomes whole.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that are being answered get this long when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_STREAMS: u32 = 1_000;
const H2_KEEP_ALIVE: Duration = Duration::from_secs(30);

type HttpBuilder = auto::Builder<TokioExecutor>;

/// What the connections of one server share.
#[derive(Clone)]
struct Shared {
    emulator: Emulator,
    http: Arc<HttpBuilder>,
    bodies: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Emulator {
    /// Serves on `listener` until `shutdown` completes, then lets requests finish for a second and
    /// returns. Dropping the returned future closes every connection at once.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let (stop_sender, stop) = watch::channel(false);
        let shared = Shared {
            emulator: self.clone(),
            http: Arc::new(http_builder()),
            bodies: Arc::new(Semaphore::new(BODY_BUDGET_KIB)),
            stop,
        };
        tokio::select! {
            biased;
            () = shutdown => {}
            () = accept_all(&listener, &shared, &graceful) => {}
        }
        drop(listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = tokio::time::sleep(STOP_TIMEOUT) => {}
        }
        let _ = stop_sender.send(true);
    }
}

fn http_builder() -> HttpBuilder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(H2_KEEP_ALIVE);
    builder
}

async fn accept_all(listener: &TcpListener, shared: &Shared, graceful: &GracefulShutdown) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, shared.clone(), graceful.watcher());
                tasks::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Shared, watcher: Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delayed sending");
    }
    let Shared {
        emulator,
        http,
        bodies,
        mut stop,
    } = shared;
    let activity = Activity::default();
    let service = service_fn(|request| {
        let (emulator, bodies) = (emulator.clone(), Arc::clone(&bodies));
        let busy = activity.begin();
        async move {
            let answer = answer(&emulator, &bodies, request).await?;
            // A subscription is busy for as long as its body is being sent.
            Ok::<_, ConnectionLost>(answer.map(|body| {
                body.map_frame(move |frame| {
                    let _busy = &busy;
                    frame
                })
            }))
        }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        outcome = watcher.watch(connection) => {
            if let Err(error) = outcome {
                tracing::debug!(error, "connection ended");
            }
        }
        () = activity.idle_for(IDLE_TIMEOUT) => tracing::debug!("idle connection closed"),
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn answer(
    emulator: &Emulator,
    bodies: &Semaphore,
    request: Request<Incoming>,
) -> Result<Response<Body>, ConnectionLost> {
    let (parts, body) = request.into_parts();
    let length = body.size_hint().upper().unwrap_or(MAX_BODY);
    if length > MAX_BODY {
        return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let _budget = claim(bodies, length).await;
    let limit = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
    let body = Limited::new(body, limit).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Err(_)) => return Err(ConnectionLost),
        Err(_elapsed) => return Ok(refuse(StatusCode::REQUEST_TIMEOUT)),
    };
    emulator.respond(Request::from_parts(parts, body)).await
}

async fn claim(bodies: &Semaphore, length: u64) -> Option<SemaphorePermit<'_>> {
    let kibibytes = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
    bodies.acquire_many(kibibytes).await.ok()
}

fn refuse(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::full(Bytes::new()));
    *answer.status_mut() = status;
    answer
}
