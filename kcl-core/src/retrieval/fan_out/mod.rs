//! Reading one shard by enhanced fan-out: the driver around consumer, pace, budget and subscription.

mod consumer;
mod pace;
mod resume;

use std::sync::Arc;
use std::time::Duration;

use kcl_lease::runtime::{Moment, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use self::consumer::{Consumer, ConsumerChoice};
use self::pace::Pace;
use self::resume::Resume;
use super::absence::{Absence, NotFound};
use super::budget::Budget;
use super::deaggregate::OutOfRange;
use super::delivery::{Delivery, PollEnd};
use super::error::{SourceError, SourceErrorKind};
use super::intake::{Arrived, Intake, ShardRead};
use super::shard_end::{Ending, ending};
use super::source::ShardSource;
use super::subscription::{Pushed, Subscription};

/// The service sends an event every five seconds at least, an empty one if need be. After this silence the connection is
/// taken for dead.
const SILENCE: Duration = Duration::from_secs(10);
/// A call that is not answered in this time went to a connection that is dead.
const CALL_LIMIT: Duration = Duration::from_secs(4);

/// What all shards of a worker subscribe with.
#[derive(Debug, Clone)]
pub struct FanOut {
    /// The stream.
    pub source: Arc<dyn ShardSource>,
    /// Who subscribes.
    pub consumer: Arc<Consumer>,
    /// The memory that records may take.
    pub budget: Budget,
    /// What happens to user records that the shard does not own.
    pub out_of_range: OutOfRange,
    /// Clock and randomness.
    pub runtime: Runtime,
}

/// Reads one shard by subscribing to it until it ends.
#[derive(Debug)]
pub struct Subscriber {
    fan_out: FanOut,
    intake: Intake,
    resume: Resume,
    pace: Pace,
    absence: Absence,
}

/// Why a subscription is not followed any more.
enum Over {
    /// It is due for renewal, or the service ended it: the next one begins where it stopped.
    Renew,
    /// Reading is over.
    End(PollEnd),
    Failed(SourceError),
}

type Deliveries = mpsc::Sender<Delivery>;

impl Subscriber {
    /// A subscriber that has not called anything yet. From now on the shard counts among those that share the budget.
    #[must_use]
    pub fn new(fan_out: FanOut, read: ShardRead) -> Self {
        Self {
            resume: Resume::new(read.start.clone()),
            pace: Pace::new(fan_out.runtime.rng(read.shard.as_str())),
            intake: Intake::new(read, fan_out.budget.join(), fan_out.out_of_range),
            absence: Absence::default(),
            fan_out,
        }
    }

    /// Subscribes and delivers until the shard ends, the stream is gone or the receiver is dropped.
    ///
    /// A place in the channel is taken before each event, so a channel of one keeps one event ahead. Failures are reported,
    /// waited out and repeated for as long as it takes. Dropping the future is safe at any moment.
    pub async fn run(mut self, deliveries: mpsc::Sender<Delivery>) -> PollEnd {
        loop {
            let over = tokio::select! {
                biased;
                () = deliveries.closed() => return PollEnd::ReceiverDropped,
                over = self.subscribe_and_follow(&deliveries) => over,
            };
            let recovered = match over {
                Over::Renew => Ok(()),
                Over::End(end) => Err(end),
                Over::Failed(error) => self.recover(error).await,
            };
            if let Err(end) = recovered {
                return end;
            }
        }
    }

    async fn subscribe_and_follow(&mut self, deliveries: &Deliveries) -> Over {
        let pause = self.pace.pause(self.fan_out.runtime.now());
        self.intake.read.observer.paused(pause);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let subscribed = match self.subscribe().await {
            Ok(subscription) => subscription,
            Err(error) => return Over::Failed(error),
        };
        let renew_at = self.pace.subscribed(self.fan_out.runtime.now());
        match self.follow(subscribed, renew_at, deliveries).await {
            Ok(over) => over,
            Err(error) => Over::Failed(error),
        }
    }

    async fn subscribe(&mut self) -> Result<Box<dyn Subscription>, SourceError> {
        let consumer = self.fan_out.consumer.arn().await?;
        let now = self.fan_out.runtime.now();
        let from = self.resume.from(now, self.intake.came_through.as_ref());
        self.pace.called(now);
        let source = &self.fan_out.source;
        let call = source.subscribe(&consumer, &self.intake.read.shard, &from);
        let Ok(answer) = timeout(CALL_LIMIT, call).await else {
            return Err(silent("the call was not answered"));
        };
        match answer {
            Ok(subscription) => {
                self.intake.expect(&from);
                Ok(subscription)
            }
            Err(error) if error.kind() == SourceErrorKind::InvalidArgument => {
                if let Some(unknown) = self.resume.restart_at_trim_horizon() {
                    let observer = &self.intake.read.observer;
                    observer.restarted_at_trim_horizon(&unknown, &error);
                }
                Err(error)
            }
            Err(error) => {
                if error.kind() == SourceErrorKind::StreamNotFound {
                    self.fan_out.consumer.forget(&consumer).await;
                }
                Err(error)
            }
        }
    }

    /// Takes events until the subscription is over.
    async fn follow(
        &mut self,
        mut subscription: Box<dyn Subscription>,
        renew_at: Moment,
        deliveries: &Deliveries,
    ) -> Result<Over, SourceError> {
        loop {
            let Ok(place) = deliveries.reserve().await else {
                return Ok(Over::End(PollEnd::ReceiverDropped));
            };
            let now = self.fan_out.runtime.now();
            if now >= renew_at {
                return Ok(Over::Renew);
            }
            let announced = timeout(SILENCE, subscription.announced()).await;
            let bytes = match announced {
                Err(_) => return Err(silent("no event came for 10 s")),
                Ok(announced) => match announced? {
                    Some(bytes) => bytes,
                    None => return Ok(Over::Renew),
                },
            };
            let before = self.fan_out.runtime.now();
            let room = self.intake.member.reserve(bytes).await;
            let waited = self.fan_out.runtime.now().since(before);
            if !waited.is_zero() {
                self.intake.read.observer.waited_for_room(waited);
            }
            let Ok(pushed) = timeout(SILENCE, subscription.receive()).await else {
                return Err(silent("an event did not come to its end"));
            };
            let Pushed {
                batch,
                continuation,
                children,
                behind,
            } = pushed?;
            let now = self.fan_out.runtime.now();
            self.pace.received();
            self.absence.over();
            let at_end = continuation.is_none();
            let arrived = Arrived {
                batch,
                behind,
                at_end,
                at: now,
                took: now.since(before),
            };
            let delivery = self.intake.accept(arrived, room).await;
            self.resume.after(now, continuation);
            if let Some(delivery) = delivery {
                place.send(delivery);
                if behind.is_some_and(|behind| behind.is_zero()) && !at_end {
                    self.intake.read.observer.reached_tip();
                }
            }
            if at_end {
                return self.end(children, deliveries).await;
            }
        }
    }

    /// Delivers the end of the shard, unless it turns out to be open.
    async fn end(
        &mut self,
        children: Vec<kcl_lease::ListedShard>,
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

    /// Prepares the next attempt: a pause and a report. An error only when there is nothing left to read.
    async fn recover(&mut self, error: SourceError) -> Result<(), PollEnd> {
        let now = self.fan_out.runtime.now();
        match error.kind() {
            SourceErrorKind::StreamInUse => {
                let (lasts, retry_in) = self.pace.refused(now);
                if lasts {
                    let attempt = self.pace.refusals();
                    self.intake.read.observer.failed(&error, attempt, retry_in);
                } else {
                    self.intake.read.observer.throttled(&error, retry_in);
                }
            }
            SourceErrorKind::StreamNotFound => {
                let source = self.fan_out.source.as_ref();
                let shard = &self.intake.read.shard;
                match self.absence.judge(source, shard, error).await {
                    NotFound::Gone(end) => return Err(end),
                    NotFound::Again(error) => self.failed(&error),
                }
            }
            _ => self.failed(&error),
        }
        Ok(())
    }

    fn failed(&mut self, error: &SourceError) {
        let now = self.fan_out.runtime.now();
        let (attempt, retry_in) = self.pace.failed(now, error.kind());
        let observer = &self.intake.read.observer;
        match error.kind() {
            SourceErrorKind::Throttled => observer.throttled(error, retry_in),
            _ => observer.failed(error, attempt, retry_in),
        }
    }
}

fn silent(detail: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Timeout, "SubscribeToShard").with_detail(detail)
}
