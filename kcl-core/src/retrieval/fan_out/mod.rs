//! Reading one shard by enhanced fan-out: the driver around consumer, pace, budget and subscription.

mod consumer;
mod fall_back;
mod follow;
mod pace;
mod recover;
mod resume;

use std::sync::Arc;

use kcl_lease::runtime::{Moment, Runtime};
use tokio::sync::mpsc;

use self::consumer::NoConsumer;
pub(crate) use self::consumer::{Consumer, ConsumerChoice, ConsumerOptions};
use self::follow::{Over, Room};
use self::pace::Pace;
use self::resume::Resume;
use super::absence::Absence;
use super::delivery::{Delivery, PollEnd};
use super::error::{SourceError, SourceErrorKind};
use super::intake::Intake;
use super::read_limit::ReadLimit;
use super::source::{ShardSource, StartPosition};
use super::subscription::Subscription;

/// What all shards of a worker subscribe with.
#[derive(Debug, Clone)]
pub(crate) struct FanOut {
    /// The stream. Its calls all end, each within its own limit.
    pub(crate) source: Arc<dyn ShardSource>,
    /// Who subscribes.
    pub(crate) consumer: Arc<Consumer>,
    /// What all shards together may read in a second.
    pub(crate) limit: ReadLimit,
    /// Clock and randomness.
    pub(crate) runtime: Runtime,
}

/// Reads one shard by subscribing to it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    fan_out: FanOut,
    intake: Intake,
    resume: Resume,
    pace: Pace,
    absence: Absence,
    /// Room for an event that had to wait for so long that its subscription was given up.
    room: Option<Room>,
}

/// Why there are no more subscriptions.
#[derive(Debug)]
pub(crate) enum NoMore {
    /// Reading is over.
    End(PollEnd),
    /// There is nothing to subscribe with: reading goes on by polling.
    Polls,
}

impl Subscriber {
    /// Goes on where something else stopped reading, or begins. Nothing is called yet.
    pub(crate) fn new(fan_out: FanOut, intake: Intake) -> Self {
        let start = match &intake.came_through {
            Some(last) => StartPosition::AtSequenceNumber(last.clone()),
            None => intake.read.start.clone(),
        };
        Self {
            resume: Resume::new(start),
            pace: Pace::new(fan_out.runtime.rng(intake.read.shard.as_str())),
            intake,
            absence: Absence::default(),
            room: None,
            fan_out,
        }
    }

    /// What is known of the shard, for whoever reads on.
    pub(crate) fn into_intake(self) -> Intake {
        self.intake
    }

    /// Subscribes and delivers until the shard ends, the stream is gone, the receiver is dropped, or the worker polls
    /// instead.
    ///
    /// A place in the channel is taken before each subscription and each event, so a channel of one keeps one event ahead.
    /// Failures are reported, waited out and repeated for as long as it takes.
    pub(crate) async fn run(&mut self, deliveries: &mpsc::Sender<Delivery>) -> NoMore {
        loop {
            let over = tokio::select! {
                biased;
                () = deliveries.closed() => return NoMore::End(PollEnd::ReceiverDropped),
                over = self.subscribe_and_follow(deliveries) => over,
            };
            let recovered = match over {
                Over::Renew => Ok(()),
                Over::Ended => {
                    self.ended();
                    Ok(())
                }
                Over::End(end) => Err(NoMore::End(end)),
                Over::Failed(error) => self.recover(error).await,
                Over::Waits(error) => self.wait_for_consumer(&error),
            };
            if let Err(no_more) = recovered {
                return no_more;
            }
        }
    }

    async fn subscribe_and_follow(&mut self, deliveries: &mpsc::Sender<Delivery>) -> Over {
        let pause = self.pace.pause(self.now());
        self.intake.read.observer.paused(pause);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        // Without a place nobody could take what is sent.
        if deliveries.reserve().await.is_err() {
            return Over::End(PollEnd::ReceiverDropped);
        }
        let consumer = match self.fan_out.consumer.arn().await {
            Ok(consumer) => consumer,
            Err(NoConsumer { error, is_news }) if is_news => return Over::Failed(error),
            Err(NoConsumer { error, .. }) => return Over::Waits(error),
        };
        let subscribed = match self.subscribe(&consumer).await {
            Ok(Some(subscription)) => subscription,
            Ok(None) => return Over::Renew,
            Err(error) => return Over::Failed(error),
        };
        let renew_at = self.pace.subscribed(self.now());
        match self.follow(subscribed, renew_at, deliveries).await {
            Ok(over) => over,
            Err(error) => Over::Failed(error),
        }
    }

    /// `None`: the service does not know the number, and the next call asks for the oldest record.
    async fn subscribe(
        &mut self,
        consumer: &str,
    ) -> Result<Option<Box<dyn Subscription>>, SourceError> {
        let now = self.now();
        let came_through = self.intake.came_through.as_ref();
        let wanted = self.resume.wanted(now, came_through);
        let from = self.resume.from(now, came_through);
        self.pace.called(now);
        let source = &self.fan_out.source;
        let call = source.subscribe(consumer, &self.intake.read.shard, &from);
        match call.await {
            Ok(subscription) => {
                self.intake.expect(&wanted);
                let observer = &self.intake.read.observer;
                if let Some((unknown, error)) = self.resume.accepted() {
                    observer.restarted_at_trim_horizon(&unknown, &error);
                }
                observer.subscribed();
                if self.fan_out.consumer.works() {
                    observer.fan_out_back();
                }
                Ok(Some(subscription))
            }
            Err(error) if error.kind() == SourceErrorKind::InvalidArgument => {
                match self.resume.invalid(&from, error) {
                    None => Ok(None),
                    Some(error) => Err(error),
                }
            }
            Err(error) => {
                if error.kind() == SourceErrorKind::StreamNotFound {
                    self.fan_out.consumer.forget(consumer).await;
                }
                Err(error)
            }
        }
    }

    fn now(&self) -> Moment {
        self.fan_out.runtime.now()
    }
}

fn silent(detail: impl AsRef<str>) -> SourceError {
    SourceError::new(SourceErrorKind::Timeout, "SubscribeToShard").with_detail(detail)
}
