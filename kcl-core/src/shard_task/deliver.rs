//! Delivering one answer until every record of it is complete.

use std::ops::Range;

use kcl_checkpoint::Position;

use super::*;

const PROCESS_RECORDS: &str = "process_records";

/// Records on their way through the processor.
struct Work {
    records: Selection,
    /// Whether there may be records of parked keys among those that are not settled.
    is_mixed: bool,
    plan: Plan,
    calls: CallCounts,
    schedule: RetrySchedule,
    started: Instant,
    behind: Option<Duration>,
    /// What is complete once the last record is.
    end: Position,
}

impl Work {
    /// What is complete once all records of a call are.
    fn last_position(&self, call: &Range<usize>) -> Option<Position> {
        match call.end == self.records.len() {
            true => Some(self.end.clone()),
            false => self.records.position(call.end - 1),
        }
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
    fn attempts(&self, place: usize) -> u32 {
        self.records.row(place).map_or(0, |row| self.calls.of(row))
    }
}

impl ShardTask {
    /// Delivers one answer until every record of it is complete: processed, or given to what the failure policy says.
    pub(super) async fn deliver(&mut self, delivery: &Delivery) -> Flow<()> {
        let Some(end) = delivery.end_position() else {
            return ControlFlow::Continue(());
        };
        self.progress.deliver(&end);
        let rows = delivery.after(&self.progress.complete());
        let bounds = self.context.config.failure_policy.bounds();
        let work = Work {
            plan: Plan::new(rows.len(), bounds),
            records: Selection::new(Arc::clone(&delivery.batch), rows),
            is_mixed: true,
            calls: CallCounts::default(),
            schedule: self.schedule(),
            started: Instant::now(),
            behind: delivery.behind,
            end: end.clone(),
        };
        self.process(work).await?;
        // Withheld records and aggregates without user records come after the last user record.
        self.progress.settle(&end);
        ControlFlow::Continue(())
    }

    /// Calls the processor until all records are settled.
    async fn process(&mut self, mut work: Work) -> Flow<()> {
        loop {
            if std::mem::take(&mut work.is_mixed) {
                self.sort(&mut work).await?;
            }
            let complete = work.records.through(&self.progress.complete());
            work.plan.completed(complete);
            let Some(call) = work.plan.next_call() else {
                return ControlFlow::Continue(());
            };
            self.ensure_processor().await?;
            let permit = self.begin_call().await?;
            let attempt = work.count_call(&call);
            match self.call_with(permit, &work, &call, attempt).await {
                Ok(()) => {
                    work.plan.succeeded();
                    self.progress.complete_all();
                    self.count_processed(call.len());
                }
                Err(failure) => {
                    self.after_failed_call(&mut work, attempt, &failure).await?;
                }
            }
        }
    }

    /// Sends what is left of parked keys to the dead-letter sink, and makes a plan for the others.
    async fn sort(&mut self, work: &mut Work) -> Flow<()> {
        self.parked.expire(Instant::now());
        if self.parked.is_empty() {
            return ControlFlow::Continue(());
        }
        let rest = work.plan.settled()..work.records.len();
        let is_parked = |record: RecordRef<'_>| self.parked.contains(record.partition_key());
        let (parked, flowing) = work.records.slice(rest).partition(is_parked);
        self.divert(&parked, &flowing, &work.calls).await?;
        let bounds = self.context.config.failure_policy.bounds();
        work.plan = Plan::new(flowing.len(), bounds);
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
        if let Some(last) = work.last_position(call) {
            self.progress.claim(&last);
        }
        if mutant::is(Mutant::CheckpointAhead) {
            self.progress.complete_all();
        }
        let input = ProcessRecordsInput {
            shard: self.shard.clone(),
            grant: Grant::new(self.grant.clone()),
            records: work.records.slice(call.clone()),
            attempt,
            behind_latest: work.behind,
            checkpointer: self.checkpointer.clone(),
        };
        match self.call(permit, |p| p.process_records(input)).await {
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
    ) -> Flow<()> {
        self.progress.fail();
        let settled = work.plan.settled();
        let mut retry_in = work.schedule.next_or_cap();
        let now = work.started.elapsed();
        let failed = Failed {
            completed: work.records.through(&self.progress.complete()),
            at: failure.failed_at().and_then(|at| work.records.place_of(at)),
            now,
            retry_at: now.saturating_add(retry_in),
        };
        let age = |place| self.age(&work.records, place);
        let verdict = work.plan.failed(failed, age);
        let processed = work.plan.settled() - settled;
        self.settle_before(&work.records, work.plan.settled());
        self.count_processed(processed);
        if let Verdict::GiveUp(places) = verdict {
            work.schedule.reset();
            self.report_failure(PROCESS_RECORDS, failure, attempt, Duration::ZERO);
            return self.give_up_all(work, places, &failure.to_string()).await;
        }
        if verdict == Verdict::Narrow || processed > 0 {
            // A search takes many calls, and another record has not failed yet: neither begins with long waits.
            work.schedule.reset();
            retry_in = work.schedule.next_or_cap();
        }
        self.report_failure(PROCESS_RECORDS, failure, attempt, retry_in);
        self.pause(retry_in).await
    }

    async fn give_up_all(
        &mut self,
        work: &mut Work,
        places: Range<usize>,
        error: &str,
    ) -> Flow<()> {
        for place in places.clone() {
            let attempts = work.attempts(place);
            self.give_up(&work.records, place, attempts, error).await?;
            self.settle_before(&work.records, place + 1);
        }
        work.plan.gave_up(places.end);
        work.is_mixed = true;
        ControlFlow::Continue(())
    }

    /// Notes that the records before a place are complete.
    fn settle_before(&self, records: &Selection, place: usize) {
        let last = place.checked_sub(1).and_then(|last| records.position(last));
        if let Some(last) = last {
            self.progress.settle(&last);
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

    /// Makes and initializes a processor unless there is one.
    pub(super) async fn ensure_processor(&mut self) -> Flow<()> {
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

    pub(super) async fn make_processor(
        &mut self,
        permit: CallPermit,
    ) -> Result<Box<dyn RecordProcessor>, CallFailure> {
        let mut processor = Some(guarded_factory(|| (self.context.factory)(&self.shard))?);
        let input = InitializationInput {
            shard: self.shard.clone(),
            grant: Grant::new(self.grant.clone()),
            checkpoint: self.progress.complete(),
        };
        let place = &self.context.place;
        guarded(permit, place, &mut processor, |p| p.initialize(input)).await?;
        processor.ok_or_else(|| CallFailure::Panic("the processor is gone".to_owned()))
    }
}
