//! A hand-over, and one of its workers is killed or leaves at any of its calls.

use super::strike::{Blow, Strike, kills, play, stops};
use super::*;
use crate::key::StreamKey;

const LEASES: u32 = 4;
/// A killed worker's leases are granted so much later than a lease duration at the most: its last heartbeat is seen up to a
/// second late, a margin is added, and the hint to take them is read up to a second late.
const AFTER_EXPIRY: Duration = Duration::from_millis(2_350);
const CAUSES: [Cause; 3] = [Cause::Newcomer, Cause::LateOpener, Cause::Drain];
const STEP: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// Why leases are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A worker joins.
    Newcomer,
    /// A worker that runs for a while already comes to know the stream: receivers like this one are asked for a sign of
    /// life first.
    LateOpener,
    /// The giver stops.
    Drain,
}

/// Who is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    Giver,
    Taker,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    cause: Cause,
    workers: usize,
    victim: Role,
    /// How long holders go on after they were asked to stop.
    batch: Duration,
}

struct Fleet {
    table: Arc<MemoryLeaseTable>,
    /// The first one leads.
    workers: Vec<Worker>,
    batch: Duration,
    giver: usize,
    taker: usize,
    /// Since when nobody serves a lease.
    silent: BTreeMap<u32, Instant>,
    longest_silence: Duration,
}

impl Fleet {
    /// A fleet just before leases are handed over. Of three the second one gives, of two the leader does.
    async fn prepare(case: &Case) -> Self {
        let table = table();
        let mut fleet = Self {
            workers: Vec::new(),
            batch: case.batch,
            giver: case.workers - 2,
            taker: case.workers - 1,
            silent: BTreeMap::new(),
            longest_silence: Duration::ZERO,
            table,
        };
        fleet.join("a");
        fleet.open(0).await;
        fleet.workers[0].wait_granted(LEASES as usize).await;
        for name in ["b", "c"].iter().take(case.workers - 2) {
            fleet.join(name);
            fleet.open(fleet.workers.len() - 1).await;
        }
        match case.cause {
            Cause::Newcomer => {}
            Cause::LateOpener => fleet.join("d"),
            Cause::Drain => {
                fleet.join("d");
                fleet.open(fleet.taker).await;
            }
        }
        for _ in 0..15 {
            tokio::time::sleep(SECOND).await;
            fleet.step(None).await;
        }
        if case.cause == Cause::Newcomer {
            fleet.join("d");
        }
        fleet
    }

    fn join(&mut self, name: &str) {
        let worker = Worker::cooperating(name, &self.table);
        let batch = self.batch;
        self.workers.push(Worker { batch, ..worker });
    }

    async fn open(&self, worker: usize) {
        self.workers[worker].open(&listing(LEASES)).await;
    }

    fn victim(&self, case: &Case) -> usize {
        match case.victim {
            Role::Leader => 0,
            Role::Giver => self.giver,
            Role::Taker => self.taker,
        }
    }

    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step(None).await;
        }
    }

    /// Lets the workers go on for a moment. What a dead one believes does not count.
    async fn step(&mut self, dead: Option<usize>) {
        for worker in &mut self.workers {
            worker.listen(Duration::ZERO).await;
        }
        for number in 0..LEASES {
            if self.is_served(number, dead) {
                self.silent.remove(&number);
            } else {
                let since = self.silent.entry(number).or_insert_with(Instant::now);
                self.longest_silence = self.longest_silence.max(since.elapsed());
            }
        }
        tokio::time::sleep(STEP).await;
    }

    fn is_served(&self, number: u32, dead: Option<usize>) -> bool {
        let others = self.workers.iter().enumerate();
        let mut living = others.filter(|(index, _)| Some(*index) != dead);
        living.any(|(_, worker)| worker.serves(number))
    }

    fn is_handed_over(&self, case: &Case) -> bool {
        let stays = |index: usize| case.cause != Cause::Drain || index != self.giver;
        let receivers = self.workers.iter().enumerate().filter(|(at, _)| stays(*at));
        let counts: Vec<usize> = receivers.map(|(_, worker)| worker.held()).collect();
        let fair = counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1;
        fair && counts.iter().sum::<usize>() == LEASES as usize
    }

    fn has_left(&self, worker: usize) -> bool {
        let id = self.workers[worker].handle.worker();
        !self.table.items().contains_key(id.as_str())
    }
}

