//! Deferred records: complete when their handles say so, in any order, and never passed over before.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    Ack, AckError, BatchAck, BatchFailure, OnFailure, ParkTime, Position, ProcessRecordsInput,
    ProcessorResult, RecordProcessor, Worker, async_trait,
};

use crate::crew::Crew;
use crate::desk::{Desk, STORED, start_with, stored};
use crate::fixture::{Call, Fixture, eventually, texts};
use crate::poison::{Letters, numbered, put_all, put_keyed};

#[tokio::test(start_paused = true)]
async fn a02_the_checkpoint_follows_the_first_record_that_is_not_complete() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 64).await;
    let late = [desk.take("10"), desk.take("40")];
    let before: Vec<Position> = desk
        .take_all()
        .into_iter()
        .rev()
        .map(|open| {
            open.ack.done().unwrap();
            open.position
        })
        .collect();
    tokio::time::sleep(STORED).await;
    let [tenth, fortieth] = late;
    assert!(stored(&fixture) < tenth.position.clone().into());
    assert_eq!(stored(&fixture), before[before.len() - 10].clone().into());
    let counters = worker.handle.counters();
    assert_eq!(
        (counters.records_processed, counters.processor_failures),
        (62, 0)
    );
    let caught_up = tokio::time::timeout(STORED, worker.handle.caught_up()).await;
    assert!(caught_up.is_err(), "not before all is complete");
    tenth.ack.done().unwrap();
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture) > tenth.position.into());
    assert!(stored(&fixture) < fortieth.position.clone().into());
    fortieth.ack.done().unwrap();
    worker.handle.caught_up().await;
    tokio::time::sleep(STORED).await;
    assert_eq!(stored(&fixture), before[0].clone().into());
    assert_eq!(fixture.log.delivered().len(), 64);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_handle_that_is_dropped_or_fails_brings_its_record_back_alone() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 4).await;
    drop(desk.take("1"));
    desk.take("2").ack.fail("the sink is away").unwrap();
    eventually("both again", || {
        desk.texts() == ["0", "3", "1", "2"] || desk.texts() == ["0", "3", "2", "1"]
    })
    .await;
    assert_eq!(worker.handle.counters().processor_failures, 2);
    desk.take("1").ack.fail("again").unwrap();
    eventually("the third time", || desk.texts().len() == 4).await;
    desk.take_all()
        .into_iter()
        .for_each(|open| open.ack.done().unwrap());
    worker.handle.caught_up().await;
    worker.stop().await;
    let attempts: Vec<(Vec<String>, u32)> = fixture
        .log
        .calls_of(&fixture.shard(0))
        .into_iter()
        .filter_map(|call| match call {
            Call::Records { data, attempt } if data == ["1"] => Some((data, attempt)),
            _ => None,
        })
        .collect();
    assert_eq!(
        attempts
            .iter()
            .map(|(_, attempt)| *attempt)
            .collect::<Vec<_>>(),
        [2, 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a02_a_record_that_failed_comes_again_at_once_on_an_idle_shard() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 10).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for number in 0..10 {
        let text = number.to_string();
        tokio::time::sleep(Duration::from_millis(377)).await;
        let failed = tokio::time::Instant::now();
        drop(desk.take(&text));
        eventually("the redelivery", || desk.texts().contains(&text)).await;
        let took = failed.elapsed();
        assert!(took <= Duration::from_millis(120), "{took:?}");
    }
    worker.stop().await;
}

/// Drops every handle at once.
struct Careless(crate::fixture::Log);

