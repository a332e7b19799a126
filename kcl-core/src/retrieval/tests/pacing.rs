//! When the next read goes out.

use std::time::Duration;

use kcl_lease::runtime::{Moment, Runtime};

use crate::retrieval::error::SourceErrorKind;
use crate::retrieval::pace::{Answer, PaceOptions, Pacer};

const NOTHING: Answer = Answer {
    bytes: 0,
    records: 0,
    limit: 100,
    behind: Some(Duration::ZERO),
    idle_shards: 1,
};
const FULL: Answer = Answer {
    bytes: 1000,
    records: 100,
    ..NOTHING
};
const SOME: Answer = Answer {
    bytes: 1000,
    records: 3,
    ..NOTHING
};

struct Shard {
    pacer: Pacer,
    now: Moment,
    start: Moment,
}

impl Shard {
    fn new() -> Self {
        Self::with(PaceOptions::default())
    }

    fn with(options: PaceOptions) -> Self {
        let start = Runtime::production().now();
        Self {
            pacer: Pacer::new(options, fastrand::Rng::with_seed(1)),
            now: start,
            start,
        }
    }

    /// Waits as told, calls, and gets `answer` at once. Returns the wait in milliseconds.
    fn read(&mut self, answer: Answer) -> u128 {
        let pause = self.pacer.pause(self.now);
        self.now = self.now.plus(pause);
        self.pacer.called(self.now);
        self.pacer.answered(self.now, &answer);
        pause.as_millis()
    }

    fn millis(&self) -> u128 {
        self.now.since(self.start).as_millis()
    }
}

#[test]
fn the_first_read_is_immediate_and_full_answers_are_followed_at_once() {
    let mut shard = Shard::new();
    let pauses: Vec<u128> = (0..5).map(|_| shard.read(FULL)).collect();
    assert_eq!(pauses, [0; 5]);
}

#[test]
fn there_are_never_more_than_five_calls_in_any_second() {
    let mut shard = Shard::new();
    let calls: Vec<u128> = (0..100)
        .map(|_| {
            shard.read(FULL);
            shard.millis()
        })
        .collect();
    for window in calls.windows(6) {
        assert!(window[5] - window[0] >= 1000, "{window:?}");
    }
    assert!(shard.millis() < 20_000, "and not fewer either");
}

#[test]
fn bytes_are_paced_to_two_megabytes_a_second() {
    let mut shard = Shard::new();
    let large = Answer {
        bytes: 10_000_000,
        ..FULL
    };
    assert_eq!(shard.read(large), 0);
    assert_eq!(shard.read(SOME), 5000);
    // Time that passed anyway counts.
    shard.read(large);
    shard.now = shard.now.plus(Duration::from_secs(4));
    assert_eq!(shard.read(SOME), 1000);
}

#[test]
fn a_part_of_the_calls_is_a_part_of_the_bytes_too() {
    for calls in 1..=5_u32 {
        let mut shard = Shard::with(PaceOptions {
            calls_per_second: calls,
            ..PaceOptions::default()
        });
        let sent: Vec<u128> = (0..50)
            .map(|_| {
                shard.read(FULL);
                shard.millis()
            })
            .collect();
        for window in sent.windows(calls as usize + 1) {
            assert!(window[calls as usize] - window[0] >= 1000, "{window:?}");
        }
        assert!(shard.millis() <= u128::from(50_000 / calls));
        shard.now = shard.now.plus(Duration::from_secs(10));
        let large = Answer {
            bytes: 2_000_000,
            ..FULL
        };
        shard.read(large);
        assert_eq!(shard.read(SOME), u128::from(5000 / calls));
        // Others take more than their part: it goes down to a call a second, as from any other pace.
        let pauses = (0..20).map(|_| shard.pacer.throttled(shard.now));
        let longest = pauses.max().unwrap();
        assert!((1000..=1100).contains(&longest.as_millis()), "{longest:?}");
    }
}

#[test]
fn at_the_tip_reads_keep_the_poll_interval() {
    let mut shard = Shard::new();
    shard.read(SOME);
    assert_eq!(shard.read(SOME), 200);
    let behind = Answer {
        behind: Some(Duration::from_secs(60)),
        ..SOME
    };
    shard.read(behind);
    assert_eq!(
        shard.read(SOME),
        0,
        "behind the tip there is no reason to wait"
    );
    let mut shard = Shard::new();
    let gap = Answer {
        behind: Some(Duration::from_secs(60)),
        ..NOTHING
    };
    shard.read(gap);
    assert_eq!(shard.read(SOME), 0, "an empty stretch is not the tip");
}

#[test]
fn idle_shards_are_read_less_often_until_something_comes() {
    let mut shard = Shard::new();
    shard.read(NOTHING);
    let pauses: Vec<u128> = (0..6).map(|_| shard.read(NOTHING)).collect();
    for (pause, expected) in pauses.iter().zip([200, 400, 800, 1000, 1000, 1000]) {
        assert!(
            (expected..=expected * 11 / 10).contains(pause),
            "{pauses:?}"
        );
    }
    shard.read(SOME);
    assert_eq!(shard.read(NOTHING), 200);
}

#[test]
fn very_many_idle_shards_stay_under_the_stated_calls_per_second() {
    let mut shard = Shard::new();
    let crowd = Answer {
        idle_shards: 2000,
        ..NOTHING
    };
    shard.read(crowd);
    let pause = shard.read(crowd);
    assert!((4000..=4400).contains(&pause), "{pause}");
}

#[test]
fn throttling_slows_down_to_a_limit_and_wears_off() {
    let mut shard = Shard::new();
    let mut last = Duration::ZERO;
    for _ in 0..10 {
        last = shard.pacer.throttled(shard.now);
        assert!(last <= Duration::from_millis(1100), "{last:?}");
    }
    assert!(last >= Duration::from_secs(1));
    shard.read(SOME);
    assert!(shard.read(SOME) > 900);
    for _ in 0..100 {
        shard.read(SOME);
    }
    assert_eq!(shard.read(SOME), 200);
}

#[test]
fn failures_back_off_longer_when_somebody_has_to_act() {
    let mut shard = Shard::new();
    let mut longest = |kind| {
        let mut pauses = Vec::new();
        for _ in 0..40 {
            pauses.push(shard.pacer.failed(shard.now, kind));
        }
        shard.read(SOME);
        (pauses[0], pauses[39])
    };
    let (first, last) = longest(SourceErrorKind::Unavailable);
    assert_eq!((first.0, last.0), (1, 40));
    assert!((200..=220).contains(&first.1.as_millis()), "{first:?}");
    assert!((5000..=5500).contains(&last.1.as_millis()), "{last:?}");
    let (first, last) = longest(SourceErrorKind::KmsDisabled);
    assert_eq!(first.0, 1, "an answer ends the row");
    assert!((15_000..=16_500).contains(&last.1.as_millis()), "{last:?}");
}
