//! One shard under one grant: initialize, deliver batch by batch, and one of the ways to end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use kcl_checkpoint::{Checkpoint, DeliveryId, Position};
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::retry::{self, RetrySchedule};
use kcl_lease::{GrantError, ListedShard, LossReason, Recall, ShardId, StartPoint};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::call::{
    CallFailure, CallPermit, discard, give_way, guarded, guarded_factory, outcome, permit,
};
use crate::checkpointer::Checkpointer;
use crate::config::GapPolicy;
use crate::context::Context;
use crate::dead_letter::DeadLetter;
use crate::event::WorkerEvent;
use crate::failure::{
    Bounds, CallCounts, Failed, OnFailure, ParkTime, ParkedKeys, Plan, Sorted, Verdict,
};
use crate::grant::Grant;
use crate::handle::StoppedShard;
use crate::health::{LaneMonitor, Monitor, Phase};
use crate::input::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput, ShutdownReason,
    ShutdownRequestedInput,
};
use crate::parcel::Parcel;
use crate::processor::{ProcessorResult, RecordProcessor};
use crate::progress::{LaneProgress, OpenCall, ShardProgress, Whole};
use crate::retrieval::{Delivery, Gap, PollEnd, RecordRef, ShardFilter};
use crate::selection::Selection;
use crate::shard_info::ShardInfo;
use crate::shard_reader::{self, Deliveries, Next};
use crate::stream_reading::StreamReading;

mod deferred;
mod deliver;
mod finish;
mod gap;
mod give_up;
mod jump;
mod lane;
mod lanes;
mod leave;
mod limits;
mod orders;
mod replay;

use jump::Jump;
use lane::Lane;
use lanes::Lanes;
use limits::Limits;
use orders::Gate;

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
    /// A record cannot be processed, or some are gone, and the policy says that the shard or the worker stops.
    Unprocessable(StoppedShard),
    /// Another lane stopped the shard.
    Halted,
    /// A call made no progress, in this lane or another one.
    GivenUp,
    /// Reading goes on somewhere else, as an operator wants, or because the shard is too far behind.
    Sought,
    Failed(&'static str),
}

type Flow<T> = ControlFlow<Stopped, T>;

/// Runs one shard until it ends, is lost or is drained.
pub(crate) async fn run(
    context: Arc<Context>,
    stream: Arc<StreamReading>,
    grant: kcl_lease::Grant,
) -> Outcome {
    let shard = stream.shard_info(&grant);
    context.events.counters().leases_granted.add(1);
    context.events.emit(WorkerEvent::ShardStarted {
        shard: shard.lease_key().clone(),
        checkpoint: grant.start().clone(),
        epoch: grant.epoch(),
    });
    let mut next = Anew {
        grant,
        may_jump: true,
    };
    loop {
        match run_from(&context, &stream, next, &shard).await {
            Ok(outcome) => return outcome,
            Err(anew) => next = anew,
        }
        context.board.started(shard.lease_key());
    }
}

/// How to begin anew, at another place.
struct Anew {
    grant: kcl_lease::Grant,
    /// Whether the shard may jump to its tip before it was near it.
    may_jump: bool,
}

/// Runs one shard from where the grant starts. The error says how to begin anew.
async fn run_from(
    context: &Arc<Context>,
    stream: &Arc<StreamReading>,
    Anew { grant, may_jump }: Anew,
    shard: &ShardInfo,
) -> Result<Outcome, Anew> {
    let (context, shard) = (Arc::clone(context), shard.clone());
    let lanes = context.config.lanes;
    let progress = Arc::new(ShardProgress::new(grant.start().clone(), lanes));
    progress.inherit(grant.pending());
    let monitor = Arc::new(Monitor::new(grant.clone(), Arc::clone(&progress), lanes));
    let board = Arc::clone(&context.board);
    board.watch(shard.lease_key(), &monitor);
    let halt = CancellationToken::new();
    let gate = Gate::default();
    let lanes = Lane::all(&context, &grant, &shard, &progress, &monitor, &halt, &gate);
    let task = ShardTask {
        given_up: lanes.first().map(Lane::given_up).unwrap_or_default(),
        lanes,
        gate,
        running: Lanes::default(),
        monitor: Arc::clone(&monitor),
        context,
        stream: Arc::clone(stream),
        grant,
        shard,
        progress: Arc::clone(&progress),
        halt,
        read_to_tip: false,
        told_tip: false,
        ending: None,
        may_jump,
        jump: None,
        replayed: None,
    };
    let outcome = task.run().await;
    progress.forget_deferred();
    board.unwatch(&monitor);
    outcome
}

