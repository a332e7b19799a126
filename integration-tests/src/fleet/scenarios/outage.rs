//! DynamoDB fails for everybody: half of the time it refuses, half of the time it is silent.

use std::time::Duration;

use kcl_emulator::Service;
use kcl_emulator::faults::{Fault, Rule};

use super::Stage;
use crate::fleet::deeds::Did;
use crate::fleet::error::FleetError;
use crate::fleet::judge;

const REFUSING: Duration = Duration::from_secs(30);
const SILENT: Duration = Duration::from_secs(30);

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    let began = stage.cluster.deeds.note(Did::OutageBegan);
    fail(stage, Fault::Unavailable, REFUSING).await?;
    fail(stage, Fault::Disconnect, SILENT).await?;
    let healed = stage.cluster.deeds.note(Did::OutageEnded);
    let limit = stage.options.lease_duration * 2;
    stage.cluster.calm(limit + stage.options.calm).await?;
    let history = stage.finish().await?;
    let resumed = judge::resumed_after(&history, healed);
    stage
        .report
        .count_at_least("shards consumed after the outage", resumed.len(), 1);
    let slowest = resumed.values().copied().collect::<Option<Vec<_>>>();
    let slowest = slowest.and_then(|times| times.into_iter().max());
    stage
        .report
        .time_at_most("slowest to resume", slowest, limit);
    let moves = judge::moves(&history, began, healed + limit);
    stage.report.count_at_most("moves by the outage", moves, 0);
    let duplicates = judge::deliveries(&history).duplicates;
    stage.report.tell_count("duplicates", duplicates);
    Ok(())
}

/// Lets every call of a worker to DynamoDB fare so for a while.
async fn fail(stage: &mut Stage<'_>, fault: Fault, time: Duration) -> Result<(), FleetError> {
    let rule = Rule::new(fault)
        .named("outage")
        .caller("w*")
        .service(Service::DynamoDb);
    stage.cluster.emulator.faults().add(rule);
    stage.cluster.calm(time).await?;
    stage.cluster.emulator.faults().remove("outage");
    Ok(())
}
