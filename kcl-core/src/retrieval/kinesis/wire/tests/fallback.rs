//! Servers that do not speak CBOR.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Wire;
use super::{CBOR, JSON, Reply, Server, cbor_texts, get, kind_of_failure};
use crate::retrieval::SourceErrorKind as Kind;

const EMPTY: &str = r#"{"Records":[],"NextShardIterator":"next"}"#;
const EMPTY_CBOR: &[u8] = b"\xa1\x67Records\x80";

/// A server that answers requests in JSON, and this to those in CBOR.
fn without_cbor(refusal: Reply) -> Server {
    Server::new(move |request| match request.headers().get("content-type") {
        Some(CBOR) => refusal.clone(),
        _ => Reply::new(200, JSON, EMPTY),
    })
}

thread_local! {
    /// What was logged on the thread of a test.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One subscriber for all tests of the program: while those of single threads come and go, a line that another thread logs for
/// the first time may stay silent.
fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_writer(|| Log).init());
    LOG.take();
}

/// How often the log of this test says so.
fn told() -> usize {
    let text = String::from_utf8(LOG.take()).unwrap();
    text.matches("does not speak CBOR").count()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_cbor_is_read_in_json_at_once_and_for_good() {
    let code = |status, code: &str| {
        let body = serde_json::json!({ "__type": code }).to_string();
        Reply::new(status, JSON, body)
    };
    keep_log();
    for refusal in [
        code(400, "SerializationException"),
        code(400, "UnknownOperationException"),
        code(500, "TypeError"),
        Reply::new(
            400,
            CBOR,
            cbor_texts(&[("__type", "SerializationException")]),
        ),
        Reply::new(415, "text/plain", "no"),
        Reply::new(500, "text/html", "<html>"),
        Reply::new(404, "text/html", "<html>"),
        Reply::new(200, CBOR, b"\xff".as_slice()),
    ] {
        let server = without_cbor(refusal.clone());
        let source = server.source(Wire::Cbor);
        for _ in 0..3 {
            let fetched = get(&source).await.unwrap();
            assert_eq!(fetched.next.unwrap().0, "next", "{refusal:?}");
        }
        let asked = [Wire::Cbor, Wire::Json, Wire::Json, Wire::Json];
        assert_eq!(server.asked_in(), asked, "{refusal:?}");
        assert_eq!(told(), 1, "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_in_json_is_asked_in_json_from_then_on() {
    let server = Server::always(Reply::new(200, JSON, EMPTY));
    let source = server.source(Wire::Cbor);
    for _ in 0..3 {
        get(&source).await.unwrap();
    }
    assert_eq!(server.asked_in(), [Wire::Cbor, Wire::Json, Wire::Json]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_kinesis_do_not_lead_away_from_cbor() {
    for (reply, kind) in [
        (
            Reply::new(400, JSON, r#"{"__type":"ExpiredIteratorException"}"#),
            Kind::ExpiredIterator,
        ),
        (
            Reply::new(
                400,
                CBOR,
                cbor_texts(&[("__type", "ProvisionedThroughputExceededException")]),
            ),
            Kind::Throttled,
        ),
        (
            Reply::new(500, CBOR, cbor_texts(&[("__type", "InternalFailure")])),
            Kind::Unavailable,
        ),
        (Reply::new(503, "text/html", "<html>"), Kind::Unavailable),
        (Reply::new(403, "text/html", "<html>"), Kind::AccessDenied),
        (Reply::new(200, "text/html", "<html>"), Kind::Malformed),
    ] {
        let server = Server::always(reply);
        let source = server.source(Wire::Cbor);
        for _ in 0..2 {
            assert_eq!(kind_of_failure(&source).await, kind);
        }
        assert_eq!(server.asked_in(), [Wire::Cbor, Wire::Cbor]);
    }
}

#[tokio::test(start_paused = true)]
async fn once_cbor_has_worked_a_failure_is_a_failure() {
    let calls = AtomicUsize::new(0);
    let server = Server::new(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(200, CBOR, EMPTY_CBOR),
        1 => Reply::new(500, "text/html", "<html>"),
        2 => Reply::new(200, CBOR, b"\xa1\x67Rec".as_slice()),
        _ => Reply::new(200, CBOR, EMPTY_CBOR),
    });
    let source = server.source(Wire::Cbor);
    get(&source).await.unwrap();
    assert_eq!(kind_of_failure(&source).await, Kind::Unavailable);
    assert_eq!(kind_of_failure(&source).await, Kind::Malformed);
    get(&source).await.unwrap();
    assert_eq!(server.asked_in(), [Wire::Cbor; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_in_both_is_asked_twice_and_not_more() {
    let server = Server::always(Reply::new(500, "text/html", "<html>"));
    let source = server.source(Wire::Cbor);
    assert_eq!(kind_of_failure(&source).await, Kind::Unavailable);
    assert_eq!(server.asked_in(), [Wire::Cbor, Wire::Json]);
}
