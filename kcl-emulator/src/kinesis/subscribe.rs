//! `SubscribeToShard` and the events of subscriptions.

use super::{
    api::{SubscribeToShardEvent, SubscribeToShardInput, SubscribeToShardOutput, SubscriptionId},
    engine::{Engine, milliseconds},
    error,
    get::{self, Page},
    limits::Bucket,
    position::Position,
    sequence::SequenceNumber,
    shard::{self, Moment},
    stream::Stream,
    validate::{self, Validation},
};
use crate::{ApiError, Timestamp};

/// What a subscription is sent per second (API reference, `RegisterStreamConsumer`), and at most in one event.
const BYTES_PER_SECOND: i64 = 2 * 1024 * 1024;
/// While there is more to send than the rate allows, an event is worth this much or all that is left.
const LEAST_EVENT_BYTES: i64 = BYTES_PER_SECOND / 8;
const EVENT_RECORDS: usize = 10_000;
/// While nothing arrives, an empty event is sent this often.
const HEARTBEAT: i64 = 5_000;
/// A second subscription this soon after the first one is refused (API reference, `SubscribeToShard`).
const TAKE_OVER_AFTER: i64 = 5_000;

/// What a subscription has to say at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum SubscriptionPoll {
    /// The next event. There may be more: poll again.
    Event(SubscribeToShardEvent),
    /// Nothing before `wake_at`, unless [`Engine::take_woken`] names the subscription.
    Idle {
        /// When to poll again.
        wake_at: Timestamp,
    },
    /// The stream of events ends here, without an error.
    Ended,
    /// The stream of events ends here, with an error event.
    Error(ApiError),
}

#[derive(Debug, Clone)]
pub(super) struct Subscription {
    consumer_arn: String,
    stream: String,
    stream_created: Timestamp,
    shard: u32,
    /// The position of the next record to send.
    index: u64,
    /// What a reader would continue after if he had to subscribe again.
    continuation: SequenceNumber,
    began: Timestamp,
    expires: Timestamp,
    next_heartbeat: Timestamp,
    bytes: Bucket,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// Over: it says so when it is polled. Kept for the rule on second subscriptions.
    Ended,
}

impl Engine {
    pub(super) fn subscribe_to_shard(
        &mut self,
        input: &SubscribeToShardInput,
    ) -> Result<SubscribeToShardOutput, ApiError> {
        let mut check = Validation::default();
        let consumer_arn =
            check.required("consumerARN", &input.consumer_arn, validate::CONSUMER_ARN);
        let shard_id = check.required("shardId", &input.shard_id, validate::SHARD_ID);
        let position = Position::of_subscription(&mut check, &input.starting_position);
        check.finish()?;

        let (latest, account) = (self.latest(), self.config.account.clone());
        let now = latest.time;
        let lifetime = milliseconds(self.config.subscription_lifetime);
        let (stream, consumer) = self.consumer_by_arn(consumer_arn)?;
        if !consumer.is_active(now) {
            return Err(error::in_use(format!(
                "Consumer {consumer_arn} is not ACTIVE."
            )));
        }
        let shard = stream.find_shard(shard_id, &account)?;
        let index = position.resolve(stream, shard, &account, latest)?;
        let before = Moment {
            time: now,
            index: index - 1,
        };
        let subscription = Subscription {
            consumer_arn: consumer_arn.to_owned(),
            stream: stream.name.clone(),
            stream_created: stream.created,
            shard: shard.number,
            index,
            continuation: shard.number_at(stream.created, before),
            began: now,
            expires: now.plus(lifetime),
            next_heartbeat: now,
            bytes: Bucket::new(BYTES_PER_SECOND),
            state: State::Live,
        };
        self.take_over(&subscription)?;
        self.last_subscription += 1;
        let id = SubscriptionId(self.last_subscription);
        self.set_following(&subscription, id, true);
        self.subscriptions.insert(id, subscription);
        Ok(SubscribeToShardOutput { subscription: id })
    }

    /// Ends the subscriptions of the same consumer to the same shard, unless one began a moment ago.
    fn take_over(&mut self, new: &Subscription) -> Result<(), ApiError> {
        let now = self.now;
        let recent = |old: &Subscription| now.since(old.began) < TAKE_OVER_AFTER;
        self.subscriptions
            .retain(|_, old| old.state == State::Live || recent(old));
        let rivals = self
            .subscriptions
            .iter_mut()
            .filter(|(_, old)| old.consumer_arn == new.consumer_arn && old.shard == new.shard);
        for (id, old) in rivals {
            if recent(old) {
                let (consumer, shard) = (&new.consumer_arn, shard::id(new.shard));
                return Err(error::in_use(format!(
                    "Another active subscription exists for this consumer: {consumer}:{shard}"
                )));
            }
            old.state = State::Ended;
            self.woken.insert(*id);
        }
        Ok(())
    }

