//! Many leases on many workers: balance soon, and then no move.

use super::strike::play;
use super::*;
use crate::test_support::at;
use kcl_checkpoint::Checkpoint;

const WORKERS: usize = 20;
const LEASES: u32 = 160;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Shards that this worker finished; their rows name it. They stay because those of their children are not there.
fn put_finished(table: &MemoryLeaseTable, worker: &Worker) {
    for number in 0..40 {
        let finished = Lease {
            checkpoint: Checkpoint::ShardEnd,
            children: [id(2_000 + number)].into(),
            owner: Some(worker.handle.worker()),
            counter: 7,
            ..lease_of(1_000 + number)
        };
        put_lease(table, &finished);
    }
}

/// Lets all workers take their events in; returns how many leases were granted.
async fn pass(workers: &mut [Worker], time: Duration, step: Duration) -> usize {
    let end = Instant::now() + time;
    let mut granted = 0;
    while Instant::now() < end {
        for worker in workers.iter_mut() {
            let before = worker.grants.clone();
            worker.listen(Duration::ZERO).await;
            let is_new = |(key, grant): &(&String, &Grant)| {
                let known = before.get(*key);
                known.is_none_or(|known| known.epoch() != grant.epoch())
            };
            granted += worker.grants.iter().filter(is_new).count();
        }
        tokio::time::sleep(step).await;
    }
    granted
}

fn owners(table: &MemoryLeaseTable) -> BTreeMap<WorkerId, usize> {
    let mut counts = BTreeMap::new();
    for number in 0..LEASES {
        let owner = row(table, number).unwrap().owner;
        *counts.entry(owner.unwrap()).or_default() += 1;
    }
    counts
}

/// Every worker has its share within half a minute of the last one's start, and keeps it for so long.
async fn balance_and_rest(rest: Duration) {
    let table = table();
    let mut workers: Vec<Worker> = Vec::new();
    for number in 0..WORKERS {
        let worker = Worker::cooperating(&format!("w{number}"), &table);
        worker.open(&listing(LEASES)).await;
        workers.push(worker);
        if number == 0 {
            put_finished(&table, &workers[0]);
        }
        pass(&mut workers, SECOND, SECOND / 10).await;
    }
    pass(&mut workers, 29 * SECOND, SECOND / 10).await;
    let counts = owners(&table);
    let fair = |count: &usize| (7..=9).contains(count);
    assert!(
        counts.len() == WORKERS && counts.values().all(fair),
        "{counts:?}"
    );
    for worker in &workers {
        assert_eq!(worker.held(), counts[&worker.handle.worker()]);
    }
    // Nothing that was begun before counts as a move at rest.
    pass(&mut workers, 10 * SECOND, SECOND).await;
    let before: Vec<_> = (0..LEASES).map(|n| row(&table, n).unwrap()).collect();
    let mut rng = fastrand::Rng::with_seed(20);
    let (end, mut progress) = (Instant::now() + rest, 10);
    while Instant::now() < end {
        let granted = pass(&mut workers, 300 * SECOND, 60 * SECOND).await;
        assert_eq!(granted, 0, "a lease was granted anew");
        // Low and noisy load: now and then some shard gets on.
        progress += 1;
        let worker = &workers[rng.usize(..WORKERS)];
        let grant = worker.grants.values().find(|grant| grant.is_current());
        grant.unwrap().checkpoint(at(progress)).await.unwrap();
    }
    for (number, before) in (0..).zip(before) {
        assert_eq!(row(&table, number).unwrap().owner, before.owner);
    }
    assert_eq!(owners(&table), counts);
    let finished = (1_000..1_040).filter_map(|number| row(&table, number));
    assert_eq!(finished.count(), 40);
}

#[test]
fn a20_shares_are_fair_soon_after_the_last_join_and_nothing_moves_then() {
    play(balance_and_rest(HOUR / 12));
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes a minute without optimisation; run it with --release"
)]
fn a20_nothing_moves_for_a_day() {
    play(balance_and_rest(24 * HOUR));
}
