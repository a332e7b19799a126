//! Deferred records when the lease goes: at a stop, at the end of the shard, at the worker's death.

use std::time::Duration;

use kcl_core::{AckError, Checkpoint};

use crate::desk::{Desk, start_with, stored};
use crate::fixture::{Fixture, eventually};
use crate::poison::{numbered, put_all};

#[tokio::test(start_paused = true)]
async fn a02_a_stop_waits_for_answers_as_long_as_it_may_and_leaves_the_others() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 3).await;
    let answers = desk.clone();
    let answering = fixture.runtime.spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        answers.take("0").ack.done().unwrap();
    });
    let first = desk.open.lock().unwrap()[0].position.clone();
    let asked = tokio::time::Instant::now();
    let report = worker.stop().await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    let took = asked.elapsed();
    assert!((20..25).contains(&took.as_secs()), "{took:?}");
    answering.await.unwrap();
    assert_eq!(stored(&fixture), first.into());
    for open in desk.take_all() {
        assert_eq!(open.ack.done(), Err(AckError::LeaseLost));
    }
    // The next worker delivers what was left.
    let seen = fixture.log.delivered().len();
    let worker = fixture.start(|_| Ok(()));
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(fixture.log.delivered()[seen..], ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a02_a_stop_with_everything_answered_is_quick() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 3).await;
    desk.take_all()
        .into_iter()
        .for_each(|open| open.ack.done().unwrap());
    let asked = tokio::time::Instant::now();
    worker.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a02_a_shard_ends_when_its_last_record_is_acknowledged() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = start_with(&fixture, &desk, desk.builder(), 2).await;
    let parent = fixture.shard(0);
    fixture.stream.split(&parent).unwrap();
    desk.take("1").ack.done().unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(stored(&fixture).is_start());
    drop(desk.take("0"));
    eventually("it comes again", || desk.texts() == ["0"]).await;
    desk.take("0").ack.done().unwrap();
    eventually("the end", || stored(&fixture) == Checkpoint::ShardEnd).await;
    worker.handle.caught_up().await;
    worker.stop().await;
}

/// A worker that dies at any moment, with 64 records in flight that complete in any order, leaves no record below the
/// stored checkpoint that is not complete.
#[tokio::test(start_paused = true)]
async fn a02_no_death_leaves_an_uncompleted_record_below_the_checkpoint() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let fixture = Fixture::new(1);
        let desk = Desk::of(&fixture);
        let builder = desk.builder().max_in_flight(64);
        let worker = fixture.start_builder(builder.checkpoint_interval(Duration::from_millis(50)));
        put_all(&fixture, &numbered(300, &[]));
        let mut complete = Vec::new();
        for _ in 0..rng.usize(1..400) {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..20))).await;
            let mut open = desk.open.lock().unwrap();
            if open.is_empty() {
                continue;
            }
            let index = rng.usize(..open.len());
            let next = open.remove(index);
            drop(open);
            if rng.u8(..10) == 0 {
                drop(next.ack);
            } else {
                next.ack.done().unwrap();
                complete.push(next.text.parse::<usize>().unwrap());
            }
        }
        drop(worker);
        complete.sort_unstable();
        let firsts = complete
            .iter()
            .enumerate()
            .take_while(|(i, n)| i == *n)
            .count();
        let seen = fixture.log.delivered().len();
        desk.take_all();
        let worker = fixture.start(|_| Ok(()));
        // The dead worker's lease runs out, and the rest is read.
        tokio::time::sleep(Duration::from_secs(15)).await;
        worker.handle.caught_up().await;
        let resumed: Vec<usize> = fixture.log.delivered()[seen..]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let first = resumed.first().copied().unwrap_or(300);
        assert!(
            first <= firsts,
            "seed {seed}: resumed at {first}, complete to {firsts}"
        );
        assert_eq!(resumed, (first..300).collect::<Vec<_>>());
        drop(worker);
    }
}
