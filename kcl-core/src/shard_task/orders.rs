//! Orders of operators: a shard that is paused delivers nothing, and a seek moves its reading.

use kcl_lease::operator::Operator;
use kcl_lease::{LeaseKey, Orders, StartPoint, StopCause};
use tokio::sync::watch;

use super::*;
use crate::error::CheckpointError;

/// Knows how many calls deliver records at the moment, in all lanes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<watch::Sender<usize>>);

/// One delivery, until this is dropped.
#[derive(Debug)]
pub(super) struct Delivering(Gate);

impl Gate {
    fn enter(&self) -> Delivering {
        self.0.send_modify(|running| *running += 1);
        Delivering(self.clone())
    }

    /// Waits until no call delivers records.
    async fn empty(&self) {
        let mut running = self.0.subscribe();
        // The sender is in `self`.
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}

/// Waits until the orders are known, and such.
async fn until(grant: &kcl_lease::Grant, are_such: impl Fn(&Orders) -> bool) {
    let mut orders = grant.orders();
    let orders = orders.wait_for(|orders| orders.as_ref().is_some_and(&are_such));
    if orders.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until operators want reading to go on somewhere else.
pub(super) async fn sought(grant: &kcl_lease::Grant) {
    until(grant, |orders| orders.seek.is_some()).await;
}

/// Waits until operators let records be delivered.
async fn ordered_to_deliver(grant: &kcl_lease::Grant) {
    until(grant, Orders::allow_delivery).await;
}

/// Stores that the shard is stopped and why, so that nobody who holds it later begins again by himself.
pub(super) async fn store_stop(
    context: Arc<Context>,
    lease: LeaseKey,
    cause: StopCause,
    mut schedule: RetrySchedule,
) {
    let operator = Operator::new((context.table)(), context.runtime.clone());
    loop {
        let error = match operator.stop(&lease, cause.clone()).await {
            Ok(mut commanded) => match commanded.failed.pop() {
                None => return,
                Some((_, error)) => error,
            },
            Err(error) => error,
        };
        let retry_in = schedule.next_or_cap();
        tracing::warn!(%lease, %error, ?retry_in, "that the shard is stopped could not be stored");
        tokio::time::sleep(retry_in).await;
    }
}

/// Waits until the holder has read a command that came after `orders`, and the shard is not paused. That command is the stop,
/// or already one that replaced it: the holder reads the last one only.
pub(super) async fn resumed(mut orders: watch::Receiver<Option<Orders>>) {
    let is_on = |orders: &Option<Orders>| orders.as_ref().is_some_and(|orders| !orders.paused);
    if orders.changed().await.is_err() || orders.wait_for(is_on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Stores that the shard is paused, once no call delivers any more, or that it goes on. Ends with the grant.
pub(super) async fn report(
    context: Arc<Context>,
    grant: kcl_lease::Grant,
    gate: Gate,
    mut schedule: RetrySchedule,
) {
    let mut orders = grant.orders();
    let mut told = Orders::default();
    loop {
        let news = |orders: &Option<Orders>| {
            let news = |orders: &Orders| orders.are_new() || are_other(orders, &told);
            orders.as_ref().is_some_and(|o| o.seek.is_none() && news(o))
        };
        let Some(current) = orders.wait_for(news).await.ok().and_then(|o| o.clone()) else {
            return;
        };
        if current.paused && !mutant::is(Mutant::PauseReportedEarly) {
            gate.empty().await;
        }
        // What was ordered meanwhile counts.
        if orders.borrow().as_ref() != Some(&current) {
            continue;
        }
        match grant.obey(&current).await {
            Ok(_) => schedule.reset(),
            Err(GrantError::Lost { .. } | GrantError::Repositioned { .. }) => return,
            Err(_) => {
                tokio::time::sleep(schedule.next_or_cap()).await;
                continue;
            }
        }
        if are_other(&current, &told) {
            tell(&context, grant.lease_key(), &told, &current);
            told = current;
        }
    }
}

fn are_other(orders: &Orders, told: &Orders) -> bool {
    (orders.paused, &orders.stopped) != (told.paused, &told.stopped)
}

/// Tells that the shard is paused, stopped or resumed.
fn tell(context: &Context, shard: &LeaseKey, told: &Orders, orders: &Orders) {
    let shard = shard.clone();
    let event = match &orders.stopped {
        Some(cause) => {
            let stopped = StoppedShard {
                shard,
                position: cause.position.clone(),
                error: cause.error.to_string(),
            };
            if !context.board.rests(stopped.clone()) {
                // Told when it was stopped here.
                return;
            }
            stopped.event()
        }
        None if orders.paused => {
            context.board.resumes(&shard);
            WorkerEvent::ShardPaused { shard }
        }
        None if told.stopped.is_some() => return tell_resumed(context, &shard),
        None => WorkerEvent::ShardResumed { shard },
    };
    context.events.emit(event);
}

/// Tells that a shard that was stopped is resumed, unless that was told.
pub(super) fn tell_resumed(context: &Context, shard: &LeaseKey) {
    if context.board.resumes(shard) {
        let shard = shard.clone();
        context.events.emit(WorkerEvent::ShardResumed { shard });
    }
}

impl Lane {
    /// As [`begin_call`](Self::begin_call), for a call that delivers records: those of a shard that is paused wait, and so
    /// does everything before it is known whether the shard is.
    pub(super) async fn begin_delivery(&mut self) -> Flow<(CallPermit, Delivering)> {
        loop {
            self.wait_until_ordered().await?;
            let permit = self.begin_call().await?;
            // First it counts, then it looks: whoever reports a pause does it the other way round.
            let delivering = self.gate.enter();
            if self.grant.is_ordered_to_deliver() || mutant::is(Mutant::DeliverWhilePaused) {
                return ControlFlow::Continue((permit, delivering));
            }
        }
    }

    /// Waits until operators let records be delivered.
    pub(super) async fn wait_until_ordered(&mut self) -> Flow<()> {
        if self.grant.is_ordered_to_deliver() || mutant::is(Mutant::DeliverWhilePaused) {
            return ControlFlow::Continue(());
        }
        tokio::select! {
            biased;
            stopped = self.stopped() => ControlFlow::Break(stopped),
            () = ordered_to_deliver(&self.grant) => ControlFlow::Continue(()),
        }
    }
}

impl ShardTask {
    /// A shard that is paused does not end either: its children would go on.
    pub(super) async fn end_as_ordered(&mut self) -> Flow<()> {
        tokio::select! {
            biased;
            () = ordered_to_deliver(&self.grant) => ControlFlow::Continue(()),
            stopped = stopped(&self.grant) => ControlFlow::Break(stopped),
        }
    }

    /// Ends the work at this place, stores its progress, and moves to where the operators want it. All lanes have been
    /// gathered. Returns how reading begins anew.
    pub(super) async fn reposition(mut self) -> Result<Anew, Outcome> {
        let deadline = Instant::now() + self.context.config.lease_duration;
        let reason = match self.replayed {
            Some(_) => ShutdownReason::ReplayDone,
            None => ShutdownReason::Repositioned,
        };
        let leave = |lane| Lane::request_shutdown(lane, reason, deadline);
        if let ControlFlow::Break(Stopped::Lost(reason)) =
            all(self.lanes.iter_mut().map(leave)).await
        {
            return Err(self.lose(reason).await);
        }
        if self.given_up.is_cancelled() {
            // It was told that the lease is released. The order is not done: whoever holds the lease next sees it.
            return Err(self.leave_given_up().await);
        }
        self.progress.forget_deferred();
        let mut schedule = self.schedule();
        let mut asked = None;
        loop {
            asked = self.ordered_seek().or_else(|| {
                // What an attempt that failed asked for was applied meanwhile: its order is not shown any more. Possibly
                // another command was obeyed since then.
                let mut applied: Orders = asked?;
                applied.command = None;
                Some(applied)
            });
            match self.store_and_seek(asked.as_ref()).await {
                Ok(grant) => {
                    let to = grant.start_point();
                    let jump = self.jump.take().filter(|jump| jump.to == *to);
                    match &jump {
                        Some(jump) => self.report_jump(jump),
                        None => self.report_repositioned(&grant),
                    }
                    let may_jump = jump.is_some();
                    return Ok(Anew { grant, may_jump });
                }
                Err(Some(reason)) => return Err(self.lose(reason).await),
                Err(None) => Self::wait_before_retry(&mut schedule).await,
            }
        }
    }

    /// One attempt. The error is why the lease is lost, if it is.
    async fn store_and_seek(
        &mut self,
        ordered: Option<&Orders>,
    ) -> Result<kcl_lease::Grant, Option<LossReason>> {
        if let Some(lane) = self.lanes.first() {
            match lane.checkpointer.store().await {
                // The seek was sent by an earlier attempt.
                Ok(()) | Err(CheckpointError::Repositioned) => {}
                Err(_) => return Err(self.grant.loss()),
            }
        }
        let own = self.jump.as_ref().map(|jump| &jump.to);
        let sought = match (ordered, own.or(self.replayed.as_ref())) {
            (Some(orders), _) => self.grant.obey(orders).await,
            (None, Some(to)) => self.grant.seek(to.clone()).await,
            // The order was taken back by hand.
            (None, None) => self.grant.seek(self.stands_at()).await,
        };
        sought.map_err(|error| match error {
            GrantError::Lost { reason, .. } => Some(reason),
            _ => None,
        })
    }

    fn ordered_seek(&self) -> Option<Orders> {
        let orders = self.grant.orders().borrow().clone();
        orders.filter(|orders| orders.seek.is_some())
    }

    fn stands_at(&self) -> StartPoint {
        let start = self.grant.start_point();
        match self.progress.complete() {
            Checkpoint::At(position) => StartPoint::after(position),
            _ if start.is_fixed() => start.clone(),
            _ => StartPoint::oldest(),
        }
    }

    fn report_repositioned(&self, next: &kcl_lease::Grant) {
        if self.replayed.as_ref() == Some(next.start_point()) {
            self.context.events.emit(WorkerEvent::ShardReplayed {
                shard: self.shard.lease_key().clone(),
                complete: self.progress.complete(),
            });
            return;
        }
        self.context.events.counters().seeks.add(1);
        self.context.events.emit(WorkerEvent::ShardRepositioned {
            shard: self.shard.lease_key().clone(),
            from: self.progress.complete(),
            to: next.start_point().clone(),
        });
    }
}
