//! The plain loop over subscriptions: the official SDK with its defaults, and nothing else.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use kcl_aggregation::Decoder;

use super::super::answers::shard_id;
use super::super::consumer::Consumption;
use super::official::{take, take_apart};
use super::{CONSUMER, Ended, aws, for_each_shard};

pub(crate) async fn run(consumption: &Consumption, shards: usize) -> Ended {
    let client = Client::new(&aws(&consumption.options.endpoint));
    for_each_shard(&consumption.runtime, shards, |shard| {
        read(client.clone(), consumption.clone(), shard)
    })
    .await
}

async fn read(client: Client, consumption: Consumption, shard: usize) -> Ended {
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribed = client
        .subscribe_to_shard()
        .consumer_arn(CONSUMER)
        .shard_id(shard_id(shard))
        .starting_position(start.build()?)
        .send()
        .await?;
    let mut events = subscribed.event_stream;
    let mut decoder = consumption.options.is_aggregated().then(Decoder::new);
    loop {
        consumption.gate.pass().await;
        let event = events.recv().await?.ok_or("the subscription ended")?;
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
            continue;
        };
        match &mut decoder {
            None => take(&event.records, &consumption.tally),
            Some(decoder) => take_apart(&event.records, decoder, &consumption.tally)?,
        }
    }
}
