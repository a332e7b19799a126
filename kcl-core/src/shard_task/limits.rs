//! How long calls may take: one over its time limit failed; for one without progress the whole shard is given up.

use std::pin::pin;

use super::*;

/// How long one call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Then it failed.
    call: Option<Duration>,
    /// So long without a record that was completed: then the shard is given up.
    stall: Option<Duration>,
}

/// What bounds the calls of one lane. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limits {
    context: Arc<Context>,
    progress: LaneProgress,
    monitor: LaneMonitor,
    shard: ShardInfo,
    /// Cancelled when a call in any lane of the shard made no progress.
    given_up: CancellationToken,
}

impl Limits {
    pub(super) fn new(
        context: &Arc<Context>,
        progress: &LaneProgress,
        monitor: LaneMonitor,
        shard: ShardInfo,
        given_up: &CancellationToken,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            progress: progress.clone(),
            monitor,
            shard,
            given_up: given_up.clone(),
        }
    }

    pub(super) fn given_up(&self) -> &CancellationToken {
        &self.given_up
    }

    /// How long a call may take while there is a lease to be given up.
    pub(super) fn usual(&self) -> Times {
        Times {
            call: self.context.config.call_time_limit,
            stall: self.context.config.stall_timeout,
        }
    }

    /// How long a call may take when the lease is lost: there is nothing to be given up, but this worker may hold the shard
    /// again only once the call has ended.
    pub(super) fn without_lease(&self) -> Times {
        let usual = self.usual();
        Times {
            call: usual.call.into_iter().chain(usual.stall).min(),
            stall: None,
        }
    }

    /// Makes a call of `processor`, and cuts it off when it takes too long.
    ///
    /// A call that stalls sees its lease as lost, and has some time to come to its end. What is cut
    /// off leaves its processor behind in any state; on a thread of its own it even goes on.
    pub(super) async fn call<F>(
        &self,
        what: &'static str,
        times: Times,
        permit: CallPermit,
        processor: &mut Option<Box<dyn RecordProcessor>>,
        call: F,
    ) -> Result<(), CallFailure>
    where
        F: for<'p> FnOnce(&'p mut dyn RecordProcessor) -> BoxFuture<'p, ProcessorResult>
            + Send
            + 'static,
    {
        let _watched = self.monitor.calls(what);
        let cut_off = {
            let mut running = pin!(guarded(permit, &self.context.place, processor, call));
            tokio::select! {
                biased;
                outcome = &mut running => return outcome,
                limit = after(times.call) => CallFailure::TooLong(limit),
                () = self.shard_given_up(what, times.stall) => {
                    match tokio::time::timeout(self.grace(), &mut running).await {
                        Ok(outcome) => return outcome,
                        Err(_) => CallFailure::GivenUp,
                    }
                }
            }
        };
        discard(processor.take());
        Err(cut_off)
    }

    /// Waits until the shard is given up, because of this call or of one in another lane.
    async fn shard_given_up(&self, what: &'static str, stall_timeout: Option<Duration>) {
        let stalled = tokio::select! {
            biased;
            () = self.given_up.cancelled() => return,
            stalled = self.stalled(stall_timeout) => stalled,
        };
        self.given_up.cancel();
        let error = format!("no record was completed for {stalled:?} while {what} ran");
        self.monitor.stalled(what, &error);
        self.context.events.counters().calls_stalled.add(1);
        self.context.events.emit(WorkerEvent::CallStalled {
            shard: self.shard.lease_key().clone(),
            lane: self.shard.lane(),
            call: what,
            after: stalled,
            complete: self.progress.shard().complete(),
            released_in: self.grace(),
        });
    }

    /// Returns when no record of the lane was completed for so long since now.
    async fn stalled(&self, timeout: Option<Duration>) -> Duration {
        let Some(timeout) = timeout else {
            return std::future::pending().await;
        };
        let began = Instant::now();
        loop {
            let due = self.progress.last_completed().max(Some(began));
            let left = timeout.saturating_sub(due.unwrap_or(began).elapsed());
            if left.is_zero() {
                return timeout;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// How long calls have to come to their end once the shard is given up.
    fn grace(&self) -> Duration {
        self.context.config.lease_duration
    }
}

async fn after(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    tokio::time::sleep(limit).await;
    limit
}

impl Lane {
    /// Calls the processor.
    pub(super) async fn call<F>(
        &mut self,
        what: &'static str,
        permit: CallPermit,
        call: F,
    ) -> Result<(), CallFailure>
    where
        F: for<'p> FnOnce(&'p mut dyn RecordProcessor) -> BoxFuture<'p, ProcessorResult>
            + Send
            + 'static,
    {
        // The lane itself cannot be shared with another thread.
        let limits = self.limits.clone();
        let (times, processor) = (limits.usual(), &mut self.processor);
        limits.call(what, times, permit, processor, call).await
    }

    /// Cancelled when a call in any lane of the shard made no progress.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.limits.given_up.clone()
    }

    /// The lease as user code sees it.
    pub(super) fn user_grant(&self) -> Grant {
        Grant::new(self.grant.clone(), self.limits.given_up.clone())
    }

    /// Goes on after a failed call, unless the shard is given up: then it failed because of that.
    pub(super) fn unless_given_up(&self) -> Flow<()> {
        match self.limits.given_up.is_cancelled() {
            true => ControlFlow::Break(Stopped::GivenUp),
            false => ControlFlow::Continue(()),
        }
    }
}

impl ShardTask {
    /// Gives the lease to another worker, and tells that to the processors that are left.
    pub(super) async fn leave_given_up(mut self) -> Outcome {
        self.monitor.enter(Phase::Leaving);
        if let Err(reason) = self.release().await {
            return self.lose(reason).await;
        }
        let lost = |lane| Lane::lost(lane, LossReason::Released);
        join_all(self.lanes.iter_mut().map(lost)).await;
        match self.grant.recall() {
            Some(Recall::WorkerStops) => Outcome::Drained,
            _ => Outcome::Moved,
        }
    }
}
