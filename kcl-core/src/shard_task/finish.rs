//! The end of a shard: telling the processor, and storing it together with the children's leases.

use super::*;

fn ids(shards: &[ListedShard]) -> Vec<ShardId> {
    shards.iter().map(|shard| shard.shard_id.clone()).collect()
}

impl ShardTask {
    /// The shards that took over from this one, as the service lists them.
    pub(super) async fn listed_children(&mut self) -> Flow<Vec<ListedShard>> {
        let mut schedule = self.schedule();
        loop {
            match self.list_children().await {
                Some(children) => return ControlFlow::Continue(children),
                None => self.pause(schedule.next_or_cap()).await?,
            }
        }
    }

    /// One look at the listing. `None`: it failed.
    async fn list_children(&mut self) -> Option<Vec<ListedShard>> {
        let me = self.shard.shard_id();
        let source = &self.stream.source;
        match source.list_shards(ShardFilter::All).await {
            Ok(mut listing) => {
                listing.retain(|shard| shard.parents().any(|parent| parent == me));
                Some(listing)
            }
            Err(error) => {
                tracing::warn!(shard = %me, %error, "listing a shard's children failed");
                None
            }
        }
    }

    /// The children to name after `refused` were: those that are listed by now. Without any nobody would read on.
    async fn children_after(&mut self, refused: Vec<ListedShard>) -> Vec<ListedShard> {
        let listed = self.list_children().await;
        listed
            .filter(|listed| !listed.is_empty())
            .unwrap_or(refused)
    }

    /// Tells the processor that the shard is complete, then stores that together with the children's leases. Returns the
    /// children that have one.
    pub(super) async fn finish(&mut self, children: Vec<ListedShard>) -> Flow<Vec<ShardId>> {
        self.monitor.enter(Phase::Ending);
        let mut children = children;
        let ended = ids(&children);
        let tell = |lane| Lane::tell_shard_ended(lane, &ended);
        all(self.lanes.iter_mut().map(tell)).await?;
        let mut schedule = self.schedule();
        let outcome = loop {
            self.ending = Some(children.clone());
            match self.grant.end_shard(children.clone()).await {
                Ok(outcome) => break outcome,
                Err(GrantError::Lost { reason, .. }) => {
                    return ControlFlow::Break(Stopped::Lost(reason));
                }
                Err(error @ GrantError::InvalidChild { .. }) => {
                    let retry_in = self.report_unfinished(&error, &mut schedule);
                    self.pause(retry_in).await?;
                    children = self.children_after(children).await;
                }
                Err(error) => self.after_refused_write(&error, &mut schedule).await?,
            }
        };
        self.report_ended(ids(&children));
        ControlFlow::Continue(outcome.children)
    }

    /// Stores the end of a shard although the lease should be given away: the processor was told already, so there is no way back.
    pub(super) async fn finish_when_recalled(mut self, children: Vec<ListedShard>) -> Outcome {
        let mut children = children;
        let mut schedule = self.schedule();
        let outcome = loop {
            match self.grant.end_shard(children.clone()).await {
                Ok(outcome) => break outcome,
                Err(GrantError::Lost { reason, .. }) => {
                    self.context.board.gone(self.shard.lease_key());
                    return self.lose(reason).await;
                }
                Err(error @ GrantError::InvalidChild { .. }) => {
                    let retry_in = self.report_unfinished(&error, &mut schedule);
                    tokio::time::sleep(retry_in).await;
                    children = self.children_after(children).await;
                }
                Err(_) => Self::wait_before_retry(&mut schedule).await,
            }
        };
        self.report_ended(ids(&children));
        let board = &self.context.board;
        board.ended(self.shard.lease_key(), &outcome.children);
        Outcome::Ended
    }

    /// Tells that the shard cannot be finished with the children that were named. Returns when to try again.
    fn report_unfinished(&self, error: &GrantError, schedule: &mut RetrySchedule) -> Duration {
        let retry_in = schedule.next_or_cap();
        self.context.events.emit(WorkerEvent::ShardEndRefused {
            shard: self.shard.lease_key().clone(),
            error: error.to_string(),
            retry_in,
        });
        retry_in
    }

    pub(super) fn report_ended(&self, children: Vec<ShardId>) {
        self.context.events.counters().shards_ended.add(1);
        self.context.events.emit(WorkerEvent::ShardEnded {
            shard: self.shard.lease_key().clone(),
            children,
        });
    }

    pub(super) async fn after_refused_write(
        &mut self,
        error: &GrantError,
        schedule: &mut RetrySchedule,
    ) -> Flow<()> {
        let retry_in = schedule.next_or_cap();
        self.context.events.emit(WorkerEvent::CheckpointFailed {
            shard: self.shard.lease_key().clone(),
            error: error.to_string(),
            retry_in,
        });
        self.pause(retry_in).await
    }
}

impl Lane {
    async fn tell_shard_ended(&mut self, children: &[ShardId]) -> Flow<()> {
        let mut schedule = self.schedule();
        let mut attempt = 1;
        loop {
            self.ensure_processor().await?;
            let permit = self.begin_call().await?;
            let input = ShardEndedInput {
                shard: self.shard.clone(),
                grant: self.user_grant(),
                children: children.to_vec(),
            };
            let call = self.call("shard_ended", permit, |p| p.shard_ended(input));
            match call.await {
                Ok(()) => {
                    self.monitor.succeeded();
                    self.told_end = true;
                    return ControlFlow::Continue(());
                }
                Err(failure) => {
                    self.after_failure("shard_ended", &failure, attempt, &mut schedule)
                        .await?;
                }
            }
            attempt += 1;
        }
    }
}
