//! Enhanced fan-out over the stream in memory, on virtual time.

mod consumers;
mod holding;
mod throttling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_checkpoint::{Position, SequenceNumber};
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ShardId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::retrieval::fan_out::ConsumerChoice;
use crate::retrieval::{
    Budget, Consumer, ConsumerOptions, Delivery, FanOut, MemoryStream, PollEnd, Polling, ReadLimit,
    Reader, RetrievalObserver, ShardRead, ShardSource, SourceError, SourceErrorKind, StartPosition,
};

const HOUR: Duration = Duration::from_secs(3600);

/// What an observer heard, as text.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(super) fn of(&self, word: &str) -> Vec<String> {
        let notes = self.0.lock().unwrap();
        let wanted = notes.iter().filter(|note| note.starts_with(word));
        wanted.cloned().collect()
    }

    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }
}

impl RetrievalObserver for Notes {
    fn throttled(&self, error: &SourceError, _: Duration) {
        self.add(format!("throttled {}", error.kind()));
    }

    fn failed(&self, error: &SourceError, attempt: u32, _: Duration) {
        self.add(format!("failed {attempt} {}", error.kind()));
    }

    fn restarted_at_trim_horizon(&self, unknown: &SequenceNumber, _: &SourceError) {
        self.add(format!("restarted {unknown}"));
    }

    fn subscription_in_use(&self, _: &SourceError, _: Duration) {
        self.add("in use".to_owned());
    }

    fn waits_for_consumer(&self, _: &SourceError, _: Duration) {
        self.add("waits".to_owned());
    }

    fn fell_back(&self, error: &SourceError) {
        self.add(format!("fell back {}", error.kind()));
    }

    fn fan_out_back(&self) {
        self.add("back".to_owned());
    }

    fn reached_tip(&self) {
        self.add("tip".to_owned());
    }
}

struct Setup {
    stream: MemoryStream,
    runtime: Runtime,
    reader: Reader,
}

struct Reading {
    notes: Arc<Notes>,
    deliveries: mpsc::Receiver<Delivery>,
    end: AbortOnDropHandle<PollEnd>,
}

impl Setup {
    fn new(shards: u32) -> Self {
        let runtime = Runtime::virtual_time(1);
        let stream = MemoryStream::new(shards, runtime.clone());
        let source: Arc<dyn ShardSource> = Arc::new(stream.clone());
        Self {
            reader: reader(&source, &runtime, named(true)),
            stream,
            runtime,
        }
    }

    fn with(mut self, options: ConsumerOptions) -> Self {
        let source: Arc<dyn ShardSource> = Arc::new(self.stream.clone());
        self.reader = reader(&source, &self.runtime, options);
        self
    }

    fn consumer(&self) -> &Consumer {
        &self.reader.fan_out.as_ref().unwrap().consumer
    }

    fn shard(&self, index: usize) -> ShardId {
        self.stream.shards()[index].shard_id.clone()
    }

    fn put(&self, texts: &[&str]) -> Vec<SequenceNumber> {
        let put = |text: &&str| self.stream.put_to(&self.shard(0), "key", text.to_string());
        texts.iter().map(|text| put(text).unwrap()).collect()
    }

    fn read(&self, start: StartPosition) -> Reading {
        self.read_shard(0, start, None)
    }

    fn read_shard(
        &self,
        index: usize,
        start: StartPosition,
        skip_through: Option<Position>,
    ) -> Reading {
        let notes = Arc::new(Notes::default());
        let read = ShardRead {
            shard: self.shard(index),
            hash_range: HashKeyRange::FULL,
            start,
            skip_through,
            observer: Arc::clone(&notes) as Arc<dyn RetrievalObserver>,
        };
        let (sender, deliveries) = mpsc::channel(1);
        let reading = self.reader.clone().read(read, sender);
        Reading {
            notes,
            deliveries,
            end: self.runtime.spawn(reading),
        }
    }

    fn calls(&self) -> usize {
        self.stream.calls("SubscribeToShard")
    }
}

fn named(register: bool) -> ConsumerOptions {
    let name = "app".to_owned();
    ConsumerOptions {
        choice: ConsumerChoice::Name { name, register },
        active_within: Duration::from_secs(60),
        falls_back: false,
    }
}

