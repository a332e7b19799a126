//! A processor that fails or panics skips nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration_tests::{Probe, Stage};
use kcl_core::ProcessorResult;

const SHARD: &str = "shardId-000000000000";

/// Fails in some way on record 00005 as long as `failures` are left.
fn failing(stage: &Stage, worker: &str, failures: u32, fail: fn() -> ProcessorResult) -> Probe {
    let left = Arc::new(AtomicU32::new(failures));
    Probe::new(worker, &stage.log).judged(move |record| {
        let bad = record.data() == b"00005";
        let again = |left: u32| left.checked_sub(1);
        if bad
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, again)
                .is_ok()
        {
            return fail();
        }
        Ok(())
    })
}

async fn is_delivered_again_until_it_succeeds(fail: fn() -> ProcessorResult) {
    let stage = Stage::new(1);
    let mut sequence_numbers = Vec::new();
    for n in 0..10 {
        sequence_numbers.push(stage.put("key", &format!("{n:05}")).await);
    }
    let worker = stage.worker_with("a", failing(&stage, "a", 4, fail));
    let script = async {
        stage
            .wait("the third attempt", |log| count(&log.data(), "00005") == 3)
            .await;
        let (checkpoint, _) = stage.lease(SHARD).await.unwrap();
        assert!(
            checkpoint < sequence_numbers[5],
            "the checkpoint {checkpoint} passed the record"
        );
        stage
            .wait("the last record", |log| {
                log.data().iter().any(|data| data == "00009")
            })
            .await;
    };
    stage.run("a", worker, script).await;
    assert_eq!(count(&stage.log.data(), "00005"), 5);
    assert_eq!(stage.lease(SHARD).await.unwrap().0, sequence_numbers[9]);
}

fn count(data: &[String], wanted: &str) -> usize {
    data.iter().filter(|data| *data == wanted).count()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_is_delivered_again_until_it_succeeds() {
    is_delivered_again_until_it_succeeds(|| Err("bad luck".into())).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_panics_is_delivered_again_until_it_succeeds() {
    is_delivered_again_until_it_succeeds(|| panic!("worse luck")).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_never_succeeds_blocks_its_shard_visibly_and_another_worker_gets_it() {
    let stage = Stage::new(1);
    for n in 0..10 {
        stage.put("key", &format!("{n:05}")).await;
    }
    let probe = failing(&stage, "a", u32::MAX, || Err("always".into()));
    let worker = stage
        .worker_with("a", probe)
        .build(&stage.emulator.sdk_config("a"))
        .unwrap();
    let handle = worker.handle();
    let script = async {
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(handle.counters().processor_failures > 5);
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(worker.run(), script);
    assert_eq!(stopped.unwrap().abandoned, 0);
    assert!(!stage.log.data().iter().any(|data| data.as_str() > "00005"));

    stage.catch_up("b").await;
    let rest = stage.log.data_of("b");
    assert!(rest.iter().any(|data| data == "00005") && rest.iter().any(|data| data == "00009"));
}
