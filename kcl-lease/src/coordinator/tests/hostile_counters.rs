//! Rows with counters that nobody can have counted up to.

use super::*;
use crate::LossReason;
use crate::key::StreamKey;
use crate::test_support::at;

const LARGEST: u64 = i64::MAX as u64;

/// Attributes that are counted or numbered.
const NUMBERS: [&str; 3] = [
    attribute::COUNTER,
    attribute::CHECKPOINT_SUB,
    attribute::OWNER_SWITCHES,
];

/// No number of ours, although the table takes them all.
const ABSURD: [&str; 4] = [
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999999999999999999",
    "-1",
];

fn set_number(table: &MemoryLeaseTable, name: &str, number: &str) {
    let number = Value::N(number.to_owned());
    change(table, id(0).as_str(), &[(name, number)]);
}

/// Answers each wish for a listing, for so long; whether it was told that the row cannot be read.
async fn serve(worker: &mut Worker, time: Duration) -> bool {
    let (end, mut told) = (Instant::now() + time, false);
    while Instant::now() < end {
        for event in worker.listen(Duration::from_millis(500)).await {
            match event {
                CoordinatorEvent::RowUnreadable { key, .. } => told |= key == id(0).as_str(),
                CoordinatorEvent::ListingWanted { .. } => {
                    let synced = worker
                        .handle
                        .sync_shards(StreamKey::ONLY, listing(2), false)
                        .await;
                    synced.unwrap();
                }
                _ => {}
            }
        }
    }
    told
}

fn checkpoint_of(table: &MemoryLeaseTable) -> Value {
    table.items()[id(0).as_str()][attribute::CHECKPOINT].clone()
}

#[tokio::test(start_paused = true)]
async fn a_held_row_with_an_absurd_number_is_told_of_and_goes_on_once_it_is_mended() {
    for name in NUMBERS {
        for absurd in ABSURD {
            let table = table();
            let mut worker = Worker::running("w", &table, 2).await;
            worker.grant(0).checkpoint(at(7)).await.unwrap();
            worker.listen(L).await;
            let grant = worker.grant(0);
            let before = row(&table, 0).unwrap();
            set_number(&table, name, absurd);
            let told = serve(&mut worker, L * 2).await;
            assert!(told, "{name} {absurd}");
            if name == attribute::COUNTER {
                let error = grant.checkpoint(at(8)).await.unwrap_err();
                let reason = LossReason::RowUnreadable;
                let lost =
                    matches!(error, crate::GrantError::Lost { reason: r, .. } if r == reason);
                assert!(lost, "{name} {absurd}: {error}");
            }
            serve(&mut worker, L * 3).await;
            assert_eq!(checkpoint_of(&table), Value::text("7"), "{name} {absurd}");
            assert!(worker.serves(1), "the others go on");
            // Somebody mends it.
            let mended = match name {
                attribute::COUNTER => before.counter + 10,
                _ => 0,
            };
            set_number(&table, name, &mended.to_string());
            serve(&mut worker, L * 4).await;
            assert!(worker.serves(0), "{name} {absurd}");
            if worker.grant(0).epoch() != grant.epoch() {
                assert_eq!(worker.grant(0).start(), &at(7), "{name} {absurd}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_starts_with_a_row_whose_number_is_absurd() {
    for name in NUMBERS {
        for absurd in ABSURD {
            let table = table();
            let stored = Lease {
                checkpoint: at(7),
                ..lease_of(0)
            };
            put_lease(&table, &stored);
            put_lease(&table, &lease_of(1));
            set_number(&table, name, absurd);
            let mut worker = Worker::start("w", &table);
            worker.open(&listing(2)).await;
            assert!(serve(&mut worker, L * 4).await, "{name} {absurd}");
            assert_eq!(worker.grants.len(), 1, "{name} {absurd}");
            assert_eq!(checkpoint_of(&table), Value::text("7"));
        }
    }
}

/// The last numbers that are allowed: one or two writes further the row cannot be read any more, and says so.
#[tokio::test(start_paused = true)]
async fn a_counter_near_its_end_ends_in_an_event_and_loses_no_progress() {
    for left in 0..4 {
        let table = table();
        let stored = Lease {
            checkpoint: at(7),
            counter: LARGEST - left,
            ..lease_of(0)
        };
        put_lease(&table, &stored);
        put_lease(&table, &lease_of(1));
        let mut worker = Worker::start("w", &table);
        worker.open(&listing(2)).await;
        let mut told = serve(&mut worker, L).await;
        for number in 8..14 {
            if worker.serves(0) {
                let _ = worker.grant(0).checkpoint(at(number)).await;
            }
        }
        told |= serve(&mut worker, L * 3).await;
        assert!(told, "{left}");
        let stored = checkpoint_of(&table);
        let Value::S(stored) = stored else {
            panic!("{stored:?}")
        };
        assert!(stored.parse::<u64>().unwrap() >= 7, "{left}: {stored}");
        assert!(worker.serves(1), "{left}");
        worker.path.writes.store(0, Ordering::Relaxed);
        serve(&mut worker, L * 10).await;
        assert!(worker.path.writes.load(Ordering::Relaxed) < 500);
    }
}

/// A new row's counter follows the largest that is known, but not one that is out of all reason.
#[tokio::test(start_paused = true)]
async fn one_row_at_the_end_of_its_numbers_does_not_take_others_there() {
    let table = table();
    let mut worker = Worker::running("w", &table, 2).await;
    let counter = Value::number(LARGEST);
    change(&table, id(0).as_str(), &[(attribute::COUNTER, counter)]);
    worker.listen(L * 2).await;
    let child = shard(2, &[1], 1, 2);
    worker.grant(1).end_shard(vec![child]).await.unwrap();
    worker.listen(Duration::from_secs(1)).await;
    assert!(worker.serves(2));
    assert!(row(&table, 2).unwrap().counter < LARGEST / 2);
}
