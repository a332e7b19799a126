//! How a worker stops: drained within its budget, or cut off and honest about it.

use std::time::Duration;

use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, ShutdownRequestedInput, Worker,
    async_trait,
};

use crate::fixture::{Call, Fixture, eventually};

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_running_call_end_and_stores_what_it_completed() {
    struct Slow;

    #[async_trait]
    impl RecordProcessor for Slow {
        async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        }
    }

    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(Worker::builder("app", "memory", |_| Slow));
    let shard = fixture.shard(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = worker.stop().await;
    assert_eq!(
        (report.drained, report.abandoned, report.exit_code()),
        (1, 0, 0)
    );
    let lease = fixture.lease(&shard);
    assert!(!lease.checkpoint.is_start());
    assert_eq!(lease.owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_call_cannot_hold_the_worker_beyond_its_drain_budget() {
    struct Stuck;

    #[async_trait]
    impl RecordProcessor for Stuck {
        async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
            std::future::pending().await
        }
    }

    let fixture = Fixture::new(2);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(
        Worker::builder("app", "memory", |_| Stuck).drain_budget(Duration::from_secs(5)),
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!(
        (report.drained, report.abandoned, report.exit_code()),
        (1, 1, kcl_core::EXIT_NOT_DRAINED)
    );
    assert!(
        asked.elapsed() < Duration::from_secs(6),
        "{:?}",
        asked.elapsed()
    );
    let stuck = fixture.lease(&fixture.shard(0));
    assert!(stuck.checkpoint.is_start());
    assert!(
        stuck.owner.is_some(),
        "a lease under which a call may still run is left to expire"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_processor_checkpoints_while_stopping_is_stored() {
    /// Completes nothing until it is told to stop.
    struct Flusher;

    #[async_trait]
    impl RecordProcessor for Flusher {
        async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
            Err("buffering".into())
        }

        async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
            assert!(input.deadline() > tokio::time::Instant::now());
            input.checkpointer().checkpoint().await?;
            Ok(())
        }
    }

    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(Worker::builder("app", "memory", |_| Flusher));
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.stop().await;
    assert!(!fixture.lease(&fixture.shard(0)).checkpoint.is_start());
}

#[tokio::test(start_paused = true)]
async fn a_worker_can_be_stopped_before_it_started() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    worker.stop().await;
    assert_eq!(fixture.log.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_failing_batch_does_not_delay_a_stop() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start(|_| Err("never".into()));
    let log = fixture.log.clone();
    eventually("many failures", || log.calls().len() > 10).await;
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        fixture.log.calls_of(&fixture.shard(0)).last(),
        Some(&Call::ShutdownRequested)
    );
    assert!(fixture.lease(&fixture.shard(0)).checkpoint.is_start());
}
