//! One shard under one grant: initialize, deliver batch by batch, and one of the ways to end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kcl_checkpoint::Checkpoint;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::retry::RetrySchedule;
use kcl_lease::{GrantError, ListedShard, LossReason, Recall, ShardId};
use tokio::time::Instant;

use crate::call::{CallFailure, CallPermit, guarded, guarded_factory, permit};
use crate::checkpointer::Checkpointer;
use crate::context::Context;
use crate::event::WorkerEvent;
use crate::grant::Grant;
use crate::input::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput, ShutdownReason,
    ShutdownRequestedInput,
};
use crate::processor::RecordProcessor;
use crate::progress::ShardProgress;
use crate::retrieval::{Delivery, PollEnd, ShardFilter};
use crate::shard_info::ShardInfo;
use crate::shard_reader::{self, Deliveries, Next};

/// How the work on a shard ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The shard is complete, its children can start.
    Ended,
    /// The lease was lost.
    Lost,
    /// The lease was given away because the worker stops.
    Drained,
    /// The lease was given away because another worker has fewer.
    Moved,
    /// The stream does not exist any more.
    StreamDeleted,
    /// The reader failed, which is a bug of the framework or of the stream's source.
    Failed(&'static str),
}

/// Why delivery stops. Every way of stopping is a value that bubbles up through `?`-like control flow.
#[derive(Debug)]
enum Stopped {
    Lost(LossReason),
    Recalled(Recall),
    StreamDeleted,
    Failed(&'static str),
}

type Flow<T> = ControlFlow<Stopped, T>;

/// Runs one shard until it ends, is lost or is drained.
pub(crate) async fn run(context: Arc<Context>, grant: kcl_lease::Grant) -> Outcome {
    let shard = context.shard_info(&grant);
    context.events.counters().leases_granted.add(1);
    context.events.emit(WorkerEvent::ShardStarted {
        shard: shard.shard_id().clone(),
        checkpoint: grant.start().clone(),
        epoch: grant.epoch(),
    });
    let progress = Arc::new(ShardProgress::new(grant.start().clone()));
    let checkpointer =
        Checkpointer::new(grant.clone(), Arc::clone(&progress), context.events.clone());
    ShardTask {
        context,
        grant,
        shard,
        progress,
        checkpointer,
        processor: None,
        ending: None,
    }
    .run()
    .await
}

struct ShardTask {
    context: Arc<Context>,
    grant: kcl_lease::Grant,
    shard: ShardInfo,
    progress: Arc<ShardProgress>,
    checkpointer: Checkpointer,
    /// None until it is initialized, and after a panic.
    processor: Option<Box<dyn RecordProcessor>>,
    /// The children, once the processor knows that the shard ended.
    ending: Option<Vec<ListedShard>>,
}

impl ShardTask {
    async fn run(mut self) -> Outcome {
        let automatic = self.checkpointer.clone().run_automatic(
            self.context.config.checkpoint_interval,
            self.context.processor_retry(),
            self.context.runtime.clone(),
        );
        let _automatic = self.context.runtime.spawn(automatic);
        let stopped = match self.deliver_all().await {
            ControlFlow::Continue(children) => {
                self.context.board.ended(self.shard.shard_id(), &children);
                return Outcome::Ended;
            }
            ControlFlow::Break(stopped) => stopped,
        };
        self.context.board.gone(self.shard.shard_id());
        match stopped {
            Stopped::Lost(reason) => self.lose(reason).await,
            Stopped::Recalled(recall) => self.give_away(recall).await,
            Stopped::StreamDeleted => Outcome::StreamDeleted,
            Stopped::Failed(what) => Outcome::Failed(what),
        }
    }

    /// Delivers the whole shard, and finishes it. Returns its children.
    async fn deliver_all(&mut self) -> Flow<Vec<ShardId>> {
        self.ensure_processor().await?;
        let mut deliveries =
            shard_reader::start(&self.context, &self.grant, &self.progress.complete());
        loop {
            match self.next(&mut deliveries).await? {
                Next::Delivery(delivery) => {
                    self.set_at_tip(false);
                    if let Some(end) = &delivery.end
                        && mutant::is(Mutant::EndShardEarly)
                    {
                        return self.finish(end.children.clone()).await;
                    }
                    self.deliver(&delivery).await?;
                    if let Some(end) = delivery.end {
                        return self.finish(end.children).await;
                    }
                }
                Next::AtTip => self.set_at_tip(true),
                Next::Over(PollEnd::ShardGone(_)) => {
                    let children = self.children_of_a_gone_shard().await?;
                    return self.finish(children).await;
                }
                Next::Over(PollEnd::StreamGone(_)) => {
                    return ControlFlow::Break(Stopped::StreamDeleted);
                }
                Next::Over(_) => return ControlFlow::Break(Stopped::Failed("a shard's reader")),
            }
        }
    }

