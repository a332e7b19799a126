//! Several lanes on one shard: order per key, one checkpoint, and nobody waits for a lane that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_aggregation::{HashKeyRange, PackLimits, Packer};
use kcl_core::{
    CheckpointError, DeadLetter, FailurePolicy, OnFailure, ProcessRecordsInput, ProcessorResult,
    RecordProcessor, Worker, async_trait,
};

use crate::crew::{Crew, Did, assert_order_per_key, keyed, put, sorted};
use crate::desk::{Desk, STORED, stored};
use crate::fixture::{Fixture, eventually, texts};
use crate::poison::{Letters, name_poison, three_times};

const LANES: usize = 4;

fn quick(_: &ProcessRecordsInput) -> (Duration, ProcessorResult) {
    (Duration::ZERO, Ok(()))
}

fn has(input: &ProcessRecordsInput, start: &str) -> bool {
    texts(input).iter().any(|text| text.starts_with(start))
}

#[tokio::test(start_paused = true)]
async fn b05_lanes_work_at_the_same_time_and_keep_the_order_of_each_key() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| (Duration::from_millis(input.len() as u64), Ok(())));
    let worker = fixture.start_builder(crew.builder(LANES));
    let all = keyed(32, 0..2000);
    for part in all.chunks(137) {
        put(&fixture, part);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().records_processed, 2000);
    worker.stop().await;
    assert_eq!(crew.most.load(Ordering::SeqCst), LANES);
    assert_eq!(crew.overlaps.load(Ordering::SeqCst), 0);
    let processed = crew.processed();
    assert_order_per_key(&processed);
    assert_eq!(sorted(processed), sorted(all));
    let used: std::collections::BTreeSet<usize> = crew.lane_of_keys().into_values().collect();
    assert_eq!(used, (0..LANES).collect());
}

#[tokio::test(start_paused = true)]
async fn b05_the_checkpoint_is_right_before_the_first_record_that_is_not_complete() {
    let fixture = Fixture::new(1);
    let crew = Crew::new(|input| match has(input, "k3/") {
        true => (Duration::from_secs(100), Ok(())),
        false => quick(input),
    });
    let worker = fixture.start_builder(crew.builder(LANES));
    put(&fixture, &keyed(32, 0..100));
    tokio::time::sleep(STORED * 2).await;
    // The lane of k3 has not completed anything of its first call; all others are done.
    let slow = crew.lane_of_keys()["k3"];
    let others = worker.handle.counters().records_processed;
    assert!(others > 50 && others < 100, "{others}");
    let waiting = tokio::time::timeout(STORED, worker.handle.caught_up()).await;
    assert!(waiting.is_err(), "not before all is complete");
    drop(worker);
    let seen = crew.did().len();
    let first = crew.did().into_iter().find_map(|(lane, did)| match did {
        Did::Begun(texts) if lane == slow => texts.first().cloned(),
        _ => None,
    });
    // The next worker begins with exactly that record, with another number of lanes.
    let heir = Crew::new(quick);
    let worker = fixture.start_builder(heir.builder(1));
    tokio::time::sleep(Duration::from_secs(15)).await;
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(crew.did().len(), seen, "the first worker is dead");
    assert_eq!(heir.processed().first(), first.as_ref());
}

