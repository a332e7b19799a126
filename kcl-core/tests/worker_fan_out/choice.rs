//! Which way a worker reads, and that it may change.

use std::time::Duration;

use kcl_core::retrieval::ShardSource;
use kcl_core::{Events, Retrieval, SourceErrorKind, Worker, WorkerBuilder, WorkerEvent};
use tokio::time::sleep;

use crate::fixture::{Fixture, Recorder, Running, eventually};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

fn builder(fixture: &Fixture, retrieval: impl Into<Retrieval>) -> WorkerBuilder {
    let log = fixture.log.clone();
    let builder = Worker::builder("app", "memory", move |shard| Recorder {
        shard: shard.shard_id().clone(),
        log: log.clone(),
        behaviour: std::sync::Arc::new(|_| Ok(())),
    });
    builder.retrieval(retrieval)
}

pub(crate) fn start(fixture: &Fixture, retrieval: impl Into<Retrieval>) -> Running {
    let source = std::sync::Arc::new(fixture.stream.clone());
    fixture.start_on(source, builder(fixture, retrieval))
}

fn reads(fixture: &Fixture) -> (usize, usize) {
    let calls = |operation| fixture.stream.calls(operation);
    (calls("GetRecords"), calls("SubscribeToShard"))
}

/// The events of both kinds that tell of polling instead of fan-out, among those that came so far.
async fn told(events: &mut Events) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        match event {
            WorkerEvent::FanOutUnavailable { error } => told.push(error),
            WorkerEvent::FanOutAvailable => told.push("back".to_owned()),
            _ => {}
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn the_way_may_change_from_one_run_to_the_next() {
    let fixture = Fixture::new(2);
    let ways: [fn() -> Retrieval; 5] = [
        Retrieval::polling,
        || Retrieval::fan_out().into(),
        Retrieval::polling,
        || Retrieval::auto().into(),
        || Retrieval::fan_out().into(),
    ];
    let mut put = Vec::new();
    for (run, way) in ways.into_iter().enumerate() {
        let worker = start(&fixture, way());
        for number in 0..20 {
            let text = format!("{run}-{number}");
            fixture.put_many(number % 2, &[&text]);
            put.push(text);
            sleep(Duration::from_millis(700)).await;
        }
        let (polled, subscribed) = reads(&fixture);
        worker.handle.caught_up().await;
        let counters = worker.handle.counters();
        assert_eq!(
            counters.subscriptions > 0,
            matches!(way(), Retrieval::FanOut(_))
        );
        worker.stop().await;
        match way() {
            Retrieval::Polling => assert_eq!(reads(&fixture).1, subscribed),
            _ => assert_eq!(reads(&fixture).0, polled, "{run}: it polls"),
        }
    }
    let mut delivered = fixture.log.delivered();
    for shard in 0..2 {
        let of = |texts: &[String]| -> Vec<String> {
            let mine = |text: &&String| {
                text.rsplit('-').next().unwrap().parse::<usize>().unwrap() % 2 == shard
            };
            texts.iter().filter(mine).cloned().collect()
        };
        assert_eq!(of(&delivered), of(&put), "in order, each once");
    }
    delivered.sort();
    put.sort();
    assert_eq!(delivered, put);
}

#[tokio::test(start_paused = true)]
async fn workers_of_one_application_may_read_in_different_ways() {
    let fixture = Fixture::new(4);
    let first = start(&fixture, Retrieval::polling());
    first.handle.caught_up().await;
    let second = start(&fixture, Retrieval::fan_out());
    for number in 0..60 {
        fixture.put_many(number % 4, &[&number.to_string()]);
        sleep(Duration::from_secs(1)).await;
    }
    first.handle.caught_up().await;
    second.handle.caught_up().await;
    assert_eq!(second.handle.shards().len(), 2);
    first.stop().await;
    second.stop().await;
    let mut delivered: Vec<usize> = fixture
        .log
        .delivered()
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
    delivered.sort_unstable();
    assert_eq!(delivered, Vec::from_iter(0..60));
}

/// Why there may be no fan-out: the operation that fails, and how.
const REASONS: [(&str, SourceErrorKind); 6] = [
    ("DescribeStreamConsumer", SourceErrorKind::AccessDenied),
    ("RegisterStreamConsumer", SourceErrorKind::AccessDenied),
    ("RegisterStreamConsumer", SourceErrorKind::Throttled),
    ("RegisterStreamConsumer", SourceErrorKind::Unsupported),
    ("SubscribeToShard", SourceErrorKind::AccessDenied),
    ("SubscribeToShard", SourceErrorKind::Unsupported),
];

#[tokio::test(start_paused = true)]
async fn without_fan_out_auto_polls_tells_once_and_comes_back() {
    for (operation, kind) in REASONS {
        let fixture = Fixture::new(3);
        fixture.stream.fail_next(operation, kind, 1_000_000);
        let source = std::sync::Arc::new(fixture.stream.clone());
        let builder = builder(&fixture, Retrieval::auto()).idle_between_reads(MINUTE);
        let worker = fixture.start_on(source, builder);
        let mut events = worker.handle.events();
        fixture.put_many(0, &["a"]);
        let before = tokio::time::Instant::now();
        eventually("the record", || fixture.log.delivered() == ["a"]).await;
        assert!(
            before.elapsed() < Duration::from_secs(10),
            "{operation} {kind}"
        );
        sleep(12 * MINUTE).await;
        let told_of = told(&mut events).await;
        assert_eq!(told_of.len(), 1, "{told_of:?}");
        assert!(told_of[0].contains(operation), "{told_of:?}");
        let calls = fixture.stream.calls(operation);
        assert!(calls <= 3 + 4, "{operation} {kind}: {calls} calls");
        assert!(worker.handle.health().is_healthy());

        fixture.stream.fail_no_more(operation);
        sleep(12 * MINUTE).await;
        assert_eq!(told(&mut events).await, ["back"], "{operation} {kind}");
        let (polled, _) = reads(&fixture);
        fixture.put_many(1, &["b"]);
        fixture.put_many(2, &["c"]);
        sleep(MINUTE / 2).await;
        assert_eq!(reads(&fixture).0, polled, "{operation} {kind}: it polls on");
        let mut delivered = fixture.log.delivered();
        delivered.sort();
        assert_eq!(delivered, ["a", "b", "c"]);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_taken_away_while_it_runs_lose_and_repeat_nothing() {
    let fixture = Fixture::new(1);
    let worker = start(&fixture, Retrieval::auto());
    let mut put = Vec::new();
    for number in 0..400 {
        if number == 100 {
            fixture.refuse_reads(SourceErrorKind::AccessDenied, 1_000_000);
        }
        if number == 250 {
            fixture.stream.fail_no_more("SubscribeToShard");
        }
        put.push(number.to_string());
        fixture.put_many(0, &[&put[number]]);
        sleep(Duration::from_secs(5)).await;
    }
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!(counters.gaps, 0);
    assert!(counters.subscriptions >= 3 && fixture.stream.calls("GetRecords") > 100);
    worker.stop().await;
    assert_eq!(fixture.log.delivered(), put);
}

#[tokio::test(start_paused = true)]
async fn fan_out_alone_never_polls_says_why_it_waits_and_does_not_spin() {
    for (operation, kind) in REASONS {
        let fixture = Fixture::new(3);
        fixture.stream.fail_next(operation, kind, 1_000_000);
        let worker = start(&fixture, Retrieval::fan_out());
        let mut events = worker.handle.events();
        fixture.put_many(0, &["a"]);
        sleep(6 * MINUTE).await;
        let before = fixture.stream.calls(operation);
        sleep(MINUTE).await;
        let calls = fixture.stream.calls(operation) - before;
        assert!((1..=15 * 3).contains(&calls), "{operation} {kind}: {calls}");
        assert!(!worker.handle.health().is_healthy());
        assert_eq!(reads(&fixture).0, 0, "it polls");
        let mut needs_operator = false;
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            if let WorkerEvent::ReadFailed {
                needs_operator: needs,
                ..
            } = event
            {
                needs_operator |= needs;
            }
        }
        assert!(needs_operator, "{operation} {kind}");
        fixture.stream.fail_no_more(operation);
        eventually("the record", || fixture.log.delivered() == ["a"]).await;
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_given_is_neither_looked_for_nor_registered() {
    let fixture = Fixture::new(1);
    // Made by somebody who may.
    let source: &dyn ShardSource = &fixture.stream;
    let given = source.register_consumer("given").await.unwrap().arn;
    let worker = start(&fixture, Retrieval::fan_out().consumer_arn(given));
    fixture.put_many(0, &["a"]);
    eventually("the record", || fixture.log.delivered() == ["a"]).await;
    let asked = |operation| fixture.stream.calls(operation);
    assert_eq!(asked("DescribeStreamConsumer"), 0);
    assert_eq!(asked("RegisterStreamConsumer"), 1);
    assert!(fixture.stream.is_followed("given", &fixture.shard(0)));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_may_not_be_registered_is_not() {
    let fixture = Fixture::new(1);
    let may_not = Retrieval::fan_out().register_consumer(false);
    let worker = start(&fixture, may_not);
    let mut events = worker.handle.events();
    sleep(MINUTE).await;
    assert_eq!(fixture.stream.calls("RegisterStreamConsumer"), 0);
    assert_eq!(reads(&fixture), (0, 0));
    assert!(why(&mut events).await.contains("register the consumer"));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_arn_of_no_consumer_is_called_so_or_a_reason_to_poll() {
    let fixture = Fixture::new(1);
    let wrong = "arn:aws:kinesis:us-east-1:000000000000:stream/memory/consumer/none:1";
    let worker = start(&fixture, Retrieval::fan_out().consumer_arn(wrong));
    let mut events = worker.handle.events();
    fixture.put_many(0, &["a"]);
    sleep(MINUTE).await;
    let (_, before) = reads(&fixture);
    sleep(MINUTE).await;
    let calls = reads(&fixture).1 - before;
    assert!((1..=10).contains(&calls), "{calls} calls a minute");
    assert!(why(&mut events).await.contains("check the consumer's ARN"));
    worker.stop().await;
    let worker = start(&fixture, Retrieval::auto().consumer_arn(wrong));
    eventually("the record", || fixture.log.delivered() == ["a"]).await;
    worker.stop().await;
}

/// Why reading failed last, as it is told to an operator.
async fn why(events: &mut Events) -> String {
    let mut why = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        if let WorkerEvent::ReadFailed {
            error,
            needs_operator: true,
            ..
        } = event
        {
            why = error;
        }
    }
    why
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_somebody_removes_is_made_again_and_no_reason_to_poll() {
    let fixture = Fixture::new(3);
    let worker = start(&fixture, Retrieval::auto());
    worker.handle.caught_up().await;
    let mut events = worker.handle.events();
    let polled = reads(&fixture).0;
    sleep(MINUTE).await;
    fixture.stream.deregister_consumer("app");
    fixture.put_many(0, &["a"]);
    sleep(MINUTE / 4).await;
    assert_eq!(fixture.log.delivered(), ["a"]);
    assert_eq!(told(&mut events).await, Vec::<String>::new());
    assert_eq!(reads(&fixture).0, polled);
    worker.stop().await;
}
