//! A processor that takes many lease durations over one record is left in peace, and so is everybody else.

use std::collections::BTreeMap;
use std::time::Duration;

use integration_tests::{APPLICATION, Probe, STREAM, Stage, What};
use kcl_core::{
    InitializationInput, ProcessRecordsInput, ProcessorResult, RecordProcessor, Runtime, Worker,
    WorkerBuilder, async_trait,
};
use tokio::time::Instant;

use crate::crew::{Crew, LEASE, put_into_each};

const SHARDS: u32 = 8;
const SLOW_SHARD: &str = "shardId-000000000000";

/// Takes ten lease durations over the first record of one shard.
struct Slow {
    probe: Probe,
    slow: bool,
}

#[async_trait]
impl RecordProcessor for Slow {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        self.slow = input.shard().shard_id().as_str() == SLOW_SHARD;
        self.probe.initialize(input).await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        self.probe.process_records(input).await?;
        if std::mem::take(&mut self.slow) {
            tokio::time::sleep(10 * LEASE).await;
        }
        Ok(())
    }
}

fn slow_worker(stage: &Stage, name: &str) -> WorkerBuilder {
    let probe = Probe::new(name, &stage.log);
    let processor = move |_: &_| Slow {
        probe: probe.clone(),
        slow: false,
    };
    let number: u64 = name[1..].parse().unwrap();
    Worker::builder(APPLICATION, STREAM, processor)
        .worker_name(name)
        .runtime(Runtime::virtual_time(number))
}

/// When each record was given to a processor; none twice.
fn deliveries(stage: &Stage) -> BTreeMap<String, Instant> {
    let mut deliveries = BTreeMap::new();
    for entry in stage.log.entries() {
        if let What::Record { data, .. } = entry.what {
            let before = deliveries.insert(data.clone(), entry.at);
            assert_eq!(before, None, "{data} came twice");
        }
    }
    deliveries
}

#[tokio::test(start_paused = true)]
async fn a12_a_handler_that_takes_ten_lease_durations_keeps_its_lease_and_delays_nobody() {
    let stage = Stage::new(SHARDS);
    let crew = Crew::new(&stage, 2, |name| slow_worker(&stage, name));
    crew.run(async |crew| {
        crew.balanced(SHARDS as usize).await;
        tokio::time::sleep(LEASE).await;
        let before = (crew.holders(), crew.owners().await, crew.granted());
        let mut put = BTreeMap::new();
        let began = Instant::now();
        // The slow call begins with the first round, and is over before the last ones.
        for round in 0..=110 {
            let round = format!("{round:03}");
            put.insert(round.clone(), Instant::now());
            put_into_each(&stage, SHARDS, &round).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stage.wait_for_records(put.len() * SHARDS as usize).await;

        assert_eq!(crew.lost(), 0);
        let after = (crew.holders(), crew.owners().await, crew.granted());
        assert_eq!(after, before, "a lease has moved");
        for (data, at) in deliveries(&stage) {
            let (round, shard) = data.split_once('-').unwrap();
            if shard == "0" {
                let waited = at.duration_since(began);
                assert!(round == "000" || waited >= 10 * LEASE, "{data}: {waited:?}");
            } else {
                let took = at.duration_since(put[round]);
                assert!(took <= Duration::from_secs(2), "{data}: {took:?}");
            }
        }
    })
    .await;
}
