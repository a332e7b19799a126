//! A subscription as a stream of frames: a task asks the engine for events until one side ends it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::ConnectionLost;
use crate::emulator::Emulator;
use crate::faults::Plan;
use crate::kinesis::SubscriptionPoll;
use crate::kinesis::api::SubscriptionId;
use crate::wire::{Wire, event_stream};
use crate::{ApiError, Caller, Service, Timestamp, tasks};

/// How often a subscription that a partition silences looks whether it is over.
const PARTITION_POLL: Duration = Duration::from_millis(100);

type Frames = mpsc::Sender<Result<Bytes, ConnectionLost>>;

struct Subscription {
    emulator: Emulator,
    id: SubscriptionId,
    caller: Caller,
    wire: Wire,
    silent_from: Option<Timestamp>,
    cut_at: Option<Timestamp>,
    frames: Frames,
}

/// Starts to send a subscription's events; they end it when the receiver is dropped.
pub(super) fn start(
    emulator: &Emulator,
    wire: Wire,
    id: SubscriptionId,
    caller: &Caller,
    plan: &Plan,
) -> mpsc::Receiver<Result<Bytes, ConnectionLost>> {
    // One frame waits for the network while the next is made: a slow reader holds two in memory.
    let (frames, receiver) = mpsc::channel(1);
    let now = emulator.clock().now();
    let after =
        |duration: Duration| now.plus(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    let subscription = Subscription {
        emulator: emulator.clone(),
        id,
        caller: caller.clone(),
        wire,
        silent_from: plan.silence_after.map(after),
        cut_at: plan.cut_after.map(after),
        frames,
    };
    tasks::spawn(subscription.run());
    receiver
}

impl Subscription {
    async fn run(self) {
        self.send_events().await;
        self.emulator.close_subscription(self.id);
    }

    /// Sends events until the stream ends or nobody listens.
    async fn send_events(&self) {
        let begin = self.wire.empty_document();
        if !self.send_event("initial-response", begin).await {
            return;
        }
        let waker = self.emulator.waker(self.id);
        loop {
            let now = self.emulator.clock().now();
            if self.cut_at.is_some_and(|cut_at| now >= cut_at) {
                let _ = self.frames.send(Err(ConnectionLost)).await;
                return;
            }
            let wake_at = match self.next_step(now) {
                Step::Wait(wake_at) => wake_at,
                Step::End => return,
                Step::Fail(error) => return self.send_error(&error).await,
                Step::Event(payload) => {
                    if self.send_event("SubscribeToShardEvent", payload).await {
                        continue;
                    }
                    return;
                }
            };
            let wake_at = self.cut_at.map_or(wake_at, |cut_at| wake_at.min(cut_at));
            // At least a millisecond, so that an engine that asks for the present cannot spin.
            let wake_at = self.emulator.clock().instant_of(wake_at.max(now.plus(1)));
            tokio::select! {
                biased;
                () = self.frames.closed() => return,
                () = waker.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    fn next_step(&self, now: Timestamp) -> Step {
        let faults = self.emulator.faults();
        let running = self.emulator.clock().running();
        if self.silent_from.is_some_and(|from| now >= from) {
            return Step::Wait(self.cut_at.unwrap_or(FAR).max(now));
        }
        if faults.is_partitioned(&self.caller, Service::Kinesis, running) {
            let poll = i64::try_from(PARTITION_POLL.as_millis()).unwrap_or(i64::MAX);
            return Step::Wait(now.plus(poll));
        }
        match self.emulator.poll_subscription(now, self.id) {
            SubscriptionPoll::Event(event) => match self.wire.encode(&event) {
                Ok(payload) => Step::Event(payload),
                Err(error) => Step::Fail(error),
            },
            SubscriptionPoll::Idle { wake_at } => {
                Step::Wait(self.silent_from.map_or(wake_at, |from| wake_at.min(from)))
            }
            SubscriptionPoll::Ended => Step::End,
            SubscriptionPoll::Error(error) => Step::Fail(error),
        }
    }

    /// Whether somebody still listens.
    async fn send_event(&self, event_type: &str, payload: Bytes) -> bool {
        let frame = event_stream::event(event_type, self.payload_type(), &payload);
        self.frames.send(Ok(frame)).await.is_ok()
    }

    async fn send_error(&self, error: &ApiError) {
        let payload = self.wire.encode_error(error);
        let frame = event_stream::exception(&error.code, self.payload_type(), &payload);
        let _ = self.frames.send(Ok(frame)).await;
    }

    fn payload_type(&self) -> &'static str {
        self.wire.content_type()
    }
}

/// A moment that never comes.
const FAR: Timestamp = Timestamp(i64::MAX);

enum Step {
    Event(Bytes),
    Wait(Timestamp),
    End,
    Fail(ApiError),
}
