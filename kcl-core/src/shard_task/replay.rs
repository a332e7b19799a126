//! The end of a bounded replay for one shard.

use super::*;

impl ShardTask {
    /// Ends the work on a shard of which nothing is left in the window, and everything before is complete.
    pub(super) fn end_of_replay(&mut self) -> Flow<()> {
        let Some(replay) = &self.stream.replay else {
            return ControlFlow::Continue(());
        };
        let shard = self.shard.shard_id();
        if !self.is_at_tip() || !replay.has_reached_end(shard) {
            return ControlFlow::Continue(());
        }
        self.replayed = Some(replay.window.end());
        ControlFlow::Break(Stopped::Sought)
    }

    /// Keeps the lease of a shard that was read to the end of the window, until the worker stops.
    pub(super) async fn rest_if_replayed(&mut self) -> Flow<()> {
        let end = self.stream.replay.as_ref().map(|r| r.window.end());
        if end.as_ref() != Some(self.grant.start_point()) {
            return ControlFlow::Continue(());
        }
        self.monitor.enter(Phase::Replayed);
        self.context.board.at_tip(self.shard.lease_key(), true);
        ControlFlow::Break(stopped(&self.grant).await)
    }
}
