//! What is put into the stream, and the reshards in between.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_types::SdkConfig;
use bytes::Bytes;
use examples::aws_error::explain;
use examples::put::{Aggregating, Entry, Sender};
use examples::stream_name::StreamName;
use kcl_aggregation::PackLimits;
use kcl_core::BoxError;

use crate::processor::SharedLedger;

pub(crate) const STREAM: &str = "quickstart";
pub(crate) const USER_RECORDS: u64 = KEYS * ROUNDS;
/// So many rounds are in the stream before the first worker starts.
pub(crate) const BEFORE_START: u64 = 10;

const KEYS: u64 = 200;
const ROUNDS: u64 = 100;
/// The stream is resharded after this round.
const RESHARD_AFTER: u64 = 40;
/// The middle of the first of four shards.
const MIDDLE_OF_FIRST_SHARD: u128 = 1 << 125;
const PATIENCE: Duration = Duration::from_secs(30);

/// Puts one record of each key in each round. Even keys go in aggregated records, odd ones alone.
#[derive(Debug)]
pub(crate) struct Load {
    client: Client,
    sender: Sender,
    ledger: SharedLedger,
    round: u64,
}

impl Load {
    pub(crate) fn new(aws: &SdkConfig, ledger: &SharedLedger) -> Self {
        let client = Client::new(aws);
        let sender = Sender::new(client.clone(), StreamName::from(STREAM), PATIENCE);
        Self {
            client,
            sender,
            ledger: ledger.clone(),
            round: 0,
        }
    }

    pub(crate) async fn put_rest_and_reshard(mut self) -> Result<(), BoxError> {
        self.put_next(RESHARD_AFTER - self.round).await?;
        self.split_and_merge().await?;
        self.put_next(ROUNDS - self.round).await
    }

    /// Puts so many rounds, and returns when they are stored.
    pub(crate) async fn put_next(&mut self, rounds: u64) -> Result<(), BoxError> {
        let stream = StreamName::from(STREAM);
        let limits = PackLimits::default();
        let mut packer = Aggregating::new(self.client.clone(), stream, limits).await?;
        for _ in 0..rounds {
            self.put_round(&mut packer).await?;
        }
        packer.flush(&mut self.sender).await?;
        Ok(())
    }

    async fn put_round(&mut self, packer: &mut Aggregating) -> Result<(), BoxError> {
        let round = self.round;
        self.round += 1;
        for number in 0..KEYS {
            let key = format!("customer-{number:04}");
            let payload = format!("{key} places order {round}, {}", "x".repeat(50));
            self.ledger.lock().put(key.clone(), payload.clone());
            let data = Bytes::from(payload);
            if number % 2 == 0 {
                packer.put(&mut self.sender, &key, &data).await?;
            } else {
                self.sender.put(Entry::plain(key, data)).await?;
            }
        }
        Ok(())
    }

    /// Splits the first of the four shards and merges the last two.
    async fn split_and_merge(&self) -> Result<(), BoxError> {
        let split = self.client.split_shard().stream_name(STREAM);
        let split = split.shard_to_split("shardId-000000000000");
        let split = split.new_starting_hash_key(MIDDLE_OF_FIRST_SHARD.to_string());
        split.send().await.map_err(|error| explain(&error))?;
        let merge = self.client.merge_shards().stream_name(STREAM);
        let merge = merge.shard_to_merge("shardId-000000000002");
        let merge = merge.adjacent_shard_to_merge("shardId-000000000003");
        merge.send().await.map_err(|error| explain(&error))?;
        Ok(())
    }
}
