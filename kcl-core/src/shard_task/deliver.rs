//! Delivering one answer until every record of it is complete.

use std::ops::Range;

use super::*;
use crate::context::PROCESSOR_BACKOFF;

const PROCESS_RECORDS: &str = "process_records";

/// Records on their way through the processor.
pub(super) struct Work {
    /// What is left of them to complete.
    pub(super) delivery: DeliveryId,
    pub(super) records: Selection,
    /// Whose records were taken out of them because their keys are parked.
    pub(super) sorted: Sorted,
    pub(super) plan: Plan,
    pub(super) calls: CallCounts,
    pub(super) behind: Option<Duration>,
    /// What is complete once the last record is.
    pub(super) end: Position,
}

impl Work {
    pub(super) fn new(
        delivery: DeliveryId,
        records: Selection,
        behind: Option<Duration>,
        end: Position,
        bounds: Bounds,
    ) -> Self {
        Self {
            delivery,
            plan: Plan::new(records.len(), bounds),
            records,
            sorted: Sorted::default(),
            calls: CallCounts::default(),
            behind,
            end,
        }
    }

    /// What is complete once all records before a place, of which there are some, are: all up to the next one. Records in
    /// between are of other lanes, or complete.
    fn end_before(&self, place: usize) -> Position {
        let last = self.records.before(place);
        last.unwrap_or_else(|| self.end.clone())
    }

    /// Counts a call. Returns which delivery of its first record it is, from 1.
    fn count_call(&mut self, call: &Range<usize>) -> u32 {
        let rows = (self.records.row(call.start), self.records.row(call.end - 1));
        let (Some(first), Some(last)) = rows else {
            return 1;
        };
        self.calls.add(first, last + 1);
        self.calls.of(first)
    }

    /// How often the record at a place was delivered.
    pub(super) fn attempts(&self, place: usize) -> u32 {
        self.records.row(place).map_or(0, |row| self.calls.of(row))
    }
}

impl Lane {
    /// Delivers one answer until every record of it is complete: processed, or given to what the failure policy says; or
    /// until it is deferred.
    pub(super) async fn deliver(&mut self, delivery: &Delivery) -> Flow<()> {
        let begun = delivery
            .end_position()
            .and_then(|end| Some((self.progress.deliver(&end)?, end)));
        let Some(((id, before), end)) = begun else {
            return ControlFlow::Continue(());
        };
        let records = Selection::new(Arc::clone(&delivery.batch), delivery.after(&before));
        let bounds = self.bounds();
        self.progress.left(records.len());
        self.work_off(Work::new(id, records, delivery.behind, end, bounds))
            .await
    }

    /// Goes on until all records are complete or deferred.
    pub(super) async fn work_off(&mut self, mut work: Work) -> Flow<()> {
        loop {
            self.serve_deferred().await?;
            let most = self.context.config.max_in_flight;
            let most = match mutant::is(Mutant::InFlightUnbounded) {
                true => usize::MAX,
                false => most,
            };
            match most.saturating_sub(self.progress.deferred()) {
                0 => self.wait_answered().await?,
                room if self.step(&mut work, room).await? => {
                    let left = work.records.len() - self.settled(&work);
                    self.progress.left(left);
                }
                _ => break,
            }
        }
        // Withheld records and aggregates without user records come after the last user record.
        self.progress.settle_all(work.delivery);
        self.progress.left(0);
        // The last call may have failed: with what it could not do complete, or given up.
        self.monitor.succeeded();
        ControlFlow::Continue(())
    }

    /// Makes the next call, with at most so many records, and does what follows from its outcome. False if there is none.
    pub(super) async fn step(&mut self, work: &mut Work, most: usize) -> Flow<bool> {
        self.wait_until_ordered().await?;
        self.sort(work).await?;
        if self.settled(work) < work.records.len() {
            // A new one may know that some are complete.
            self.ensure_processor().await?;
        }
        work.plan.completed(self.settled(work));
        let Some(call) = work.plan.next_call(most) else {
            return ControlFlow::Continue(false);
        };
        let (permit, delivering) = self.begin_delivery().await?;
        let attempt = work.count_call(&call);
        let outcome = self.call_with(permit, work, &call, attempt).await;
        drop(delivering);
        match outcome {
            Ok(()) => {
                self.monitor.succeeded();
                work.plan.succeeded();
                let deferred = self.progress.end_call();
                self.count_processed(call.len() - deferred);
            }
            Err(failure) => {
                let took_back = self.progress.fail_call();
                // What was deferred and taken back is before the named record, but not complete.
                let named = failure.failed_at().filter(|_| !took_back);
                self.after_failed_call(work, attempt, &failure, named)
                    .await?;
            }
        }
        ControlFlow::Continue(true)
    }

    /// How many of the records are complete, or deferred.
    fn settled(&self, work: &Work) -> usize {
        match self.progress.left_after(work.delivery) {
            Some(checkpoint) => work.records.through(&checkpoint),
            None => work.records.len(),
        }
    }

