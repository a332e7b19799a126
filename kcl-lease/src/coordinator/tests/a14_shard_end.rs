//! The end of a shard, and its owner is killed or stopped at any of its calls.

use std::collections::BTreeSet;

use kcl_checkpoint::Checkpoint;

use super::strike::{Blow, Strike, kills, play, stops};
use super::*;
use crate::key::StreamKey;

const STEP: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// All shards that there ever are.
const SHARDS: [u32; 5] = [0, 1, 10, 11, 20];

/// How the finished shards turn into others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reshard {
    /// Shard 0 into 10 and 11; shard 1 stays as it is.
    Split,
    /// Shards 0 and 1 into 20, at the same time. If there are two workers, each has one of them.
    Merge,
}

/// Who is there after the blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survivor {
    /// The same worker, started again at once under its name.
    Restarted,
    /// Another worker, which was there before.
    Peer,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    reshard: Reshard,
    survivor: Survivor,
}

impl Reshard {
    fn parents(self) -> &'static [u32] {
        match self {
            Self::Split => &[0],
            Self::Merge => &[0, 1],
        }
    }

    fn children(self) -> Vec<ListedShard> {
        match self {
            Self::Split => vec![shard(10, &[0], 0, 4), shard(11, &[0], 1, 4)],
            Self::Merge => vec![shard(20, &[0, 1], 0, 1)],
        }
    }
}

struct Stage {
    table: Arc<MemoryLeaseTable>,
    reshard: Reshard,
    /// The first one is the victim, until it is gone.
    workers: Vec<Worker>,
    /// Parents whose holders were asked to finish them, by their tokens.
    asked: BTreeSet<(u32, u64)>,
    /// Since when a lease that can be read is read by nobody.
    silent: BTreeMap<u32, Instant>,
    longest_silence: Duration,
}

impl Stage {
    async fn prepare(case: &Case) -> Self {
        let table = table();
        let mut victim = Worker::cooperating("a", &table);
        victim.open(&listing(2)).await;
        victim.wait_granted(2).await;
        let mut stage = Self {
            reshard: case.reshard,
            workers: vec![victim],
            asked: BTreeSet::new(),
            silent: BTreeMap::new(),
            longest_silence: Duration::ZERO,
            table,
        };
        if case.survivor == Survivor::Peer {
            let peer = Worker::cooperating("b", &stage.table);
            peer.open(&listing(2)).await;
            stage.workers.push(peer);
        }
        // Both have proved that they live, and hold the same number of leases.
        tokio::time::sleep(Duration::from_secs(12)).await;
        stage.step().await;
        if !stage.workers[0].serves(0) {
            stage.workers.reverse();
        }
        stage
    }

    async fn step(&mut self) {
        for worker in &mut self.workers {
            worker.listen(Duration::ZERO).await;
        }
        let items = self.table.items();
        for number in SHARDS {
            let served = self.workers.iter().any(|worker| worker.serves(number));
            if served || !is_readable(&items, number) {
                self.silent.remove(&number);
            } else {
                let since = self.silent.entry(number).or_insert_with(Instant::now);
                self.longest_silence = self.longest_silence.max(since.elapsed());
            }
        }
        tokio::time::sleep(STEP).await;
    }

    /// Everybody finishes the parents that he has, and a blow waits for the victim.
    fn finish_parents_under(&mut self, nth: u32, blow: Blow) -> Arc<Strike> {
        let strike = Strike::new(nth, blow);
        strike.follow(&self.workers[0], true, None);
        strike.arm();
        self.finish_parents();
        strike
    }

    /// Everybody finishes the parents that he has.
    fn finish_parents(&mut self) {
        for worker in &self.workers {
            for parent in self.reshard.parents() {
                if !worker.serves(*parent) {
                    continue;
                }
                let (grant, children) = (worker.grant(*parent), self.reshard.children());
                if self.asked.insert((*parent, grant.epoch())) {
                    let ending = async move { drop(grant.end_shard(children).await) };
                    drop(Runtime::virtual_time(0).spawn(ending).detach());
                }
            }
        }
    }

    /// The row of a parent may be gone once its children moved on.
    fn is_finished(&self, parent: u32) -> bool {
        row(&self.table, parent).is_none_or(|row| row.is_finished())
    }

    /// All parents are finished, and everything that can be read is.
    fn is_over(&self) -> bool {
        let finished = self.reshard.parents().iter().all(|p| self.is_finished(*p));
        finished && self.silent.is_empty()
    }

