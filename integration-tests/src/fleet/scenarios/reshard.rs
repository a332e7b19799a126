//! Twice the shards and then fewer than at first, under load, with a rolling deployment in the middle.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::types::{ScalingType, Shard};

use super::{SETTLE_LIMIT, Stage};
use crate::STREAM;
use crate::fleet::cluster::Cluster;
use crate::fleet::error::FleetError;
use crate::fleet::judge;

/// A child starts within this time of the end of its last parent.
const CHILD_START: Duration = Duration::from_secs(1);
/// The service takes this long at most to be ready for the next reshard.
const RESHARD_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    let before = open_shards(&list(&stage.cluster).await?);
    scale(stage, before * 2).await?;
    let mut old = stage.cluster.running().into_iter();
    // The first worker is replaced while the children of the first reshard start.
    for worker in old.by_ref().take(1) {
        stage.replace(&worker).await?;
    }
    // One call may halve at most; the rest of the deployment meets both.
    scale(stage, before).await?;
    for worker in old.by_ref().take(1) {
        stage.replace(&worker).await?;
    }
    scale(stage, before * 3 / 4).await?;
    for worker in old {
        stage.replace(&worker).await?;
    }
    stage.cluster.owned(SETTLE_LIMIT).await?;
    stage.balanced("balanced after the reshards").await?;
    stage.calm().await?;
    let shards = list(&stage.cluster).await?;
    let history = stage.finish().await?;
    stage
        .report
        .count_at_most("open shards", open_shards(&shards), before * 3 / 4);
    stage.judge_planned_moves(&history);
    let gifts = judge::gifts_to_the_leaving(&history);
    stage
        .report
        .tell_count("leases taken or given while leaving", gifts);
    let starts = judge::child_starts(&history, &parents(&shards));
    for (child, start) in &starts {
        tracing::info!(child, ?start, "child");
    }
    stage
        .report
        .count_at_least("children", starts.len(), before);
    let slowest = starts.values().copied().collect::<Option<Vec<_>>>();
    let slowest = slowest.and_then(|times| times.into_iter().max());
    stage
        .report
        .time_at_most("slowest start of a child", slowest, CHILD_START);
    Ok(())
}

async fn scale(stage: &mut Stage<'_>, target: usize) -> Result<(), FleetError> {
    let update = stage
        .cluster
        .kinesis
        .update_shard_count()
        .stream_name(STREAM);
    let update = update
        .target_shard_count(i32::try_from(target).unwrap_or(i32::MAX))
        .scaling_type(ScalingType::UniformScaling);
    update
        .send()
        .await
        .map_err(|error| FleetError::service("cannot reshard", DisplayErrorContext(error)))?;
    let limit = tokio::time::Instant::now() + RESHARD_LIMIT;
    while open_shards(&list(&stage.cluster).await?) != target {
        if tokio::time::Instant::now() >= limit {
            let what = format!("the stream has {target} shards");
            return Err(FleetError::TooLate {
                what,
                limit: RESHARD_LIMIT,
            });
        }
        stage.cluster.calm(Duration::from_millis(100)).await?;
    }
    Ok(())
}

async fn list(cluster: &Cluster) -> Result<Vec<Shard>, FleetError> {
    let list = cluster.kinesis.list_shards().stream_name(STREAM);
    let answer = list
        .send()
        .await
        .map_err(|error| FleetError::service("cannot list shards", DisplayErrorContext(error)))?;
    Ok(answer.shards.unwrap_or_default())
}

fn open_shards(shards: &[Shard]) -> usize {
    let open = shards.iter().filter(|shard| {
        let range = shard.sequence_number_range.as_ref();
        range.is_some_and(|range| range.ending_sequence_number.is_none())
    });
    open.count()
}

/// The parents of each shard that has some.
fn parents(shards: &[Shard]) -> BTreeMap<String, Vec<String>> {
    let with_parents = shards.iter().map(|shard| {
        let parents = shard
            .parent_shard_id
            .iter()
            .chain(&shard.adjacent_parent_shard_id);
        (shard.shard_id.clone(), parents.cloned().collect::<Vec<_>>())
    });
    with_parents
        .filter(|(_, parents)| !parents.is_empty())
        .collect()
}
