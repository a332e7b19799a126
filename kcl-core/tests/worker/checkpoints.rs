//! When progress is stored, and what may be stored.

use std::time::Duration;

use kcl_core::{
    Checkpoint, CheckpointError, Position, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    SequenceNumber, Worker, WorkerEvent, async_trait,
};

use crate::fixture::{Fixture, eventually};

#[tokio::test(start_paused = true)]
async fn progress_is_stored_by_itself_at_most_once_an_interval() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    let mut events = worker.handle.events();
    for _ in 0..60 {
        fixture.put_many(0, &["x"]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    worker.handle.caught_up().await;
    let stored = worker.handle.counters().checkpoints;
    // 30 s with a record each 0.5 s and an interval of 5 s.
    assert!((5..=8).contains(&stored), "{stored}");
    worker.stop().await;
    let mut last = Checkpoint::TrimHorizon;
    while let Some(event) = events.next().await {
        if let WorkerEvent::Checkpointed { checkpoint, .. } = event {
            assert!(checkpoint > last);
            last = checkpoint;
        }
    }
    assert!(
        fixture.lease(&fixture.shard(0)).checkpoint >= last,
        "the rest is stored at the stop"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_writes_nothing() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["x"]);
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    let shard = fixture.shard(0);
    eventually("the checkpoint", || fixture.is_checkpointed(&shard)).await;
    let counter = fixture.lease(&shard).counter;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fixture.lease(&shard).counter, counter);
    worker.stop().await;
}

/// Tries what a checkpointer must refuse, and what it must do.
struct Prober;

#[async_trait]
impl RecordProcessor for Prober {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let last = input.iter().next_back().unwrap().position();
        let beyond = Position::new(last.sequence_number.clone(), last.sub_sequence_number + 1);
        let refused = input.checkpointer().checkpoint_at(&beyond).await;
        assert!(
            matches!(refused, Err(CheckpointError::OutOfRange(_))),
            "{refused:?}"
        );
        input.checkpointer().checkpoint().await?;
        let before = Position::new(SequenceNumber::parse("1").unwrap(), 0);
        let refused = input.checkpointer().checkpoint_at(&before).await;
        assert!(
            matches!(refused, Err(CheckpointError::OutOfRange(_))),
            "{refused:?}"
        );
        // The same again is fine and writes nothing.
        input.checkpointer().checkpoint_at(&last).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn checkpoints_by_hand_are_stored_at_once_and_bounded_by_what_was_delivered() {
    let fixture = Fixture::new(1);
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(Worker::builder("app", "memory", |_| Prober));
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!((counters.checkpoints, counters.processor_failures), (1, 0));
    worker.stop().await;
}
