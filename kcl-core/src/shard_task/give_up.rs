//! What becomes of records that cannot be processed, as the failure policy says.

use tokio::time::timeout;

use super::deliver::Work;
use super::*;

/// The error of records that are not tried.
const PARKED: &str =
    "its partition key is parked, because an earlier record of that key could not be processed";

/// How long a sink may take for one letter.
const SINK_TIME_LIMIT: Duration = Duration::from_secs(60);

const SINK_HANGS: &str = "it took longer than 60 seconds, and the call was dropped";

impl Lane {
    /// Does with a record what the failure policy says. When this returns, the record is complete.
    pub(super) async fn give_up(
        &mut self,
        records: &Selection,
        place: usize,
        attempts: u32,
        error: &str,
    ) -> Flow<()> {
        let Some(letter) = self.letter(records, place, attempts, error) else {
            return ControlFlow::Continue(());
        };
        match self.context.config.failure_policy.outcome() {
            Some(OnFailure::DeadLetter) => self.send(letter, false).await,
            Some(OnFailure::Skip) => {
                self.context.events.counters().records_skipped.add(1);
                self.context.events.emit(WorkerEvent::RecordSkipped {
                    shard: self.shard.lease_key().clone(),
                    position: letter.position,
                    attempts,
                    error: letter.error,
                });
                ControlFlow::Continue(())
            }
            Some(OnFailure::ParkKey(time)) => self.park(letter, time).await,
            Some(OnFailure::StopWorker) => {
                let cause = cause(&self.shard, letter);
                // The first failure is the reason, whatever comes later.
                let _first = self.context.failure.set(cause.clone());
                if self.context.stop.begin(self.context.config.drain_budget) {
                    self.context.events.emit(WorkerEvent::ShutdownStarted);
                }
                ControlFlow::Break(Stopped::Unprocessable(cause))
            }
            // A policy without an outcome has no bounds, and never gives up.
            Some(OnFailure::StopShard) | None => {
                ControlFlow::Break(Stopped::Unprocessable(cause(&self.shard, letter)))
            }
        }
    }

    /// Sends records of parked keys to the dead-letter sink. Those of `flowing` are left for the processor.
    pub(super) async fn divert(
        &mut self,
        work: &Work,
        parked: &Selection,
        flowing: &Selection,
    ) -> Flow<()> {
        let flows_from = flowing.row(0);
        for place in 0..parked.len() {
            let place = match mutant::is(Mutant::ParkedKeyBackwards) {
                true => parked.len() - 1 - place,
                false => place,
            };
            let Some(row) = parked.row(place) else {
                continue;
            };
            if let Some(letter) = self.letter(parked, place, work.calls.of(row), PARKED) {
                // What follows of other lanes is no more left than the record itself.
                let end = work.records.reached(&letter.position, &work.end);
                self.send(letter, true).await?;
                if let Some(end) = end
                    && flows_from.is_none_or(|from| row < from)
                {
                    self.progress.settle(work.delivery, &end);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends a record to the dead-letter sink, and later ones of its key from now on.
    async fn park(&mut self, letter: DeadLetter, time: ParkTime) -> Flow<()> {
        let time = match time {
            ParkTime::UntilLeaseEnds => None,
            ParkTime::For(time) => Some(time),
        };
        let now = Instant::now();
        let until = time.and_then(|time| now.checked_add(time));
        if !self.parked.park(&letter.partition_key, until, now) {
            let mut cause = cause(&self.shard, letter);
            cause.error.push_str(" (and no more keys can be parked)");
            return ControlFlow::Break(Stopped::Unprocessable(cause));
        }
        let (shard, position) = (self.shard.lease_key().clone(), letter.position.clone());
        self.send(letter, false).await?;
        self.context.events.counters().keys_parked.add(1);
        self.context.events.emit(WorkerEvent::KeyParked {
            shard,
            position,
            time,
        });
        ControlFlow::Continue(())
    }

    /// Gives a record to the dead-letter sink until it accepts it.
    async fn send(&mut self, letter: DeadLetter, parked: bool) -> Flow<()> {
        let Some(sink) = self.context.dead_letters.clone() else {
            return ControlFlow::Break(Stopped::Failed("a policy without its dead-letter sink"));
        };
        let mut schedule = self.schedule();
        let mut attempt = 1;
        loop {
            self.hold().await?;
            let accepted = tokio::select! {
                biased;
                stopped = self.stopped() => return ControlFlow::Break(stopped),
                accepted = timeout(SINK_TIME_LIMIT, outcome(async { sink.accept(letter.clone()).await })) => {
                    accepted.unwrap_or_else(|_| Err(CallFailure::text(SINK_HANGS)))
                }
            };
            let accepted =
                accepted.or_else(|failure| match mutant::is(Mutant::RefusedLetterCounts) {
                    true => Ok(()),
                    false => Err(failure),
                });
            let Err(failure) = accepted else {
                self.monitor.succeeded();
                self.context.events.counters().dead_letters.add(1);
                self.context.events.emit(WorkerEvent::DeadLettered {
                    shard: self.shard.lease_key().clone(),
                    position: letter.position,
                    attempts: letter.attempts,
                    error: letter.error,
                    parked,
                });
                return ControlFlow::Continue(());
            };
            let retry_in = schedule.next_or_cap();
            self.monitor.failed("dead letter", &failure.to_string());
            self.context.events.counters().dead_letter_failures.add(1);
            self.context.events.emit(WorkerEvent::DeadLetterFailed {
                shard: self.shard.lease_key().clone(),
                position: letter.position.clone(),
                attempt,
                error: failure.to_string(),
                retry_in,
            });
            self.pause(retry_in).await?;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Goes on while the lease is surely held and nobody wants it.
    async fn hold(&mut self) -> Flow<()> {
        match self.grant.recall() {
            Some(recall) => ControlFlow::Break(Stopped::Recalled(recall)),
            None => self.wait_until_held().await,
        }
    }

    fn letter(
        &self,
        records: &Selection,
        place: usize,
        attempts: u32,
        error: &str,
    ) -> Option<DeadLetter> {
        let record = records.get(place)?;
        Some(DeadLetter {
            application: Arc::clone(&self.context.application),
            stream: self.shard.stream(),
            stream_arn: self.shard.arn(),
            shard: self.shard.shard_id().clone(),
            position: record.position(),
            partition_key: String::from(record.partition_key()),
            arrival: record.approximate_arrival(),
            attempts,
            error: error.to_owned(),
            data: record.data_bytes(),
        })
    }
}

fn cause(shard: &ShardInfo, letter: DeadLetter) -> StoppedShard {
    StoppedShard {
        shard: shard.lease_key().clone(),
        position: Some(letter.position),
        error: letter.error,
    }
}
