//! A worker that is stopped for longer than its lease lasts, and wakes up.

use super::Stage;
use super::failover::holder;
use crate::fleet::error::FleetError;
use crate::fleet::judge;

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    let leader = stage.cluster.leader().await?;
    let victim = holder(stage, |name| Some(name) != leader.as_deref())?;
    let stopped = stage.cluster.pause(&victim)?;
    let asleep = stage.options.lease_duration * 3 / 2;
    stage.cluster.calm(asleep).await?;
    stage.cluster.resume(&victim)?;
    stage.balanced("balanced after the zombie woke up").await?;
    stage.calm().await?;
    let history = stage.finish().await?;
    stage.judge_takeover(&history, &victim, stopped);
    // A call that had begun before the stop may be finished; no lease can prevent that.
    let overtaken = judge::overtaken_deliveries(&history);
    stage
        .report
        .tell_count("records delivered after the takeover", overtaken);
    Ok(())
}
