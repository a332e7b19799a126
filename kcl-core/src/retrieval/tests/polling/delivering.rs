//! What is delivered, when, and from where.

use std::time::Duration;

use bytes::Bytes;
use kcl_checkpoint::{Checkpoint, Position};
use tokio::time::{Instant, sleep};

use super::{Setup, delivered, numbered};
use crate::retrieval::tests::numbered_aggregate;
use crate::retrieval::{PollEnd, StartPosition};

#[tokio::test(start_paused = true)]
async fn records_come_once_in_order_and_the_first_at_once() {
    let setup = Setup::new(1);
    setup.put("old", 500);
    let started = Instant::now();
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let first = reading.next().await;
    assert!(
        started.elapsed() < Duration::from_millis(10),
        "{:?}",
        started.elapsed()
    );
    let mut texts = delivered(&first);
    texts.extend(reading.texts(500 - texts.len()).await);
    assert_eq!(texts, numbered("old", 0..500));
    setup.put("new", 3);
    assert_eq!(reading.texts(3).await, numbered("new", 0..3));
}

#[tokio::test(start_paused = true)]
async fn a05_reading_resumes_inside_an_aggregate() {
    let setup = Setup::new(1);
    setup.put("before", 5);
    let shard = setup.shard(0);
    let sequence_number = setup
        .stream
        .put_to(&shard, "key", numbered_aggregate("user", 20))
        .unwrap();
    setup.put("after", 1);
    let complete = Position::new(sequence_number.clone(), 7);
    let mut reading = setup.read(
        StartPosition::AtSequenceNumber(sequence_number),
        Some(complete.clone()),
    );
    let first = reading.next().await;
    assert_eq!(delivered(&first), numbered("user", 8..20));
    assert_eq!(first.after(&Checkpoint::At(complete.clone())), first.rows);
    let further = Position::new(complete.sequence_number, 18);
    assert_eq!(first.after(&Checkpoint::At(further)).len(), 1);
    assert_eq!(reading.texts(1).await, ["after-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_complete_is_not_delivered_again() {
    let setup = Setup::new(1);
    let numbers = setup.put("record", 3);
    let complete = Position::new(numbers[1].clone(), 0);
    let start = StartPosition::AtSequenceNumber(numbers[1].clone());
    let mut reading = setup.read(start, Some(complete));
    assert_eq!(reading.texts(1).await, ["record-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_time_leaves_out_what_came_before() {
    let setup = Setup::new(1);
    setup.put("old", 3);
    sleep(Duration::from_secs(1)).await;
    let start = StartPosition::AtTimestamp(setup.runtime.wall_time());
    setup.put("new", 3);
    let mut reading = setup.read(start, None);
    assert_eq!(reading.texts(3).await, numbered("new", 0..3));
}

#[tokio::test(start_paused = true)]
async fn one_answer_is_fetched_ahead_and_no_more() {
    let mut setup = Setup::new(1);
    setup.polling.max_records = 1;
    setup.put("record", 10);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let _in_hand = reading.next().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(setup.stream.calls("GetRecords"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_costs_one_call_a_second_and_answers_within_it() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    sleep(Duration::from_secs(600)).await;
    let calls = setup.stream.calls("GetRecords");
    assert!((500..=610).contains(&calls), "{calls}");
    assert_eq!(setup.polling.idle_shards.count(), 1);
    assert_eq!(reading.notes.of("fetched 0 of 0").len(), calls);
    let put = Instant::now();
    setup.put("record", 1);
    assert_eq!(reading.texts(1).await, ["record-0"]);
    assert!(put.elapsed() <= Duration::from_millis(1100));
    assert_eq!(setup.polling.idle_shards.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_without_news_moves_the_position_on() {
    let setup = Setup::new(1);
    let digest = kcl_aggregation::hash_key("\n\u{1}k").to_be_bytes();
    let empty = [&[0xF3, 0x89, 0x9A, 0xC2, 0x0a, 1, b'k'][..], &digest].concat();
    let shard = setup.shard(0);
    let number = setup.stream.put_to(&shard, "key", empty).unwrap();
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let delivery = reading.next().await;
    assert!(delivery.rows.is_empty() && !delivery.is_empty());
    assert_eq!(delivery.end_position(), Some(Position::new(number, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_hostile_aggregate_is_delivered_raw_and_the_rest_goes_on() {
    let setup = Setup::new(1);
    let mut damaged = numbered_aggregate("user", 50).to_vec();
    damaged[100] ^= 0x55;
    let shard = setup.shard(0);
    setup.stream.put_to(&shard, "key", damaged.clone());
    setup.put("after", 1);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let first = reading.next().await;
    let record = first.batch.get(0).unwrap();
    assert_eq!(record.data(), damaged);
    assert!(!record.is_aggregated());
    assert_eq!(reading.texts(1).await, ["after-0"]);
    assert_eq!(
        reading.notes.of("deaggregated"),
        ["deaggregated 0 damaged 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_ends_it() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    sleep(Duration::from_secs(10)).await;
    reading.deliveries.close();
    drop(reading.deliveries);
    assert!(matches!(
        reading.end.await.unwrap(),
        PollEnd::ReceiverDropped
    ));
    assert_eq!(setup.polling.idle_shards.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn large_records_arrive_one_by_one() {
    let setup = Setup::new(1);
    let shard = setup.shard(0);
    for size in [1, 10 << 20, 5, 9 << 20] {
        setup
            .stream
            .put_to(&shard, "key", Bytes::from(vec![b'x'; size]));
    }
    let mut reading = setup.read(StartPosition::TrimHorizon, None);
    let sizes: Vec<usize> = reading.texts(4).await.iter().map(String::len).collect();
    assert_eq!(sizes, [1, 10 << 20, 5, 9 << 20]);
}