    /// Sends what is left of keys that were parked since the last time to the dead-letter sink, and makes a plan for the
    /// others.
    async fn sort(&mut self, work: &mut Work) -> Flow<()> {
        if mutant::is(Mutant::ParkedKeyFlows) {
            return ControlFlow::Continue(());
        }
        self.parked.expire(Instant::now());
        let (parked, flowing) = {
            let Some(is_parked) = self.parked.to_take_out(&mut work.sorted) else {
                return ControlFlow::Continue(());
            };
            let rest = work.plan.settled()..work.records.len();
            let is_parked = |_, record: RecordRef<'_>| is_parked(record.partition_key());
            work.records.slice(rest).partition(is_parked)
        };
        if parked.is_empty() {
            // A new plan would forget how often the others were tried.
            return ControlFlow::Continue(());
        }
        self.divert(work, &parked, &flowing).await?;
        work.plan = Plan::new(flowing.len(), self.bounds());
        work.records = flowing;
        ControlFlow::Continue(())
    }

    async fn call_with(
        &mut self,
        permit: CallPermit,
        work: &Work,
        call: &Range<usize>,
        attempt: u32,
    ) -> Result<(), CallFailure> {
        let records = work.records.slice(call.clone());
        let whole = Whole {
            records: work.records.clone(),
            end: work.end.clone(),
        };
        let call = OpenCall {
            delivery: work.delivery,
            records: records.clone(),
            first: call.start,
            end: work.end_before(call.end),
            plan: work.plan.clone(),
            calls: work.calls.clone(),
            behind: work.behind,
            deferred: Vec::new(),
            deferred_records: 0,
        };
        let id = self.progress.begin_call(call, whole);
        if mutant::is(Mutant::CheckpointAhead) {
            self.progress.complete_call();
        }
        let input = ProcessRecordsInput {
            shard: self.shard.clone(),
            grant: self.user_grant(),
            records,
            call: id,
            attempt,
            behind_latest: work.behind,
            checkpointer: self.checkpointer.clone(),
        };
        let call = self.call(PROCESS_RECORDS, permit, |p| p.process_records(input));
        match call.await {
            Err(_) if mutant::is(Mutant::SkipFailedBatch) => Ok(()),
            outcome => outcome,
        }
    }

    /// Waits before the next call, or gives records up.
    async fn after_failed_call(
        &mut self,
        work: &mut Work,
        attempt: u32,
        failure: &CallFailure,
        named: Option<&Position>,
    ) -> Flow<()> {
        self.unless_given_up()?;
        let (verdict, retry_in) = self.judge(work, named);
        self.report_failure(PROCESS_RECORDS, failure, attempt, retry_in);
        match verdict {
            Verdict::GiveUp(places) => self.give_up_all(work, places, &failure.to_string()).await,
            Verdict::Retry | Verdict::Narrow => self.pause(retry_in).await,
        }
    }

    /// Decides what follows a failure, at the record that was `named` if any, and how long to wait before.
    pub(super) fn judge(
        &mut self,
        work: &mut Work,
        named: Option<&Position>,
    ) -> (Verdict, Duration) {
        let settled = work.plan.settled();
        let retry_in = self.wait_after(work.plan.failures());
        let now = self.started.elapsed();
        let failed = Failed {
            completed: self.settled(work),
            at: named
                .and_then(|at| work.records.place_of(at))
                .map(|at| at + usize::from(mutant::is(Mutant::NamedRecordCompletes))),
            now,
            retry_at: now.saturating_add(retry_in),
        };
        let age = |place| self.age(&work.records, place);
        let verdict = work.plan.failed(failed, age);
        let processed = work.plan.settled() - settled;
        self.settle_before(work, work.plan.settled());
        self.count_processed(processed);
        let retry_in = match verdict {
            Verdict::GiveUp(_) => Duration::ZERO,
            Verdict::Retry if processed == 0 => retry_in,
            // A search takes many calls, and another record has not failed yet: neither begins with long waits.
            Verdict::Retry | Verdict::Narrow => self.wait_after(0),
        };
        (verdict, retry_in)
    }

    /// How long to wait after so many failures and one more.
    fn wait_after(&mut self, failures: u32) -> Duration {
        let longest = self.context.config.processor_backoff_max;
        retry::doubled(PROCESSOR_BACKOFF, longest, failures).mul_f64(self.rng.f64())
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.context.config.failure_policy.bounds()
    }

    pub(super) async fn give_up_all(
        &mut self,
        work: &mut Work,
        places: Range<usize>,
        error: &str,
    ) -> Flow<()> {
        for place in places.clone() {
            let attempts = work.attempts(place);
            if mutant::is(Mutant::LetterAfterCheckpoint) {
                self.settle_before(work, place + 1);
            }
            self.give_up(&work.records, place, attempts, error).await?;
            self.settle_before(work, place + 1);
            if let Some(record) = work.records.get(place) {
                work.sorted.parked(record.partition_key(), &self.parked);
            }
        }
        work.plan.gave_up(places.end);
        ControlFlow::Continue(())
    }

    /// Notes that the records before a place are complete.
    fn settle_before(&self, work: &Work, place: usize) {
        if place > 0 {
            self.progress.settle(work.delivery, &work.end_before(place));
        }
    }

    fn count_processed(&self, records: usize) {
        let counters = self.context.events.counters();
        counters.records_processed.add(records as u64);
    }

    fn age(&self, records: &Selection, place: usize) -> Option<Duration> {
        let arrival = records.get(place)?.approximate_arrival()?;
        let now = self.context.runtime.wall_time();
        now.duration_since(arrival).ok()
    }
}
