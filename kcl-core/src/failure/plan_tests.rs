//! Plans against processors that fail in every way.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::plan::{Bounds, Failed, Plan, Verdict};

const FOREVER: Bounds = Bounds {
    attempts: None,
    elapsed: None,
    record_age: None,
    bisect: true,
};

const TOO_OLD_AFTER_A_MINUTE: Bounds = Bounds {
    record_age: Some(Duration::from_secs(60)),
    ..FOREVER
};

fn attempts(attempts: u32) -> Bounds {
    Bounds {
        attempts: Some(attempts),
        ..FOREVER
    }
}

/// What became of each place, in order: processed or given up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fate {
    processed: Vec<usize>,
    given_up: Vec<usize>,
    calls: usize,
}

/// One answer of a processor: which records it declares complete by hand, and whether and where it fails.
#[derive(Debug, Clone)]
struct Answer {
    completes: usize,
    fails: bool,
    names: Option<usize>,
}

/// Runs a plan to its end against `answer`, which hears the call and its number.
fn run(places: usize, bounds: Bounds, answer: impl FnMut(&Range<usize>, usize) -> Answer) -> Fate {
    run_in(places, bounds, |_| usize::MAX, answer)
}

/// As [`run`], with so much room in each call. Fails when a place is given up that has failed less often than the bound says.
fn run_in(
    places: usize,
    bounds: Bounds,
    room: impl Fn(usize) -> usize,
    mut answer: impl FnMut(&Range<usize>, usize) -> Answer,
) -> Fate {
    let mut failures = vec![0; places];
    let mut plan = Plan::new(places, bounds);
    let mut fate = Fate::default();
    let mut settled = 0;
    while let Some(call) = plan.next_call(room(fate.calls)) {
        let now = Duration::from_secs(fate.calls as u64);
        fate.calls += 1;
        assert!(fate.calls < 10_000, "the plan ends");
        assert_eq!(call.start, settled, "nothing is passed in silence");
        assert!(!call.is_empty() && call.end <= places);
        let answer = answer(&call, fate.calls);
        if !answer.fails {
            plan.succeeded();
            fate.processed.extend(call.clone());
            assert_eq!(plan.settled(), call.end);
            settled = plan.settled();
            continue;
        }
        let failed = Failed {
            completed: answer.completes,
            at: answer.names,
            now,
            retry_at: now + Duration::from_secs(1),
        };
        let verdict = plan.failed(failed, |_| None);
        assert!((settled..=call.end).contains(&plan.settled()));
        fate.processed.extend(settled..plan.settled());
        settled = plan.settled();
        failures[settled..call.end]
            .iter_mut()
            .for_each(|failures| *failures += 1);
        if let Verdict::GiveUp(range) = verdict {
            assert_eq!(range.start, settled);
            assert!(range.end <= call.end);
            let least = bounds.attempts.unwrap_or(1);
            for place in range.clone() {
                assert!(failures[place] >= least, "{place} of {failures:?}");
            }
            plan.gave_up(range.end);
            fate.given_up.extend(range);
            settled = plan.settled();
        }
    }
    assert_eq!(settled, places);
    fate
}

/// Fails whenever a poisoned record is in the call, and names it if it knows how to.
fn poisoned(
    poison: &BTreeSet<usize>,
    names: bool,
) -> impl FnMut(&Range<usize>, usize) -> Answer + '_ {
    move |call, _| {
        let first = poison.range(call.clone()).next().copied();
        Answer {
            completes: 0,
            fails: first.is_some(),
            names: first.filter(|_| names),
        }
    }
}

#[test]
fn without_bounds_a_failing_record_is_tried_for_ever() {
    let mut plan = Plan::new(3, FOREVER);
    for attempt in 1..=1_000_u64 {
        assert_eq!(plan.next_call(usize::MAX), Some(0..3));
        let failed = Failed {
            completed: 0,
            at: None,
            now: Duration::from_secs(60 * attempt),
            retry_at: Duration::from_secs(60 * attempt + 30),
        };
        let very_old = |_| Some(Duration::from_secs(u64::MAX));
        assert_eq!(plan.failed(failed, very_old), Verdict::Retry);
    }
    plan.succeeded();
    assert_eq!(plan.next_call(usize::MAX), None);
}

