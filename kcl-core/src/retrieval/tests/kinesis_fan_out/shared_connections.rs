//! Many subscriptions on one HTTP/2 connection, and what becomes of them when it dies.

use std::time::Duration;

use futures_util::future::join_all;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::{Instant, sleep};

use super::pipes::Pipes;
use super::{ARN, Reading, STREAM, Stream, stream};
use crate::retrieval::{KinesisSource, Reader};

const SHARDS: usize = 8;
const SECOND: Duration = Duration::from_secs(1);

struct Shared {
    stream: Stream,
    pipes: Pipes,
    readings: Vec<Reading>,
}

/// Readers of all shards that share what a worker's shards share, after the first record of each.
async fn shared(shards: usize, fault: Option<Rule>) -> Shared {
    let mut stream = stream(u32::try_from(shards).unwrap());
    if let Some(fault) = fault {
        stream
            .emulator
            .faults()
            .add(fault.operation("SubscribeToShard"));
    }
    let pipes = Pipes::new(&stream.emulator);
    let aws = stream.emulator.sdk_config("worker").into_builder();
    let aws = aws.http_client(pipes.http_client()).build();
    stream.source = KinesisSource::new(&aws, STREAM, Some(ARN.to_owned()));
    let reader: Reader = stream.reader(false);
    let mut readings = Vec::new();
    for index in 0..shards {
        readings.push(stream.read_with(reader.clone(), index).await);
    }
    let mut shared = Shared {
        stream,
        pipes,
        readings,
    };
    for took in shared.arrivals("first").await {
        assert!(took < 10 * SECOND, "{took:?}");
    }
    shared
}

impl Shared {
    /// Puts a record into every shard, and returns how long each takes to come.
    async fn arrivals(&mut self, text: &str) -> Vec<Duration> {
        for index in 0..self.readings.len() {
            self.stream.put_to(index, text).await;
        }
        let put = Instant::now();
        let came = self.readings.iter_mut().map(|reading| async move {
            assert_eq!(reading.texts(1).await, [text]);
            put.elapsed()
        });
        join_all(came).await
    }
}

#[tokio::test(start_paused = true)]
async fn a16_one_silent_subscription_of_many_on_a_connection_is_begun_again_on_another() {
    let after = 20 * SECOND;
    let silent = Rule::new(Fault::SilenceSubscription { after }).nth(4);
    let mut shared = shared(SHARDS, Some(silent)).await;
    // One for subscriptions, one for other calls.
    assert_eq!(shared.pipes.opened(), 2);
    sleep(after).await;
    let mut took = shared.arrivals("then").await;
    took.sort();
    let slowest = took.pop().unwrap();
    assert!(took.iter().all(|took| *took < SECOND), "{took:?}");
    assert!(slowest > SECOND && slowest <= 15 * SECOND, "{slowest:?}");
    assert_eq!(shared.pipes.opened(), 3);
    // Nobody else was disturbed.
    let subscribed = shared.stream.calls("SubscribeToShard");
    assert_eq!(subscribed, SHARDS as u64 + 1);
    for took in shared.arrivals("at last").await {
        assert!(took < SECOND, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a16_a_connection_that_dies_without_a_word_is_left_by_all_within_fifteen_seconds() {
    let mut shared = shared(SHARDS, None).await;
    sleep(20 * SECOND).await;
    // The later one: the consumer is looked for before anybody subscribes.
    shared.pipes.freeze(1);
    for took in shared.arrivals("then").await {
        assert!(took <= 15 * SECOND, "{took:?}");
    }
    // All together on one new connection.
    assert_eq!(shared.pipes.opened(), 3);
    for took in shared.arrivals("at last").await {
        assert!(took < SECOND, "{took:?}");
    }
    for reading in &shared.readings {
        assert_eq!(reading.notes.of("failed").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn more_subscriptions_than_a_connection_should_have_open_another_one() {
    let shared = shared(130, None).await;
    assert_eq!(shared.pipes.opened(), 1 + 3);
}