struct ShardTask {
    context: Arc<Context>,
    stream: Arc<StreamReading>,
    monitor: Arc<Monitor>,
    grant: kcl_lease::Grant,
    shard: ShardInfo,
    progress: Arc<ShardProgress>,
    /// The lanes, unless they run by themselves.
    lanes: Vec<Lane>,
    running: Lanes,
    gate: Gate,
    /// Stops the lanes that run by themselves.
    halt: CancellationToken,
    /// Cancelled when a call in any lane made no progress.
    given_up: CancellationToken,
    /// Whether the reader has caught up.
    read_to_tip: bool,
    /// Whether it was told that everything up to the tip is complete.
    told_tip: bool,
    /// The children, once the processors know that the shard ended.
    ending: Option<Vec<ListedShard>>,
    /// Whether the shard may be passed over when it is too far behind: not after an operator has moved it.
    may_jump: bool,
    /// Where reading goes on because the shard is too far behind.
    jump: Option<Jump>,
    /// What the row is to say because the shard was read to the end of a replay.
    replayed: Option<StartPoint>,
}

impl ShardTask {
    async fn run(mut self) -> Result<Outcome, Anew> {
        let _reports = self.report_orders();
        let automatic = self.checkpoint_automatically();
        let stopped = match self.deliver_all().await {
            ControlFlow::Continue(children) => {
                self.context.board.ended(self.shard.lease_key(), &children);
                return Ok(Outcome::Ended);
            }
            ControlFlow::Break(Stopped::Unprocessable(cause)) => self.rest(cause).await,
            ControlFlow::Break(stopped) => stopped,
        };
        if let (Stopped::Recalled(_) | Stopped::Sought, Some(children)) =
            (&stopped, self.ending.take())
        {
            return Ok(self.finish_when_recalled(children).await);
        }
        self.context.board.gone(self.shard.lease_key());
        if let ControlFlow::Break(Stopped::Failed(what)) = self.gather().await {
            return Ok(Outcome::Failed(what));
        }
        if matches!(stopped, Stopped::Sought) {
            self.monitor.enter(Phase::Leaving);
            drop(automatic);
            return match self.reposition().await {
                Ok(next) => Err(next),
                Err(outcome) => Ok(outcome),
            };
        }
        Ok(match stopped {
            Stopped::Lost(reason) => self.lose(reason).await,
            Stopped::Recalled(recall) => self.give_away(recall).await,
            Stopped::StreamDeleted => Outcome::StreamDeleted,
            Stopped::GivenUp => self.leave_given_up().await,
            Stopped::Unprocessable(_) | Stopped::Halted | Stopped::Sought => {
                Outcome::Failed("a shard that rests")
            }
            Stopped::Failed(what) => Outcome::Failed(what),
        })
    }

    fn report_orders(&self) -> AbortOnDropHandle<()> {
        let (context, grant) = (Arc::clone(&self.context), self.grant.clone());
        let report = orders::report(context, grant, self.gate.clone(), self.schedule());
        self.context.runtime.spawn(report)
    }

    fn checkpoint_automatically(&self) -> Option<AbortOnDropHandle<()>> {
        let checkpointer = self.lanes.first()?.checkpointer.clone();
        let automatic = checkpointer.run_automatic(
            self.context.config.checkpoint_interval,
            self.context.processor_retry(),
            self.context.runtime.clone(),
        );
        Some(self.context.runtime.spawn(automatic))
    }

    /// Delivers the whole shard, and finishes it. Returns its children.
    async fn deliver_all(&mut self) -> Flow<Vec<ShardId>> {
        self.rest_if_replayed().await?;
        all(self.lanes.iter_mut().map(Lane::ensure_processor)).await?;
        self.monitor.enter(Phase::Delivering);
        let complete = self.progress.complete();
        let deliveries = shard_reader::start(
            &self.context,
            &self.stream,
            &self.grant,
            &complete,
            &self.monitor,
        );
        let children = match self.lanes.pop() {
            Some(mut lane) if self.lanes.is_empty() => {
                let children = self.deliver_to_one(&mut lane, deliveries).await;
                self.lanes.push(lane);
                children?
            }
            last => {
                self.lanes.extend(last);
                self.deliver_to_lanes(deliveries).await?
            }
        };
        self.end_as_ordered().await?;
        self.finish(children).await
    }