#[test]
fn one_poisoned_record_costs_the_attempts_and_a_search() {
    for places in [1, 2, 3, 64, 1_000, 10_000] {
        for poison in [0, places / 3, places - 1] {
            let fate = run(places, attempts(3), poisoned(&[poison].into(), false));
            assert_eq!(fate.given_up, [poison], "of {places}");
            assert_eq!(fate.processed.len(), places - 1);
            let search = usize::try_from(places.next_power_of_two().ilog2()).unwrap();
            assert!(
                fate.calls <= 3 + search + 2,
                "{} calls for {places}",
                fate.calls
            );
        }
    }
}

#[test]
fn a_named_record_is_given_up_without_a_search_and_what_is_before_it_is_complete_at_once() {
    let fate = run(1_000, attempts(3), poisoned(&[400].into(), true));
    assert_eq!((fate.given_up, fate.calls), (vec![400], 3 + 1));
}

#[test]
fn each_failing_place_has_attempts_of_its_own() {
    let fate = run(10, attempts(3), poisoned(&[2, 5].into(), true));
    assert_eq!((fate.given_up, fate.calls), (vec![2, 5], 3 + 3 + 1));
}

#[test]
fn without_a_search_the_whole_call_is_given_up() {
    let bounds = Bounds {
        bisect: false,
        ..attempts(2)
    };
    let fate = run(4, bounds, poisoned(&[3].into(), false));
    assert_eq!((fate.given_up, fate.calls), (vec![0, 1, 2, 3], 2));
}

#[test]
fn places_for_which_earlier_calls_had_no_room_have_their_own_attempts() {
    for bisect in [true, false] {
        let bounds = Bounds {
            bisect,
            ..attempts(3)
        };
        let room = |calls| if calls < 2 { 1 } else { 4 };
        // The first place fails alone, then with the others, and the second goes on failing.
        let fate = run_in(4, bounds, room, |call, number| Answer {
            completes: 0,
            fails: number <= 3 || call.contains(&1),
            names: None,
        });
        let (given_up, calls) = match bisect {
            true => (vec![1], 3 + 1 + 3 + 1 + 1),
            false => (vec![0, 1, 2, 3], 3 + 3),
        };
        assert_eq!((fate.given_up, fate.calls), (given_up, calls));
    }
}

#[test]
fn a_place_that_is_not_in_the_call_names_nothing() {
    let mut plan = Plan::new(4, attempts(1));
    plan.next_call(usize::MAX).unwrap();
    let failed = |at| Failed {
        completed: 0,
        at,
        now: Duration::ZERO,
        retry_at: Duration::ZERO,
    };
    assert_eq!(plan.failed(failed(Some(9)), |_| None), Verdict::Narrow);
    assert_eq!(plan.next_call(usize::MAX).unwrap(), 0..2);
    assert_eq!(plan.failed(failed(Some(2)), |_| None), Verdict::Narrow);
    assert_eq!(plan.next_call(usize::MAX).unwrap(), 0..1);
}

#[test]
fn no_attempt_begins_later_than_the_elapsed_bound() {
    let bounds = Bounds {
        elapsed: Some(Duration::from_secs(10)),
        ..FOREVER
    };
    let mut plan = Plan::new(1, bounds);
    let mut fail = |now: u64, retry_at: u64| {
        plan.next_call(usize::MAX).unwrap();
        let failed = Failed {
            completed: 0,
            at: None,
            now: Duration::from_secs(now),
            retry_at: Duration::from_secs(retry_at),
        };
        plan.failed(failed, |_| None)
    };
    assert_eq!(fail(100, 105), Verdict::Retry);
    assert_eq!(fail(105, 110), Verdict::Retry);
    assert_eq!(fail(110, 111), Verdict::GiveUp(0..1));
}

#[test]
fn a_failing_record_is_given_up_when_it_is_too_old_and_a_call_when_all_of_it_is() {
    let bounds = Bounds {
        bisect: false,
        ..TOO_OLD_AFTER_A_MINUTE
    };
    let failed = |at| Failed {
        completed: 0,
        at,
        now: Duration::ZERO,
        retry_at: Duration::ZERO,
    };
    let only_first_is_old = |place| Some(Duration::from_secs(if place == 0 { 61 } else { 60 }));
    let mut plan = Plan::new(2, bounds);
    plan.next_call(usize::MAX).unwrap();
    assert_eq!(plan.failed(failed(None), only_first_is_old), Verdict::Retry);
    plan.next_call(usize::MAX).unwrap();
    let verdict = plan.failed(failed(Some(0)), only_first_is_old);
    assert_eq!(verdict, Verdict::GiveUp(0..1));
    let mut plan = Plan::new(2, bounds);
    plan.next_call(usize::MAX).unwrap();
    let all_old = |_| Some(Duration::from_secs(61));
    assert_eq!(plan.failed(failed(None), all_old), Verdict::GiveUp(0..2));
    let mut plan = Plan::new(1, bounds);
    plan.next_call(usize::MAX).unwrap();
    assert_eq!(plan.failed(failed(None), |_| None), Verdict::Retry);
}

