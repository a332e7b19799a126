//! A rolling deployment: each worker is replaced, the new one first.

use super::Stage;
use crate::fleet::error::FleetError;

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    stage.settle(stage.workers()).await?;
    for old in stage.cluster.running() {
        stage.replace(&old).await?;
    }
    let history = stage.finish().await?;
    stage.judge_planned_moves(&history);
    stage.judge_gifts(&history);
    Ok(())
}
