//! One shard under one grant: initialize, deliver batch by batch, and one of the ways to end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use kcl_checkpoint::{Checkpoint, DeliveryId, Position};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::retry::{self, RetrySchedule};
use kcl_lease::{GrantError, ListedShard, LossReason, Recall, ShardId};
use tokio::time::Instant;

use crate::call::{CallFailure, CallPermit, give_way, guarded, guarded_factory, outcome, permit};
use crate::checkpointer::Checkpointer;
use crate::context::Context;
use crate::dead_letter::DeadLetter;
use crate::event::WorkerEvent;
use crate::failure::{Bounds, CallCounts, Failed, OnFailure, ParkTime, ParkedKeys, Plan, Verdict};
use crate::grant::Grant;
use crate::handle::StoppedShard;
use crate::input::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput, ShutdownReason,
    ShutdownRequestedInput,
};
use crate::parcel::Parcel;
use crate::processor::{ProcessorResult, RecordProcessor};
use crate::progress::{OpenCall, ShardProgress};
use crate::retrieval::{Delivery, PollEnd, RecordRef, ShardFilter};
use crate::selection::Selection;
use crate::shard_info::ShardInfo;
use crate::shard_reader::{self, Deliveries, Next};

mod deferred;
mod deliver;
mod finish;
mod give_up;
mod leave;

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
    /// A record cannot be processed, and the failure policy says that the shard or the worker stops.
    Unprocessable(StoppedShard),
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
    let rng = context.runtime.rng(shard.shard_id().as_str());
    let parked = ParkedKeys::new(context.config.failure_policy.parked_keys_max());
    let task = ShardTask {
        context,
        grant,
        shard,
        progress: Arc::clone(&progress),
        checkpointer,
        processor: None,
        parked,
        rng,
        started: Instant::now(),
        read_to_tip: false,
        ending: None,
    };
    let outcome = task.run().await;
    progress.forget_deferred();
    outcome
}

struct ShardTask {
    context: Arc<Context>,
    grant: kcl_lease::Grant,
    shard: ShardInfo,
    progress: Arc<ShardProgress>,
    checkpointer: Checkpointer,
    /// None until it is initialized, and after a panic.
    processor: Option<Box<dyn RecordProcessor>>,
    parked: ParkedKeys,
    rng: fastrand::Rng,
    started: Instant,
    /// Whether the reader has caught up.
    read_to_tip: bool,
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
            ControlFlow::Break(Stopped::Unprocessable(cause)) => self.rest(cause).await,
            ControlFlow::Break(stopped) => stopped,
        };
        if let (Stopped::Recalled(_), Some(children)) = (&stopped, self.ending.take()) {
            return self.finish_when_recalled(children).await;
        }
        self.context.board.gone(self.shard.shard_id());
        match stopped {
            Stopped::Lost(reason) => self.lose(reason).await,
            Stopped::Recalled(recall) => self.give_away(recall).await,
            Stopped::StreamDeleted => Outcome::StreamDeleted,
            Stopped::Unprocessable(_) => Outcome::Failed("a shard that rests"),
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
                    self.read_to_tip = false;
                    self.show_tip();
                    self.deliver(&delivery).await?;
                    if let Some(end) = delivery.end {
                        self.deferred_done().await?;
                        return self.finish(end.children).await;
                    }
                }
                Next::AtTip => {
                    self.read_to_tip = true;
                    self.show_tip();
                }
                Next::Over(PollEnd::ShardGone(_)) => {
                    self.deferred_done().await?;
                    // Its records are all past retention: the listing still may name it.
                    let children = self.listed_children().await?;
                    return self.finish(children).await;
                }
                Next::Over(PollEnd::StreamGone(_)) => {
                    return ControlFlow::Break(Stopped::StreamDeleted);
                }
                Next::Over(_) => return ControlFlow::Break(Stopped::Failed("a shard's reader")),
            }
        }
    }

    /// Waits for what comes next, and looks after deferred records meanwhile.
    async fn next(&mut self, deliveries: &mut Deliveries) -> Flow<Next> {
        loop {
            self.serve_deferred().await?;
            self.show_tip();
            tokio::select! {
                biased;
                reason = self.grant.lost() => return ControlFlow::Break(Stopped::Lost(reason)),
                recall = self.grant.recalled() => return ControlFlow::Break(Stopped::Recalled(recall)),
                next = deliveries.next() => return ControlFlow::Continue(next),
                () = self.progress.answered() => {}
                () = until(self.progress.next_due()) => {}
            }
        }
    }

    /// Shows whether everything up to the shard's tip is complete.
    fn show_tip(&self) {
        let at_tip = self.read_to_tip && self.progress.in_flight() == 0;
        if self.context.board.at_tip(self.shard.shard_id(), at_tip) {
            self.context.events.emit(WorkerEvent::CaughtUp {
                shard: self.shard.shard_id().clone(),
            });
        }
    }

    /// Waits until user code may be called, and checks last that the lease is surely held.
    async fn begin_call(&mut self) -> Flow<CallPermit> {
        loop {
            let permit = tokio::select! {
                biased;
                reason = self.grant.lost() => return ControlFlow::Break(Stopped::Lost(reason)),
                recall = self.grant.recalled() => return ControlFlow::Break(Stopped::Recalled(recall)),
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
    async fn wait_until_held(&mut self) -> Flow<()> {
        tokio::select! {
            biased;
            held = self.grant.deliverable() => match held {
                Ok(()) => ControlFlow::Continue(()),
                Err(reason) => ControlFlow::Break(Stopped::Lost(reason)),
            },
            recall = self.grant.recalled() => ControlFlow::Break(Stopped::Recalled(recall)),
        }
    }

    async fn wait_before_retry(schedule: &mut RetrySchedule) {
        tokio::time::sleep(schedule.next_or_cap()).await;
    }

    /// Calls the processor.
    async fn call<F>(&mut self, permit: CallPermit, call: F) -> Result<(), CallFailure>
    where
        F: for<'p> FnOnce(&'p mut dyn RecordProcessor) -> BoxFuture<'p, ProcessorResult>
            + Send
            + 'static,
    {
        guarded(permit, &self.context.place, &mut self.processor, call).await
    }

    /// Reports a failed call and waits before the next attempt. After a panic the instance is not used again.
    async fn after_failure(
        &mut self,
        call: &'static str,
        failure: &CallFailure,
        attempt: u32,
        schedule: &mut RetrySchedule,
    ) -> Flow<()> {
        let retry_in = schedule.next_or_cap();
        self.report_failure(call, failure, attempt, retry_in);
        self.pause(retry_in).await
    }

    fn report_failure(
        &mut self,
        call: &'static str,
        failure: &CallFailure,
        attempt: u32,
        retry_in: Duration,
    ) {
        if matches!(failure, CallFailure::Panic(_)) {
            self.processor = None;
        }
        self.context.events.counters().processor_failures.add(1);
        self.context.events.emit(WorkerEvent::ProcessorFailed {
            shard: self.shard.shard_id().clone(),
            call,
            attempt,
            error: failure.to_string(),
            retry_in,
        });
    }

    async fn pause(&mut self, time: Duration) -> Flow<()> {
        tokio::select! {
            biased;
            reason = self.grant.lost() => ControlFlow::Break(Stopped::Lost(reason)),
            recall = self.grant.recalled() => ControlFlow::Break(Stopped::Recalled(recall)),
            () = tokio::time::sleep(time) => ControlFlow::Continue(()),
        }
    }

    fn schedule(&self) -> RetrySchedule {
        self.context
            .processor_retry()
            .schedule(self.context.runtime.rng(self.shard.shard_id().as_str()))
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
