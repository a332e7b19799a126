//! Answers to a subscription that are none, or stop in the middle.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};

use super::{ARN, STREAM, Stream, stream, through};
use crate::retrieval::{KinesisSource, SourceErrorKind as Kind};

const EVENTS: &str = "application/vnd.amazon.eventstream";

/// What comes instead of a subscription.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// This body, and its end.
    Whole(&'static str, &'static [u8]),
    /// The first event of the real one, short of its last byte, and the end.
    CutEvent,
    /// The first event, short of so many bytes, and then nothing.
    Stalled(usize),
}

/// Gives out what it has, and does not end.
#[derive(Debug)]
struct Stalls(Option<Vec<u8>>);

impl Body for Stalls {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            None => Poll::Pending,
        }
    }
}

/// Calls the emulator, but for subscriptions.
#[derive(Debug, Clone)]
struct Impostor {
    emulator: SharedHttpConnector,
    answer: Answer,
    is_over: Arc<AtomicBool>,
}

impl HttpConnector for Impostor {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let subscribes = target.ends_with(".SubscribeToShard");
        if !subscribes || self.is_over.load(Ordering::Relaxed) {
            return self.emulator.call(request);
        }
        let (emulator, answer) = (self.emulator.clone(), self.answer);
        HttpConnectorFuture::new(async move {
            // So that it is counted.
            let mut real = emulator.call(request).await?;
            let (content_type, body) = match answer {
                Answer::Whole(content_type, body) => (content_type, SdkBody::from(body)),
                Answer::CutEvent => (EVENTS, SdkBody::from(first_event(&mut real, 1).await)),
                Answer::Stalled(short_of) => {
                    let stalls = Stalls(Some(first_event(&mut real, short_of).await));
                    (EVENTS, SdkBody::from_body_1_x(stalls))
                }
            };
            let mut foreign = HttpResponse::new(200.try_into().unwrap(), body);
            foreign.headers_mut().insert("content-type", content_type);
            Ok(foreign)
        })
    }
}

/// The initial response and the first event, short of so many bytes.
async fn first_event(real: &mut HttpResponse, short_of: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let frame = real.body_mut().frame().await.unwrap().unwrap();
        bytes.extend_from_slice(&frame.into_data().unwrap());
    }
    bytes.truncate(bytes.len() - short_of);
    bytes
}

fn with_impostor(stream: &mut Stream, answer: Answer) -> Arc<AtomicBool> {
    let is_over = Arc::new(AtomicBool::new(false));
    let aws = through(stream, |emulator| Impostor {
        emulator,
        answer,
        is_over: Arc::clone(&is_over),
    });
    stream.source = KinesisSource::new(&aws, STREAM, Some(ARN.to_owned()));
    is_over
}

#[tokio::test(start_paused = true)]
async fn what_is_no_subscription_is_told_of_costs_few_calls_and_loses_nothing() {
    use Answer::{CutEvent, Whole};
    for (answer, kinds) in [
        (
            Whole("text/html", b"<html>sign in</html>"),
            [Kind::Malformed].as_slice(),
        ),
        (
            Whole("application/x-amz-json-1.1", b"{}"),
            &[Kind::Malformed],
        ),
        (Whole(EVENTS, b""), &[Kind::Malformed]),
        (
            Whole(EVENTS, b"\0\0\0\x10"),
            &[Kind::Malformed, Kind::Unavailable],
        ),
        // A frame with checksums and nothing in it: no event. The next one is cut.
        (
            Whole(
                EVENTS,
                b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff\0\0",
            ),
            &[Kind::Malformed, Kind::Unavailable],
        ),
        // Wrong checksums.
        (
            Whole(
                EVENTS,
                b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xec\x7d\x98\xc8\xff",
            ),
            &[Kind::Malformed],
        ),
        // Four gigabytes are announced.
        (Whole(EVENTS, &[0xff; 12]), &[Kind::Malformed]),
        (CutEvent, &[Kind::Malformed, Kind::Unavailable]),
    ] {
        let mut stream = stream(1);
        let is_over = with_impostor(&mut stream, answer);
        let mut reading = stream.read(false).await;
        stream.put("a").await;
        sleep(Duration::from_secs(120)).await;
        assert!(reading.deliveries.is_empty());
        let told = reading.notes.of("failed");
        let is_known = |note: &String| kinds.iter().any(|kind| note.ends_with(kind.as_str()));
        assert!(
            told.len() > 5 && told.iter().all(is_known),
            "{answer:?}: {told:?}"
        );
        let before = stream.calls("SubscribeToShard");
        sleep(Duration::from_secs(60)).await;
        let calls = stream.calls("SubscribeToShard") - before;
        assert!((1..=20).contains(&calls), "{answer:?}: {calls} a minute");
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(reading.texts(1).await, ["a"], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_an_event_is_told_from_silence() {
    let silence = Duration::from_secs(10);
    for (short_of, is_part) in [(0, false), (1, true), (40, true)] {
        let mut stream = stream(1);
        let consumer = stream.consumer("app").await;
        stream.put("a").await;
        with_impostor(&mut stream, Answer::Stalled(short_of));
        let mut subscription = stream.subscribe(&consumer).await;
        if !is_part {
            assert_eq!(subscription.receive().await.unwrap().batch.len(), 1);
        }
        assert!(timeout(silence, subscription.announced()).await.is_err());
        assert_eq!(subscription.fell_silent(), is_part, "{short_of}");
    }
}
