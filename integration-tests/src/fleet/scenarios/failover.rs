//! SIGKILL: one worker, the leader, the only one.

use super::{Stage, part};
use crate::fleet::clock::At;
use crate::fleet::cluster::held_by;
use crate::fleet::error::FleetError;
use crate::fleet::options::{FleetOptions, Part};
use crate::fleet::report::Report;

pub(super) async fn play(options: &FleetOptions) -> Result<Vec<Report>, FleetError> {
    let wanted = |part: Part| options.part.is_none_or(|only| only == part);
    let mut reports = Vec::new();
    if wanted(Part::One) {
        reports.push(part("failover-one", options, one).await?);
    }
    if wanted(Part::Leader) {
        reports.push(part("failover-leader", options, leader).await?);
    }
    if wanted(Part::Only) {
        reports.push(part("failover-only", options, only).await?);
    }
    Ok(reports)
}

async fn one(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    let leader = stage.cluster.leader().await?;
    let victim = holder(stage, |name| Some(name) != leader.as_deref())?;
    let at = stage.cluster.kill(&victim).await?;
    judge_death(stage, &victim, at).await
}

async fn leader(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    let leader = stage.cluster.leader().await?;
    stage
        .report
        .count_at_least("leader", usize::from(leader.is_some()), 1);
    let victim = match leader {
        Some(leader) => leader,
        None => holder(stage, |_| true)?,
    };
    let at = stage.cluster.kill(&victim).await?;
    judge_death(stage, &victim, at).await
}

async fn only(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(1).await?;
    let victim = holder(stage, |_| true)?;
    let at = stage.cluster.kill(&victim).await?;
    stage.cluster.add_worker()?;
    judge_death(stage, &victim, at).await
}

async fn judge_death(stage: &mut Stage<'_>, victim: &str, at: At) -> Result<(), FleetError> {
    // Long enough to see a takeover that is far too slow.
    stage
        .cluster
        .owned(stage.options.lease_duration * 4)
        .await?;
    stage.calm().await?;
    let history = stage.finish().await?;
    stage.judge_takeover(&history, victim, at);
    Ok(())
}

/// The worker among these that holds the most shards.
pub(super) fn holder(
    stage: &Stage<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<String, FleetError> {
    let holders = held_by(&stage.cluster.table()).into_iter();
    let most = holders
        .filter(|(name, _)| wanted(name))
        .max_by_key(|(_, held)| *held);
    // Without balance all shards may be with one worker.
    let most = most
        .map(|(name, _)| name)
        .or_else(|| stage.cluster.running().pop());
    most.ok_or_else(|| FleetError::service("no worker", "nobody holds a lease"))
}
