//! Records that cannot be processed: what the failure policy says happens, and nothing is passed over before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kcl_core::{
    BuildError, FailurePolicy, LeaseKey, OnFailure, ProcessRecordsInput, SeekTo, ShardState,
    Shards, WorkerBuilder, WorkerError, WorkerEvent,
};
use kcl_lease::Fault;

use crate::fixture::{Fixture, eventually};
use crate::orders::only;
use crate::poison::{
    Letters, builder, name_poison, numbered, processed, put_all, refuse_poison, three_times,
};

#[tokio::test(start_paused = true)]
async fn a01_records_before_the_one_that_is_named_are_complete_at_once() {
    let fixture = Fixture::new(1);
    let worker = fixture.start_builder(builder(&fixture, name_poison));
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(4, &[2]));
    let log = fixture.log.clone();
    eventually("the redelivery", || log.delivered().len() > 20).await;
    worker.stop().await;
    assert_eq!(
        fixture.log.delivered()[1..7],
        ["0", "1", "poison 2", "3", "poison 2", "3"]
    );
    // The next worker begins with the one that failed.
    let seen = fixture.log.delivered().len();
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered()[seen..], ["poison 2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a01_a_skipped_record_is_counted_and_told_and_no_other_is() {
    let fixture = Fixture::new(1);
    let builder = builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::Skip));
    let worker = fixture.start_builder(builder);
    let mut events = worker.handle.events();
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(33, &[0, 7, 32]));
    eventually("the last", || worker.handle.counters().records_skipped == 3).await;
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().records_processed, 31);
    worker.stop().await;
    assert_eq!(processed(&fixture).len(), 31);
    let mut told = 0;
    while let Some(event) = events.next().await {
        if let WorkerEvent::RecordSkipped { error, .. } = event {
            assert_eq!(error, "refused");
            told += 1;
        }
    }
    assert_eq!(told, 3);
}

#[tokio::test(start_paused = true)]
async fn a01_panics_count_as_errors_for_the_policy() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let behaviour = |input: &ProcessRecordsInput| {
        assert!(refuse_poison(input).is_ok(), "poison");
        Ok(())
    };
    let builder = builder(&fixture, behaviour)
        .failure_policy(three_times(OnFailure::DeadLetter))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(5, &[3]));
    eventually("the letter", || !letters.texts().is_empty()).await;
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["poison 3"]);
    assert!(
        letters.accepted.lock().unwrap()[0]
            .error
            .contains("panicked")
    );
    assert_eq!(processed(&fixture), ["warm", "0", "1", "2", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a01_a_stopped_shard_keeps_its_checkpoint_before_the_record_and_others_go_on() {
    let fixture = Fixture::new(2);
    let builder =
        builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::StopShard));
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    let mut events = worker.handle.events();
    put_all(&fixture, &numbered(16, &[9]));
    eventually("the stop", || worker.handle.counters().shards_stopped == 1).await;
    fixture.put_many(1, &["other"]);
    let (shard, other) = (fixture.shard(0), fixture.shard(1));
    eventually("the other shard", || fixture.is_checkpointed(&other)).await;
    let calls = fixture.log.calls().len();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fixture.log.calls().len(), calls, "nothing is delivered");
    let stopped = worker.handle.stopped_shards();
    assert_eq!(
        (stopped[0].shard.shard(), stopped[0].error.as_str()),
        (shard.clone(), "refused")
    );
    assert!(
        worker.handle.shards().contains(&fixture.lease_key(0)),
        "held, so nobody takes it"
    );
    let caught_up = tokio::time::timeout(Duration::from_secs(60), worker.handle.caught_up());
    assert!(caught_up.await.is_err());
    assert!(fixture.lease(&shard).checkpoint < stopped[0].position.clone().unwrap().into());
    let handle = worker.handle.clone();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (2, 0));
    assert_eq!(handle.stopped_shards(), []);
    assert_eq!(processed(&fixture).len(), 1 + 9);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        if let WorkerEvent::ShardStopped {
            shard,
            position,
            error,
        } = event
        {
            told.push((shard, position, error));
        }
    }
    assert_eq!(
        told,
        [(
            fixture.lease_key(0),
            stopped[0].position.clone(),
            "refused".to_owned()
        )]
    );
    // The next worker delivers nothing either, until somebody says so, and then begins with the record.
    let seen = fixture.log.delivered().len();
    let worker = fixture.start(|_| Ok(()));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.log.delivered().len(), seen);
    // It says why.
    let health = worker.handle.health();
    let standing = health
        .shards
        .iter()
        .find(|s| s.shard.shard() == shard)
        .unwrap();
    assert_eq!(standing.state, ShardState::Stopped);
    let cause = &standing.last_error.as_ref().unwrap().error;
    assert!(cause.ends_with("refused"), "{cause}");
    assert!(!health.is_healthy());
    assert_eq!(worker.handle.stopped_shards(), stopped);
    assert_eq!(worker.handle.counters().shards_stopped, 0, "not by it");
    // To resume all that an operator paused is not meant for it.
    let operator = worker.handle.operator();
    operator.pause(&Shards::All).await.unwrap();
    let left = operator.resume(&Shards::All).await.unwrap().stopped;
    assert_eq!(left[0].0, LeaseKey::of_shard(&shard));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.log.delivered().len(), seen);
    assert_eq!(worker.handle.stopped_shards().len(), 1);
    operator.resume(&only(&shard)).await.unwrap();
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.stopped_shards(), []);
    assert!(worker.handle.health().is_healthy());
    worker.stop().await;
    assert_eq!(fixture.log.delivered()[seen], "poison 9");
    assert_eq!(fixture.log.delivered().len() - seen, 7);
}

