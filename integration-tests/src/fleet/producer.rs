//! A steady stream of numbered records for each partition key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kcl_core::Runtime;
use tokio_util::task::AbortOnDropHandle;

use super::error::FleetError;
use crate::STREAM;

/// The keys lie evenly in the range of hash keys; 6, 8 and 16 shards get the same number each.
const KEYS: u64 = 48;
/// Every third key gets a record in each tick.
const TICKS_PER_ROUND: u64 = 3;
const TICK: Duration = Duration::from_millis(50);
/// Records that the service refused are put again after this time, before any later record of their keys.
const AGAIN: Duration = Duration::from_millis(20);

/// Puts records until it is stopped.
#[derive(Debug)]
pub(super) struct Producer {
    stop: Arc<AtomicBool>,
    task: AbortOnDropHandle<Result<u64, FleetError>>,
}

impl Producer {
    /// Starts to put 320 records per second.
    pub(super) fn start(kinesis: aws_sdk_kinesis::Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = Runtime::production().spawn(produce(kinesis, stopped));
        Self { stop, task }
    }

    /// Stops it; returns how many records it put.
    pub(super) async fn stop(self) -> Result<u64, FleetError> {
        self.stop.store(true, Ordering::Relaxed);
        self.task
            .await
            .map_err(|error| FleetError::service("the producer failed", error))?
    }
}

async fn produce(
    kinesis: aws_sdk_kinesis::Client,
    stop: Arc<AtomicBool>,
) -> Result<u64, FleetError> {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut put = 0;
    for tick in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        interval.tick().await;
        let number = tick / TICKS_PER_ROUND;
        let entries: Vec<_> = (0..KEYS)
            .filter(|key| key % TICKS_PER_ROUND == tick % TICKS_PER_ROUND)
            .map(|key| entry(key, number))
            .collect::<Result<_, _>>()?;
        put += entries.len() as u64;
        put_all(&kinesis, entries).await?;
    }
    Ok(put)
}

fn entry(key: u64, number: u64) -> Result<PutRecordsRequestEntry, FleetError> {
    let slot = u128::MAX / u128::from(KEYS);
    let hash_key = slot * u128::from(key) + slot / 2;
    PutRecordsRequestEntry::builder()
        .partition_key(format!("key-{key}"))
        .explicit_hash_key(hash_key.to_string())
        .data(Blob::new(number.to_string()))
        .build()
        .map_err(|error| FleetError::service("cannot make a record", error))
}

/// Puts these records until all are stored. Those of one key that are put together may change places.
pub(super) async fn put_all(
    kinesis: &aws_sdk_kinesis::Client,
    mut entries: Vec<PutRecordsRequestEntry>,
) -> Result<(), FleetError> {
    while !entries.is_empty() {
        let put = kinesis.put_records().stream_name(STREAM);
        let answer = put.set_records(Some(entries.clone())).send().await;
        let answer = answer.map_err(|error| {
            FleetError::service(
                "cannot put records",
                aws_sdk_kinesis::error::DisplayErrorContext(error),
            )
        })?;
        if answer.failed_record_count.unwrap_or(0) == 0 {
            return Ok(());
        }
        let refused = answer
            .records
            .iter()
            .map(|record| record.error_code.is_some());
        entries = entries
            .into_iter()
            .zip(refused)
            .filter_map(|(entry, refused)| refused.then_some(entry))
            .collect();
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}
