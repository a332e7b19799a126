//! Failing user code and a failing stream: nothing is skipped, everything recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kcl_core::{Position, SourceErrorKind, WorkerError, WorkerEvent};

use crate::fixture::{Call, Fixture, eventually, texts};

#[tokio::test(start_paused = true)]
async fn a1_a_batch_whose_processing_fails_is_delivered_again_until_it_succeeds() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|input| match input.attempt() {
        1..=4 if texts(input).contains(&"a".to_owned()) => Err("not yet".into()),
        _ => Ok(()),
    });
    fixture.warm_up(&worker).await;
    let before = fixture.lease(&fixture.shard(0)).checkpoint;
    fixture.put_many(0, &["a", "b"]);
    let log = fixture.log.clone();
    eventually("four attempts", || log.delivered().len() > 8).await;
    assert_eq!(fixture.lease(&fixture.shard(0)).checkpoint, before);
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().processor_failures, 4);
    worker.stop().await;
    let attempts: Vec<u32> = fixture
        .log
        .calls_of(&fixture.shard(0))
        .into_iter()
        .filter_map(|call| match call {
            Call::Records { data, attempt } if data == ["a", "b"] => Some(attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a1_a_panic_counts_as_an_error_and_gets_a_new_processor() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start(|input| {
        assert!(input.attempt() > 1, "the first attempt panics");
        Ok(())
    });
    worker.handle.caught_up().await;
    worker.stop().await;
    let calls = fixture.log.calls_of(&fixture.shard(0));
    let initialized = calls
        .iter()
        .filter(|call| matches!(call, Call::Initialize(_)))
        .count();
    assert_eq!(initialized, 2, "{calls:?}");
    assert_eq!(fixture.log.delivered(), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_shard_does_not_hold_up_another() {
    let fixture = Fixture::new(2);
    fixture.put_many(0, &["poison"]);
    fixture.put_many(1, &["good"]);
    let worker = fixture.start(|input| {
        if texts(input).contains(&"poison".to_owned()) {
            return Err("refused".into());
        }
        Ok(())
    });
    let good = fixture.shard(1);
    eventually("the good shard's checkpoint", || {
        fixture.is_checkpointed(&good)
    })
    .await;
    worker.stop().await;
    assert!(!fixture.is_checkpointed(&fixture.shard(0)));
}

#[tokio::test(start_paused = true)]
async fn after_a_checkpoint_at_a_record_only_what_follows_is_delivered_again() {
    let fixture = Fixture::new(1);
    let worker = fixture.start_builder(checkpoint_second_then_fail(fixture.log.clone()));
    fixture.warm_up(&worker).await;
    fixture.put_many(0, &["a", "b", "c"]);
    let log = fixture.log.clone();
    eventually("the redelivery", || log.delivered().len() > 4).await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["warm", "a", "b", "c", "c"]);
}

/// Checkpoints at the second record and then fails, once.
fn checkpoint_second_then_fail(log: crate::fixture::Log) -> kcl_core::WorkerBuilder {
    use kcl_core::{ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait};

    struct Processor(crate::fixture::Log);

    #[async_trait]
    impl RecordProcessor for Processor {
        async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
            let call = Call::Records {
                data: texts(&input),
                attempt: input.attempt(),
            };
            self.0.push(input.shard().shard_id(), call);
            if input.attempt() > 1 || input.len() == 1 {
                return Ok(());
            }
            let second: Position = input.iter().nth(1).unwrap().position();
            input.checkpointer().checkpoint_at(&second).await?;
            Err("the third record is not done".into())
        }
    }

    Worker::builder("app", "memory", move |_| Processor(log.clone()))
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_stream_are_reported_and_pass() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    fixture
        .stream
        .fail_next(crate::READ, SourceErrorKind::KmsAccessDenied, 3);
    let worker = fixture.start(|_| Ok(()));
    let mut events = worker.handle.events();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            WorkerEvent::ReadFailed {
                needs_operator,
                attempt,
                ..
            } => seen.push((needs_operator, attempt)),
            WorkerEvent::ReadRecovered { .. } => break,
            _ => {}
        }
    }
    assert_eq!(seen, [(true, 1), (true, 2), (true, 3)]);
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn reads_that_begin_anew_lose_and_repeat_nothing() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    let begun = fixture.stream.calls(crate::BEGIN);
    for text in ["a", "b", "c"] {
        fixture.stream.expire_iterators();
        fixture.stream.cut_subscriptions();
        fixture.put_many(0, &[text]);
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    worker.handle.caught_up().await;
    assert!(fixture.stream.calls(crate::BEGIN) >= begun + 2);
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_ends_the_worker_with_its_name() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    fixture.stream.delete();
    let error = worker.result().await.unwrap_err();
    assert!(
        matches!(error, WorkerError::StreamDeleted { .. }),
        "{error}"
    );
    assert!(
        fixture
            .table
            .items()
            .contains_key(fixture.shard(0).as_str()),
        "the lease is kept"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_at_the_same_time_are_capped() {
    use kcl_core::{ProcessRecordsInput, ProcessorResult, RecordProcessor, Worker, async_trait};

    #[derive(Clone, Default)]
    struct Gauge {
        now: Arc<AtomicU32>,
        most: Arc<AtomicU32>,
    }

    #[async_trait]
    impl RecordProcessor for Gauge {
        async fn process_records(&mut self, _input: ProcessRecordsInput) -> ProcessorResult {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }

    let fixture = Fixture::new(8);
    (0..8).for_each(|shard| fixture.put_many(shard, &["x"]));
    let gauge = Gauge::default();
    let most = Arc::clone(&gauge.most);
    let builder = Worker::builder("app", "memory", move |_| gauge.clone()).max_concurrent_calls(3);
    let worker = fixture.start_builder(builder);
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
