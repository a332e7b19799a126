//! Jumps over records that are out of retention.

use super::tests::*;
use super::*;
use crate::simulation::history::Stored;

/// A tells of the gap between two records, then goes on after it; everything before `gone` may have been trimmed.
fn goes_on_after_a_gap(gone: u32, told: Option<(u32, u32)>) -> Vec<&'static str> {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0]);
    complete(&mut checker, 1_200, A);
    let shards = vec![(0, gone)];
    checker.follow(1_300, Event::Trimmed { shards });
    if let Some((from, to)) = told {
        let gap = Event::GapTold {
            process: A,
            shard: 0,
            from: from.to_string(),
            to: to.to_string(),
        };
        checker.follow(1_400, gap);
    }
    deliver(&mut checker, 1_400, A, &[2, 3]);
    heartbeat(&mut checker, 1_500, A, 1);
    broken(&checker)
}

#[test]
fn a_gap_is_told_with_its_range() {
    assert_eq!(goes_on_after_a_gap(2, Some((0, 2))), Vec::<&str>::new());
    assert_eq!(goes_on_after_a_gap(2, None), ["P12 gap told"]);
    assert_eq!(goes_on_after_a_gap(2, Some((0, 1))), ["P12 gap told"]);
    assert_eq!(goes_on_after_a_gap(2, Some((1, 2))), ["P12 gap told"]);
    // Not gone at all, as both say.
    let lies = goes_on_after_a_gap(1, Some((0, 2)));
    assert_eq!(lies, ["P12 gap told", "P2 order"]);
}

#[test]
fn by_fan_out_only_the_beginning_of_a_grant_tells() {
    let goes_on = |retention_before: bool| {
        let mut checker = fixture();
        checker.reading = Reading::FanOut;
        let shards = vec![(0, 2)];
        if retention_before {
            checker.follow(
                1_050,
                Event::Trimmed {
                    shards: shards.clone(),
                },
            );
        }
        start(&mut checker, 1_100, A, 11, Stored::Start);
        deliver(&mut checker, 1_200, A, &[0]);
        complete(&mut checker, 1_200, A);
        if !retention_before {
            checker.follow(1_300, Event::Trimmed { shards });
        }
        deliver(&mut checker, 1_400, A, &[2, 3]);
        heartbeat(&mut checker, 1_500, A, 1);
        broken(&checker)
    };
    assert_eq!(goes_on(false), Vec::<&str>::new());
    assert_eq!(goes_on(true), ["P12 gap told"]);
}
