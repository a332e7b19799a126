//! How often one shard is read.

use std::time::Duration;

use crate::fixture::Fixture;

const SHARDS: usize = 3;
const SPAN: usize = 60;

/// How many reads a second there are of each shard, in the middle of a long way to catch up.
async fn reads_per_second(option: Option<u32>) -> f64 {
    let fixture = Fixture::new(SHARDS as u32);
    for shard in 0..SHARDS {
        fixture.put_many(shard, &vec!["x"; 10 * SPAN]);
    }
    let builder = fixture.builder(|_| Ok(()));
    let builder = match option {
        Some(reads) => builder.shard_reads_per_second(reads),
        None => builder,
    };
    let worker = fixture.start_builder(builder.max_records(1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = fixture.stream.calls(crate::READ);
    tokio::time::sleep(Duration::from_secs(SPAN as u64)).await;
    let reads = fixture.stream.calls(crate::READ) - before;
    drop(worker);
    reads as f64 / (SHARDS * SPAN) as f64
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_read_as_often_as_this_application_may() {
    for (option, may) in [(None, 5.0), (Some(1), 1.0), (Some(2), 2.0)] {
        let reads = reads_per_second(option).await;
        // Each shard may have one more at the edge of the span.
        assert!(
            reads > may * 0.95 && reads <= may + 1.0 / SPAN as f64,
            "{option:?}: {reads}"
        );
    }
}