    async fn next(&mut self, deliveries: &mut Deliveries) -> Flow<Next> {
        tokio::select! {
            biased;
            reason = self.grant.lost() => ControlFlow::Break(Stopped::Lost(reason)),
            recall = self.grant.recalled() => ControlFlow::Break(Stopped::Recalled(recall)),
            next = deliveries.next() => ControlFlow::Continue(next),
        }
    }

    fn set_at_tip(&self, at_tip: bool) {
        if self.context.board.at_tip(self.shard.shard_id(), at_tip) {
            self.context.events.emit(WorkerEvent::CaughtUp {
                shard: self.shard.shard_id().clone(),
            });
        }
    }

    /// The shards that took over from one whose records are all past retention: the listing still may name it.
    async fn children_of_a_gone_shard(&mut self) -> Flow<Vec<ListedShard>> {
        let mut schedule = self.schedule();
        let me = self.shard.shard_id().clone();
        loop {
            match self
                .context
                .polling
                .source
                .list_shards(ShardFilter::All)
                .await
            {
                Ok(listing) => {
                    let is_child = |shard: &ListedShard| {
                        shard.parent.as_ref() == Some(&me)
                            || shard.adjacent_parent.as_ref() == Some(&me)
                    };
                    return ControlFlow::Continue(listing.into_iter().filter(is_child).collect());
                }
                Err(error) => {
                    tracing::warn!(shard = %me, %error, "listing the children of an expired shard failed");
                    self.pause(schedule.next_or_cap()).await?;
                }
            }
        }
    }

    /// Delivers one batch until every record of it is complete.
    async fn deliver(&mut self, delivery: &Delivery) -> Flow<()> {
        let mut schedule = self.schedule();
        let Some(last) = delivery.end_position() else {
            return ControlFlow::Continue(());
        };
        let mut attempt = 1;
        loop {
            self.ensure_processor().await?;
            let permit = self.begin_call().await?;
            let range = delivery.after(&self.progress.complete());
            if range.is_empty() {
                // Only withheld records or an aggregate without user records are left.
                self.progress.deliver(&last);
                self.progress.complete_all();
                return ControlFlow::Continue(());
            }
            self.progress.deliver(&last);
            if mutant::is(Mutant::CheckpointAhead) {
                self.progress.complete_all();
            }
            let count = range.len();
            let input = ProcessRecordsInput {
                shard: self.shard.clone(),
                grant: Grant::new(self.grant.clone()),
                batch: Arc::clone(&delivery.batch),
                range,
                attempt,
                behind_latest: delivery.behind,
                checkpointer: self.checkpointer.clone(),
            };
            let Some(processor) = self.processor.as_mut() else {
                continue;
            };
            match guarded(permit, processor.process_records(input)).await {
                Ok(()) => {
                    self.progress.complete_all();
                    self.context
                        .events
                        .counters()
                        .records_processed
                        .add(count as u64);
                    return ControlFlow::Continue(());
                }
                Err(_) if mutant::is(Mutant::SkipFailedBatch) => {
                    self.progress.complete_all();
                    return ControlFlow::Continue(());
                }
                Err(failure) => {
                    self.progress.fail();
                    self.after_failure("process_records", &failure, attempt, &mut schedule)
                        .await?;
                }
            }
            attempt += 1;
        }
    }

    /// Waits until user code may be called, and checks last that the lease is surely held.
    async fn begin_call(&mut self) -> Flow<CallPermit> {
        let permit = tokio::select! {
            biased;
            reason = self.grant.lost() => return ControlFlow::Break(Stopped::Lost(reason)),
            recall = self.grant.recalled() => return ControlFlow::Break(Stopped::Recalled(recall)),
            permit = permit(&self.context.calls) => permit,
        };
        if !mutant::is(Mutant::DeliverWithoutCheck) {
            self.may_deliver().await?;
        }
        ControlFlow::Continue(permit)
    }

