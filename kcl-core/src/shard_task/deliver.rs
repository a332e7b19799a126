//! Delivering one batch until every record of it is complete.

use super::*;

impl ShardTask {
    /// Delivers one batch until every record of it is complete.
    pub(super) async fn deliver(&mut self, delivery: &Delivery) -> Flow<()> {
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
            match self.call(permit, |p| p.process_records(input)).await {
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
