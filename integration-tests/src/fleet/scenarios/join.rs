//! Twice as many workers at once, and back at once.

use super::{SETTLE_LIMIT, Stage};
use crate::fleet::error::FleetError;

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    let workers = stage.workers();
    stage.settle(workers).await?;
    let joined = stage.cluster.add_workers(workers).await?;
    stage.balanced("balanced after the join").await?;
    stage.calm().await?;
    for name in &joined {
        stage.cluster.terminate(name)?;
    }
    stage.cluster.all_left().await?;
    stage.cluster.owned(SETTLE_LIMIT).await?;
    stage.balanced("balanced after the way back").await?;
    stage.calm().await?;
    let history = stage.finish().await?;
    stage.judge_planned_moves(&history);
    stage.judge_gifts(&history);
    Ok(())
}