fn reader(source: &Arc<dyn ShardSource>, runtime: &Runtime, options: ConsumerOptions) -> Reader {
    let consumer = Consumer::new(options, Arc::clone(source), runtime.clone());
    let fan_out = FanOut {
        source: Arc::clone(source),
        consumer: Arc::new(consumer),
        limit: ReadLimit::default(),
        runtime: runtime.clone(),
    };
    Reader {
        polling: Polling::new(Arc::clone(source), Budget::new(64 << 20), runtime.clone()),
        fan_out: Some(fan_out),
    }
}

impl Reading {
    async fn next(&mut self) -> Delivery {
        let next = timeout(HOUR, self.deliveries.recv()).await;
        next.expect("a delivery within an hour")
            .expect("more deliveries")
    }

    /// The payloads of the next deliveries, until there are `count` of them.
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let delivery = self.next().await;
            assert!(delivery.end.is_none(), "the shard ended after {texts:?}");
            let records = delivery.batch.range(delivery.rows.clone());
            texts.extend(records.map(|r| String::from_utf8_lossy(r.data()).into_owned()));
        }
        texts
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_pushed_at_once_and_nothing_is_asked_for() {
    let setup = Setup::new(1);
    setup.put(&["a", "b"]);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(2).await, ["a", "b"]);
    sleep(Duration::from_secs(60)).await;
    let before = Instant::now();
    setup.put(&["c"]);
    assert_eq!(reading.texts(1).await, ["c"]);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(setup.calls(), 1);
    assert_eq!(setup.stream.calls("GetRecords"), 0);
    assert_eq!(reading.notes.of("tip").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_renewed_before_it_ends_and_nothing_is_missed_or_doubled() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    for number in 0..2_000 {
        setup.put(&[&format!("{number}")]);
        assert_eq!(reading.texts(1).await, [number.to_string()]);
        sleep(Duration::from_millis(700)).await;
    }
    // 1,400 s.
    assert!((5..=6).contains(&setup.calls()), "{}", setup.calls());
    assert_eq!(reading.notes.of("failed"), NONE);
}

const NONE: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn the_end_names_the_children_and_comes_after_the_last_record() {
    let setup = Setup::new(1);
    setup.put(&["a"]);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(1).await, ["a"]);
    setup.put(&["b"]);
    let children = setup.stream.split(&setup.shard(0)).unwrap();
    assert_eq!(reading.texts(1).await, ["b"]);
    let end = reading.next().await.end.expect("the end");
    let named: Vec<ShardId> = end.children.into_iter().map(|c| c.shard_id).collect();
    assert_eq!(named, children);
    assert!(matches!(reading.end.await.unwrap(), PollEnd::ShardEnd));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_followed_by_another_one_where_it_stopped() {
    let setup = Setup::new(1);
    setup.put(&["a"]);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(1).await, ["a"]);
    sleep(Duration::from_secs(20)).await;
    setup.stream.cut_subscriptions();
    let before = Instant::now();
    setup.put(&["b"]);
    assert_eq!(reading.texts(1).await, ["b"]);
    assert!(before.elapsed() < Duration::from_secs(1));
    // Cut again at once: the service would refuse a call in the next five seconds.
    setup.stream.cut_subscriptions();
    setup.put(&["c"]);
    assert_eq!(reading.texts(1).await, ["c"]);
    assert!(before.elapsed() < Duration::from_secs(7));
    assert_eq!(reading.notes.of("failed").len(), 2);
    assert_eq!(reading.notes.of("in use"), NONE);
}

