//! Events that nobody has room for stay where they are: with the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::sleep;

use super::{ARN, STREAM, Stream, stream, through};
use crate::retrieval::KinesisSource;

const SHARDS: usize = 5;
const EVENT: usize = 300_000;
const PIECE: usize = 1_000;
/// What is taken of an event before it is known how large it is: the frames before it, and a piece.
const BEGINNING: u64 = 3_000;

/// Gives out what came in pieces, as a network does, and counts them.
#[derive(Debug)]
struct InPieces {
    body: SdkBody,
    left: Bytes,
    taken: Arc<AtomicU64>,
}

impl Body for InPieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.left.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => this.left = frame.into_data().unwrap_or_default(),
                other => return Poll::Ready(other),
            }
        }
        let piece = this.left.split_to(PIECE.min(this.left.len()));
        this.taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[derive(Debug, Clone)]
struct Network {
    emulator: SharedHttpConnector,
    taken: Arc<AtomicU64>,
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if !target.ends_with(".SubscribeToShard") {
            return self.emulator.call(request);
        }
        let (emulator, taken) = (self.emulator.clone(), Arc::clone(&self.taken));
        HttpConnectorFuture::new(async move {
            let mut answer = emulator.call(request).await?;
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            let left = Bytes::new();
            *answer.body_mut() = SdkBody::from_body_1_x(InPieces { body, left, taken });
            Ok::<HttpResponse, _>(answer)
        })
    }
}

/// Returns the bytes of events that were taken.
fn over_network(stream: &mut Stream) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let aws = through(stream, |emulator| Network {
        emulator,
        taken: Arc::clone(&taken),
    });
    stream.source = KinesisSource::new(&aws, STREAM, Some(ARN.to_owned()));
    taken
}

#[tokio::test(start_paused = true)]
async fn a24_an_event_is_not_taken_off_its_connection_before_there_is_room_for_it() {
    let mut stream = stream(u32::try_from(SHARDS).unwrap());
    let taken = over_network(&mut stream);
    let reader = stream.reader(false);
    let budget = reader.polling.budget.clone();
    let mut readings = Vec::new();
    for index in 0..SHARDS {
        readings.push(stream.read_with(reader.clone(), index).await);
    }
    sleep(Duration::from_secs(30)).await;
    let all = budget.reserve(budget.total()).await;
    for index in 0..SHARDS {
        stream.put_to(index, &"x".repeat(EVENT)).await;
    }
    let before = taken.load(Ordering::Relaxed);
    let subscribed = stream.calls("SubscribeToShard");
    sleep(Duration::from_secs(20)).await;
    // Subscriptions are given up meanwhile; those that are begun again may take a beginning each.
    let begun = SHARDS as u64 + stream.calls("SubscribeToShard") - subscribed;
    let came = taken.load(Ordering::Relaxed) - before;
    assert!(
        came <= begun * BEGINNING && came > 0,
        "{came} bytes of {begun} events"
    );
    assert!(budget.used() <= budget.total());
    drop(all);
    for reading in &mut readings {
        assert_eq!(reading.texts(1).await[0].len(), EVENT);
    }
    assert!(budget.peak() <= budget.total(), "{}", budget.peak());
}