/// Lets the hand-over begin.
async fn begin(fleet: &mut Fleet, case: &Case, nth: u32, blow: Blow) -> Arc<Strike> {
    let strike = Strike::new(nth, blow);
    let victim = fleet.victim(case);
    let taker = fleet.workers[fleet.taker].handle.worker();
    for (index, worker) in fleet.workers.iter().enumerate() {
        strike.follow(worker, index == victim, Some(taker.clone()));
    }
    if case.cause == Cause::Drain {
        strike.arm();
        let giver = &fleet.workers[fleet.giver];
        giver.handle.shutdown(25 * SECOND);
    } else {
        let handle = fleet.workers[fleet.taker].handle.clone();
        // It may be struck meanwhile.
        let opening = Runtime::virtual_time(0).spawn(async move {
            let opened = handle.open_stream(StreamKey::ONLY, identity()).await?;
            handle
                .sync_shards(StreamKey::ONLY, listing(LEASES), opened.fresh)
                .await
        });
        drop(opening.detach());
    }
    fleet.longest_silence = Duration::ZERO;
    strike
}

/// The victim's calls in a run without a blow, from the first hint to the receiver to a second after the last accept.
async fn undisturbed(case: &Case) -> Vec<&'static str> {
    let mut fleet = Fleet::prepare(case).await;
    let strike = begin(&mut fleet, case, u32::MAX, Blow::Stopped).await;
    let begun = Instant::now();
    while !fleet.is_handed_over(case) {
        fleet.step(None).await;
        assert!(begun.elapsed() < L * 2, "{case:?}: not handed over");
    }
    fleet.pass(SECOND).await;
    strike.calls()
}

/// How long it took until somebody served every lease again.
async fn struck(case: &Case, nth: u32, blow: Blow) -> (Duration, String) {
    let mut fleet = Fleet::prepare(case).await;
    let victim = fleet.victim(case);
    let strike = begin(&mut fleet, case, nth, blow).await;
    while strike.struck().is_none() {
        fleet.step(None).await;
    }
    let took = match blow {
        Blow::KilledBefore | Blow::KilledAfter => until_served(&mut fleet, victim, &strike).await,
        Blow::Stopped => until_left(&mut fleet, victim).await,
    };
    (took, strike.trace())
}

async fn until_served(fleet: &mut Fleet, dead: usize, strike: &Strike) -> Duration {
    let struck = strike.struck().unwrap();
    loop {
        fleet.step(Some(dead)).await;
        let served = (0..LEASES).all(|number| fleet.is_served(number, Some(dead)));
        if served || struck.elapsed() > L * 4 {
            return struck.elapsed();
        }
    }
}

/// The longest time that nobody served a lease, until a while after the worker left.
async fn until_left(fleet: &mut Fleet, leaver: usize) -> Duration {
    let begun = Instant::now();
    while !fleet.has_left(leaver) && begun.elapsed() < L * 3 {
        fleet.step(None).await;
    }
    while !fleet.silent.is_empty() && begun.elapsed() < L * 4 {
        fleet.step(Some(leaver)).await;
    }
    fleet.pass(Duration::from_secs(2)).await;
    fleet.longest_silence
}

/// After a blow at any call of the hand-over every lease is served within `bound`.
fn at_each_call(case: &Case, blows: impl Fn(&[&'static str]) -> Vec<(u32, Blow)>, bound: Duration) {
    let calls = play(undisturbed(case));
    assert!(calls.len() > 3, "{case:?}: {calls:?}");
    for (nth, blow) in blows(&calls) {
        let (took, trace) = play(struck(case, nth, blow));
        assert!(
            took <= bound,
            "{case:?}, {blow:?} at call {nth}: {took:?} after\n{trace}"
        );
    }
}

fn killed(workers: usize, victim: Role) {
    for cause in CAUSES {
        let case = Case {
            cause,
            workers,
            victim,
            batch: Duration::ZERO,
        };
        at_each_call(&case, kills, L + AFTER_EXPIRY);
    }
}

#[test]
fn a15_a_giver_killed_at_each_call_of_a_hand_over() {
    killed(2, Role::Giver);
    killed(3, Role::Giver);
}

#[test]
fn a15_a_taker_killed_at_each_call_of_a_hand_over() {
    killed(3, Role::Taker);
}

#[test]
fn a15_a_leader_killed_at_each_call_of_a_hand_over() {
    killed(3, Role::Leader);
}

#[test]
fn a15_a_worker_that_leaves_at_each_call_of_a_hand_over_costs_less_than_three_seconds() {
    for cause in CAUSES {
        for victim in [Role::Leader, Role::Giver, Role::Taker] {
            let case = Case {
                cause,
                workers: 3,
                victim,
                batch: Duration::from_millis(700),
            };
            let leaves_anyway = cause == Cause::Drain && victim == Role::Giver;
            if !leaves_anyway {
                at_each_call(&case, stops, 3 * SECOND);
            }
        }
    }
}