#[tokio::test(start_paused = true)]
async fn a16_a_silent_connection_is_given_up_within_15_s_and_others_flow() {
    let setup = Setup::new(2);
    let mut silent = setup.read_shard(0, StartPosition::TrimHorizon, None);
    let mut flows = setup.read_shard(1, StartPosition::TrimHorizon, None);
    sleep(Duration::from_secs(30)).await;
    setup.stream.silence(&setup.shard(0), true);
    // The next connection is a good one.
    setup.stream.silence(&setup.shard(0), false);
    let before = Instant::now();
    setup.put(&["a"]);
    for number in 0..8 {
        setup
            .stream
            .put_to(&setup.shard(1), "key", format!("{number}"));
        let put = Instant::now();
        assert_eq!(flows.texts(1).await, [number.to_string()]);
        assert_eq!(put.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(silent.texts(1).await, ["a"]);
    assert!(
        before.elapsed() <= Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_a_shard_over_waits_quietly_until_the_subscription_is_free() {
    let setup = Setup::new(1);
    setup.put(&["a"]);
    let mut old = setup.read(StartPosition::TrimHorizon);
    assert_eq!(old.texts(1).await, ["a"]);
    drop(old);
    let before = Instant::now();
    let mut new = setup.read(StartPosition::TrimHorizon);
    assert_eq!(new.texts(1).await, ["a"]);
    assert!(
        before.elapsed() < Duration::from_secs(7),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(new.notes.of("failed"), NONE);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_ever_is_tried_a_bounded_number_of_times() {
    use SourceErrorKind as Kind;
    for (kind, most) in [
        (Kind::AccessDenied, 10),
        (Kind::Unavailable, 20),
        (Kind::StreamInUse, 30),
        (Kind::Throttled, 20),
        (Kind::Malformed, 20),
    ] {
        let setup = Setup::new(1);
        setup.stream.fail_next("SubscribeToShard", kind, 100_000);
        let reading = setup.read(StartPosition::TrimHorizon);
        sleep(Duration::from_secs(600)).await;
        let before = setup.calls();
        sleep(Duration::from_secs(60)).await;
        let calls = setup.calls() - before;
        assert!(
            (1..=most).contains(&calls),
            "{kind}: {calls} calls a minute"
        );
        drop(reading);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_the_stream_does_not_have_ends_the_reading_after_a_few_looks() {
    let setup = Setup::new(1);
    let shard = setup.shard(0);
    setup.stream.split(&shard).unwrap();
    let reading = setup.read(StartPosition::TrimHorizon);
    setup.stream.forget(&shard);
    let end = timeout(HOUR, reading.end).await.unwrap().unwrap();
    assert!(matches!(end, PollEnd::ShardGone(_)), "{end:?}");
    assert!(setup.calls() <= 4, "{}", setup.calls());
}

#[tokio::test(start_paused = true)]
async fn a_number_past_retention_is_told_and_reading_goes_on_at_the_oldest_record() {
    let setup = Setup::new(1);
    let numbers = setup.put(&["lost", "lost too"]);
    setup.stream.trim(&setup.shard(0));
    setup.put(&["kept"]);
    let complete = Position::new(numbers[0].clone(), 0);
    let start = StartPosition::AtSequenceNumber(numbers[0].clone());
    let mut reading = setup.read_shard(0, start, Some(complete));
    assert_eq!(reading.texts(1).await, ["kept"]);
    assert_eq!(reading.notes.of("restarted").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_has_one_event_in_hand_and_one_ahead() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let data = vec![1; 1 << 20];
        setup.stream.put_to(&setup.shard(0), "key", data);
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(600)).await;
    let used = setup.reader.polling.budget.used();
    assert!(used < 3 << 20, "{used}");
    let mut records = 0;
    while records < 20 {
        records += reading.next().await.rows.len();
    }
    assert_eq!(records, 20);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_his_events_holds_no_subscription_and_misses_none() {
    let setup = Setup::new(1);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    let mut put = Vec::new();
    for number in 0..30 {
        put.push(number.to_string());
        setup.put(&[&put[number]]);
        sleep(Duration::from_secs(1)).await;
    }
    // One event is in the channel; the subscription was given up while the next one waited for a place.
    let shard = setup.shard(0);
    assert!(!setup.stream.is_followed("app", &shard));
    assert_eq!(reading.texts(30).await, put);
    sleep(Duration::from_secs(6)).await;
    assert!(setup.stream.is_followed("app", &shard));
    assert_eq!(reading.notes.of("failed"), NONE);
    assert!(setup.calls() <= 3, "{}", setup.calls());
}

#[tokio::test(start_paused = true)]
async fn without_room_the_subscription_is_given_up_and_the_place_in_the_queue_kept() {
    let mut setup = Setup::new(3);
    setup.reader.polling.budget = Budget::new(32 << 20);
    let budget = setup.reader.polling.budget.clone();
    let mut readings: Vec<Reading> = (0..3)
        .map(|index| setup.read_shard(index, StartPosition::TrimHorizon, None))
        .collect();
    sleep(Duration::from_secs(10)).await;
    // Somebody else has it all.
    let taken = budget.reserve(32 << 20).await;
    for index in 0..3 {
        let put = setup
            .stream
            .put_to(&setup.shard(index), "k", vec![1; 1 << 20]);
        assert!(put.is_some());
    }
    sleep(Duration::from_secs(120)).await;
    assert_eq!(budget.waiting(), 3);
    for index in 0..3 {
        assert!(!setup.stream.is_followed("app", &setup.shard(index)));
    }
    let calls = setup.calls();
    let before = Instant::now();
    drop(taken);
    for reading in &mut readings {
        assert_eq!(reading.next().await.rows.len(), 1);
        assert_eq!(reading.notes.of("failed"), NONE);
    }
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(setup.calls(), calls + 3);
    drop(readings);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_waited_for_is_given_back_when_the_next_subscription_fails() {
    let setup = Setup::new(1);
    let budget = setup.reader.polling.budget.clone();
    let mut reading = setup.read(StartPosition::TrimHorizon);
    sleep(Duration::from_secs(10)).await;
    let taken = budget.reserve(64 << 20).await;
    setup.stream.put_to(&setup.shard(0), "k", vec![1; 1 << 20]);
    sleep(Duration::from_secs(60)).await;
    let failure = SourceErrorKind::Unavailable;
    setup.stream.fail_next("SubscribeToShard", failure, 100_000);
    drop(taken);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(budget.used(), 0);
    setup.stream.fail_no_more("SubscribeToShard");
    assert_eq!(reading.next().await.rows.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_again_until_its_children_are_known() {
    let setup = Setup::new(1);
    setup.put(&["a"]);
    setup.stream.name_children(false);
    setup
        .stream
        .fail_next("ListShards", SourceErrorKind::Unavailable, 3);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(1).await, ["a"]);
    let children = setup.stream.split(&setup.shard(0)).unwrap();
    let end = reading.next().await.end.expect("the end");
    let named: Vec<ShardId> = end.children.into_iter().map(|c| c.shard_id).collect();
    assert_eq!(named, children);
    assert_eq!(reading.notes.of("failed").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_break_in_which_records_may_have_gone_is_told_of_as_a_gap() {
    let setup = Setup::new(1);
    let numbers = setup.put(&["a", "b"]);
    let mut reading = setup.read(StartPosition::TrimHorizon);
    assert_eq!(reading.texts(2).await, ["a", "b"]);
    let failure = SourceErrorKind::Unavailable;
    setup.stream.fail_next("SubscribeToShard", failure, 100_000);
    setup.stream.cut_subscriptions();
    sleep(2 * HOUR).await;
    setup.put(&["lost"]);
    setup.stream.trim(&setup.shard(0));
    let kept = setup.put(&["kept"]);
    setup.stream.fail_no_more("SubscribeToShard");
    let delivery = reading.next().await;
    let gap = delivery.gap.expect("a gap");
    assert_eq!(
        (gap.from, gap.to),
        (Some(numbers[1].clone()), Some(kept[0].clone()))
    );
    // Shorter breaks are no reason to look back.
    setup.stream.cut_subscriptions();
    setup.put(&["c"]);
    assert_eq!(reading.next().await.gap, None);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_argument_that_is_no_number_is_not_mistaken_for_one() {
    let setup = Setup::new(1);
    let numbers = setup.put(&["a", "b"]);
    let invalid = SourceErrorKind::InvalidArgument;
    setup.stream.fail_next("SubscribeToShard", invalid, 50);
    let start = StartPosition::AtSequenceNumber(numbers[1].clone());
    let mut reading = setup.read_shard(0, start, None);
    assert_eq!(reading.texts(1).await, ["b"]);
    assert_eq!(reading.notes.of("restarted"), NONE);
    assert_eq!(reading.notes.of("failed").len(), 25);
}
