//! When an event is taken off its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame};
use tokio::time::timeout;

use super::super::pooling::{End, Frames};
use super::{BufferPool, EventError, Events, body, event, event_with, initial};

const PIECE: usize = 1_000;

/// Counts what was taken.
struct Counted(Frames, Arc<AtomicUsize>);

impl Body for Counted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, Bytes::len);
            self.1.fetch_add(len, Ordering::Relaxed);
        }
        polled
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_announced_before_it_is_taken_off_the_connection() {
    let (payload, taken) = (vec![7; 100_000], Arc::new(AtomicUsize::new(0)));
    let (first, large) = (initial(), event_with(1, &payload));
    let stream = [first, large.clone(), event_with(2, b"two")].concat();
    let pieces = stream.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let frames = Frames {
        frames: pieces,
        end: End::Whole,
    };
    let counted = SdkBody::from_body_1_x(Counted(frames, Arc::clone(&taken)));
    let mut events = Events::new(counted, BufferPool::default());
    let bytes = events.announced().await.unwrap().unwrap();
    assert!(taken.load(Ordering::Relaxed) <= PIECE);
    // Said again, it costs nothing more.
    assert_eq!(events.announced().await.unwrap(), Some(bytes));
    assert!(taken.load(Ordering::Relaxed) <= PIECE);
    let event = events.receive().await.unwrap();
    assert_eq!(event.batch.get(0).unwrap().data(), payload);
    assert!(
        (event.batch.resident_bytes()..large.len() as u64).contains(&bytes),
        "it takes no more than was announced"
    );
    // A small one is looked into.
    let bytes = events.announced().await.unwrap();
    let event = events.receive().await.unwrap();
    assert_eq!(bytes, Some(event.batch.resident_bytes()));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_records_takes_no_room() {
    let empty = r#"{"Records":[],"ContinuationSequenceNumber":"1","MillisBehindLatest":0}"#;
    let mut events = Events::new(body(&event(empty), 9, End::Stalls), BufferPool::default());
    assert_eq!(events.announced().await.unwrap(), Some(0));
    let event = events.receive().await.unwrap();
    assert_eq!(event.next.as_deref(), Some("1"));
    assert!(
        timeout(Duration::from_secs(60), events.announced())
            .await
            .is_err()
    );
    assert!(!events.is_within());
}

/// Every wait may be given up and begun again.
#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_loses_nothing() {
    let frames = [initial(), event_with(1, &[7; 6_000]), event_with(2, b"two")];
    let stream = frames.concat();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let body = SdkBody::from_body_1_x(Fed(receiver));
    let mut events = Events::new(body, BufferPool::default());
    let mut seen = Vec::new();
    for byte in stream {
        tokio::task::yield_now().await;
        assert!(
            events
                .announced()
                .now_or_never()
                .is_none_or(|announced| announced.is_ok())
        );
        sender.send(Bytes::from(vec![byte])).unwrap();
        if let Some(event) = events.receive().now_or_never() {
            seen.push(event.unwrap().batch.get(0).unwrap().data().len());
        }
    }
    assert_eq!(seen, [6_000, 3]);
    drop(sender);
    assert!(matches!(events.receive().await, Err(EventError::Cut)));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_an_event_is_told_from_silence() {
    let stream = event_with(1, &[7; 6_000]);
    for cut in [1, 11, 12, 20, 200, stream.len() - 1] {
        let mut events = Events::new(body(&stream[..cut], 50, End::Stalls), BufferPool::default());
        assert!(
            timeout(Duration::from_secs(1), events.receive())
                .await
                .is_err()
        );
        assert!(events.is_within(), "{cut}");
    }
}

/// Gives out what is sent.
struct Fed(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