#[async_trait]
impl RecordProcessor for Careless {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let (data, attempt) = (texts(&input), input.attempt());
        let call = Call::Records { data, attempt };
        self.0.push(input.shard().shard_id(), call);
        drop(input.defer_all());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a02_a_record_that_keeps_failing_comes_again_ever_more_seldom() {
    let fixture = Fixture::new(1);
    let log = fixture.log.clone();
    let builder = Worker::builder("app", "memory", move |_| Careless(log.clone()));
    fixture.put_many(0, &["a"]);
    let worker = fixture.start_builder(builder);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let calls = fixture.log.calls().len();
    assert!((20..=80).contains(&calls), "{calls} calls in 10 minutes");
    assert!(stored(&fixture).is_start());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_record_whose_handle_keeps_failing_is_given_up_as_the_policy_says() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let letters = Letters::default();
    let builder = desk.builder_that_gives_up(3, OnFailure::DeadLetter, &letters);
    let worker = start_with(&fixture, &desk, builder, 4).await;
    let position = desk.open.lock().unwrap()[1].position.clone();
    for attempt in 1..=3 {
        assert!(letters.texts().is_empty());
        desk.take("1").ack.fail("no").unwrap();
        if attempt < 3 {
            eventually("again", || desk.texts().contains(&"1".to_owned())).await;
        }
    }
    eventually("the letter", || letters.texts() == ["1"]).await;
    assert_eq!(letters.accepted.lock().unwrap()[0].attempts, 3);
    desk.take("0").ack.done().unwrap();
    tokio::time::sleep(STORED).await;
    assert_eq!(stored(&fixture), position.into());
    desk.take_all()
        .into_iter()
        .for_each(|open| open.ack.done().unwrap());
    worker.handle.caught_up().await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_call_that_is_deferred_as_a_whole_is_searched_for_the_record_that_fails() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let letters = Letters::default();
    let builder = desk.builder_that_gives_up(2, OnFailure::DeadLetter, &letters);
    desk.by_batch.store(true, Ordering::SeqCst);
    let worker = fixture.start_builder(builder);
    put_all(&fixture, &numbered(16, &[13]));
    let mut answered = 0;
    let mut calls = 0;
    while answered < 16 || worker.handle.counters().dead_letters == 0 {
        eventually("a handle", || {
            !desk.batches.lock().unwrap().is_empty() || worker.handle.counters().dead_letters == 1
        })
        .await;
        let handles: Vec<BatchAck> = desk.batches.lock().unwrap().drain(..).collect();
        for handle in handles {
            let all: Vec<Vec<String>> = fixture
                .log
                .calls()
                .into_iter()
                .filter_map(|(_, call)| match call {
                    Call::Records { data, .. } => Some(data),
                    _ => None,
                })
                .collect();
            let data = &all[calls];
            calls += 1;
            match data.contains(&"poison 13".to_owned()) {
                true => handle.fail("no").unwrap(),
                false => {
                    answered += data.len();
                    handle.done().unwrap();
                }
            }
        }
        if answered == 15 && worker.handle.counters().dead_letters == 1 {
            break;
        }
    }
    worker.handle.caught_up().await;
    assert_eq!(
        (letters.texts(), answered),
        (vec!["poison 13".to_owned()], 15)
    );
    assert!(calls <= 10, "{calls} calls");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_whole_call_can_fail_at_a_named_record() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    desk.by_batch.store(true, Ordering::SeqCst);
    let worker = fixture.start_builder(desk.builder());
    let first = || desk.batches.lock().unwrap().pop();
    fixture.put_many(0, &["warm"]);
    eventually("the first", || !desk.batches.lock().unwrap().is_empty()).await;
    first().unwrap().done().unwrap();
    let sequence_numbers: Vec<_> = (0..4)
        .map(|i| {
            fixture
                .stream
                .put_to(&fixture.shard(0), "key", format!("{i}"))
                .unwrap()
        })
        .collect();
    eventually("the batch", || !desk.batches.lock().unwrap().is_empty()).await;
    let at = Position::new(sequence_numbers[2].clone(), 0);
    first()
        .unwrap()
        .fail(BatchFailure::at(at.clone(), "no"))
        .unwrap();
    eventually("the rest", || !desk.batches.lock().unwrap().is_empty()).await;
    assert_eq!(fixture.log.delivered()[5..], ["2", "3"]);
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture) < at.into() && !stored(&fixture).is_start());
    first().unwrap().done().unwrap();
    worker.handle.caught_up().await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_no_more_records_than_allowed_are_in_flight() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder().max_in_flight(1000), 1).await;
    worker.stop().await;
    desk.take_all();
    let worker = fixture.start_builder(desk.builder().max_in_flight(5));
    put_all(&fixture, &numbered(30, &[]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.open.lock().unwrap().len(), 5);
    let mut done = 0;
    while done < 31 {
        eventually("more", || !desk.open.lock().unwrap().is_empty()).await;
        assert!(desk.open.lock().unwrap().len() <= 5);
        let next = desk.open.lock().unwrap().pop().unwrap();
        next.ack.done().unwrap();
        done += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.handle.caught_up().await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_call_that_fails_takes_back_what_it_deferred() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    desk.fails.store(true, Ordering::SeqCst);
    put_all(&fixture, &numbered(1, &[]));
    let worker = fixture.start_builder(desk.builder());
    eventually("two deliveries", || desk.texts() == ["0", "0"]).await;
    assert_eq!(desk.take("0").ack.done(), Err(AckError::Over));
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture).is_start(), "a late answer changes nothing");
    desk.take("0").ack.done().unwrap();
    worker.handle.caught_up().await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_key_that_a_failed_acknowledgement_parks_is_parked_for_what_was_read_already() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let letters = Letters::default();
    let park = OnFailure::ParkKey(ParkTime::UntilLeaseEnds);
    let builder = desk
        .builder_that_gives_up(1, park, &letters)
        .max_in_flight(1);
    let worker = start_with(&fixture, &desk, builder, 1).await;
    desk.take("0").ack.done().unwrap();
    worker.handle.caught_up().await;
    put_keyed(&fixture, &[("a", "a1"), ("a", "a2"), ("b", "b1")]);
    eventually("the first", || desk.texts() == ["a1"]).await;
    desk.take("a1").ack.fail("no").unwrap();
    eventually("the next", || !desk.texts().is_empty()).await;
    assert_eq!(desk.texts(), ["b1"]);
    desk.take("b1").ack.done().unwrap();
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["a1", "a2"]);
}

