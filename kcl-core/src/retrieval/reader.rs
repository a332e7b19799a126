//! How the shards of a worker are read: by polling, by enhanced fan-out, or by polling until there is fan-out.

use std::time::Duration;

use tokio::sync::mpsc;

use super::delivery::{Delivery, PollEnd};
use super::fan_out::{FanOut, NoMore, Subscriber};
use super::intake::{Intake, ShardRead};
use super::polling::{Poller, Polling};

/// Who fell back to polling does so for a while, however often his mind is changed.
const POLLS_AT_LEAST: Duration = Duration::from_secs(60);

/// How all shards of a worker are read.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) polling: Polling,
    pub(crate) fan_out: Option<FanOut>,
}

impl Reader {
    /// Reads and delivers until the shard ends, the stream is gone or the receiver is dropped. From now on the shard counts
    /// among those that share the budget.
    ///
    /// Dropping the future is safe at any moment: reading changes nothing.
    pub(crate) fn read(
        self,
        read: ShardRead,
        deliveries: mpsc::Sender<Delivery>,
    ) -> impl Future<Output = PollEnd> + Send {
        let Self { polling, fan_out } = self;
        let intake = polling.intake(read);
        async move {
            match fan_out {
                Some(fan_out) => subscribe_or_poll(polling, &fan_out, intake, &deliveries).await,
                None => Poller::continuing(polling, intake).run(deliveries).await,
            }
        }
    }
}

/// Subscribes, and polls while there is no enhanced fan-out for this worker. What is known of the shard goes from one to the
/// other, so that nothing is missed and nothing is delivered again.
async fn subscribe_or_poll(
    polling: Polling,
    fan_out: &FanOut,
    mut intake: Intake,
    deliveries: &mpsc::Sender<Delivery>,
) -> PollEnd {
    let clock = &polling.runtime;
    let mut polls = fan_out.consumer.polls();
    loop {
        if !polls {
            let mut subscriber = Subscriber::new(fan_out.clone(), intake);
            match subscriber.run(deliveries).await {
                NoMore::End(end) => return end,
                NoMore::Polls => intake = subscriber.into_intake(),
            }
        }
        let since = clock.now();
        let is_over = || clock.now().since(since) >= POLLS_AT_LEAST && !fan_out.consumer.polls();
        let mut poller = Poller::continuing(polling.clone(), intake);
        match poller.run_until(deliveries, is_over).await {
            Some(end) => return end,
            None => intake = poller.into_intake(),
        }
        // Asked again it might be somebody else's turn to try.
        polls = false;
    }
}
