//! What one worker costs on one idle shard.

use super::Stage;
use super::scale::{Cost, measure};
use crate::fleet::error::FleetError;

/// Units per second (acceptance A22).
const READS: f64 = 0.5;
const WRITES: f64 = 0.5;

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    let workers = stage.options.workers.unwrap_or(1);
    let Cost { reads, writes, .. } = measure(stage, workers).await?;
    stage.report.at_most("read units", "/s", reads, READS);
    stage.report.at_most("write units", "/s", writes, WRITES);
    Ok(())
}
