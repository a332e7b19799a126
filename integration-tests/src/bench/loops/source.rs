//! A bare loop around this library's client and decoder.

use kcl_core::retrieval::{
    Batch, KinesisSource, OutOfRange, ShardSource, StartPosition, deaggregate,
};
use kcl_core::{HashKeyRange, RecordRef};
use tokio::time::Instant;

use super::super::answers::shard_id;
use super::super::consumer::Consumption;
use super::super::meter::look;
use super::super::null_kinesis::STREAM;
use super::pace::Pace;
use super::{Ended, aws, for_each_shard};

pub(crate) async fn run(consumption: &Consumption, shards: usize, pace: Pace) -> Ended {
    let aws = aws(&consumption.options.endpoint);
    let source = KinesisSource::new(&aws, STREAM, None).with_wire(consumption.options.wire());
    for_each_shard(&consumption.runtime, shards, |shard| {
        read(source.clone(), consumption.clone(), shard, pace)
    })
    .await
}

async fn read(source: KinesisSource, consumption: Consumption, shard: usize, pace: Pace) -> Ended {
    let shard = shard_id(shard).as_str().into();
    let mut iterator = source.iterator(&shard, &StartPosition::TrimHorizon).await?;
    let options = &consumption.options;
    loop {
        consumption.gate.pass().await;
        let began = Instant::now();
        let answer = source.get_records(&iterator, options.limit).await?;
        iterator = answer.next.ok_or("the shard ended")?;
        let bytes = answer.batch.payload_bytes();
        take(answer.batch, &consumption);
        pace.rest(began, bytes).await;
    }
}

pub(super) fn take(batch: Batch, consumption: &Consumption) {
    let batch = match consumption.options.is_aggregated() {
        true => deaggregate(batch, &HashKeyRange::FULL, OutOfRange::Deliver).0,
        false => batch,
    };
    let bytes = batch.iter().map(look_at).sum();
    consumption.tally.add(batch.len(), bytes);
}

pub(in super::super) fn look_at(record: RecordRef<'_>) -> usize {
    look(
        record.data(),
        record.partition_key(),
        record.sequence_number(),
    )
}
