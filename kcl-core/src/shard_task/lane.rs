//! One lane of a shard: its processor, and how it is called.

use bytes::Bytes;

use super::*;
use crate::two_phase::PendingCheckpoint;

/// A part of the keys of a shard, or all of them, with a processor of its own that is called for one thing after another.
pub(super) struct Lane {
    pub(super) context: Arc<Context>,
    pub(super) grant: kcl_lease::Grant,
    pub(super) shard: ShardInfo,
    pub(super) progress: LaneProgress,
    pub(super) monitor: LaneMonitor,
    pub(super) limits: Limits,
    pub(super) checkpointer: Checkpointer,
    /// None until it is initialized, and after a panic.
    pub(super) processor: Option<Box<dyn RecordProcessor>>,
    pub(super) parked: ParkedKeys,
    pub(super) rng: fastrand::Rng,
    pub(super) started: Instant,
    /// Cancelled when the whole shard stops.
    pub(super) halt: CancellationToken,
    pub(super) gate: Gate,
    /// Whether the processor knows that the shard ended.
    pub(super) told_end: bool,
}

impl Lane {
    /// The lanes of a shard.
    pub(super) fn all(
        context: &Arc<Context>,
        grant: &kcl_lease::Grant,
        shard: &ShardInfo,
        progress: &Arc<ShardProgress>,
        monitor: &Arc<Monitor>,
        halt: &CancellationToken,
        gate: &Gate,
    ) -> Vec<Self> {
        let lanes = context.config.lanes;
        let parked = ParkedKeys::new(context.config.failure_policy.parked_keys_max());
        let given_up = CancellationToken::new();
        let lane = |(lane, progress): (usize, LaneProgress)| Self {
            context: Arc::clone(context),
            grant: grant.clone(),
            monitor: monitor.lane(lane),
            limits: Limits::new(
                context,
                &progress,
                monitor.lane(lane),
                shard.in_lane(lane, lanes),
                &given_up,
            ),
            shard: shard.in_lane(lane, lanes),
            checkpointer: Checkpointer::new(
                grant.clone(),
                progress.clone(),
                context.events.clone(),
            ),
            progress,
            processor: None,
            parked: parked.for_lane(),
            rng: context.runtime.rng(&match lane {
                0 => shard.lease_key().as_str().to_owned(),
                _ => format!("{}/{lane}", shard.lease_key()),
            }),
            started: Instant::now(),
            halt: halt.clone(),
            gate: gate.clone(),
            told_end: false,
        };
        progress.lanes().enumerate().map(lane).collect()
    }