    /// Delivers the whole shard, one answer after another. Returns its children.
    async fn deliver_to_one(
        &mut self,
        lane: &mut Lane,
        mut deliveries: Deliveries,
    ) -> Flow<Vec<ListedShard>> {
        loop {
            lane.serve_deferred().await?;
            self.show_tip();
            self.end_of_replay()?;
            let next = tokio::select! {
                biased;
                stopped = lane.stopped() => return ControlFlow::Break(stopped),
                next = deliveries.next() => next,
                () = lane.progress.deferred_changed() => continue,
            };
            match next {
                Next::Delivery(delivery) => {
                    self.before(&delivery)?;
                    lane.deliver(&delivery).await?;
                    if let Some(end) = delivery.end {
                        lane.deferred_done().await?;
                        return ControlFlow::Continue(end.children);
                    }
                }
                Next::AtTip => self.reached_tip(),
                Next::Again => deliveries = self.read_on(),
                Next::Over(end) => {
                    check_over(&end)?;
                    lane.deferred_done().await?;
                    return self.end_without_rest().await;
                }
            }
        }
    }

    /// Begins to read again after what was handed out.
    fn read_on(&self) -> Deliveries {
        let handed_out = self.progress.handed_out();
        let (stream, grant) = (&self.stream, &self.grant);
        shard_reader::start(&self.context, stream, grant, &handed_out, &self.monitor)
    }

    /// What comes before an answer is delivered, or in its place.
    fn before(&mut self, delivery: &Delivery) -> Flow<()> {
        self.read_to_tip = false;
        self.show_tip();
        self.jump_if_too_far(delivery)?;
        self.on_gap(delivery.gap.as_ref())
    }

    /// The end of a closed shard whose unread rest is gone, with all of it complete. Returns its children.
    async fn end_without_rest(&mut self) -> Flow<Vec<ListedShard>> {
        self.on_gap(Some(&self.rest_is_gone()))?;
        self.listed_children().await
    }

    /// Whether everything up to the shard's tip is complete.
    fn is_at_tip(&self) -> bool {
        self.read_to_tip && self.progress.in_flight() == 0
    }

    fn reached_tip(&mut self) {
        (self.read_to_tip, self.may_jump) = (true, true);
    }

    fn show_tip(&mut self) {
        let at_tip = self.is_at_tip();
        self.context.board.at_tip(self.shard.lease_key(), at_tip);
        if at_tip && !std::mem::replace(&mut self.told_tip, true) {
            self.context.events.emit(WorkerEvent::CaughtUp {
                shard: self.shard.lease_key().clone(),
            });
        }
    }

    async fn wait_before_retry(schedule: &mut RetrySchedule) {
        tokio::time::sleep(schedule.next_or_cap()).await;
    }

    async fn pause(&mut self, time: Duration) -> Flow<()> {
        tokio::select! {
            biased;
            stopped = stopped(&self.grant) => ControlFlow::Break(stopped),
            () = tokio::time::sleep(time) => ControlFlow::Continue(()),
        }
    }

    fn schedule(&self) -> RetrySchedule {
        schedule(&self.context, &self.shard)
    }
}

/// Goes on if the shard's records are all past retention, so that the listing still may name it.
fn check_over(end: &PollEnd) -> Flow<()> {
    match end {
        PollEnd::ShardGone(_) => ControlFlow::Continue(()),
        PollEnd::StreamGone(_) => ControlFlow::Break(Stopped::StreamDeleted),
        _ => ControlFlow::Break(Stopped::Failed("a shard's reader")),
    }
}

/// Waits until the lease is lost, or wanted elsewhere, or reading is to go on at another place.
async fn stopped(grant: &kcl_lease::Grant) -> Stopped {
    tokio::select! {
        biased;
        reason = grant.lost() => Stopped::Lost(reason),
        recall = grant.recalled() => Stopped::Recalled(recall),
        () = orders::sought(grant) => Stopped::Sought,
    }
}

/// Does something for all lanes at the same time.
async fn all<F>(steps: impl IntoIterator<Item = F>) -> Flow<()>
where
    F: Future<Output = Flow<()>>,
{
    let outcomes = join_all(steps).await;
    let stopped = outcomes.into_iter().find(ControlFlow::is_break);
    stopped.unwrap_or(ControlFlow::Continue(()))
}

fn schedule(context: &Context, shard: &ShardInfo) -> RetrySchedule {
    let rng = context.runtime.rng(shard.lease_key().as_str());
    context.processor_retry().schedule(rng)
}
