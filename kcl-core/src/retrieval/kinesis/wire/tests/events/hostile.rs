//! Subscriptions that nobody should send.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::pooling::End;
use super::super::run;
use super::{
    BufferPool, CONSUMER, EVENTS, Ending, Events, body, by_us, event, event_of, event_with,
    exception, frame, header, initial, prelude, raw_frame,
};
use crate::retrieval::kinesis::wire::DecodeError;
use crate::retrieval::kinesis::wire::events::EventError;
use crate::retrieval::kinesis::wire::frames::FrameError;

/// The error of a subscription that says this.
fn error(stream: &[u8]) -> EventError {
    let mut events = Events::new(body(stream, 100, End::Whole), BufferPool::default());
    run(async {
        loop {
            if let Err(error) = events.receive().await {
                // Nothing comes after that.
                assert!(matches!(events.announced().await, Ok(None)));
                break error;
            }
        }
    })
}

fn frame_error(stream: &[u8]) -> FrameError {
    match error(stream) {
        EventError::Frame(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_are_told_apart_however_they_are_cut() {
    let frames = [
        initial(),
        event_with(1, b"one"),
        event_with(2, &[7; 5_000]),
        exception("InternalFailureException", "{}"),
    ];
    let stream = frames.concat();
    let mut end = 0;
    let ends = frames.each_ref().map(|frame| {
        end += frame.len();
        end
    });
    let whole = by_us(&stream, stream.len());
    assert_eq!(whole.events.len(), 2);
    assert!(matches!(whole.end, Ending::Exception(..)));
    for piece in [1, 2, 3, 5, 7, 11, 12, 13, 100, 4_096] {
        assert_eq!(by_us(&stream, piece), whole, "in pieces of {piece}");
    }
    for cut in 0..stream.len() {
        let part = by_us(&stream[..cut], 1_000);
        let events = ends[1..3].iter().filter(|end| **end <= cut);
        assert_eq!(part.events, whole.events[..events.count()], "{cut}");
        let is_whole = cut == 0 || ends.contains(&cut);
        let end = match is_whole {
            true => Ending::Whole,
            false => Ending::Broken,
        };
        assert_eq!(part.end, end, "cut at {cut}");
    }
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let empty = |headers: &[(&str, &str)]| frame_error(&frame(headers, b""));
    assert_eq!(empty(&[]), FrameError::Lacks(":message-type"));
    assert_eq!(
        empty(&[(":message-type", "event")]),
        FrameError::Lacks(":event-type")
    );
    assert_eq!(
        empty(&[(":message-type", "exception")]),
        FrameError::Lacks(":exception-type")
    );
    assert_eq!(
        empty(&[(":message-type", "error")]),
        FrameError::Lacks(":error-code")
    );
    assert_eq!(empty(&[(":message-type", "news")]), FrameError::Kind);
    for headers in [
        // Shorter than it says, of a kind that is none, not a text, not UTF-8.
        b"\x05name".to_vec(),
        b"\x04name\x0a".to_vec(),
        b"\x04name\x07\xff\xff".to_vec(),
        b"\x0d:message-type\x01".to_vec(),
        b"\x0d:message-type\x07\x00\x01\xff".to_vec(),
    ] {
        assert_eq!(frame_error(&raw_frame(&headers, b"")), FrameError::Headers);
    }
    let mut changed = event_with(1, b"one");
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(frame_error(&changed), FrameError::Checksum);
}

#[test]
fn lengths_that_lie_cost_nothing() {
    for (len, headers, expected) in [
        (u32::MAX, 0, FrameError::TooLarge(u32::MAX)),
        ((32 << 20) + 1, 0, FrameError::TooLarge((32 << 20) + 1)),
        (0, 0, FrameError::Lengths),
        (15, 0, FrameError::Lengths),
        (16, 1, FrameError::Lengths),
        (100, u32::MAX, FrameError::Lengths),
        (1 << 20, 200_000, FrameError::Lengths),
    ] {
        assert_eq!(frame_error(&prelude(len, headers)), expected);
    }
    // The largest that is allowed, of which nothing comes.
    let mut headers = Vec::new();
    header(&mut headers, ":message-type", 7, b"event");
    header(&mut headers, ":event-type", 7, b"SubscribeToShardEvent");
    let begun = prelude(32 << 20, u32::try_from(headers.len()).unwrap());
    let stream = [begun, headers, vec![b' '; 1_000]].concat();
    let mut events = Events::new(body(&stream, 100, End::Whole), BufferPool::default());
    let announced = run(events.announced()).unwrap();
    assert!(announced.is_some_and(|bytes| bytes > 31 << 20));
    assert!(matches!(run(events.receive()), Err(EventError::Cut)));
}

#[test]
fn what_is_not_wanted_is_passed_over_without_being_kept() {
    let large = vec![1; 20 << 20];
    let stream = [
        event_of("SomethingNewEvent", "image/png", &large),
        event_with(1, b"one"),
        exception("SomethingNewException", &"x".repeat(2 << 20)),
    ];
    let pool = BufferPool::default();
    let stream = body(&stream.concat(), 16 << 10, End::Whole);
    let mut events = Events::new(stream, pool.clone());
    let event = run(events.receive()).unwrap();
    assert_eq!(event.batch.get(0).unwrap().data(), b"one");
    let error = run(events.receive()).unwrap_err();
    assert_eq!(error.to_string(), "SomethingNewException");
    assert!(pool.kept_bytes() < 1_000, "{pool:?}");
}

#[test]
fn an_event_that_cannot_be_read_says_why_and_of_what_type_it_is() {
    let no_records = error(&event("{}"));
    assert!(matches!(
        no_records,
        EventError::Event {
            error: DecodeError::NoRecords,
            ..
        }
    ));
    let payload = r#"{"Records":[],"ContinuationSequenceNumber":"1"}"#;
    let foreign = |payload: &str| {
        event_of(
            "SubscribeToShardEvent",
            "application/xml",
            payload.as_bytes(),
        )
    };
    assert_eq!(
        by_us(&foreign(payload), 10).events.len(),
        1,
        "tried all the same"
    );
    let error = error(&foreign("<records/>")).to_string();
    assert!(
        error.contains("no object") && error.ends_with("of type application/xml"),
        "{error}"
    );
}

#[test]
fn an_event_in_cbor_is_read_as_such_and_its_payloads_are_not_copied() {
    let payload = [
        b"\xa3\x67Records\x81\xa3\x6eSequenceNumber\x61\x37\x64Data\x59\x20\x00".as_slice(),
        &[5; 0x2000],
        b"\x6cPartitionKey\x61k\x78\x1aContinuationSequenceNumber\x61\x37\x72MillisBehindLatest\x00",
    ];
    let payload = payload.concat();
    let kind = "SubscribeToShardEvent";
    let stream = event_of(kind, "application/x-amz-cbor-1.1", &payload);
    let mut events = Events::new(body(&stream, 1_000, End::Whole), BufferPool::default());
    let announced = run(events.announced()).unwrap();
    // What small records would take.
    assert_eq!(announced, Some(payload.len() as u64 * 17 / 8));
    let event = run(events.receive()).unwrap();
    assert_eq!(event.batch.get(0).unwrap().data(), &[5; 0x2000]);
    assert_eq!(event.next.as_deref(), Some("7"));
    assert!(event.batch.resident_bytes() < payload.len() as u64 + 500);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        stream in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1_usize..100,
    ) {
        by_us(&stream, piece);
        // The same behind a length that is believed, as headers, and as a payload.
        let mut headed = prelude(u32::try_from(stream.len() + 12).unwrap(), u32::try_from(stream.len() / 2).unwrap());
        headed.extend_from_slice(&stream);
        by_us(&headed, piece);
        by_us(&raw_frame(&stream, &stream), piece);
        by_us(&event(&stream), piece);
        by_us(&frame(&[(":message-type", "exception"), (":exception-type", "X")], &stream), piece);
    }
}

/// The whole way: a clear error that may be tried again.
#[tokio::test(start_paused = true)]
async fn what_is_no_event_stream_is_malformed_and_named() {
    use super::super::{Reply, Server, Wire};
    use crate::retrieval::SourceErrorKind as Kind;
    use crate::retrieval::source::{ShardSource, StartPosition};
    for (content_type, stream, kind, text) in [
        (
            "text/html",
            &b"<html>sign in</html>"[..],
            Kind::Malformed,
            "of type text/html is no event stream",
        ),
        (
            "application/x-amz-json-1.1",
            b"{}",
            Kind::Malformed,
            "application/x-amz-json-1.1 is no event stream",
        ),
        (
            EVENTS,
            b"<html>sign in</html>",
            Kind::Malformed,
            "a frame of",
        ),
        (
            EVENTS,
            b"\0\0\0\x10",
            Kind::Unavailable,
            "ended within an event",
        ),
    ] {
        let server = Server::always(Reply::new(200, content_type, Bytes::from_static(stream)));
        let source = server.source(Wire::Json);
        let start = StartPosition::TrimHorizon;
        let answer = source
            .subscribe(CONSUMER, &"shardId-0".into(), &start)
            .await;
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.is_retryable());
        assert!(error.to_string().contains(text), "{error}");
    }
}