#[test]
fn the_oldest_record_of_a_call_begins_the_search_and_a_younger_one_that_fails_is_tried_on() {
    let old = 3;
    for names in [false, true] {
        for poison in 0..8 {
            let mut plan = Plan::new(8, TOO_OLD_AFTER_A_MINUTE);
            let mut retried = 0;
            let mut given_up = Vec::new();
            while let Some(call) = plan.next_call(usize::MAX) {
                // A record that is tried on is processed the third time that it fails alone, or by name.
                if !call.contains(&poison) || retried == 3 {
                    plan.succeeded();
                    continue;
                }
                let failed = Failed {
                    completed: 0,
                    at: names.then_some(poison),
                    now: Duration::ZERO,
                    retry_at: Duration::ZERO,
                };
                let age = |place| Some(Duration::from_secs(if place < old { 61 } else { 60 }));
                match plan.failed(failed, age) {
                    Verdict::Narrow => assert!(!names),
                    Verdict::Retry => {
                        assert_eq!(plan.settled(), poison, "those before it are processed");
                        retried += 1;
                    }
                    Verdict::GiveUp(places) => {
                        plan.gave_up(places.end);
                        given_up.extend(places);
                    }
                }
            }
            let expected = if poison < old { vec![poison] } else { vec![] };
            assert_eq!(given_up, expected, "{poison} {names}");
            assert_eq!(retried, if poison < old { 0 } else { 3 });
        }
    }
}

#[test]
fn records_that_were_declared_complete_between_calls_are_not_delivered_again() {
    let mut plan = Plan::new(5, attempts(1));
    plan.completed(3);
    assert_eq!(plan.next_call(usize::MAX).unwrap(), 3..5);
    plan.completed(9);
    assert_eq!(plan.next_call(usize::MAX), None);
}

proptest! {
    /// Whatever the processor does, and however much room it has, each record is settled once and in order, none is given up
    /// before it failed as often as it may, and the plan ends.
    #[test]
    fn each_record_is_processed_or_given_up_once(
        places in 0..40_usize,
        most in 1..4_u32,
        bisect: bool,
        rooms in prop::collection::vec(1..45_usize, 1..20),
        answers in prop::collection::vec((0..45_usize, 0..4_u8, prop::option::of(0..45_usize)), 1..60),
    ) {
        let bounds = Bounds { bisect, ..attempts(most) };
        let room = |calls: usize| rooms[calls % rooms.len()];
        let fate = run_in(places, bounds, room, |_, number| {
            // Failures that come to an end, and some that do not.
            let (completes, dice, names) = answers[number % answers.len()];
            Answer { completes, fails: dice > 0, names }
        });
        let mut all: Vec<usize> = fate.processed.iter().chain(&fate.given_up).copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..places).collect::<Vec<_>>());
        prop_assert!(fate.processed.is_sorted() && fate.given_up.is_sorted());
    }

    /// Exactly the poisoned records are given up, each after at least its attempts.
    #[test]
    fn exactly_the_poisoned_records_are_given_up(
        places in 1..200_usize,
        poison in prop::collection::btree_set(0..200_usize, 0..6),
        most in 1..4_u32,
        names: bool,
    ) {
        let poison: BTreeSet<usize> = poison.into_iter().filter(|p| *p < places).collect();
        let fate = run(places, attempts(most), poisoned(&poison, names));
        prop_assert_eq!(fate.given_up, poison.iter().copied().collect::<Vec<_>>());
        let search = if names { 0 } else { places.next_power_of_two().ilog2() + 1 };
        let most_calls = poison.len() * (most + search) as usize + 1;
        prop_assert!(fate.calls <= most_calls, "{} of {most_calls}", fate.calls);
    }

    /// A record that fails for a while is given up only if it fails as often as the bound says.
    #[test]
    fn passing_failures_below_the_bound_lose_nothing(
        places in 1..100_usize,
        failures in 0..5_usize,
    ) {
        let fate = run(places, attempts(6), |_, number| Answer {
            completes: 0,
            fails: number <= failures,
            names: None,
        });
        prop_assert_eq!((fate.given_up.len(), fate.calls), (0, failures + 1));
    }
}
