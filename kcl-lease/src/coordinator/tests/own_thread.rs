//! User code that blocks every thread of its runtime does not keep heartbeats from being sent. In real time.

use super::*;
use crate::key::StreamKey;

const SHORT: Duration = Duration::from_millis(900);
const BLOCKED: Duration = Duration::from_secs(3);

#[expect(
    clippy::disallowed_methods,
    reason = "blocking threads is what this is about"
)]
fn block(time: Duration) {
    std::thread::sleep(time);
}

/// The number of heartbeats sent while both threads of the user's runtime are blocked, and the longest pause between two.
fn heartbeats_while_blocked(runtime: impl Fn() -> Runtime) -> (u64, Duration) {
    let users = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let table = table();
    let used = Arc::clone(&table);
    let options = CoordinatorOptions {
        lease_duration: SHORT,
        scan_interval: SHORT,
        ..CoordinatorOptions::default()
    };
    let worker = {
        let _inside = users.enter();
        let (handle, _events) =
            Coordinator::start(options, runtime(), move || used as Arc<dyn LeaseTable>).unwrap();
        users
            .block_on(handle.open_stream(StreamKey::ONLY, identity()))
            .unwrap();
        let blockers = (0..2).map(|_| Runtime::production().spawn(async { block(BLOCKED) }));
        drop(
            blockers
                .map(tokio_util::task::AbortOnDropHandle::detach)
                .collect::<Vec<_>>(),
        );
        handle
    };
    block(Duration::from_millis(100));
    let heartbeat = || match &table.items()[worker.worker().as_str()][attribute::HEARTBEAT] {
        Value::N(text) => text.parse::<u64>().unwrap(),
        other => panic!("{other:?}"),
    };
    let (first, begun) = (heartbeat(), Instant::now());
    let (mut last, mut changed, mut longest) = (first, Instant::now(), Duration::ZERO);
    while begun.elapsed() < BLOCKED - Duration::from_millis(200) {
        block(Duration::from_millis(10));
        let now = heartbeat();
        if now != last {
            (last, changed) = (now, Instant::now());
        }
        longest = longest.max(changed.elapsed());
    }
    worker.abandon();
    (last - first, longest)
}

#[test]
fn heartbeats_are_on_time_while_every_other_thread_is_blocked() {
    let (count, longest) = heartbeats_while_blocked(Runtime::production);
    assert!(count >= 6, "{count}");
    assert!(longest < SHORT, "{longest:?}");
}

#[test]
fn on_the_users_threads_they_would_stop() {
    let (count, longest) = heartbeats_while_blocked(|| Runtime::virtual_time(1));
    assert!(count <= 1 && longest > SHORT, "{count} {longest:?}");
}