#[tokio::test(start_paused = true)]
async fn b05_a_lane_that_fails_stops_the_others_only_at_the_bound_in_flight() {
    let fixture = Fixture::new(1);
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let crew = Crew::new(move |input| match has(input, "k0/") {
        true if failing.load(Ordering::SeqCst) => (Duration::ZERO, Err("refused".into())),
        _ => quick(input),
    });
    let worker = fixture.start_builder(crew.builder(LANES).max_in_flight(100));
    // One record of the key that fails, and many others: these flow.
    put(&fixture, &["k0/0".to_owned()]);
    eventually("a failure", || {
        worker.handle.counters().processor_failures > 0
    })
    .await;
    let stuck = crew.lane_of_keys()["k0"];
    put(&fixture, &keyed(32, 1..1001));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let processed = worker.handle.counters().records_processed;
    let is_done = |did: &Did| matches!(did, Did::Done(_));
    let of_stuck = crew
        .did()
        .into_iter()
        .filter(|(lane, did)| *lane == stuck && is_done(did));
    assert_eq!(of_stuck.count(), 0);
    // A hundred records of the failing lane wait, and nothing more is handed out.
    assert!((200..600).contains(&processed), "{processed}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(worker.handle.counters().records_processed, processed);
    fails.store(false, Ordering::SeqCst);
    worker.handle.caught_up().await;
    assert_eq!(worker.handle.counters().records_processed, 1001);
    assert_order_per_key(&crew.processed());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn b05_each_lane_has_the_failure_policy_for_itself() {
    let fixture = Fixture::new(1);
    let letters = Letters::default();
    let crew = Crew::new(|input| (Duration::ZERO, name_poison(input)));
    let builder = crew
        .builder(LANES)
        .failure_policy(three_times(OnFailure::ParkKey(
            kcl_core::ParkTime::UntilLeaseEnds,
        )))
        .dead_letters(letters.sink());
    let worker = fixture.start_builder(builder);
    put(&fixture, &keyed(32, 0..50));
    let poison = ["poison-a/50", "poison-b/51", "poison-c/52"].map(str::to_owned);
    put(&fixture, &poison);
    put(&fixture, &keyed(32, 53..100));
    put(&fixture, &["poison-a/100".to_owned()]);
    put(&fixture, &keyed(32, 101..150));
    worker.handle.caught_up().await;
    let counters = worker.handle.counters();
    assert_eq!((counters.keys_parked, counters.dead_letters), (3, 4));
    worker.stop().await;
    let mut sent = letters.texts();
    assert!(
        sent.iter().position(|t| t == "poison-a/50")
            < sent.iter().position(|t| t == "poison-a/100")
    );
    sent.sort_unstable();
    assert_eq!(
        sent,
        ["poison-a/100", "poison-a/50", "poison-b/51", "poison-c/52"]
    );
    assert_eq!(counters.records_processed, 146);
    assert_order_per_key(&crew.processed());
}

#[tokio::test(start_paused = true)]
async fn b05_a_panic_gets_a_new_processor_for_its_lane_alone() {
    let fixture = Fixture::new(1);
    let panics = AtomicBool::new(true);
    let crew = Crew::new(move |input| {
        if has(input, "k1/") && panics.swap(false, Ordering::SeqCst) {
            panic!("once");
        }
        quick(input)
    });
    let worker = fixture.start_builder(crew.builder(LANES));
    put(&fixture, &keyed(32, 0..100));
    worker.handle.caught_up().await;
    worker.stop().await;
    let again = crew.lane_of_keys()["k1"];
    for (lane, count) in crew.count(&Did::Initialized) {
        assert_eq!(count, if lane == again { 2 } else { 1 });
    }
    assert_eq!(crew.processed().len(), 100);
}

/// Checkpoints by hand after each call, and refuses one key until it may not.
struct ByHand {
    refuses: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<CheckpointError>>>,
}

#[async_trait]
impl RecordProcessor for ByHand {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        if has(&input, "k3/") && self.refuses.load(Ordering::SeqCst) {
            return Err("not yet".into());
        }
        let last = input.iter().next_back().unwrap().position();
        input.checkpointer().checkpoint_at(&last).await?;
        if let Err(error) = input.checkpointer().prepare(&last, None).await {
            self.errors.lock().unwrap().push(error);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn b05_a_processor_checkpoints_its_own_lane_by_hand_and_no_other() {
    let fixture = Fixture::new(1);
    let refuses = Arc::new(AtomicBool::new(true));
    let errors: Arc<Mutex<Vec<CheckpointError>>> = Arc::default();
    let shared = (Arc::clone(&refuses), Arc::clone(&errors));
    let builder = Worker::builder("app", "memory", move |_| ByHand {
        refuses: Arc::clone(&shared.0),
        errors: Arc::clone(&shared.1),
    });
    let worker = fixture.start_builder(builder.lanes(LANES));
    put(&fixture, &["k3/0".to_owned()]);
    put(&fixture, &keyed(32, 1..64));
    tokio::time::sleep(STORED).await;
    assert!(worker.handle.counters().records_processed > 30);
    assert!(
        stored(&fixture).is_start(),
        "the first record is not complete"
    );
    refuses.store(false, Ordering::SeqCst);
    worker.handle.caught_up().await;
    tokio::time::sleep(STORED).await;
    assert!(!stored(&fixture).is_start());
    let errors = errors.lock().unwrap().clone();
    assert!(errors.len() >= LANES);
    assert!(
        errors
            .iter()
            .all(|error| *error == CheckpointError::SeveralLanes)
    );
    worker.stop().await;
}

/// Handles of several lanes, answered in any order.
#[tokio::test(start_paused = true)]
async fn b05_deferred_records_of_all_lanes_have_one_checkpoint_and_one_bound() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let worker = fixture.start_builder(desk.builder().lanes(LANES).max_in_flight(64));
    put(&fixture, &keyed(32, 0..300));
    eventually("full", || desk.open.lock().unwrap().len() == 64).await;
    tokio::time::sleep(STORED).await;
    assert_eq!(desk.open.lock().unwrap().len(), 64, "no more");
    let mut rng = fastrand::Rng::with_seed(3);
    let mut complete = std::collections::BTreeSet::new();
    let mut positions = std::collections::BTreeMap::new();
    while complete.len() < 300 {
        eventually("some", || !desk.open.lock().unwrap().is_empty()).await;
        let mut open = desk.take_all();
        for open in &open {
            let number: usize = open.text.split('/').nth(1).unwrap().parse().unwrap();
            positions.insert(number, open.position.clone());
        }
        rng.shuffle(&mut open);
        let rest = open.split_off(open.len().div_ceil(2));
        for open in open {
            let number: usize = open.text.split('/').nth(1).unwrap().parse().unwrap();
            assert!(complete.insert(number));
            open.ack.done().unwrap();
        }
        desk.open.lock().unwrap().extend(rest);
        tokio::time::sleep(STORED).await;
        let firsts = (0..300)
            .take_while(|number| complete.contains(number))
            .count();
        if let Some(last) = firsts.checked_sub(1) {
            assert_eq!(stored(&fixture), positions[&last].clone().into());
        }
    }
    worker.handle.caught_up().await;
    worker.stop().await;
}

/// Every call answers for all of its records, takes a second, and fails nevertheless.
fn answering_and_failing() -> Crew {
    Crew::new(|input| {
        for record in input {
            // An error if it was answered before, and came again.
            let _answered = input.defer(record).done();
        }
        (Duration::from_secs(1), Err("after the answers".into()))
    })
}

#[tokio::test(start_paused = true)]
async fn b05_what_was_answered_in_a_call_that_failed_is_not_delivered_again() {
    let fixture = Fixture::new(1);
    let crew = answering_and_failing();
    let worker = fixture.start_builder(crew.builder(LANES));
    let all = keyed(32, 0..100);
    put(&fixture, &all);
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(sorted(crew.begun()), sorted(all));
}

#[tokio::test(start_paused = true)]
async fn b05_a_stop_stores_what_was_answered_in_calls_that_fail_meanwhile() {
    let fixture = Fixture::new(1);
    let crew = answering_and_failing();
    let worker = fixture.start_builder(crew.builder(LANES));
    let all = keyed(32, 0..100);
    put(&fixture, &all);
    eventually("the last calls", || {
        let begun = crew.begun();
        all.iter().all(|text| begun.contains(text))
    })
    .await;
    worker.stop().await;
    let heir = Crew::new(quick);
    let worker = fixture.start_builder(heir.builder(1));
    worker.handle.caught_up().await;
    worker.stop().await;
    assert_eq!(heir.begun(), Vec::<String>::new());
}

/// While the policy is at work on a deferred record that failed, no other one takes its room.
#[tokio::test(start_paused = true)]
async fn b05_a_record_that_failed_is_in_flight_until_it_is_given_up() {
    let fixture = Fixture::new(1);
    let desk = Desk::of(&fixture);
    let slow = |_: DeadLetter| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok(())
    };
    let policy = FailurePolicy::retry().attempts(1);
    let builder = desk.builder().lanes(LANES).max_in_flight(8);
    let builder = builder
        .failure_policy(policy.then(OnFailure::DeadLetter))
        .dead_letters(slow);
    let worker = fixture.start_builder(builder);
    put(&fixture, &keyed(32, 0..8));
    let in_flight = || desk.open.lock().unwrap().len();
    eventually("full", || in_flight() == 8).await;
    let key_of = |text: &str| text.split('/').next().unwrap().to_owned();
    let lane_of = |text: &str| kcl_aggregation::hash_key(&key_of(text)) % LANES as u128;
    let failed = desk.open.lock().unwrap().pop().unwrap();
    let elsewhere = |text: &&String| lane_of(text) != lane_of(&failed.text);
    let done = desk.texts().iter().find(elsewhere).cloned().unwrap();
    // More for a lane that has nothing else to do.
    let more: Vec<String> = (8..20).map(|n| format!("{}/{n}", key_of(&done))).collect();
    put(&fixture, &more);
    failed.ack.fail("refused").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    desk.take(&done).ack.done().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(in_flight(), 7, "the eighth is on its way to the sink");
    eventually("room", || in_flight() == 8).await;
    worker.stop().await;
}

/// A worker with lanes dies at any moment, in the middle of aggregated records: the next one goes on at the first user
/// record that is not complete.
#[tokio::test(start_paused = true)]
async fn b05_no_death_passes_a_record_and_delivery_goes_on_within_an_aggregated_record() {
    let mut inside = 0;
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let fixture = Fixture::new(1);
        let all = keyed(24, 0..400);
        for part in all.chunks(40) {
            let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
            for text in part {
                let key = text.split('/').next().unwrap();
                assert!(packer.add(key, None, text.as_bytes()).unwrap().is_none());
            }
            for packed in packer.flush() {
                let shard = fixture.shard(0);
                let put = fixture
                    .stream
                    .put_to(&shard, &packed.partition_key, packed.data);
                put.unwrap();
            }
        }
        let slowness = rng.u64(0..60);
        let crew = Crew::new(move |input| {
            let lane = input.shard().lane() as u64;
            (Duration::from_millis(lane * slowness), Ok(()))
        });
        let lanes = rng.usize(2..6);
        let builder = crew.builder(lanes).max_in_flight(rng.usize(20..120));
        let worker = fixture.start_builder(builder.checkpoint_interval(Duration::from_millis(20)));
        tokio::time::sleep(Duration::from_millis(rng.u64(50..1500))).await;
        drop(worker);
        let done: std::collections::BTreeSet<String> = crew.processed().into_iter().collect();
        let firsts = all.iter().take_while(|text| done.contains(*text)).count();
        let heir = fixture.start(|_| Ok(()));
        tokio::time::sleep(Duration::from_secs(15)).await;
        heir.handle.caught_up().await;
        heir.stop().await;
        let resumed = fixture.log.delivered();
        let first = 400 - resumed.len();
        assert!(
            first <= firsts,
            "seed {seed}: resumed at {first}, complete to {firsts}"
        );
        assert_eq!(resumed, all[first..]);
        assert_order_per_key(&crew.processed());
        inside += usize::from(!first.is_multiple_of(40));
    }
    assert!(
        inside > 20,
        "{inside} in the middle of an aggregated record"
    );
}