    /// Waits until the lane is to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = Stopped> + Send {
        // The lane itself cannot be shared with another thread.
        let (grant, halt, given_up) = (&self.grant, &self.halt, self.limits.given_up());
        async move {
            tokio::select! {
                biased;
                stopped = stopped(grant) => stopped,
                () = halt.cancelled() => Stopped::Halted,
                () = given_up.cancelled() => Stopped::GivenUp,
            }
        }
    }

    /// Waits until user code may be called, and checks last that the lease is surely held.
    pub(super) async fn begin_call(&mut self) -> Flow<CallPermit> {
        loop {
            let permit = tokio::select! {
                biased;
                stopped = self.stopped() => return ControlFlow::Break(stopped),
                permit = permit(&self.context.calls) => permit,
            };
            give_way().await;
            if !mutant::is(Mutant::DeliverWithoutCheck) {
                if let Some(recall) = self.grant.recall() {
                    return ControlFlow::Break(Stopped::Recalled(recall));
                }
                if !self.grant.is_current() {
                    // Shards whose leases are held do not wait for the table to grant this one again.
                    drop(permit);
                    self.wait_until_held().await?;
                    continue;
                }
            }
            return ControlFlow::Continue(permit);
        }
    }

    /// Waits until the lease is surely held: after a lapse that is until it was granted again.
    pub(super) async fn wait_until_held(&mut self) -> Flow<()> {
        tokio::select! {
            biased;
            held = self.grant.deliverable() => match held {
                Ok(()) => ControlFlow::Continue(()),
                Err(reason) => ControlFlow::Break(Stopped::Lost(reason)),
            },
            stopped = self.stopped() => ControlFlow::Break(stopped),
        }
    }

    /// Reports a failed call and waits before the next attempt. After a panic the instance is not used again.
    pub(super) async fn after_failure(
        &mut self,
        call: &'static str,
        failure: &CallFailure,
        attempt: u32,
        schedule: &mut RetrySchedule,
    ) -> Flow<()> {
        self.unless_given_up()?;
        let retry_in = schedule.next_or_cap();
        self.report_failure(call, failure, attempt, retry_in);
        self.pause(retry_in).await
    }

    pub(super) fn report_failure(
        &mut self,
        call: &'static str,
        failure: &CallFailure,
        attempt: u32,
        retry_in: Duration,
    ) {
        if matches!(failure, CallFailure::Panic(_)) {
            discard(self.processor.take());
        }
        self.monitor.failed(call, &failure.to_string());
        self.context.events.counters().processor_failures.add(1);
        self.context.events.emit(WorkerEvent::ProcessorFailed {
            shard: self.shard.lease_key().clone(),
            call,
            attempt,
            error: failure.to_string(),
            retry_in,
        });
    }

    pub(super) async fn pause(&mut self, time: Duration) -> Flow<()> {
        tokio::select! {
            biased;
            stopped = self.stopped() => ControlFlow::Break(stopped),
            () = tokio::time::sleep(time) => ControlFlow::Continue(()),
        }
    }

    pub(super) fn schedule(&self) -> RetrySchedule {
        schedule(&self.context, &self.shard)
    }

    /// Makes and initializes a processor unless there is one.
    pub(super) async fn ensure_processor(&mut self) -> Flow<()> {
        let mut schedule = self.schedule();
        let mut attempt = 1;
        while self.processor.is_none() {
            let permit = self.begin_call().await?;
            match self.make_processor(permit).await {
                Ok(processor) => {
                    self.monitor.succeeded();
                    self.processor = Some(processor);
                }
                Err(failure) => {
                    self.after_failure("initialize", &failure, attempt, &mut schedule)
                        .await?;
                }
            }
            attempt += 1;
        }
        ControlFlow::Continue(())
    }

    async fn make_processor(
        &mut self,
        permit: CallPermit,
    ) -> Result<Box<dyn RecordProcessor>, CallFailure> {
        self.checkpointer = self.checkpointer.for_new_processor();
        let mut processor = Some(guarded_factory(|| (self.context.factory)(&self.shard))?);
        let input = InitializationInput {
            shard: self.shard.clone(),
            grant: self.user_grant(),
            checkpoint: self.progress.shard().complete(),
            pending: self.pending_checkpoint(),
            checkpointer: self.checkpointer.clone(),
        };
        let limits = self.limits.clone();
        limits
            .call("initialize", limits.usual(), permit, &mut processor, |p| {
                p.initialize(input)
            })
            .await?;
        processor.ok_or_else(|| CallFailure::Panic("the processor is gone".to_owned()))
    }

    /// What an earlier holder prepared, or an earlier processor of this one. One processor learns of it.
    fn pending_checkpoint(&self) -> Option<PendingCheckpoint> {
        let pending = self.progress.shard().uncommitted()?;
        if self.shard.lane() > 0 {
            return None;
        }
        let position = pending.checkpoint.position()?.clone();
        let is_ahead = pending.checkpoint > self.progress.shard().complete();
        is_ahead.then(|| PendingCheckpoint {
            position,
            state: pending.state.map(Bytes::from),
        })
    }
}

/// The processor is user code, also when it is dropped.
impl Drop for Lane {
    fn drop(&mut self) {
        discard(self.processor.take());
    }
}
