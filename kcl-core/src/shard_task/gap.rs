//! Records that retention may have taken before they were read: told, and what the policy for that says.

use super::*;

impl ShardTask {
    /// Tells of a gap. Goes on after it, or ends delivery before it.
    pub(super) fn on_gap(&self, gap: Option<&Gap>) -> Flow<()> {
        let Some(gap) = gap else {
            return ControlFlow::Continue(());
        };
        let shard = self.shard.lease_key();
        self.context.events.counters().gaps.add(1);
        self.context.events.emit(WorkerEvent::GapDetected {
            shard: shard.clone(),
            from: gap.from.clone(),
            to: gap.to.clone(),
        });
        match self.context.config.on_gap {
            GapPolicy::Continue => ControlFlow::Continue(()),
            GapPolicy::StopShard => {
                let error = format!(
                    "records may have passed out of retention before they were read: {gap}"
                );
                self.monitor.note("gap", &error);
                ControlFlow::Break(Stopped::Unprocessable(StoppedShard {
                    shard: shard.clone(),
                    position: gap.from.clone().map(|from| Position::new(from, 0)),
                    error,
                }))
            }
        }
    }

    /// Whatever the shard had after what was handed out is gone with it.
    pub(super) fn rest_is_gone(&self) -> Gap {
        let handed_out = self.progress.handed_out();
        let from = handed_out.position().map(|at| at.sequence_number.clone());
        Gap { from, to: None }
    }
}
