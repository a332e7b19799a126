//! Following one subscription, event by event.

use std::time::Duration;

use kcl_lease::ListedShard;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Moment;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Subscriber, silent};
use crate::retrieval::budget::Reservation;
use crate::retrieval::delivery::{Delivery, PollEnd};
use crate::retrieval::error::SourceError;
use crate::retrieval::intake::Arrived;
use crate::retrieval::plan::MAX_ANSWER_BYTES;
use crate::retrieval::read_limit::Charge;
use crate::retrieval::shard_end::{Ending, ending};
use crate::retrieval::subscription::{Pushed, Subscription};

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
    /// There is no consumer, and somebody else has told so.
    Waits(SourceError),
}

/// Nobody receives deliveries any more.
const DROPPED: Over = Over::End(PollEnd::ReceiverDropped);

type Subscribed = Box<dyn Subscription>;
type Deliveries = mpsc::Sender<Delivery>;

/// What an event may come into: room in the byte budget, and its part of what the worker reads in a second.
#[derive(Debug)]
pub(super) struct Room {
    bytes: Reservation,
    charge: Charge,
}

impl Subscriber {
    /// Takes events until the subscription is over.
    pub(super) async fn follow(
        &mut self,
        subscription: Subscribed,
        renew_at: Moment,
        deliveries: &Deliveries,
    ) -> Result<Over, SourceError> {
        let mut held = Held::new(subscription);
        while let Some(subscription) = &mut held.subscription {
            let patience = self.pace.patience(self.now());
            let place = match timeout(patience, deliveries.reserve()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Ok(DROPPED),
                Err(_) => return Ok(Over::Renew),
            };
            if self.now() >= renew_at {
                return Ok(Over::Renew);
            }
            let Some(bytes) = self.announced(subscription).await? else {
                return Ok(Over::Ended);
            };
            let begun = self.now();
            held.for_at_most(self.pace.patience(begun));
            let room = self.make_room(bytes, &mut held).await;
            let Some(subscription) = &mut held.subscription else {
                self.room = Some(room);
                return Ok(Over::Renew);
            };
            let pushed = self.received(subscription).await?;
            let (children, at_end) = (pushed.children, pushed.continuation.is_none());
            let at_tip = pushed.behind.is_some_and(|behind| behind.is_zero()) && !at_end;
            // An event without records tells of the tip by itself.
            let ends_at_tip = at_tip && pushed.batch.kinesis_records() > 0;
            let now = self.now();
            let payload_bytes = pushed.batch.payload_bytes();
            self.pace.received(now, payload_bytes > 0);
            self.absence.over();
            room.charge.settle(payload_bytes);
            let arrived = Arrived {
                batch: pushed.batch,
                behind: pushed.behind,
                at_end,
                at: now,
                took: now.since(begun),
            };
            let first = held.during(self.intake.accept(arrived, room.bytes)).await;
            self.resume.after(now, pushed.continuation, pushed.behind);
            match first {
                Some(first) => {
                    place.send(first);
                    if held.during(self.deliver_rest(deliveries)).await.is_err() {
                        return Ok(DROPPED);
                    }
                }
                // The end of the shard needs the place.
                None => drop(place),
            }
            if ends_at_tip {
                self.intake.read.observer.reached_tip();
            }
            if at_end {
                drop(held);
                return self.end(children, deliveries).await;
            }
        }
        Ok(Over::Renew)
    }

    /// How many bytes the next event takes; `None` when the service ended the subscription.
    async fn announced(
        &mut self,
        subscription: &mut Subscribed,
    ) -> Result<Option<u64>, SourceError> {
        let limit = self.pace.silence();
        match timeout(limit, subscription.announced()).await {
            Ok(announced) => announced,
            Err(_) => {
                if subscription.fell_silent() {
                    self.pace.event_was_slow();
                }
                Err(silent(format!("no event came for {limit:?}")))
            }
        }
    }

    async fn received(&mut self, subscription: &mut Subscribed) -> Result<Pushed, SourceError> {
        let limit = self.pace.silence();
        match timeout(limit, subscription.receive()).await {
            Ok(received) => received,
            Err(_) => {
                subscription.fell_silent();
                self.pace.event_was_slow();
                Err(silent(format!("an event did not come within {limit:?}")))
            }
        }
    }

    /// Waits until an event may come.
    async fn make_room(&mut self, bytes: u64, held: &mut Held) -> Room {
        if let Some(kept) = self.room.take_if(|kept| kept.is_enough(bytes)) {
            return kept.for_event(bytes);
        }
        // Less than the next event takes.
        self.room = None;
        if bytes == 0 || mutant::is(Mutant::EventsWithoutRoom) {
            // It only says that the subscription lives.
            return Room {
                bytes: self.intake.member.nothing(),
                charge: Charge::default(),
            };
        }
        let (clock, intake, limit) = (&self.fan_out.runtime, &self.intake, &self.fan_out.limit);
        let room = held.during(async {
            let charge = limit.wait(bytes).await;
            let begun = clock.now();
            let room = intake.member.reserve(bytes).await;
            let waited = clock.now().since(begun);
            if !waited.is_zero() {
                intake.read.observer.waited_for_room(waited);
            }
            Room {
                bytes: room,
                charge,
            }
        });
        let room = room.await;
        match &held.subscription {
            Some(_) => room.for_event(bytes),
            // The next subscription begins with another event.
            None => room,
        }
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

impl Room {
    /// Whether the budget has room for an event of this size: until the size is known, for as much as an answer takes.
    fn is_enough(&self, bytes: u64) -> bool {
        bytes <= self.bytes.bytes().max(MAX_ANSWER_BYTES)
    }

    /// The size is known: no more need be kept free for it.
    fn for_event(mut self, bytes: u64) -> Self {
        self.bytes.resize(bytes);
        self
    }
}

/// A subscription that is given up when what comes has to wait for long: what is not received keeps others on the same
/// connection waiting.
struct Held {
    subscription: Option<Subscribed>,
    until: Instant,
}

impl Held {
    fn new(subscription: Subscribed) -> Self {
        Self {
            subscription: Some(subscription),
            until: Instant::now(),
        }
    }

    /// How long it is held from now on, however many things have to be waited for.
    fn for_at_most(&mut self, patience: Duration) {
        self.until = Instant::now() + patience;
    }

    /// Waits for `work`, with or without the subscription.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if self.subscription.is_some() {
            match timeout_at(self.until, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.subscription = None,
            }
        }
        work.await
    }
}