/// Misuses handles in every way and keeps what comes of it.
#[derive(Clone, Default)]
struct Misuser {
    inputs: Arc<Mutex<Vec<ProcessRecordsInput>>>,
    errors: Arc<Mutex<Vec<Result<(), AckError>>>>,
}

#[async_trait]
impl RecordProcessor for Misuser {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let mut errors = self.errors.lock().unwrap();
        let mut inputs = self.inputs.lock().unwrap();
        if let Some(other) = inputs.first() {
            // A record of the other shard.
            errors.push(input.defer(other.iter().next().unwrap()).done());
            // Under a call that is over.
            errors.push(other.defer(other.iter().next().unwrap()).done());
            errors.push(other.defer_all().done());
        }
        let first = input.defer(input.iter().next().unwrap());
        let again = input.defer(input.iter().next().unwrap());
        errors.push(again.done());
        first.done().unwrap();
        errors.push(input.defer(input.iter().next().unwrap()).fail("no"));
        inputs.push(input);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a02_answers_that_mean_nothing_are_errors_and_change_nothing() {
    let fixture = Fixture::new(2);
    let misuser = Misuser::default();
    let shared = misuser.clone();
    let worker = fixture.start_builder(Worker::builder("app", "memory", move |_| shared.clone()));
    fixture.put_many(0, &["a"]);
    eventually("the first call", || {
        misuser.inputs.lock().unwrap().len() == 1
    })
    .await;
    fixture.put_many(1, &["b"]);
    eventually("the second call", || {
        misuser.inputs.lock().unwrap().len() == 2
    })
    .await;
    worker.handle.caught_up().await;
    let over = Err(AckError::Over);
    let not_in_call = Err(AckError::NotInCall);
    assert_eq!(
        *misuser.errors.lock().unwrap(),
        [
            over,
            over,
            not_in_call,
            not_in_call,
            not_in_call,
            over,
            over
        ]
    );
    let counters = worker.handle.counters();
    assert_eq!(
        (counters.records_processed, counters.processor_failures),
        (2, 0)
    );
    worker.stop().await;
}

/// Defers its first record, then checkpoints by hand.
struct ByHand {
    through: bool,
    acks: Arc<Mutex<Vec<Ack>>>,
}

#[async_trait]
impl RecordProcessor for ByHand {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let ack = input.defer(input.iter().next().unwrap());
        self.acks.lock().unwrap().push(ack);
        match self.through {
            true => {
                let last = input.iter().next_back().unwrap().position();
                input.checkpointer().checkpoint_at(&last).await?;
            }
            false => input.checkpointer().checkpoint().await?,
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a02_a_checkpoint_of_everything_does_not_pass_deferred_records_and_one_at_a_position_does()
{
    for through in [false, true] {
        let fixture = Fixture::new(1);
        let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
        let kept = Arc::clone(&acks);
        let worker = fixture.start_builder(Worker::builder("app", "memory", move |_| ByHand {
            through,
            acks: Arc::clone(&kept),
        }));
        fixture.put_many(0, &["a"]);
        eventually("the call", || acks.lock().unwrap().len() == 1).await;
        tokio::time::sleep(STORED).await;
        assert_eq!(fixture.is_checkpointed(&fixture.shard(0)), through);
        let answer = acks.lock().unwrap().remove(0).done();
        assert_eq!(answer, if through { Err(AckError::Over) } else { Ok(()) });
        worker.handle.caught_up().await;
        worker.stop().await;
        assert!(fixture.is_checkpointed(&fixture.shard(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a02_a_call_that_fails_at_a_named_record_completes_nothing_that_it_deferred_before() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 1).await;
    desk.take("0").ack.done().unwrap();
    worker.handle.caught_up().await;
    tokio::time::sleep(STORED).await;
    let before = stored(&fixture);
    desk.fails_at_last.store(true, Ordering::SeqCst);
    put_all(&fixture, &numbered(6, &[]));
    eventually("all of them again", || desk.texts().len() == 12).await;
    tokio::time::sleep(STORED).await;
    assert_eq!(stored(&fixture), before, "nothing is complete");
    for open in desk.take_all() {
        let _over = open.ack.done();
    }
    worker.handle.caught_up().await;
    tokio::time::sleep(STORED).await;
    assert!(stored(&fixture) > before);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a02_a_parked_key_does_not_give_other_keys_more_attempts() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let letters = Letters::default();
    let park = OnFailure::ParkKey(ParkTime::UntilLeaseEnds);
    let builder = desk.builder_that_gives_up(3, park, &letters);
    let worker = fixture.start_builder(builder);
    for (key, text) in [("a", "a1"), ("b", "b1")] {
        put_keyed(&fixture, &[(key, text)]);
        for attempt in 1..=3 {
            eventually("the record", || desk.texts() == [text]).await;
            assert!(!letters.texts().contains(&text.to_owned()), "{attempt}");
            desk.take(text).ack.fail("no").unwrap();
        }
        eventually("the letter", || letters.texts().contains(&text.to_owned())).await;
    }
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(letters.texts(), ["a1", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn a02_an_answer_in_a_call_that_fails_counts_up_to_the_first_record_without_one() {
    let fixture = Fixture::new(1);
    let answers: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let log = Arc::clone(&answers);
    let crew = Crew::new(move |input| {
        for record in input {
            let text = String::from_utf8_lossy(record.data()).into_owned();
            if text == "a" || text == "c" {
                let is_new = input.defer(record).done().is_ok();
                log.lock().unwrap().push((text, is_new));
            }
        }
        match input.attempt() == 1 && input.len() > 1 {
            true => (Duration::ZERO, Err("after the answers".into())),
            false => (Duration::ZERO, Ok(())),
        }
    });
    fixture.put_many(0, &["first"]);
    let worker = fixture.start_builder(crew.builder(1));
    worker.handle.caught_up().await;
    fixture.put_many(0, &["a", "b", "c"]);
    eventually("the last call", || crew.begun().len() == 6).await;
    worker.handle.caught_up().await;
    assert_eq!(crew.begun(), ["first", "a", "b", "c", "b", "c"]);
    let told: Vec<(String, bool)> = answers.lock().unwrap().clone();
    let told: Vec<(&str, bool)> = told
        .iter()
        .map(|(text, new)| (text.as_str(), *new))
        .collect();
    assert_eq!(told, [("a", true), ("c", true), ("c", false)]);
    worker.stop().await;
}
