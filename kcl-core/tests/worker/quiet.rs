//! What is logged while nothing is wrong.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::crew::Crew;
use crate::fixture::Fixture;
use crate::poison::put_keyed;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Logs into `captured` until what this returns is dropped.
fn capture(captured: &Captured) -> impl Drop + use<> {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(captured.clone())
        .finish();
    tracing::subscriber::set_default(subscriber)
}

/// While there is just one subscriber, a test in another thread, which has none, could switch places in the code off for all
/// threads by being the first to come there.
fn second_subscriber() -> tracing::Dispatch {
    tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new())
}

#[tokio::test(start_paused = true)]
async fn a12_the_log_says_that_side_effects_of_a_stalled_call_may_overlap() {
    let captured = Captured::default();
    let _guard = capture(&captured);
    let _second = second_subscriber();
    let fixture = Fixture::new(1);
    let crew = Crew::new(|_| (Duration::from_secs(1_000_000), Ok(())));
    let timeout = Duration::from_secs(30);
    let worker = fixture.start_builder(crew.builder(1).stall_timeout(timeout));
    put_keyed(&fixture, &[("k", "hang")]);
    tokio::time::sleep(2 * timeout).await;
    let log = captured.take();
    for event in ["CallStalled {", "LeaseReleased {"] {
        let line = log.lines().find(|line| line.contains(event));
        let line = line.unwrap_or_default();
        assert!(
            line.contains("side effects") && line.contains("may overlap"),
            "{event} {log}"
        );
    }
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a25_at_steady_state_info_is_at_most_a_line_a_minute_without_payload_or_key() {
    let captured = Captured::default();
    let _guard = capture(&captured);
    let _second = second_subscriber();
    let fixture = Fixture::new(4);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    let start = captured.take();
    assert!(
        start.contains("ShardStarted"),
        "what is logged is captured: {start}"
    );
    // An hour without records, and one with some every ten seconds.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let at_rest = captured.take();
    assert!(at_rest.lines().count() <= 60, "{at_rest}");
    for _ in 0..360 {
        for shard in 0..4 {
            fixture.put_many(shard, &["a payload"]);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(fixture.log.delivered().len(), 4 * 360);
    let steady = captured.take();
    assert!(steady.lines().count() <= 60, "{steady}");
    worker.stop().await;
    let everything = [start, at_rest, steady, captured.take()].concat();
    assert!(
        !everything.contains("payload") && !everything.contains("\"key\""),
        "{everything}"
    );
}
