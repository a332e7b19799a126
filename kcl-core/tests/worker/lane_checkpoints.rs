//! How far the checkpoint of several lanes goes when one of them has given a record up, and does not go on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kcl_core::{
    Checkpoint, DeadLetter, DeadLetterSink, FailurePolicy, OnFailure, ParkTime, Position, Shards,
};

use crate::crew::{Crew, keyed, put};
use crate::desk::stored;
use crate::fixture::{Fixture, Running, texts};
use crate::poison::{name_poison, three_times};

const LANES: usize = 4;
const LONG: Duration = Duration::from_secs(30);

/// A record of the key that fails.
fn poison(number: u32) -> String {
    format!("poison/{number}")
}

/// A record of another key, of the lane of those that fail, or of another lane.
fn other(of_lane: bool) -> String {
    let lane_of = |text: &str| kcl_aggregation::hash_key(key_of(text)) % LANES as u128;
    let mut others = keyed(32, 0..32).into_iter();
    let found = others.find(|text| (lane_of(text) == lane_of("poison/0")) == of_lane);
    found.unwrap()
}

fn key_of(text: &str) -> &str {
    text.split('/').next().unwrap()
}

/// A sink that accepts so many letters and no more.
fn accepting(most: u32) -> impl DeadLetterSink {
    let left = AtomicU32::new(most);
    move |_: DeadLetter| {
        let one_less = |left: u32| left.checked_sub(1);
        let accepts = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        async move { accepts.map(|_| ()).map_err(|_| "closed".into()) }
    }
}

/// Puts records that come in one answer. Returns where the one of another lane ends.
async fn put_together(fixture: &Fixture, worker: &Running, texts: &[String]) -> Checkpoint {
    put(fixture, &["warm/0".to_owned()]);
    worker.handle.caught_up().await;
    let mut beside = None;
    for text in texts {
        let (shard, key) = (fixture.shard(0), key_of(text));
        let number = fixture.stream.put_to(&shard, key, text.clone()).unwrap();
        if *text == other(false) {
            beside = Some(Checkpoint::At(Position::new(number, 0)));
        }
    }
    beside.unwrap()
}

#[tokio::test(start_paused = true)]
async fn b05_behind_a_letter_the_checkpoint_passes_records_of_other_lanes() {
    let (beside, slow) = (|| other(false), || other(true));
    // After what went to the sink one record of that lane is open: one that waits for the sink, or one in a call.
    let cases = [
        (2, vec![poison(0), poison(1), beside(), poison(2)]),
        (2, vec![poison(0), poison(1), beside(), slow()]),
        (1, vec![poison(0), beside(), slow()]),
        (3, vec![poison(0), poison(1), beside(), slow(), poison(2)]),
    ];
    for (letters, records) in cases {
        let fixture = Fixture::new(1);
        let crew = Crew::new(move |input| match name_poison(input) {
            Ok(()) if texts(input).contains(&slow()) => (LONG, Ok(())),
            outcome => (Duration::ZERO, outcome),
        });
        let parks = three_times(OnFailure::ParkKey(ParkTime::UntilLeaseEnds));
        let builder = crew.builder(LANES).failure_policy(parks);
        let worker = fixture.start_builder(builder.dead_letters(accepting(letters)));
        let complete = put_together(&fixture, &worker, &records).await;
        tokio::time::sleep(LONG * 2 / 3).await;
        assert_eq!(stored(&fixture), complete, "{records:?}");
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn b05_behind_a_record_that_was_skipped_the_checkpoint_passes_records_of_other_lanes() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| match name_poison(input) {
        Ok(()) => (Duration::ZERO, Ok(())),
        refused => (LONG, refused),
    });
    let skips = FailurePolicy::retry().attempts(1).then(OnFailure::Skip);
    let worker = fixture.start_builder(crew.builder(LANES).failure_policy(skips));
    let complete = put_together(&fixture, &worker, &[poison(0), other(false)]).await;
    tokio::time::sleep(LONG / 2).await;
    // The lane goes no further once its record is given up.
    let operator = worker.handle.operator();
    operator.pause(&Shards::All).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(worker.handle.counters().records_skipped, 1);
    worker.stop().await;
    assert_eq!(stored(&fixture), complete);
}