/// The table is slow when the shard is stopped, and the worker is told to leave just then.
#[tokio::test(start_paused = true)]
async fn a01_a_shard_is_marked_as_stopped_before_its_lease_is_given_away() {
    let fixture = Fixture::new(1);
    let table = Arc::clone(&fixture.table);
    let refusals = AtomicUsize::new(0);
    let behaviour = move |input: &ProcessRecordsInput| {
        let outcome = refuse_poison(input);
        if outcome.is_err() && refusals.fetch_add(1, Ordering::SeqCst) == 2 {
            table.inject(Fault::Delay(Duration::from_secs(2)));
        }
        outcome
    };
    let builder = builder(&fixture, behaviour).failure_policy(three_times(OnFailure::StopShard));
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(1, &[0]));
    eventually("the stop", || worker.handle.counters().shards_stopped == 1).await;
    worker.stop().await;
    let seen = fixture.log.delivered().len();
    let worker = fixture.start(|_| Ok(()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.log.delivered().len(), seen);
    assert_eq!(worker.handle.stopped_shards().len(), 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a01_a_worker_that_should_stop_ends_with_an_error_that_names_the_record() {
    let fixture = Fixture::new(2);
    let builder =
        builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::StopWorker));
    let worker = fixture.start_builder(builder);
    fixture.warm_up(&worker).await;
    put_all(&fixture, &numbered(4, &[2]));
    let failure = worker.result().await.unwrap_err();
    let WorkerError::Processor {
        shard,
        position,
        error,
    } = &failure
    else {
        panic!("{failure}");
    };
    assert_eq!((shard, error.as_str()), (&fixture.lease_key(0), "refused"));
    assert!(!failure.is_retryable());
    let lease = fixture.lease(&shard.shard());
    assert_eq!(lease.owner, None, "released");
    assert!(!lease.checkpoint.is_start() && lease.checkpoint < position.clone().into());
    assert_eq!(fixture.lease(&fixture.shard(1)).owner, None);
}

#[tokio::test(start_paused = true)]
async fn a01_a_failing_record_is_tried_until_it_is_too_old() {
    let fixture = Fixture::new(1);
    let policy = FailurePolicy::retry()
        .max_record_age(Duration::from_secs(300))
        .then(OnFailure::Skip);
    let worker = fixture.start_builder(builder(&fixture, refuse_poison).failure_policy(policy));
    fixture.put_many(0, &["poison"]);
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(worker.handle.counters().records_skipped, 0);
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(worker.handle.counters().records_skipped, 1);
    assert!(worker.handle.counters().processor_failures > 10);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn options_that_contradict_each_other_are_refused_by_both_names() {
    let fixture = Fixture::new(1);
    let build = |builder: WorkerBuilder| {
        let source = Arc::new(fixture.stream.clone());
        let table = Arc::clone(&fixture.table) as Arc<dyn kcl_lease::LeaseTable>;
        builder.build_with(source, table).map(drop)
    };
    let no_sink =
        builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::DeadLetter));
    let idle_sink = builder(&fixture, refuse_poison).dead_letters(Letters::default().sink());
    for (builder, names) in [
        (no_sink, ("failure_policy.then", "dead_letters")),
        (idle_sink, ("dead_letters", "failure_policy.then")),
    ] {
        let error = build(builder).unwrap_err();
        assert!(
            matches!(error, BuildError::Conflict { a, b, .. } if (a, b) == names),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a01_a_stopped_shard_begins_again_when_an_operator_says_so_before_the_record_or_after_it() {
    for passes in [false, true] {
        let fixture = Fixture::new(1);
        let builder =
            builder(&fixture, refuse_poison).failure_policy(three_times(OnFailure::StopShard));
        let worker = fixture.start_builder(builder);
        fixture.warm_up(&worker).await;
        put_all(&fixture, &numbered(4, &[1]));
        eventually("the stop", || worker.handle.stopped_shards().len() == 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let record = worker.handle.stopped_shards()[0].position.clone().unwrap();
        let operator = worker.handle.operator();
        let seen = fixture.log.delivered().len();
        if passes {
            let after = SeekTo::After(record);
            operator.seek(&Shards::All, after).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(fixture.log.delivered().len(), seen, "it is paused");
        }
        operator.resume(&only(&fixture.shard(0))).await.unwrap();
        if passes {
            worker.handle.caught_up().await;
            assert_eq!(fixture.log.delivered()[seen..], ["2", "3"]);
            assert_eq!(worker.handle.stopped_shards(), []);
        } else {
            eventually("the next stop", || {
                worker.handle.counters().shards_stopped == 2
            })
            .await;
            assert_eq!(fixture.log.delivered()[seen], "poison 1");
        }
        worker.stop().await;
    }
}
