//! How a worker stops: drained within its budget, or cut off and honest about it.

use std::time::Duration;

use kcl_core::{
    Position, ProcessRecordsInput, ProcessorResult, RecordProcessor, ShutdownRequestedInput,
    Worker, async_trait,
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

/// Fails on every record but the first, and checkpoints while it is stopped.
struct Stopping {
    at_first: bool,
    first: Option<Position>,
}

#[async_trait]
impl RecordProcessor for Stopping {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.first = input.iter().next().map(kcl_core::RecordRef::position);
        Err("not done".into())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        assert!(input.deadline() > tokio::time::Instant::now());
        match self.first.as_ref().filter(|_| self.at_first) {
            Some(first) => input.checkpointer().checkpoint_at(first).await?,
            None => input.checkpointer().checkpoint().await?,
        }
        Ok(())
    }
}

async fn stop_while_failing(at_first: bool) -> bool {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(Worker::builder("app", "memory", move |_| Stopping {
        at_first,
        first: None,
    }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.stop().await;
    fixture.is_checkpointed(&fixture.shard(0))
}

#[tokio::test(start_paused = true)]
async fn what_a_processor_checkpoints_while_stopping_is_stored() {
    assert!(stop_while_failing(true).await);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_everything_does_not_pass_a_batch_that_failed() {
    assert!(!stop_while_failing(false).await);
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

/// A batch that waits for its turn (one call at a time) is not started once the worker stops.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_turn_is_not_begun_by_a_stopping_worker() {
    struct OneMinute(crate::fixture::Log);

    #[async_trait]
    impl RecordProcessor for OneMinute {
        async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
            let call = Call::Records {
                data: crate::fixture::texts(&input),
                attempt: input.attempt(),
            };
            self.0.push(input.shard().shard_id(), call);
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        }
    }

    let fixture = Fixture::new(2);
    fixture.put_many(0, &["a"]);
    fixture.put_many(1, &["b"]);
    let log = fixture.log.clone();
    let builder = Worker::builder("app", "memory", move |_| OneMinute(log.clone()));
    let worker = fixture.start_builder(builder.max_concurrent_calls(1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (2, 0));
    assert_eq!(fixture.log.delivered().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_that_the_worker_is_gone() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    let (handle, mut events) = (worker.handle.clone(), worker.handle.events());
    worker.stop().await;
    while events.next().await.is_some() {}
    assert_eq!(handle.events().next().await, None);
    handle.caught_up().await;
}
