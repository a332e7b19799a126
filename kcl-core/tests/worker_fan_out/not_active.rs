//! A consumer that is there and cannot be used: it is being created or deleted, for long.

use std::time::Duration;

use kcl_core::retrieval::ConsumerStatus::{Active, Creating, Deleting};
use kcl_core::{Events, Retrieval, WorkerEvent};
use tokio::time::sleep;

use super::choice::{MINUTE, start};
use crate::fixture::{Fixture, eventually};

const SHARDS: usize = 3;
/// How often the service may be asked in a minute, whatever the number of shards: they ask together.
const LOOKS: usize = 20;
/// How often a shard asks for a subscription in a minute, once that has been refused for some time.
const SUBSCRIBES: usize = 15;

struct Calls {
    looks: usize,
    registers: usize,
    subscribes: usize,
}

/// The calls of a minute.
async fn minute_of(fixture: &Fixture) -> Calls {
    let calls = || {
        [
            "DescribeStreamConsumer",
            "RegisterStreamConsumer",
            "SubscribeToShard",
        ]
        .map(|operation| fixture.stream.calls(operation))
    };
    let before = calls();
    sleep(MINUTE).await;
    let after = calls();
    let [looks, registers, subscribes] = [0, 1, 2].map(|index| after[index] - before[index]);
    Calls {
        looks,
        registers,
        subscribes,
    }
}

/// What was told of reading that failed.
async fn told(events: &mut Events) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let WorkerEvent::ReadFailed { error, .. } = event {
            told.push(error);
        }
    }
    told
}

fn put_everywhere(fixture: &Fixture, put: &mut Vec<String>, text: &str) {
    for shard in 0..SHARDS {
        let text = format!("{text}-{shard}");
        fixture.put_many(shard, &[&text]);
        put.push(text);
    }
}

async fn came_once_each(fixture: &Fixture, put: &mut [String]) {
    let log = &fixture.log;
    eventually("all records", || log.delivered().len() >= put.len()).await;
    sleep(MINUTE).await;
    let mut delivered = log.delivered();
    delivered.sort();
    put.sort();
    assert_eq!(delivered, put);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_being_created_for_long_is_waited_for_with_few_calls_and_told_of() {
    let fixture = Fixture::new(u32::try_from(SHARDS).unwrap());
    fixture.stream.set_consumer_status("app", Creating);
    let mut put = Vec::new();
    put_everywhere(&fixture, &mut put, "before");
    let worker = start(&fixture, Retrieval::fan_out());
    let mut events = worker.handle.events();
    for minute in 0..30 {
        let calls = minute_of(&fixture).await;
        assert!(calls.looks <= LOOKS, "{minute}: {} looks", calls.looks);
        assert!(calls.looks >= 2, "{minute}: nobody looks");
        assert_eq!(calls.registers, usize::from(minute == 0));
        assert_eq!(calls.subscribes, 0);
    }
    let told = told(&mut events).await;
    let is_clear = |error: &String| error.contains("consumer app") && error.contains("ACTIVE");
    assert!(!told.is_empty() && told.iter().all(is_clear), "{told:?}");
    assert!(!worker.handle.health().is_healthy());
    put_everywhere(&fixture, &mut put, "meanwhile");
    fixture.stream.set_consumer_status("app", Active);
    came_once_each(&fixture, &mut put).await;
    assert!(worker.handle.health().is_healthy());
    assert_eq!(fixture.stream.calls("GetRecords"), 0);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_being_created_for_long_is_a_reason_to_poll_for_those_who_may() {
    let fixture = Fixture::new(u32::try_from(SHARDS).unwrap());
    fixture.stream.set_consumer_status("app", Creating);
    let worker = start(&fixture, Retrieval::auto());
    let mut put = Vec::new();
    put_everywhere(&fixture, &mut put, "before");
    came_once_each(&fixture, &mut put).await;
    let subscriptions = fixture.stream.calls("SubscribeToShard");
    assert_eq!(subscriptions, 0);
    fixture.stream.set_consumer_status("app", Active);
    sleep(12 * MINUTE).await;
    put_everywhere(&fixture, &mut put, "after");
    came_once_each(&fixture, &mut put).await;
    assert!(fixture.stream.is_followed("app", &fixture.shard(0)));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_being_deleted_at_the_start_is_waited_for_and_made_again() {
    let fixture = Fixture::new(u32::try_from(SHARDS).unwrap());
    let other = start(&fixture, Retrieval::fan_out());
    other.handle.caught_up().await;
    other.stop().await;
    fixture.stream.set_consumer_status("app", Deleting);
    let mut put = Vec::new();
    put_everywhere(&fixture, &mut put, "before");
    let worker = start(&fixture, Retrieval::fan_out());
    let mut events = worker.handle.events();
    for minute in 0..10 {
        let calls = minute_of(&fixture).await;
        assert!(calls.looks <= LOOKS, "{minute}: {} looks", calls.looks);
        assert_eq!((calls.registers, calls.subscribes), (0, 0));
    }
    let told = told(&mut events).await;
    assert!(!told.is_empty(), "nobody is told");
    fixture.stream.deregister_consumer("app");
    fixture.stream.set_consumer_status("app", Active);
    came_once_each(&fixture, &mut put).await;
    assert_eq!(fixture.stream.calls("RegisterStreamConsumer"), 2);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deleted_and_made_again_under_a_running_worker_costs_time_only() {
    let fixture = Fixture::new(u32::try_from(SHARDS).unwrap());
    let worker = start(&fixture, Retrieval::fan_out());
    let mut events = worker.handle.events();
    let mut put = Vec::new();
    put_everywhere(&fixture, &mut put, "before");
    came_once_each(&fixture, &mut put).await;
    // It takes long to go.
    fixture.stream.set_consumer_status("app", Deleting);
    put_everywhere(&fixture, &mut put, "deleting");
    sleep(MINUTE).await;
    for _ in 0..10 {
        let calls = minute_of(&fixture).await;
        assert!(
            calls.subscribes <= SUBSCRIBES * SHARDS,
            "{}",
            calls.subscribes
        );
        assert!(calls.looks <= LOOKS, "{}", calls.looks);
    }
    let while_deleted = told(&mut events).await;
    let is_named = |error: &String| error.contains("Deleting");
    assert!(while_deleted.iter().any(is_named), "{while_deleted:?}");
    assert!(!worker.handle.health().is_healthy());
    // Then it takes long to come.
    fixture.stream.deregister_consumer("app");
    fixture.stream.set_consumer_status("app", Creating);
    put_everywhere(&fixture, &mut put, "creating");
    sleep(MINUTE).await;
    for _ in 0..10 {
        let calls = minute_of(&fixture).await;
        assert!(calls.looks <= LOOKS, "{}", calls.looks);
        assert_eq!((calls.registers, calls.subscribes), (0, 0));
    }
    let while_created = told(&mut events).await;
    let is_named = |error: &String| error.contains("ACTIVE");
    assert!(while_created.iter().any(is_named), "{while_created:?}");
    fixture.stream.set_consumer_status("app", Active);
    came_once_each(&fixture, &mut put).await;
    assert_eq!(fixture.stream.calls("RegisterStreamConsumer"), 2);
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
}
