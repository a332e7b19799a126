//! Records that the processor deferred: what fails is delivered again, and before the lease goes the others are waited for.

use super::deliver::Work;
use super::*;

/// What failed, in events: no call, but what a handle was told.
const ACKNOWLEDGEMENT: &str = "acknowledgement";

/// What is left of the time to give a lease away for the final write, at most.
const FINAL_WRITE: Duration = Duration::from_secs(2);

impl Lane {
    /// Does what there is to do about deferred records that failed.
    pub(super) async fn serve_deferred(&mut self) -> Flow<()> {
        loop {
            if let Some((id, parcel, failure)) = self.progress.take_failed() {
                self.after_failed_acknowledgement(id, parcel, &failure)
                    .await?;
            } else if let Some((id, parcel)) = self.progress.take_due() {
                self.deliver_again(parcel.into_work(id)).await?;
            } else {
                return ControlFlow::Continue(());
            }
            self.progress.served();
        }
    }

    async fn after_failed_acknowledgement(
        &mut self,
        id: DeliveryId,
        parcel: Parcel,
        failure: &CallFailure,
    ) -> Flow<()> {
        let mut work = parcel.into_work(id);
        let (verdict, retry_in) = self.judge(&mut work, failure.failed_at());
        let attempt = work.attempts(work.plan.settled());
        self.report_failure(ACKNOWLEDGEMENT, failure, attempt, retry_in);
        match verdict {
            Verdict::GiveUp(places) => {
                let error = failure.to_string();
                self.give_up_all(&mut work, places, &error).await?;
                self.deliver_again(work).await
            }
            Verdict::Retry | Verdict::Narrow => {
                let due = Instant::now() + retry_in;
                self.progress.deliver_again(id, work.into_parcel(), due);
                ControlFlow::Continue(())
            }
        }
    }

    /// Delivers what is left of deferred records again. There is room for them in the lane, which has nothing else meanwhile.
    async fn deliver_again(&mut self, mut work: Work) -> Flow<()> {
        while self.step(&mut work, usize::MAX).await? {}
        self.progress.settle_all(work.delivery);
        self.monitor.succeeded();
        ControlFlow::Continue(())
    }

    /// Waits until all deferred records are complete.
    pub(super) async fn deferred_done(&mut self) -> Flow<()> {
        loop {
            self.serve_deferred().await?;
            if self.progress.deferred() == 0 || mutant::is(Mutant::EndBeforeAnswers) {
                return ControlFlow::Continue(());
            }
            self.wait_answered().await?;
        }
    }

    /// Waits until there may be something to do about deferred records.
    pub(super) async fn wait_answered(&mut self) -> Flow<()> {
        let _watched = self.monitor.waits();
        tokio::select! {
            biased;
            stopped = self.stopped() => ControlFlow::Break(stopped),
            () = self.progress.deferred_changed() => ControlFlow::Continue(()),
        }
    }

    /// Waits for the answers that are still to come, as long as there is time before `deadline`. What fails now, and what is
    /// not answered, is left to the next holder.
    pub(super) async fn last_answers(&mut self, deadline: Instant) {
        let time = deadline.saturating_duration_since(Instant::now());
        let until = deadline - (time / 5).min(FINAL_WRITE);
        while self.progress.any_out() {
            tokio::select! {
                biased;
                _ = self.grant.lost() => return,
                () = self.progress.answered() => {}
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }
}

impl Parcel {
    fn into_work(self, delivery: DeliveryId) -> Work {
        Work {
            delivery,
            records: self.records,
            sorted: Sorted::default(),
            plan: self.plan,
            calls: self.calls,
            behind: self.behind,
            end: self.end,
        }
    }
}

impl Work {
    fn into_parcel(self) -> Parcel {
        Parcel {
            records: self.records,
            end: self.end,
            plan: self.plan,
            calls: self.calls,
            behind: self.behind,
        }
    }
}
