//! A bare loop over this library's subscriptions.

use kcl_core::retrieval::{KinesisSource, ShardSource, StartPosition};

use super::super::answers::shard_id;
use super::super::consumer::Consumption;
use super::super::null_kinesis::STREAM;
use super::source::take;
use super::{CONSUMER, Ended, aws, for_each_shard};

pub(crate) async fn run(consumption: &Consumption, shards: usize) -> Ended {
    let aws = aws(&consumption.options.endpoint);
    let source = KinesisSource::new(&aws, STREAM, None).with_wire(consumption.options.wire());
    for_each_shard(&consumption.runtime, shards, |shard| {
        read(source.clone(), consumption.clone(), shard)
    })
    .await
}

async fn read(source: KinesisSource, consumption: Consumption, shard: usize) -> Ended {
    let shard = shard_id(shard).as_str().into();
    let start = StartPosition::TrimHorizon;
    let mut subscription = source.subscribe(CONSUMER, &shard, &start).await?;
    loop {
        consumption.gate.pass().await;
        subscription
            .announced()
            .await?
            .ok_or("the subscription ended")?;
        take(subscription.receive().await?.batch, &consumption);
    }
}
