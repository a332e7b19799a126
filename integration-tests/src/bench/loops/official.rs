//! The plain loop: the official SDK with its defaults, and nothing else.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use kcl_aggregation::{Decoder, HashKeyRange, UserRecords};

use super::super::answers::shard_id;
use super::super::consumer::Consumption;
use super::super::meter::{Tally, look};
use super::super::null_kinesis::STREAM;
use super::{Ended, aws, for_each_shard};

pub(crate) async fn run(consumption: &Consumption, shards: usize) -> Ended {
    let client = Client::new(&aws(&consumption.options.endpoint));
    for_each_shard(&consumption.runtime, shards, |shard| {
        read(client.clone(), consumption.clone(), shard)
    })
    .await
}

async fn read(client: Client, consumption: Consumption, shard: usize) -> Ended {
    let first = client
        .get_shard_iterator()
        .stream_name(STREAM)
        .shard_id(shard_id(shard))
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    let mut iterator = first.send().await?.shard_iterator;
    let mut decoder = consumption.options.is_aggregated().then(Decoder::new);
    loop {
        consumption.gate.pass().await;
        let answer = client
            .get_records()
            .set_shard_iterator(iterator)
            .limit(i32::from(consumption.options.limit))
            .send()
            .await?;
        iterator = answer.next_shard_iterator;
        match &mut decoder {
            None => take(&answer.records, &consumption.tally),
            Some(decoder) => take_apart(&answer.records, decoder, &consumption.tally)?,
        }
    }
}

pub(super) fn take(records: &[Record], tally: &Tally) {
    let bytes = records.iter().map(|record| {
        let key = record.partition_key.as_deref().unwrap_or_default();
        look(record.data.as_ref(), key, &record.sequence_number)
    });
    tally.add(records.len(), bytes.sum());
}

pub(super) fn take_apart(records: &[Record], decoder: &mut Decoder, tally: &Tally) -> Ended {
    let (mut users, mut bytes) = (0, 0);
    for record in records {
        let found = decoder.decode(record.data.as_ref(), &HashKeyRange::FULL)?;
        for user in found.iter().flat_map(UserRecords::iter) {
            bytes += look(user.data(), user.partition_key(), &record.sequence_number);
            users += 1;
        }
    }
    tally.add(users, bytes);
    Ok(())
}
