//! What a worker says about having caught up.

use std::time::Duration;

use kcl_core::{
    ProcessRecordsInput, ProcessorResult, RecordProcessor, SeekTo, Shards, Worker, WorkerEvent,
    async_trait,
};

use crate::fixture::{Call, Fixture, Log, eventually, texts};

/// Takes a minute for the record `slow`.
#[derive(Clone)]
struct Slow(Log);

#[async_trait]
impl RecordProcessor for Slow {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let (data, attempt) = (texts(&input), input.attempt());
        let is_slow = data.contains(&"slow".to_owned());
        self.0
            .push(input.shard().shard_id(), Call::Records { data, attempt });
        if is_slow {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(())
    }
}

/// The reader sees the tip while the first call runs, and then there is more than it reads ahead.
#[tokio::test(start_paused = true)]
async fn what_was_the_tip_before_more_arrived_does_not_count() {
    let fixture = Fixture::new(1);
    let slow = Slow(fixture.log.clone());
    fixture.put_many(0, &["slow"]);
    let builder = Worker::builder("app", "memory", move |_| slow.clone());
    let worker = fixture.start_builder(builder.max_records(1));
    eventually("the call", || fixture.log.delivered() == ["slow"]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    fixture.put_many(0, &["1", "2", "3", "4"]);
    worker.handle.caught_up().await;
    assert_eq!(fixture.log.delivered(), ["slow", "1", "2", "3", "4"]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn that_a_shard_has_caught_up_is_told_once_wherever_reading_begins() {
    let fixture = Fixture::new(1);
    let worker = fixture.start(|_| Ok(()));
    let mut events = worker.handle.events();
    for text in ["a", "b", "c"] {
        fixture.put_many(0, &[text]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(worker.handle.health().is_ready());
    }
    let operator = worker.handle.operator();
    operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
    eventually("all again", || fixture.log.delivered().len() == 6).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.stop().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            WorkerEvent::CaughtUp { .. } => told.push("caught up"),
            WorkerEvent::ShardRepositioned { .. } => told.push("moved"),
            _ => {}
        }
    }
    assert_eq!(told, ["caught up", "moved", "caught up"]);
}
