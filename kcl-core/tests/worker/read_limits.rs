//! What a worker reads in a second, all its shards together.

use std::time::Duration;

use kcl_core::WorkerBuilder;

use crate::fixture::Fixture;

const SHARDS: usize = 4;
const RECORD: usize = 100;
/// One answer, and one event, brings as many as this.
const ANSWER: usize = 1_000;
const SPAN: u64 = 30;

/// Lets a worker with a long way to catch up read for a while. How many bytes came of each shard.
async fn read_for_a_while(option: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Vec<usize> {
    let fixture = Fixture::new(SHARDS as u32);
    let text = "x".repeat(RECORD);
    for shard in 0..SHARDS {
        fixture.put_many(shard, &vec![text.as_str(); 20 * ANSWER]);
    }
    let builder = fixture.builder(|_| Ok(()));
    let worker = fixture.start_builder(option(builder.max_records(ANSWER as u16)));
    tokio::time::sleep(Duration::from_secs(SPAN)).await;
    let bytes = |index| fixture.log.delivered_of(&fixture.shard(index)) * RECORD;
    let bytes = (0..SHARDS).map(bytes).collect();
    drop(worker);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_worker_reads_no_more_per_second_than_it_may_and_its_shards_take_turns() {
    let limit = 100_000;
    let bytes = read_for_a_while(|builder| builder.read_limit(limit)).await;
    let all: usize = bytes.iter().sum();
    let (may, answer) = ((limit * SPAN) as usize, ANSWER * RECORD);
    // Each shard begins with one answer that nobody could foresee.
    assert!(all <= may + SHARDS * answer, "{bytes:?}");
    assert!(all >= may * 8 / 10, "{bytes:?}");
    assert!(bytes.iter().all(|of_one| *of_one >= all / 8), "{bytes:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_same_records_come_at_the_pace_of_their_shards() {
    let bytes = read_for_a_while(|builder| builder).await;
    assert_eq!(bytes, [20 * ANSWER * RECORD; SHARDS]);
}