    /// The same worker starts again.
    fn restart(&mut self) {
        let runtime = Runtime::virtual_time(8);
        let again = Worker::start_on(runtime, "a", &self.table, |_| {});
        let handle = again.handle.clone();
        let opening = Runtime::virtual_time(0).spawn(async move {
            let opened = handle.open_stream(StreamKey::ONLY, identity()).await?;
            handle
                .sync_shards(StreamKey::ONLY, listing(2), opened.fresh)
                .await
        });
        drop(opening.detach());
        self.workers.push(again);
    }

    /// No lease is missing, and nobody was granted one that is finished.
    fn check(&self, finished: &[u32], context: &str) {
        let children = self.reshard.children();
        let all_finished = self.reshard.parents().iter().all(|p| self.is_finished(*p));
        let items = self.table.items();
        let present = |child: &ListedShard| items.contains_key(child.shard_id.as_str());
        let missing = all_finished && !children.iter().all(present);
        assert!(!missing, "{context}: a child has no row: {items:#?}");
        for worker in &self.workers {
            let again = finished.iter().find(|parent| worker.serves(**parent));
            assert_eq!(again, None, "{context}: a finished parent was granted");
            for grant in worker.grants.values() {
                assert_ne!(grant.start(), &Checkpoint::ShardEnd, "{context}");
            }
        }
    }
}

/// Whether the lease's row is there and not finished, and no parent of it is to be read before.
fn is_readable(items: &BTreeMap<String, Item>, number: u32) -> bool {
    let lease = |key: &str| Some(Lease::from_item(items.get(key)?).unwrap().unwrap());
    let ended = |parent: &ShardId| lease(parent.as_str()).is_none_or(|row| row.is_finished());
    lease(id(number).as_str())
        .is_some_and(|row| !row.is_finished() && row.parents.iter().all(ended))
}

/// The victim's calls in a run without a blow.
async fn undisturbed(case: &Case) -> Vec<&'static str> {
    let mut stage = Stage::prepare(case).await;
    let strike = stage.finish_parents_under(u32::MAX, Blow::Stopped);
    stage.step().await;
    while !stage.is_over() {
        stage.step().await;
    }
    let end = Instant::now() + SECOND;
    while Instant::now() < end {
        stage.step().await;
    }
    strike.calls()
}

/// How long a lease was read by nobody at the most, although it could be, after the victim was gone.
async fn struck(case: &Case, nth: u32, blow: Blow) -> Duration {
    let mut stage = Stage::prepare(case).await;
    let strike = stage.finish_parents_under(nth, blow);
    while strike.struck().is_none() {
        stage.step().await;
    }
    let victim = stage.workers[0].handle.worker();
    while blow == Blow::Stopped && stage.table.items().contains_key(victim.as_str()) {
        stage.step().await;
    }
    // What a dead worker believes does not count.
    let _victim = stage.workers.remove(0);
    stage.longest_silence = Duration::ZERO;
    stage.silent.clear();
    if case.survivor == Survivor::Restarted {
        stage.restart();
    }
    // What was on its way has arrived by then.
    stage.step().await;
    let parents = stage.reshard.parents().iter().copied();
    let finished: Vec<u32> = parents.filter(|p| stage.is_finished(*p)).collect();
    let context = format!("{case:?}, {blow:?} at call {nth}");
    let begun = Instant::now();
    while !stage.is_over() {
        stage.finish_parents();
        stage.step().await;
        stage.check(&finished, &context);
        let trace = strike.trace();
        assert!(begun.elapsed() < L * 4, "{context}: stuck after\n{trace}");
    }
    stage.longest_silence
}

/// No lease that can be read is silent for longer than `bound`, whatever the blow.
fn at_each_call(blows: impl Fn(&[&'static str]) -> Vec<(u32, Blow)>, bound: Duration) {
    for reshard in [Reshard::Split, Reshard::Merge] {
        for survivor in [Survivor::Restarted, Survivor::Peer] {
            let case = Case { reshard, survivor };
            let calls = play(undisturbed(&case));
            assert!(calls.contains(&"transact"), "{case:?}: {calls:?}");
            for (nth, blow) in blows(&calls) {
                let silence = play(struck(&case, nth, blow));
                assert!(
                    silence <= bound,
                    "{case:?}, {blow:?} at call {nth}: {silence:?}"
                );
            }
        }
    }
}

#[test]
fn a14_a_kill_at_each_call_of_a_shards_end_leaves_nothing_undone() {
    at_each_call(kills, L + 3 * SECOND);
}

#[test]
fn a14_a_stop_at_each_call_of_a_shards_end_costs_less_than_a_second() {
    at_each_call(stops, SECOND);
}
