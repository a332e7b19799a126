//! Calls that fail, or whose answers are lost or late.

use super::*;
use crate::key::StreamKey;
use crate::test_support::at;
use crate::{GrantError, LossReason};
use kcl_checkpoint::Checkpoint;

/// Applies `act` to the first call on `key` that `operation` names, lets everything else pass.
fn once(operation: &'static str, key: &'static str, act: Act) -> impl FnMut(&Seen) -> Act + Send {
    let mut done = false;
    move |seen| {
        let hit = !done && seen.operation == operation && seen.key.starts_with(key);
        done |= hit;
        if hit { act } else { Act::Pass }
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_checkpoint_whose_answer_is_lost_keeps_the_lease() {
    for act in [
        Act::LoseAnswer,
        Act::Swallow,
        Act::Late(Duration::from_secs(3)),
        Act::Reject,
    ] {
        let table = table();
        let mut worker = Worker::running("w", &table, 1).await;
        let grant = worker.grant(0);
        worker.path.rule(once("write", "shardId", act));
        let error = grant.checkpoint(at(5)).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        match act {
            Act::Reject => assert!(matches!(error, GrantError::Throttled { .. })),
            _ => assert!(matches!(error, GrantError::Unknown { .. })),
        }
        // It is still tried; who asks again waits for the outcome.
        grant.checkpoint(at(5)).await.unwrap();
        assert_eq!(row(&table, 0).unwrap().checkpoint, at(5));
        worker.listen(L).await;
        assert_eq!(grant.loss(), None);
        assert!(grant.is_current());
        grant.checkpoint(at(6)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_newer_checkpoint_replaces_one_that_is_not_resolved() {
    for act in [
        Act::LoseAnswer,
        Act::Swallow,
        Act::Late(Duration::from_millis(1_700)),
    ] {
        let table = table();
        let mut worker = Worker::running("w", &table, 1).await;
        let grant = worker.grant(0);
        worker.path.rule(once("write", "shardId", act));
        let (older, newer) = tokio::join!(grant.checkpoint(at(5)), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            grant.checkpoint(at(9)).await
        });
        assert!(older.is_err());
        if newer.is_err() {
            grant.checkpoint(at(9)).await.unwrap();
        }
        worker.listen(L).await;
        assert_eq!(row(&table, 0).unwrap().checkpoint, at(9));
        assert!(grant.is_current());
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_take_whose_answer_is_lost_is_looked_up_before_anything_else() {
    for act in [
        Act::LoseAnswer,
        Act::Swallow,
        Act::Late(Duration::from_secs(4)),
    ] {
        let table = table();
        put_lease(&table, &lease_of(0));
        let mut worker = Worker::start("w", &table);
        let mut lose = once("write", "shardId", act);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&calls);
        worker.path.rule(move |seen| {
            if seen.key.starts_with("shardId") {
                noted.lock().unwrap().push(seen.operation);
            }
            lose(seen)
        });
        let begun = Instant::now();
        worker.open(&[]).await;
        worker.wait_granted(1).await;
        assert_eq!(
            calls.lock().unwrap()[..2],
            ["write", "get"],
            "never again blindly"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{act:?} {:?}",
            begun.elapsed()
        );
        let grant = worker.grant(0);
        worker.listen(L).await;
        if grant.loss().is_some() {
            // A take of our own that lands late ends the grant; the row names us and is accepted again.
            assert!(matches!(act, Act::Late(_)));
        }
        worker.listen(L).await;
        worker.grant(0).checkpoint(at(3)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_release_whose_answer_is_lost_is_sent_again_and_nothing_is_delivered() {
    for act in [
        Act::LoseAnswer,
        Act::Swallow,
        Act::Late(Duration::from_secs(4)),
        Act::Reject,
    ] {
        let table = table();
        let worker = Worker::running("w", &table, 1).await;
        worker.handle.shutdown(Duration::from_secs(25));
        let grant = worker.grant(0);
        worker.path.rule(once("write", "shardId", act));
        let mut released = grant.release(Some(at(8))).await;
        assert!(!grant.is_current());
        while released.as_ref().is_err_and(GrantError::is_retryable) {
            assert!(!grant.is_current());
            released = grant.release(None).await;
        }
        let over = matches!(
            released,
            Ok(_)
                | Err(GrantError::Lost {
                    reason: LossReason::Released,
                    ..
                })
        );
        assert!(over, "{released:?}");
        worker.handle.stopped().await;
        let row = row(&table, 0).unwrap();
        assert_eq!((row.owner, row.checkpoint), (None, at(8)));
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_registration_whose_answer_is_lost_counts_from_its_first_call() {
    let table = table();
    let mut worker = Worker::start("w", &table);
    worker.path.rule(once("write", "w/", Act::LoseAnswer));
    let begun = Instant::now();
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
    let grant = worker.grant(0);
    worker.path.cut();
    worker
        .listen(L + Duration::from_millis(50) - begun.elapsed())
        .await;
    assert!(!grant.is_current(), "observers count from the first call");
}

#[tokio::test(start_paused = true)]
async fn a10_heartbeats_are_repeated_at_once_and_never_overlap() {
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    let id = worker.handle.worker();
    // Of five heartbeats two in a row get lost on their way back.
    let (mut count, mut lost_at) = (0, None);
    worker.path.rule(move |seen| {
        if seen.key != id.as_str() || seen.operation != "write" {
            return Act::Pass;
        }
        let pause = lost_at.take().map(|at: Instant| at.elapsed());
        assert!(
            pause.is_none_or(|pause| pause >= L / 6),
            "two at once: {pause:?}"
        );
        count += 1;
        match count % 5 {
            1 | 2 => {
                lost_at = Some(Instant::now());
                Act::LoseAnswer
            }
            _ => Act::Pass,
        }
    });
    // Other work goes on between the attempts.
    for number in 1..600 {
        worker.listen(Duration::from_millis(100)).await;
        worker.grant(0).checkpoint(at(number)).await.unwrap();
        assert!(worker.grant(0).is_current());
    }
    assert_eq!(worker.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn a10_transient_trouble_at_the_start_is_waited_out_and_told() {
    let table = table();
    let mut worker = Worker::start("w", &table);
    let until = Instant::now() + Duration::from_secs(20);
    worker.path.rule(move |_| match Instant::now() < until {
        true => Act::Reject,
        false => Act::Pass,
    });
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::TableTrouble { .. }))
        .await;
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::TableHealed))
        .await;
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
}

#[tokio::test(start_paused = true)]
async fn a10_a_start_that_never_succeeds_ends_with_one_clear_error() {
    let table = table();
    let mut worker = Worker::start_with("w", &table, |options| {
        options.startup_timeout = Duration::from_secs(30);
    });
    worker.path.rule(|_| Act::Reject);
    let begun = Instant::now();
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::Fatal(_)))
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(30));
    worker.handle.stopped().await;
    let refused = worker.handle.open_stream(StreamKey::ONLY, identity()).await;
    assert!(matches!(refused, Err(CoordinatorError::Stopped)));
}

/// Random faults on every call: whatever happens, no checkpoint moves back and none that was answered is missing.
#[tokio::test(start_paused = true)]
async fn a10_under_random_faults_no_answered_checkpoint_is_lost_and_none_moves_back() {
    for seed in 0..15 {
        let table = table();
        let mut worker = Worker::running("w", &table, 2).await;
        let mut rng = fastrand::Rng::with_seed(seed);
        worker.path.rule(move |_| match rng.u32(0..10) {
            0 => Act::LoseAnswer,
            1 => Act::Swallow,
            2 => Act::Late(Duration::from_millis(rng.u64(0..5_000))),
            3 => Act::Reject,
            _ => Act::Pass,
        });
        let (mut stored, mut largest) = (Checkpoint::TrimHorizon, Checkpoint::TrimHorizon);
        for number in 1..60 {
            let Some(grant) = worker.grants.get(id(0).as_str()).cloned() else {
                break;
            };
            if grant.loss().is_some() {
                worker.listen(Duration::from_secs(1)).await;
                continue;
            }
            if grant.checkpoint(at(number)).await.is_ok() {
                stored = at(number);
            }
            worker.listen(Duration::from_millis(300)).await;
            let now = row(&table, 0).unwrap().checkpoint;
            assert!(now >= largest, "seed {seed}: back from {largest} to {now}");
            assert!(
                now >= stored,
                "seed {seed}: {stored} was answered, the row says {now}"
            );
            largest = now;
        }
        assert!(stored > at(10), "seed {seed}: hardly anything was stored");
    }
}

#[tokio::test(start_paused = true)]
async fn a10_rows_are_created_through_a_throttled_table() {
    let table = table();
    let mut worker = Worker::start("w", &table);
    let mut rng = fastrand::Rng::with_seed(3);
    worker.path.rule(move |_| match rng.u32(0..10) {
        0..3 => Act::Reject,
        3 => Act::LoseAnswer,
        _ => Act::Pass,
    });
    worker.open(&listing(60)).await;
    worker.wait_granted(60).await;
}

#[tokio::test(start_paused = true)]
async fn a10_a_table_that_may_not_be_read_ends_the_start_and_later_is_only_told() {
    let denied = || TableErrorKind::AccessDenied {
        action: "dynamodb:Scan",
    };
    for operation in ["scan", "write", "prepare"] {
        let table = table();
        let mut worker = Worker::start("w", &table);
        worker
            .path
            .rule(move |seen| match seen.operation == operation {
                true => Act::Deny,
                false => Act::Pass,
            });
        worker
            .wait_event(|event| {
                matches!(event, CoordinatorEvent::Fatal(CoordinatorError::Table(error))
                    if *error.kind() == denied())
            })
            .await;
        worker.handle.stopped().await;
    }
    let table = table();
    let mut worker = Worker::running("w", &table, 1).await;
    worker.path.reads.store(0, Ordering::Relaxed);
    worker.path.rule(|seen| match seen.operation {
        "scan" => Act::Deny,
        _ => Act::Pass,
    });
    let told = worker.listen(L * 3).await;
    assert!(
        told.iter()
            .any(|event| matches!(event, CoordinatorEvent::TableTrouble { .. }))
    );
    assert!(worker.grant(0).is_current());
    // Also when a listing waits for a scan, nothing is asked for faster than once a second.
    let synced = timeout(
        L,
        worker
            .handle
            .sync_shards(StreamKey::ONLY, listing(1), false),
    )
    .await;
    assert!(synced.is_err());
    assert!(worker.path.reads.load(Ordering::Relaxed) < 80);
}

#[tokio::test(start_paused = true)]
async fn a10_a_table_that_never_answers_ends_the_start_in_time() {
    let table = table();
    let mut worker = Worker::start_with("w", &table, |options| {
        options.startup_timeout = Duration::from_secs(30);
    });
    worker.path.cut();
    let begun = Instant::now();
    worker
        .wait_event(|event| matches!(event, CoordinatorEvent::Fatal(_)))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(31));
}
