//! Passing over what is left of a shard that is too far behind.

use std::time::SystemTime;

use kcl_lease::StartPoint;

use super::*;

/// Reading goes on so much before this worker's time, so that what arrives now is not missed.
const BEFORE_NOW: Duration = Duration::from_secs(1);

/// A jump that was decided.
#[derive(Debug, Clone)]
pub(super) struct Jump {
    pub(super) to: StartPoint,
    lag: Duration,
}

impl ShardTask {
    /// Stops the work at this place if the shard is further behind than it may be; not after an operator has moved it,
    /// which may be far back on purpose, before it was within the limit again.
    pub(super) fn jump_if_too_far(&mut self, delivery: &Delivery) -> Flow<()> {
        let most = self.context.config.jump_to_latest_when_behind;
        let (Some(most), Some(lag)) = (most, self.lag(delivery)) else {
            return ControlFlow::Continue(());
        };
        if lag <= most {
            self.may_jump = true;
        }
        if lag <= most || !self.may_jump || self.grant.is_paused() {
            return ControlFlow::Continue(());
        }
        let now = self.context.runtime.wall_time();
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let moment = now.unwrap_or_default().saturating_sub(BEFORE_NOW);
        let moment = u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
        let to = StartPoint::at_time(moment);
        self.jump = Some(Jump { to, lag });
        ControlFlow::Break(Stopped::Sought)
    }

    /// How far the first record is behind, or the end of the answer: a backlog may fit into one answer, whose end is at the
    /// tip.
    fn lag(&self, delivery: &Delivery) -> Option<Duration> {
        let first = delivery.batch.get(delivery.rows.start);
        let arrival = first.and_then(RecordRef::approximate_arrival);
        let now = self.context.runtime.wall_time();
        let age = arrival.and_then(|arrival| now.duration_since(arrival).ok());
        age.max(delivery.behind)
    }

    pub(super) fn report_jump(&self, jump: &Jump) {
        self.context.events.counters().jumps.add(1);
        self.context.events.emit(WorkerEvent::JumpedToLatest {
            shard: self.shard.lease_key().clone(),
            from: self.progress.complete(),
            to: jump.to.clone(),
            lag: jump.lag,
        });
    }
}
