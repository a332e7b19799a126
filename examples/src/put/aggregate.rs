//! Packs user records into aggregated records, one shard's to each, also when the stream is resharded meanwhile.

use std::collections::BTreeSet;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType};
use bytes::Bytes;
use kcl_aggregation::{HashKeyRange, PackLimits, Packer};

use super::entry::Entry;
use super::sender::{PutError, Sender};
use crate::aws_error::explain;
use crate::stream_name::StreamName;

/// A packer that knows the open shards of its stream.
#[derive(Debug)]
pub struct Aggregating {
    client: Client,
    stream: StreamName,
    limits: PackLimits,
    shard_ids: BTreeSet<String>,
    ranges: Vec<HashKeyRange>,
    packer: Packer,
}

impl Aggregating {
    /// Lists the open shards of the stream and packs for them.
    ///
    /// # Errors
    /// When the shards cannot be listed.
    pub async fn new(
        client: Client,
        stream: StreamName,
        limits: PackLimits,
    ) -> Result<Self, PutError> {
        let packer = Packer::new([], limits);
        let (shard_ids, ranges) = (BTreeSet::new(), Vec::new());
        let mut aggregating = Self {
            client,
            stream,
            limits,
            shard_ids,
            ranges,
            packer,
        };
        aggregating.look_at_shards().await?;
        Ok(aggregating)
    }

    /// Adds a user record; what is ready goes to the sender.
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn put(
        &mut self,
        sender: &mut Sender,
        key: &str,
        data: &Bytes,
    ) -> Result<(), PutError> {
        let Some(ready) = self.packer.add(key, None, data)? else {
            return Ok(());
        };
        sender.put(Entry::packed(ready, &self.ranges)).await?;
        if !sender.take_shards().is_subset(&self.shard_ids) {
            // Stored in a shard that is not known: the stream was resharded.
            self.flush(sender).await?;
            drop(sender.take_shards());
            self.look_at_shards().await?;
        }
        Ok(())
    }

    /// Stores everything that waits here and in the sender.
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn flush(&mut self, sender: &mut Sender) -> Result<(), PutError> {
        for ready in self.packer.flush() {
            sender.put(Entry::packed(ready, &self.ranges)).await?;
        }
        sender.flush().await
    }

    /// User records that wait here.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.packer.waiting() as u64
    }

    async fn look_at_shards(&mut self) -> Result<(), PutError> {
        let shards = open_shards(&self.client, &self.stream).await?;
        self.shard_ids = shards.iter().map(|shard| shard.shard_id.clone()).collect();
        self.ranges = shards.iter().filter_map(range).collect();
        self.packer = Packer::new(self.ranges.clone(), self.limits);
        Ok(())
    }
}

fn range(shard: &Shard) -> Option<HashKeyRange> {
    let range = shard.hash_key_range.as_ref()?;
    HashKeyRange::from_decimal(&range.starting_hash_key, &range.ending_hash_key)
}

async fn open_shards(client: &Client, stream: &StreamName) -> Result<Vec<Shard>, PutError> {
    let open = ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .map_err(|error| PutError::Refused(error.to_string()))?;
    let mut shards = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let call = client.list_shards();
        // A token stands for the stream and the filter; the service refuses both together.
        let call = match next {
            Some(token) => call.next_token(token),
            None => call
                .set_stream_name(stream.name())
                .set_stream_arn(stream.arn())
                .shard_filter(open.clone()),
        };
        let answer = call
            .send()
            .await
            .map_err(|error| PutError::Refused(explain(&error)))?;
        shards.extend(answer.shards.unwrap_or_default());
        next = answer.next_token;
        if next.is_none() {
            return Ok(shards);
        }
    }
}
