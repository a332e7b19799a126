//! The same subscription read by the SDK and by ourselves.

use proptest::prelude::*;

use super::super::generated::{Generated, answer};
use super::{by_sdk, by_us, event, event_of, exception, frame, initial};

/// What a subscription may say.
#[derive(Debug, Clone)]
enum Part {
    Event(Generated),
    Initial,
    Unknown(Vec<u8>),
    Exception(&'static str, Option<String>),
}

fn part() -> impl Strategy<Value = Part> {
    let codes = prop::sample::select(vec![
        "ResourceNotFoundException",
        "ResourceInUseException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSAccessDeniedException",
        "KMSNotFoundException",
        "KMSOptInRequired",
        "KMSThrottlingException",
        "InternalFailureException",
        "SomethingNewException",
    ]);
    prop_oneof![
        6 => answer().prop_map(Part::Event),
        1 => Just(Part::Initial),
        1 => prop::collection::vec(any::<u8>(), 0..9_000).prop_map(Part::Unknown),
        1 => (codes, prop::option::of(any::<String>())).prop_map(|(code, message)| Part::Exception(code, message)),
    ]
}

fn payload(generated: &Generated) -> Vec<u8> {
    let answer = String::from_utf8(generated.json()).unwrap();
    answer
        .replace("\"NextShardIterator\"", "\"ContinuationSequenceNumber\"")
        .into_bytes()
}

fn written(part: &Part) -> Vec<u8> {
    match part {
        Part::Event(generated) => event(payload(generated)),
        Part::Initial => initial(),
        Part::Unknown(payload) => event_of("SomethingNewEvent", "text/plain", payload),
        // The SDK looks for the code in the payload only.
        Part::Exception(code, message) => {
            let body = serde_json::json!({ "__type": code, "message": message });
            exception(code, &body.to_string())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_read_the_same(parts in prop::collection::vec(part(), 0..6), piece in 1_usize..3_000) {
        let stream: Vec<u8> = parts.iter().flat_map(written).collect();
        prop_assert_eq!(by_us(&stream, piece), by_sdk(&stream, piece).unwrap());
    }

    /// A checksum tells of every changed bit: nothing of its frame is read, and nothing behind it.
    #[test]
    fn both_stop_at_the_frame_that_is_damaged(
        parts in prop::collection::vec(answer(), 1..4),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let frames: Vec<Vec<u8>> = parts.iter().map(|part| event(payload(part))).collect();
        let mut stream = frames.concat();
        let place = place.index(stream.len());
        stream[place] ^= 1 << bit;
        let mut end = 0;
        let whole = frames.iter().take_while(|frame| {
            end += frame.len();
            end <= place
        });
        let whole = whole.count();
        let (us, sdk) = (by_us(&stream, 1_000), by_sdk(&stream, 1_000).unwrap());
        prop_assert_eq!(us.events.len(), whole);
        prop_assert_eq!(us, sdk);
    }

    /// Whatever both can read, both read alike.
    #[test]
    fn a_damaged_event_with_a_right_checksum_is_never_read_differently(
        generated in answer(),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut damaged = payload(&generated);
        let place = place.index(damaged.len());
        damaged[place] ^= 1 << bit;
        let stream = event(damaged);
        let us = by_us(&stream, 500);
        if let (Some(sdk), [_]) = (by_sdk(&stream, 500), us.events.as_slice())
            && !sdk.events.is_empty()
        {
            prop_assert_eq!(us, sdk);
        }
    }

    /// The headers too.
    #[test]
    fn damaged_headers_with_a_right_checksum_are_never_read_differently(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let whole = event(r#"{"Records":[],"ContinuationSequenceNumber":"1","MillisBehindLatest":0}"#);
        let headers = u32::from_be_bytes(*whole[4..].first_chunk().unwrap()) as usize;
        let mut headers = whole[12..12 + headers].to_vec();
        let place = place.index(headers.len());
        headers[place] = byte;
        let payload = &whole[12 + headers.len()..whole.len() - 4];
        let stream = super::raw_frame(&headers, payload);
        let (us, sdk) = (by_us(&stream, 500), by_sdk(&stream, 500).unwrap());
        prop_assert_eq!(us, sdk);
    }
}

#[test]
fn frames_with_every_kind_of_header_are_read_alike() {
    let mut headers = Vec::new();
    for (kind, value) in [
        (0, &[][..]),
        (1, &[]),
        (2, &[1]),
        (3, &[0; 2]),
        (4, &[0; 4]),
        (5, &[0; 8]),
        (6, &[0, 3, 1, 2, 3]),
        (8, &[0; 8]),
        (9, &[0; 16]),
    ] {
        super::header(&mut headers, "x", kind, value);
    }
    super::header(&mut headers, ":event-type", super::TEXT, b"Other");
    for name in [":message-type", ":event-type"] {
        let value: &[u8] = match name {
            ":message-type" => b"event",
            _ => b"SubscribeToShardEvent",
        };
        super::header(&mut headers, name, super::TEXT, value);
    }
    let payload = br#"{"Records":[],"ContinuationSequenceNumber":"7","MillisBehindLatest":0}"#;
    let stream = super::raw_frame(&headers, payload);
    let us = by_us(&stream, 1);
    assert_eq!(us.events.len(), 1, "{us:?}");
    assert_eq!(us, by_sdk(&stream, 1).unwrap());
}

/// Where we read more than the SDK: the code of an exception is in its headers, whether or not the payload has it too.
#[test]
fn an_exception_has_the_code_that_its_headers_say() {
    use super::Ending::Exception;
    let code = || "ResourceInUseException".to_owned();
    let why = || Some("why".to_owned());
    for (stream, end) in [
        (
            exception(&code(), r#"{"message":"why"}"#),
            Exception(code(), why()),
        ),
        (
            exception(&code(), r#"{"Message":"why"}"#),
            Exception(code(), why()),
        ),
        (exception(&code(), "{}"), Exception(code(), None)),
        (exception(&code(), ""), Exception(code(), None)),
        (exception(&code(), "<html>"), Exception(code(), None)),
        (
            frame(
                &[
                    (":message-type", "error"),
                    (":error-code", &code()),
                    (":error-message", "why"),
                ],
                b"",
            ),
            Exception(code(), why()),
        ),
    ] {
        let said = by_us(&[initial(), stream].concat(), 7);
        assert_eq!(said.end, end);
        assert!(said.events.is_empty());
    }
}
