//! Deferred records when the lease goes: at a stop, at the end of the shard, at the worker's death.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::{
    Ack, AckError, Checkpoint, InitializationInput, ProcessRecordsInput, ProcessorResult,
    RecordProcessor, ShutdownRequestedInput, Worker, async_trait,
};

use crate::desk::{Desk, start_with, stored};
use crate::fixture::{Call, Fixture, Log, eventually};
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

/// Defers its first record, then panics, and is never made again.
struct Broken {
    acks: Arc<Mutex<Vec<Ack>>>,
    log: Log,
}

#[async_trait]
impl RecordProcessor for Broken {
    async fn initialize(&mut self, _input: InitializationInput) -> ProcessorResult {
        match self.acks.lock().unwrap().is_empty() {
            true => Ok(()),
            false => Err("no more".into()),
        }
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let mut acks = self.acks.lock().unwrap();
        if acks.is_empty() {
            acks.push(input.defer(input.iter().next().unwrap()));
            return Ok(());
        }
        drop(acks);
        panic!("broken")
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        self.log
            .push(input.shard().shard_id(), Call::ShutdownRequested);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_a_processor_takes_no_call_from_others_while_it_waits_for_answers() {
    let fixture = Fixture::new(8);
    let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
    let (kept, log) = (Arc::clone(&acks), fixture.log.clone());
    let first = fixture.shard(0);
    let builder = Worker::builder("app", "memory", move |shard| Broken {
        acks: match *shard.shard_id() == first {
            true => Arc::clone(&kept),
            false => Arc::default(),
        },
        log: log.clone(),
    })
    .max_concurrent_calls(1);
    let worker = fixture.start_builder(builder);
    worker.handle.caught_up().await;
    fixture.put_many(0, &["deferred"]);
    eventually("the first call", || acks.lock().unwrap().len() == 1).await;
    fixture.put_many(0, &["panics"]);
    eventually("the panic", || {
        worker.handle.counters().processor_failures > 3
    })
    .await;
    worker.handle.shutdown();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.log.calls().len(), 7, "{:?}", fixture.log.calls());
    worker.stop().await;
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

/// A worker that dies at any moment, with 64 records in flight that complete in any order and calls that fail, leaves no
/// record below the stored checkpoint that is not complete, and not much above it that is.
#[tokio::test(start_paused = true)]
async fn a02_no_death_leaves_an_uncompleted_record_below_the_checkpoint() {
    let mut most_stored = 0;
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
            match rng.u8(..16) {
                0 => desk.fails.store(true, Ordering::SeqCst),
                1 => desk.fails_at_last.store(true, Ordering::SeqCst),
                _ => {}
            }
            let mut open = desk.open.lock().unwrap();
            if open.is_empty() {
                continue;
            }
            let index = rng.usize(..open.len());
            let next = open.remove(index);
            drop(open);
            if rng.u8(..10) == 0 {
                drop(next.ack);
            } else if next.ack.done().is_ok() {
                let number = next.text.parse::<usize>().unwrap();
                complete.push((number, tokio::time::Instant::now()));
            }
        }
        let died = tokio::time::Instant::now();
        drop(worker);
        let firsts = firsts(complete.iter().map(|(number, _)| *number));
        // Checkpoints are stored every 50 ms.
        let long_ago = complete
            .iter()
            .filter(|(_, at)| died - *at > Duration::from_millis(200));
        let surely_stored = self::firsts(long_ago.map(|(number, _)| *number));
        most_stored = most_stored.max(surely_stored);
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
        assert!(
            first >= surely_stored,
            "seed {seed}: resumed at {first}, complete to {surely_stored} for 200 ms"
        );
        assert_eq!(resumed, (first..300).collect::<Vec<_>>());
        drop(worker);
    }
    assert!(most_stored > 50, "the checkpoints moved: {most_stored}");
}

/// How many numbers there are without a gap, from 0.
fn firsts(numbers: impl Iterator<Item = usize>) -> usize {
    let numbers: BTreeSet<usize> = numbers.collect();
    (0..).take_while(|number| numbers.contains(number)).count()
}
