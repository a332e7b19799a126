//! The date that a process knows jumps: an hour or a day, forwards and backwards.

use super::*;
use crate::key::StreamKey;
use crate::test_support::at;
use kcl_checkpoint::Checkpoint;

const HOUR: i64 = 60 * 60 * 1_000;
const JUMPS: [i64; 8] = [HOUR, 0, -HOUR, 24 * HOUR, -24 * HOUR, HOUR, -HOUR, 0];

/// The counter that each row had last. None may ever be smaller, also when a row was deleted and made again.
#[derive(Default)]
struct Counters(BTreeMap<String, u64>);

impl Counters {
    fn look(&mut self, table: &MemoryLeaseTable) {
        for (key, item) in table.items() {
            if let Ok(Some(lease)) = Lease::from_item(&item) {
                let before = self.0.insert(key.clone(), lease.counter);
                let back = before.is_some_and(|before| before > lease.counter);
                assert!(!back, "{key}: back from {before:?} to {}", lease.counter);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_taken_while_the_date_jumps() {
    let table = table();
    let clock = Runtime::virtual_time(3);
    let mut a = Worker::start_on(clock.clone(), "a", &table, |_| {});
    a.open(&listing(4)).await;
    a.wait_granted(4).await;
    let mut b = Worker::start("b", &table);
    b.open(&listing(4)).await;
    let (epochs, mut counters) = (epochs(&a), Counters::default());
    for (number, jump) in (0..).zip(JUMPS) {
        clock.jump_to_date_ahead(jump);
        a.listen(Duration::from_millis(12_300)).await;
        b.listen(Duration::ZERO).await;
        a.grant(0).checkpoint(at(10 + number)).await.unwrap();
        counters.look(&table);
        assert!((0..4).all(|lease| a.serves(lease)), "{jump}: lost one");
        assert_eq!((self::epochs(&a), b.held()), (epochs.clone(), 0), "{jump}");
    }
}

fn epochs(worker: &Worker) -> Vec<(String, u64)> {
    let grants = worker.grants.iter();
    grants
        .map(|(key, grant)| (key.clone(), grant.epoch()))
        .collect()
}

/// Each generation of a line of shards begins under another date.
#[tokio::test(start_paused = true)]
async fn children_of_every_date_start_and_their_rows_only_get_newer() {
    let table = table();
    let clock = Runtime::virtual_time(3);
    let mut worker = Worker::start_on(clock.clone(), "a", &table, |_| {});
    worker.open(&listing(1)).await;
    worker.wait_granted(1).await;
    let mut counters = Counters::default();
    for (number, jump) in (0..).zip(JUMPS) {
        clock.jump_to_date_ahead(jump);
        let grant = worker.grant(number);
        grant.checkpoint(at(u64::from(number))).await.unwrap();
        let before = row(&table, number).unwrap().counter;
        let child = shard(number + 1, &[number], 0, 1);
        grant.end_shard(vec![child]).await.unwrap();
        worker.listen(Duration::from_millis(500)).await;
        assert!(worker.serves(number + 1), "{jump}");
        let made = row(&table, number + 1).unwrap().counter;
        assert!(made > before, "{jump}: {made} is not newer than {before}");
        counters.look(&table);
    }
}

/// A row that is deleted by hand comes back under a counter that no write of an earlier life can match.
#[tokio::test(start_paused = true)]
async fn a_row_that_comes_back_is_newer_than_it_was_although_the_date_went_back() {
    for jump in [-HOUR, -24 * HOUR, 24 * HOUR] {
        let table = table();
        let clock = Runtime::virtual_time(3);
        let mut worker = Worker::start_on(clock.clone(), "a", &table, |_| {});
        worker.open(&listing(2)).await;
        worker.wait_granted(2).await;
        worker.grant(0).checkpoint(at(7)).await.unwrap();
        worker.listen(L * 2).await;
        let mut counters = Counters::default();
        counters.look(&table);
        clock.jump_to_date_ahead(jump);
        let delete = RowWrite {
            key: id(0).as_str().to_owned(),
            condition: vec![],
            change: crate::write::Change::Delete,
        };
        table.write(delete).await.unwrap();
        for _ in 0..60 {
            worker.listen(Duration::from_secs(1)).await;
            let synced = worker
                .handle
                .sync_shards(StreamKey::ONLY, listing(2), false)
                .await;
            synced.unwrap();
            counters.look(&table);
        }
        assert!(worker.serves(0) && worker.serves(1), "{jump}");
        assert_eq!(row(&table, 0).unwrap().checkpoint, at(7));
    }
}

/// A worker that starts again long before its own past takes its leases over as soon as any other, and no sooner.
#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_again_in_the_past_takes_nothing_early_and_goes_on() {
    for jump in [-24 * HOUR, 24 * HOUR] {
        let table = table();
        let mut first = Worker::running("a", &table, 2).await;
        first.grant(0).checkpoint(at(7)).await.unwrap();
        first.listen(Duration::from_secs(5)).await;
        first.path.cut();
        let killed = Instant::now();
        let past = Runtime::virtual_time(4).with_date_ahead(jump);
        let mut again = Worker::start_on(past, "a", &table, |_| {});
        again.open(&listing(2)).await;
        again.wait_granted(2).await;
        let took = killed.elapsed();
        assert!(!first.serves(0) && took > L - L / 3, "{jump}: {took:?}");
        assert!(took < L + Duration::from_secs(1), "{jump}: {took:?}");
        assert_eq!(again.grant(0).start(), &at(7));
        assert_eq!(again.grant(1).start(), &Checkpoint::TrimHorizon);
    }
}
