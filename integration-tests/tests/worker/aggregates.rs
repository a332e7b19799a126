//! Aggregated records: never shortened, and resumed in their middle.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use integration_tests::{APPLICATION, STREAM, Stage, What};
use kcl_aggregation::{HashKeyRange, PackLimits, Packer};
use kcl_core::{
    OutOfRange, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker, async_trait,
};

fn many(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("key-{n}"), format!("{n:02}")))
        .collect()
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(key, data)| (key.as_str(), data.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn records_of_other_shards_are_delivered_and_marked() {
    let stage = Stage::new(4);
    let pairs = many(40);
    stage.put_aggregate(&borrowed(&pairs)).await;
    stage.catch_up("a").await;
    let expected: Vec<String> = pairs.iter().map(|(_, data)| data.clone()).collect();
    assert_eq!(stage.log.data(), expected);
    let outside = stage.log.entries().into_iter().filter(|entry| {
        matches!(
            entry.what,
            What::Record {
                out_of_range: true,
                ..
            }
        )
    });
    assert!(outside.count() > 10);
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_the_java_library_withholds_exactly_those() {
    let stage = Stage::new(4);
    let pairs = many(40);
    stage.put_aggregate(&borrowed(&pairs)).await;
    let worker = stage.worker("a").out_of_range(OutOfRange::Withhold);
    let worker = worker.build(&stage.emulator.sdk_config("a")).unwrap();
    let handle = worker.handle();
    let stop = handle.clone();
    worker
        .with_graceful_shutdown(async move { stop.caught_up().await })
        .run()
        .await
        .unwrap();
    let delivered = stage.log.records() as u64;
    assert!(0 < delivered && delivered < 40);
    assert_eq!(handle.counters().withheld_records, 40 - delivered);
    assert!(stage.log.entries().iter().all(|entry| {
        !matches!(
            entry.what,
            What::Record {
                out_of_range: true,
                ..
            }
        )
    }));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_aggregate_comes_as_it_is_and_the_rest_goes_on() {
    let stage = Stage::new(1);
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    for n in 0..10 {
        packer
            .add("key", None, format!("part {n}").as_bytes())
            .unwrap();
    }
    let intact = packer.flush().remove(0).data;
    let mut damaged = intact.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    stage.put("key", "before").await;
    let put = stage
        .kinesis
        .put_record()
        .stream_name(STREAM)
        .partition_key("key");
    put.data(Blob::new(damaged.clone())).send().await.unwrap();
    stage.put("key", "after").await;
    stage.catch_up("a").await;
    let raw = String::from_utf8_lossy(&damaged).into_owned();
    assert_eq!(
        stage.log.data(),
        ["before".to_owned(), raw, "after".to_owned()]
    );
}

/// Checkpoints at sub-record 7 and then fails for ever.
struct StopsAtSeven;

#[async_trait]
impl RecordProcessor for StopsAtSeven {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        for record in &input {
            if record.sub_sequence_number() == 7 {
                input
                    .checkpointer()
                    .checkpoint_at(&record.position())
                    .await?;
            }
        }
        Err("stuck".into())
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_checkpoint_at_sub_record_7_delivery_resumes_at_8() {
    let stage = Stage::new(1);
    let pairs = many(20);
    let sequence_number = stage.put_aggregate(&borrowed(&pairs)).await;
    let worker =
        Worker::builder(APPLICATION, STREAM, |_| StopsAtSeven).runtime(Runtime::virtual_time(1));
    stage
        .kill_after("a", worker, tokio::time::sleep(Duration::from_secs(5)))
        .await;
    let (checkpoint, _) = stage.lease("shardId-000000000000").await.unwrap();
    assert_eq!(checkpoint, sequence_number);

    stage.run_until("b", stage.wait_for_records(12)).await;
    let start = stage.log.last_start("shardId-000000000000").unwrap();
    assert_eq!(start, (sequence_number, 7));
    let expected: Vec<String> = pairs.iter().skip(8).map(|(_, data)| data.clone()).collect();
    assert_eq!(stage.log.data(), expected);
}
