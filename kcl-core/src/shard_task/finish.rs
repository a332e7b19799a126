//! The end of a shard: telling the processor, and storing it together with the children's leases.

use super::*;

impl ShardTask {
    /// The shards that took over from one whose records are all past retention: the listing still may name it.
    pub(super) async fn children_of_a_gone_shard(&mut self) -> Flow<Vec<ListedShard>> {
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

    /// Tells the processor that the shard is complete, then stores that together with the children's leases. Returns the
    /// children that have one.
    pub(super) async fn finish(&mut self, children: Vec<ListedShard>) -> Flow<Vec<ShardId>> {
        let ids: Vec<ShardId> = children
            .iter()
            .map(|child| child.shard_id.clone())
            .collect();
        self.tell_shard_ended(&ids).await?;
        self.ending = Some(children.clone());
        let mut schedule = self.schedule();
        let outcome = loop {
            match self.grant.end_shard(children.clone()).await {
                Ok(outcome) => break outcome,
                Err(GrantError::Lost { reason, .. }) => {
                    return ControlFlow::Break(Stopped::Lost(reason));
                }
                Err(error) => self.after_refused_write(&error, &mut schedule).await?,
            }
        };
        self.report_ended(ids);
        ControlFlow::Continue(outcome.children)
    }

    /// Stores the end of a shard although the lease should be given away: the processor was told already, so there is no way back.
    pub(super) async fn finish_when_recalled(self, children: Vec<ListedShard>) -> Outcome {
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

    pub(super) async fn tell_shard_ended(&mut self, children: &[ShardId]) -> Flow<()> {
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
            match self.call(permit, |p| p.shard_ended(input)).await {
                Ok(()) => return ControlFlow::Continue(()),
                Err(failure) => {
                    self.after_failure("shard_ended", &failure, attempt, &mut schedule)
                        .await?;
                }
            }
            attempt += 1;
        }
    }

    pub(super) fn report_ended(&self, children: Vec<ShardId>) {
        self.context.events.counters().shards_ended.add(1);
        self.context.events.emit(WorkerEvent::ShardEnded {
            shard: self.shard.shard_id().clone(),
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
            shard: self.shard.shard_id().clone(),
            error: error.to_string(),
            retry_in,
        });
        self.pause(retry_in).await
    }
}