    /// What a subscription has to say at `now`. A subscription that is not known (any more) has ended.
    pub fn poll_subscription(&mut self, now: Timestamp, id: SubscriptionId) -> SubscriptionPoll {
        self.settle(now);
        let now = self.now;
        self.woken.remove(&id);
        let Some(mut subscription) = self.subscriptions.remove(&id) else {
            return SubscriptionPoll::Ended;
        };
        let poll = if subscription.state == State::Ended || now >= subscription.expires {
            SubscriptionPoll::Ended
        } else {
            self.advance(&mut subscription, now)
        };
        if matches!(poll, SubscriptionPoll::Ended | SubscriptionPoll::Error(_)) {
            subscription.state = State::Ended;
        }
        if subscription.state == State::Ended {
            self.set_following(&subscription, id, false);
        }
        self.subscriptions.insert(id, subscription);
        poll
    }

    fn advance(&mut self, subscription: &mut Subscription, now: Timestamp) -> SubscriptionPoll {
        if let Err(error) = self.consumer_by_arn(&subscription.consumer_arn) {
            return SubscriptionPoll::Error(error);
        }
        let (account, throttle) = (self.config.account.clone(), self.config.throttle_reads);
        let stream = match self.stream_named(&subscription.stream) {
            Ok(stream) => &*stream,
            Err(error) => return SubscriptionPoll::Error(error),
        };
        let shard = match stream.find_shard(&shard::id(subscription.shard), &account) {
            Ok(shard) => shard,
            Err(error) => return SubscriptionPoll::Error(error),
        };
        let room = match throttle {
            true => subscription.bytes.level(now),
            false => BYTES_PER_SECOND,
        };
        let page = get::read(
            stream,
            shard,
            subscription.index,
            EVENT_RECORDS,
            room.max(LEAST_EVENT_BYTES),
            now,
        );
        let wanted = page.bytes.min(LEAST_EVENT_BYTES);
        if !page.records.is_empty() && throttle && !subscription.bytes.has(now, wanted) {
            let wake_at = subscription.bytes.when(wanted);
            return subscription.idle_until(wake_at, stream);
        }
        let anything = !page.records.is_empty() || page.children.is_some();
        if !anything && now < subscription.next_heartbeat {
            return subscription.idle_until(subscription.next_heartbeat, stream);
        }
        SubscriptionPoll::Event(subscription.event(page, now))
    }

    /// Lets a shard know whether a subscription waits for it.
    fn set_following(&mut self, subscription: &Subscription, id: SubscriptionId, follows: bool) {
        let stream = self.streams.get_mut(&subscription.stream);
        let stream = stream.filter(|stream| stream.created == subscription.stream_created);
        if let Some(shard) = stream.and_then(|stream| stream.shards.get_mut(&subscription.shard)) {
            if follows {
                shard.followers.insert(id);
            } else {
                shard.followers.remove(&id);
            }
        }
    }

    /// Subscriptions for which something happened since this was last asked: whoever drives them polls them now.
    pub fn take_woken(&mut self) -> impl Iterator<Item = SubscriptionId> {
        std::mem::take(&mut self.woken).into_iter()
    }

    /// Drops a subscription whose reader went away.
    pub fn close_subscription(&mut self, id: SubscriptionId) {
        self.cut_subscription(id);
        self.woken.remove(&id);
    }

    /// Ends a subscription from the service's side: its next poll says so.
    pub fn cut_subscription(&mut self, id: SubscriptionId) {
        if let Some(mut subscription) = self.subscriptions.remove(&id) {
            subscription.state = State::Ended;
            self.set_following(&subscription, id, false);
            self.subscriptions.insert(id, subscription);
            self.woken.insert(id);
        }
    }
}

impl Subscription {
    /// The event for a page. Without a continuation number it is the last one.
    fn event(&mut self, page: Page, now: Timestamp) -> SubscribeToShardEvent {
        self.bytes.take(now, page.bytes);
        self.index = page.next;
        self.next_heartbeat = now.plus(HEARTBEAT);
        if let Some(last) = page.records.last() {
            self.continuation = last.sequence_number;
        }
        let at_end = page.children.is_some();
        if at_end {
            self.state = State::Ended;
        }
        SubscribeToShardEvent {
            records: page.records,
            continuation_sequence_number: (!at_end).then_some(self.continuation),
            millis_behind_latest: page.millis_behind_latest,
            child_shards: page.children,
        }
    }

    /// Nothing until `wake_at`, until the subscription expires, or until the stream's transition ends.
    fn idle_until(&self, wake_at: Timestamp, stream: &Stream) -> SubscriptionPoll {
        let transition = stream.pending.as_ref().map(|pending| pending.due);
        let wake_at = wake_at.min(self.expires);
        SubscriptionPoll::Idle {
            wake_at: transition.map_or(wake_at, |due| due.min(wake_at)),
        }
    }
}
