//! Failed calls: typed alike in both wires, and as by the SDK's own protocol.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;

use super::super::Wire;
use super::{CBOR, JSON, Reply, Server, cbor_texts, get, kind_of_failure};
use crate::retrieval::SourceErrorKind as Kind;
use crate::retrieval::kinesis::classify;

/// What `GetRecords` is modelled to answer, and some that it answers all the same.
const CODES: [(u16, &str, Kind); 18] = [
    (400, "AccessDeniedException", Kind::AccessDenied),
    (400, "DryRunOperationException", Kind::Other),
    (400, "ExpiredIteratorException", Kind::ExpiredIterator),
    (500, "InternalFailureException", Kind::Unavailable),
    (400, "InvalidArgumentException", Kind::InvalidArgument),
    (400, "KMSAccessDeniedException", Kind::KmsAccessDenied),
    (400, "KMSDisabledException", Kind::KmsDisabled),
    (400, "KMSInvalidStateException", Kind::KmsInvalidState),
    (400, "KMSNotFoundException", Kind::KmsNotFound),
    (400, "KMSOptInRequired", Kind::KmsOptInRequired),
    (400, "KMSThrottlingException", Kind::KmsThrottling),
    (
        400,
        "ProvisionedThroughputExceededException",
        Kind::Throttled,
    ),
    (400, "ResourceNotFoundException", Kind::StreamNotFound),
    (400, "LimitExceededException", Kind::Throttled),
    (400, "ExpiredTokenException", Kind::Credentials),
    (503, "ServiceUnavailable", Kind::Unavailable),
    (400, "SomethingNew", Kind::Other),
    (500, "SomethingNew", Kind::Unavailable),
];

const MESSAGE: &str = "the service's \"words\"";

fn json(kind: &str) -> Vec<u8> {
    let error = serde_json::json!({ "__type": kind, "message": MESSAGE });
    serde_json::to_vec(&error).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_error_is_the_same_in_both_wires_and_by_the_sdk() {
    for (status, code, kind) in CODES {
        let in_json = Reply::new(status, JSON, json(code));
        let named = cbor_texts(&[("message", MESSAGE), ("__type", code)]);
        let in_cbor = Reply::new(status, CBOR, named);

        let sdk = Client::new(&Server::always(in_json.clone()).sdk_config());
        let sdk = sdk.get_records().shard_iterator("iterator").send().await;
        let sdk = sdk.unwrap_err();
        assert_eq!(sdk.code(), Some(code));
        let sdk = classify("GetRecords", "orders", sdk);
        assert_eq!(sdk.kind(), kind, "{code}");

        for (reply, wire) in [
            (&in_json, Wire::Json),
            (&in_cbor, Wire::Cbor),
            (&in_json, Wire::Cbor),
        ] {
            let server = Server::always(reply.clone());
            let error = get(&server.source(wire)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{code} {wire:?}");
            assert_eq!(error.to_string(), sdk.to_string());
            assert_eq!(error.detail(), Some(MESSAGE));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_is_found_wherever_servers_put_it() {
    let throttled = "ProvisionedThroughputExceededException";
    let with_name_space = "com.amazonaws.kinesis#ProvisionedThroughputExceededException";
    let with_address = "ProvisionedThroughputExceededException:http://internal.amazon.com/coral/";
    for reply in [
        Reply::new(400, JSON, json(with_name_space)),
        Reply::new(400, JSON, json(with_address)),
        Reply::new(400, CBOR, cbor_texts(&[("__type", with_name_space)])),
        Reply::new(
            400,
            CBOR,
            cbor_texts(&[("code", throttled), ("__type", "x")]),
        ),
        Reply::new(400, CBOR, Vec::new()).with_error_type(with_address),
        Reply::new(400, JSON, "").with_error_type(throttled),
        Reply::new(400, JSON, json("Other")).with_error_type(throttled),
        Reply::new(400, JSON, json(throttled)).without_content_type(),
        // A number is no code.
        Reply::new(
            400,
            JSON,
            format!(r#"{{"code":400,"__type":"{throttled}"}}"#),
        ),
        // In pieces.
        Reply::new(
            400,
            CBOR,
            [
                b"\xbf\x66__type\x7f\x61P".as_slice(),
                &[0x78, 37],
                &throttled.as_bytes()[1..],
                b"\xff\xff",
            ]
            .concat(),
        ),
    ] {
        let server = Server::always(reply.clone());
        let kind = kind_of_failure(&server.source(Wire::Json)).await;
        assert_eq!(kind, Kind::Throttled, "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_answers_are_clear_and_may_be_tried_again() {
    let page = "<html><body>502 Bad Gateway</body></html>";
    for (reply, kind) in [
        (Reply::new(200, "text/html", page), Kind::Malformed),
        (Reply::new(200, "application/xml", "<a/>"), Kind::Malformed),
        (Reply::new(200, JSON, page), Kind::Malformed),
        (Reply::new(200, JSON, ""), Kind::Malformed),
        (Reply::new(200, JSON, "{}"), Kind::Malformed),
        (Reply::new(200, JSON, r#"{"Records":["#), Kind::Malformed),
        (Reply::new(200, CBOR, page), Kind::Malformed),
        (
            Reply::new(200, CBOR, b"\xa1\x67Reco".as_slice()),
            Kind::Malformed,
        ),
        (Reply::new(502, "text/html", page), Kind::Unavailable),
        (Reply::new(503, "text/html", page), Kind::Unavailable),
        (Reply::new(429, "text/html", page), Kind::Throttled),
        (Reply::new(404, "text/html", page), Kind::Malformed),
        (Reply::new(302, "text/html", page), Kind::Malformed),
        (
            Reply::new(500, CBOR, b"\xff\xff".as_slice()),
            Kind::Unavailable,
        ),
        (Reply::new(500, JSON, r#"{"__type":"#), Kind::Unavailable),
    ] {
        let server = Server::always(reply.clone());
        let error = get(&server.source(Wire::Json)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{reply:?}: {error}");
        assert!(error.is_retryable(), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("kinesis:GetRecords on stream orders: "),
            "{text}"
        );
        assert!(
            !text.contains("html>"),
            "bodies do not belong in logs: {text}"
        );
        assert!(error.detail().is_some(), "{text}");
    }
    // A proxy that asks for a login will not let the next request through either.
    for (status, kind) in [(401, Kind::Credentials), (403, Kind::AccessDenied)] {
        let server = Server::always(Reply::new(status, "text/html", page));
        let error = get(&server.source(Wire::Json)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let says = format!("HTTP status {status} with text/html");
        assert_eq!(error.detail(), Some(says.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_content_type_is_json() {
    let reply = Reply::new(200, JSON, r#"{"Records":[]}"#).without_content_type();
    assert!(get(&Server::always(reply).source(Wire::Json)).await.is_ok());
    let reply = Reply::new(200, "application/json; charset=utf-8", r#"{"Records":[]}"#);
    assert!(get(&Server::always(reply).source(Wire::Json)).await.is_ok());
}
