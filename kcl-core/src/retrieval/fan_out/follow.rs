//! Following one subscription, event by event.

use std::time::Duration;

use kcl_lease::ListedShard;
use kcl_lease::runtime::Moment;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Subscriber, silent};
use crate::retrieval::budget::Reservation;
use crate::retrieval::delivery::{Delivery, PollEnd};
use crate::retrieval::error::SourceError;
use crate::retrieval::intake::Arrived;
use crate::retrieval::shard_end::{Ending, ending};
use crate::retrieval::subscription::{Pushed, Subscription};

/// The service sends an event every five seconds at least, an empty one if need be. After this silence the connection is
/// taken for dead.
const SILENCE: Duration = Duration::from_secs(10);

/// Why a subscription is not followed any more.
#[derive(Debug)]
pub(super) enum Over {
    /// The next one begins where it stopped: it is due for renewal, or was given up while there was no room for its events.
    Renew,
    /// The service ended it.
    Ended,
    /// Reading is over.
    End(PollEnd),
    Failed(SourceError),
}

/// Nobody receives deliveries any more.
const DROPPED: Over = Over::End(PollEnd::ReceiverDropped);

type Subscribed = Box<dyn Subscription>;
type Deliveries = mpsc::Sender<Delivery>;

impl Subscriber {
    /// Takes events until the subscription is over.
    pub(super) async fn follow(
        &mut self,
        mut subscription: Subscribed,
        renew_at: Moment,
        deliveries: &Deliveries,
    ) -> Result<Over, SourceError> {
        loop {
            let patience = self.pace.patience(self.now());
            let place = match timeout(patience, deliveries.reserve()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Ok(DROPPED),
                Err(_) => return Ok(Over::Renew),
            };
            if self.now() >= renew_at {
                return Ok(Over::Renew);
            }
            let Some(bytes) = announced(&mut subscription).await? else {
                return Ok(Over::Ended);
            };
            let begun = self.now();
            let (room, kept) = self.make_room(bytes, subscription).await;
            match kept {
                Some(kept) => subscription = kept,
                None => {
                    self.room = Some(room);
                    return Ok(Over::Renew);
                }
            }
            let pushed = received(&mut subscription).await?;
            let (children, at_end) = (pushed.children, pushed.continuation.is_none());
            let now = self.now();
            self.pace.received(now);
            self.absence.over();
            let arrived = Arrived {
                batch: pushed.batch,
                behind: pushed.behind,
                at_end,
                at: now,
                took: now.since(begun),
            };
            let at_tip = pushed.behind.is_some_and(|behind| behind.is_zero()) && !at_end;
            let first = self.intake.accept(arrived, room).await;
            self.resume.after(now, pushed.continuation, pushed.behind);
            match first {
                Some(first) => {
                    place.send(first);
                    if self.deliver_rest(deliveries).await.is_err() {
                        return Ok(DROPPED);
                    }
                    if at_tip {
                        self.intake.read.observer.reached_tip();
                    }
                }
                // The end of the shard needs the place.
                None => drop(place),
            }
            if at_end {
                return self.end(children, deliveries).await;
            }
        }
    }

    /// Waits for room for an event, and gives its subscription up if that takes long: what is not received keeps others on
    /// the same connection waiting.
    async fn make_room(
        &mut self,
        bytes: u64,
        subscription: Subscribed,
    ) -> (Reservation, Option<Subscribed>) {
        if let Some(mut room) = self.room.take() {
            room.resize(bytes);
            return (room, Some(subscription));
        }
        let begun = self.now();
        let mut reserving = std::pin::pin!(self.intake.member.reserve(bytes));
        let (mut room, kept) = match timeout(self.pace.patience(begun), &mut reserving).await {
            Ok(room) => (room, Some(subscription)),
            Err(_) => {
                drop(subscription);
                (reserving.await, None)
            }
        };
        // The size is known: no more need be kept free for it.
        room.resize(bytes);
        let waited = self.fan_out.runtime.now().since(begun);
        if !waited.is_zero() {
            self.intake.read.observer.waited_for_room(waited);
        }
        (room, kept)
    }

    /// Delivers what is left of an event that is taken in part by part.
    async fn deliver_rest(&mut self, deliveries: &Deliveries) -> Result<(), PollEnd> {
        while let Some(part) = self.intake.next_part().await {
            if deliveries.send(part).await.is_err() {
                return Err(PollEnd::ReceiverDropped);
            }
        }
        Ok(())
    }

    /// Delivers the end of the shard, unless it turns out to be open.
    async fn end(
        &mut self,
        children: Vec<ListedShard>,
        deliveries: &Deliveries,
    ) -> Result<Over, SourceError> {
        let source = self.fan_out.source.as_ref();
        let shard = &self.intake.read.shard;
        match ending(source, shard, children, "SubscribeToShard").await? {
            Ending::Open(contradiction) => Err(contradiction),
            Ending::Children(children) => {
                let end = self.intake.end(children, self.fan_out.runtime.now());
                Ok(Over::End(match deliveries.send(end).await {
                    Ok(()) => PollEnd::ShardEnd,
                    Err(_) => PollEnd::ReceiverDropped,
                }))
            }
        }
    }
}

/// How many bytes the next event takes; `None` when the service ended the subscription.
async fn announced(subscription: &mut Subscribed) -> Result<Option<u64>, SourceError> {
    match timeout(SILENCE, subscription.announced()).await {
        Ok(announced) => announced,
        Err(_) => {
            subscription.fell_silent();
            Err(silent("no event came for 10 s"))
        }
    }
}

async fn received(subscription: &mut Subscribed) -> Result<Pushed, SourceError> {
    match timeout(SILENCE, subscription.receive()).await {
        Ok(received) => received,
        Err(_) => {
            subscription.fell_silent();
            Err(silent("an event did not come to its end"))
        }
    }
}