    /// Waits until the lease is surely held: after a lapse that is until it was granted again.
    async fn may_deliver(&mut self) -> Flow<()> {
        if let Some(recall) = self.grant.recall() {
            return ControlFlow::Break(Stopped::Recalled(recall));
        }
        tokio::select! {
            biased;
            held = self.grant.deliverable() => match held {
                Ok(()) => ControlFlow::Continue(()),
                Err(reason) => ControlFlow::Break(Stopped::Lost(reason)),
            },
            recall = self.grant.recalled() => ControlFlow::Break(Stopped::Recalled(recall)),
        }
    }

    /// Makes and initializes a processor unless there is one.
    async fn ensure_processor(&mut self) -> Flow<()> {
        let mut schedule = self.schedule();
        let mut attempt = 1;
        while self.processor.is_none() {
            let permit = self.begin_call().await?;
            match self.make_processor(permit).await {
                Ok(processor) => self.processor = Some(processor),
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
        let mut processor = guarded_factory(|| (self.context.factory)(&self.shard))?;
        let input = InitializationInput {
            shard: self.shard.clone(),
            grant: Grant::new(self.grant.clone()),
            checkpoint: self.progress.complete(),
        };
        guarded(permit, processor.initialize(input)).await?;
        Ok(processor)
    }

    /// Tells the processor that the shard is complete, then stores that together with the children's leases.
    async fn finish(&mut self, children: Vec<ListedShard>) -> Flow<Vec<ShardId>> {
        let ids: Vec<ShardId> = children
            .iter()
            .map(|child| child.shard_id.clone())
            .collect();
        self.tell_shard_ended(&ids).await?;
        self.ending = Some(children.clone());
        let mut schedule = self.schedule();
        loop {
            match self.grant.end_shard(children.clone()).await {
                Ok(_) => break,
                Err(GrantError::Lost { reason, .. }) => {
                    return ControlFlow::Break(Stopped::Lost(reason));
                }
                Err(error) => self.after_refused_write(&error, &mut schedule).await?,
            }
        }
        self.report_ended(ids.clone());
        ControlFlow::Continue(ids)
    }

    /// Stores the end of a shard although the lease should be given away: the processor was told already, so there is no way back.
    async fn finish_when_recalled(self, children: Vec<ListedShard>) -> Outcome {
        let mut schedule = self.schedule();
        loop {
            match self.grant.end_shard(children.clone()).await {
                Ok(_) => break,
                Err(GrantError::Lost { reason, .. }) => return self.lose(reason).await,
                Err(_) => Self::wait_before_retry(&mut schedule).await,
            }
        }
        self.report_ended(children.into_iter().map(|child| child.shard_id).collect());
        Outcome::Ended
    }

    fn report_ended(&self, children: Vec<ShardId>) {
        self.context.events.counters().shards_ended.add(1);
        self.context.events.emit(WorkerEvent::ShardEnded {
            shard: self.shard.shard_id().clone(),
            children,
        });
    }

    async fn wait_before_retry(schedule: &mut RetrySchedule) {
        tokio::time::sleep(schedule.next_or_cap()).await;
    }

    async fn tell_shard_ended(&mut self, children: &[ShardId]) -> Flow<()> {
        let mut schedule = self.schedule();
        let mut attempt = 1;
        loop {
            self.ensure_processor().await?;
            let permit = self.begin_call().await?;
            let input = ShardEndedInput {
                shard: self.shard.clone(),
                grant: Grant::new(self.grant.clone()),
                children: children.to_vec(),
            };
            let Some(processor) = self.processor.as_mut() else {
                continue;
            };
            match guarded(permit, processor.shard_ended(input)).await {
                Ok(()) => return ControlFlow::Continue(()),
                Err(failure) => {
                    self.after_failure("shard_ended", &failure, attempt, &mut schedule)
                        .await?;
                }
            }
            attempt += 1;
        }
    }

    /// Reports a failed call and waits before the next attempt. After a panic the instance is not used again.
    async fn after_failure(
        &mut self,
        call: &'static str,
        failure: &CallFailure,
        attempt: u32,
        schedule: &mut RetrySchedule,
    ) -> Flow<()> {
        if matches!(failure, CallFailure::Panic(_)) {
            self.processor = None;
        }
        let retry_in = schedule.next_or_cap();
        self.context.events.counters().processor_failures.add(1);
        self.context.events.emit(WorkerEvent::ProcessorFailed {
            shard: self.shard.shard_id().clone(),
            call,
            attempt,
            error: failure.to_string(),
            retry_in,
        });
        self.pause(retry_in).await
    }

    async fn after_refused_write(
        &mut self,
        error: &GrantError,
        schedule: &mut RetrySchedule,
    ) -> Flow<()> {
        let retry_in = schedule.next_or_cap();
        self.context.events.emit(WorkerEvent::CheckpointFailed {
            shard: self.shard.shard_id().clone(),
            error: error.to_string(),
            retry_in,
        });
        self.pause(retry_in).await
    }

    async fn pause(&mut self, time: Duration) -> Flow<()> {
        tokio::select! {
            biased;
            reason = self.grant.lost() => ControlFlow::Break(Stopped::Lost(reason)),
            recall = self.grant.recalled() => ControlFlow::Break(Stopped::Recalled(recall)),
            () = tokio::time::sleep(time) => ControlFlow::Continue(()),
        }
    }

    async fn lose(mut self, reason: LossReason) -> Outcome {
        self.context.events.counters().leases_lost.add(1);
        self.context.events.emit(WorkerEvent::LeaseLost {
            shard: self.shard.shard_id().clone(),
            reason,
        });
        if let Some(processor) = self.processor.as_mut() {
            let input = LeaseLostInput {
                shard: self.shard.clone(),
                reason,
            };
            let permit = permit(&self.context.calls).await;
            let outcome = guarded(permit, processor.lease_lost(input)).await;
            self.report_unretried("lease_lost", outcome);
        }
        Outcome::Lost
    }

    /// Lets the processor flush, stores what is complete and gives the lease away. The worker enforces the deadline of its
    /// own stop.
    async fn give_away(mut self, recall: Recall) -> Outcome {
        if let Some(children) = self.ending.take() {
            return self.finish_when_recalled(children).await;
        }
        let permit = permit(&self.context.calls).await;
        if let Err(reason) = self.grant.deliverable().await {
            return self.lose(reason).await;
        }
        let (reason, deadline) = self.shutdown_reason(recall);
        if let Some(processor) = self.processor.as_mut() {
            let input = ShutdownRequestedInput {
                shard: self.shard.clone(),
                grant: Grant::new(self.grant.clone()),
                reason,
                deadline,
                checkpointer: self.checkpointer.clone(),
            };
            let outcome = guarded(permit, processor.shutdown_requested(input)).await;
            self.report_unretried("shutdown_requested", outcome);
        }
        let mut schedule = self.schedule();
        loop {
            let checkpoint = self.progress.complete();
            match self.grant.release(Some(checkpoint.clone())).await {
                Ok(()) => {
                    self.report_released(checkpoint);
                    return match recall {
                        Recall::Rebalance => Outcome::Moved,
                        _ => Outcome::Drained,
                    };
                }
                Err(GrantError::Lost { reason, .. }) => return self.lose(reason).await,
                Err(_) => Self::wait_before_retry(&mut schedule).await,
            }
        }
    }

    /// What the processor is told, and until when it should be done.
    fn shutdown_reason(&self, recall: Recall) -> (ShutdownReason, Instant) {
        let in_time = Instant::now() + self.context.config.lease_duration;
        match recall {
            Recall::Rebalance => (ShutdownReason::LeaseMoves, in_time),
            _ => {
                let deadline = self.context.stop.deadline();
                (ShutdownReason::WorkerStops, deadline.unwrap_or(in_time))
            }
        }
    }

    fn report_released(&self, checkpoint: Checkpoint) {
        self.context.events.emit(WorkerEvent::LeaseReleased {
            shard: self.shard.shard_id().clone(),
            checkpoint,
        });
    }

    fn report_unretried(&self, call: &'static str, outcome: Result<(), CallFailure>) {
        if let Err(failure) = outcome {
            self.context.events.counters().processor_failures.add(1);
            tracing::warn!(shard = %self.shard.shard_id(), call, error = %failure, "the processor failed; the call is not repeated");
        }
    }

    fn schedule(&self) -> RetrySchedule {
        self.context
            .processor_retry()
            .schedule(self.context.runtime.rng(self.shard.shard_id().as_str()))
    }
}
