//! Leaving a shard that goes on: its lease was lost, or is given away. Or resting on it.

use kcl_lease::StopCause;

use super::*;
use crate::event::ReleaseCause;

impl ShardTask {
    /// Keeps the lease, and delivers nothing, until the lease ends or is wanted elsewhere, or an operator lets the shard go on.
    pub(super) async fn rest(&mut self, cause: StoppedShard) -> Stopped {
        self.context.events.counters().shards_stopped.add(1);
        self.halt.cancel();
        // A worker that stops because of the record leaves it to the next one.
        let is_alone = self.context.failure.get().is_none();
        let orders = self.grant.orders();
        let _storing = match is_alone {
            true => Some(self.store_stop(&cause).await),
            false => None,
        };
        // Whoever hears of it may command at once, and the mark must not replace that.
        self.tell_stopped(cause);
        tokio::select! {
            biased;
            stopped = stopped(&self.grant) => stopped,
            () = self.given_up.cancelled() => Stopped::GivenUp,
            () = orders::resumed(orders), if is_alone => {
                orders::tell_resumed(&self.context, self.shard.lease_key());
                Stopped::Sought
            }
        }
    }

    fn tell_stopped(&self, cause: StoppedShard) {
        self.monitor.enter(Phase::Stopped);
        let event = cause.event();
        if self.context.board.rests(cause) {
            self.context.events.emit(event);
        }
    }

    /// Stores that the shard is stopped. That comes before giving the lease away, as long as the table answers within a lease
    /// duration: else the record would go round the fleet. What takes longer goes on until what this returns is dropped.
    async fn store_stop(&mut self, cause: &StoppedShard) -> AbortOnDropHandle<()> {
        let (context, lease) = (Arc::clone(&self.context), self.grant.lease_key().clone());
        let cause = StopCause::new(cause.position.clone(), &cause.error);
        let store = orders::store_stop(context, lease, cause, self.schedule());
        let mut storing = self.context.runtime.spawn(store);
        tokio::select! {
            biased;
            _ = self.grant.lost() => {}
            _ = tokio::time::timeout(self.context.config.lease_duration, &mut storing) => {}
        }
        storing
    }

    pub(super) async fn lose(mut self, reason: LossReason) -> Outcome {
        self.monitor.enter(Phase::Leaving);
        self.context.events.counters().leases_lost.add(1);
        self.context.events.emit(WorkerEvent::LeaseLost {
            shard: self.shard.lease_key().clone(),
            reason,
        });
        join_all(self.lanes.iter_mut().map(|lane| lane.lost(reason))).await;
        Outcome::Lost
    }

    /// Lets the processor flush, stores what is complete and gives the lease away. The worker enforces the deadline of its
    /// own stop.
    pub(super) async fn give_away(mut self, recall: Recall) -> Outcome {
        self.monitor.enter(Phase::Leaving);
        let (reason, deadline) = self.shutdown_reason(recall);
        let leave = |lane| Lane::request_shutdown(lane, reason, deadline);
        if let ControlFlow::Break(Stopped::Lost(reason)) =
            all(self.lanes.iter_mut().map(leave)).await
        {
            return self.lose(reason).await;
        }
        match (self.release().await, recall) {
            (Err(reason), _) => self.lose(reason).await,
            (Ok(()), Recall::Rebalance | Recall::StreamRemoved) => Outcome::Moved,
            (Ok(()), _) => Outcome::Drained,
        }
    }

    /// Stores what is complete and gives the lease away.
    pub(super) async fn release(&mut self) -> Result<(), LossReason> {
        let mut schedule = self.schedule();
        loop {
            // Storing it could remove what is prepared, which the next holder has to know.
            let keeps = self.progress.is_prepared();
            let complete = (!keeps).then(|| self.progress.complete());
            match self.grant.release(complete).await {
                Ok(stored) => {
                    self.report_released(stored);
                    return Ok(());
                }
                Err(GrantError::Lost { reason, .. }) => return Err(reason),
                Err(_) => Self::wait_before_retry(&mut schedule).await,
            }
        }
    }

    /// What the processor is told, and until when it should be done.
    pub(super) fn shutdown_reason(&self, recall: Recall) -> (ShutdownReason, Instant) {
        let in_time = Instant::now() + self.context.config.lease_duration;
        match recall {
            Recall::Rebalance => (ShutdownReason::LeaseMoves, in_time),
            Recall::StreamRemoved => (ShutdownReason::StreamRemoved, in_time),
            _ => {
                let deadline = self.context.stop.deadline();
                (ShutdownReason::WorkerStops, deadline.unwrap_or(in_time))
            }
        }
    }

    pub(super) fn report_released(&self, checkpoint: Checkpoint) {
        self.context.events.emit(WorkerEvent::LeaseReleased {
            shard: self.shard.lease_key().clone(),
            checkpoint,
            cause: match self.grant.recall() {
                _ if self.given_up.is_cancelled() => ReleaseCause::CallStalled,
                Some(Recall::Rebalance) => ReleaseCause::LeaseMoves,
                Some(Recall::StreamRemoved) => ReleaseCause::StreamRemoved,
                _ => ReleaseCause::WorkerStops,
            },
        });
    }
}

impl Lane {
    /// Tells the processor that the lease is lost.
    pub(super) async fn lost(&mut self, reason: LossReason) {
        if self.processor.is_none() {
            return;
        }
        let input = LeaseLostInput {
            shard: self.shard.clone(),
            reason,
        };
        let permit = permit(&self.context.calls).await;
        let (limits, processor) = (self.limits.clone(), &mut self.processor);
        let outcome = limits
            .call(
                "lease_lost",
                limits.without_lease(),
                permit,
                processor,
                |p| p.lease_lost(input),
            )
            .await;
        self.report_unretried("lease_lost", outcome);
    }

    /// Lets the processor flush, and waits for answers for what it deferred, unless it is read again or passed over.
    pub(super) async fn request_shutdown(
        &mut self,
        reason: ShutdownReason,
        deadline: Instant,
    ) -> Flow<()> {
        let permit = match self.permit_while_held().await {
            Ok(permit) => permit,
            Err(reason) => return ControlFlow::Break(Stopped::Lost(reason)),
        };
        if self.processor.is_some() && !self.told_end {
            let input = ShutdownRequestedInput {
                shard: self.shard.clone(),
                grant: self.user_grant(),
                reason,
                deadline,
                checkpointer: self.checkpointer.clone(),
            };
            let call = self.call("shutdown_requested", permit, |p| {
                p.shutdown_requested(input)
            });
            let outcome = call.await;
            self.report_unretried("shutdown_requested", outcome);
        } else {
            // Other lanes and shards do not wait for answers to this one.
            drop(permit);
        }
        if !matches!(reason, ShutdownReason::Repositioned) {
            self.last_answers(deadline).await;
        }
        ControlFlow::Continue(())
    }

    /// Waits for the right to call user code together with a lease that is surely held; while waiting for the lease others
    /// may call.
    async fn permit_while_held(&mut self) -> Result<CallPermit, LossReason> {
        loop {
            self.grant.deliverable().await?;
            let permit = permit(&self.context.calls).await;
            if self.grant.is_current() {
                return Ok(permit);
            }
        }
    }

    fn report_unretried(&self, call: &'static str, outcome: Result<(), CallFailure>) {
        if let Err(failure) = outcome {
            self.context.events.counters().processor_failures.add(1);
            tracing::warn!(shard = %self.shard.lease_key(), call, error = %failure, "the processor failed; the call is not repeated");
        }
    }
}
