//! Rules of calls, letters, answers and lanes.

use std::time::Duration;

use super::tests::*;
use super::*;
use crate::simulation::history::{Answer, Reply, Stop, Stored};
use crate::simulation::practice::GivenUp;

const NONE: [&str; 0] = [];

/// A works on the shard, in so many lanes, by this practice. Records 0 and 2 are of one key, 1 and 3 of another.
fn begun(lanes: u32, practice: Practice) -> Checker {
    let mut checker = fixture();
    checker.practice = practice;
    for lane in 0..lanes {
        let initialized = Event::Initialized {
            process: A,
            shard: 0,
            lanes,
            lane,
            epoch: 11,
            from: Stored::Start,
        };
        checker.follow(1_100, initialized);
    }
    checker
}

fn plain(lanes: u32) -> Checker {
    begun(lanes, Practice::default())
}

fn giving_up(given_up: GivenUp, attempts: u32) -> Practice {
    Practice {
        given_up,
        attempts,
        ..Practice::default()
    }
}

fn call(checker: &mut Checker, at: u64, lane: u32, records: &[u32]) {
    let delivered = Event::Delivered {
        process: A,
        shard: 0,
        lane,
        records: records.to_vec(),
    };
    checker.follow(at, delivered);
}

fn succeed(checker: &mut Checker, at: u64, lane: u32) {
    let completed = Event::Completed {
        process: A,
        shard: 0,
        lane,
    };
    checker.follow(at, completed);
}

/// The worker tells that it skipped the first record, after one attempt.
fn skip_first(checker: &mut Checker, at: u64) {
    let skipped = Event::Skipped {
        process: A,
        shard: 0,
        sequence: 0.to_string(),
        attempts: 1,
    };
    checker.follow(at, skipped);
}

fn fail(checker: &mut Checker, at: u64, named: Option<u32>) {
    let failed = Event::Failed {
        process: A,
        shard: 0,
        lane: 0,
        panicked: false,
        named,
    };
    checker.follow(at, failed);
}

fn defer(checker: &mut Checker, at: u64, handle: u64, records: &[u32]) {
    let deferred = Event::Deferred {
        process: A,
        shard: 0,
        lane: 0,
        handle,
        records: records.to_vec(),
    };
    checker.follow(at, deferred);
}

fn answer(checker: &mut Checker, at: u64, handle: u64, answer: Answer, reply: Reply) {
    let answered = Event::Answered {
        process: A,
        shard: 0,
        handle,
        answer,
        reply,
    };
    checker.follow(at, answered);
}

fn letter(checker: &mut Checker, at: u64, record: u32, attempts: u32, accepted: bool) {
    let letter = Event::Letter {
        process: A,
        shard: 0,
        sequence: record.to_string(),
        attempts,
        parked: false,
        accepted,
    };
    checker.follow(at, letter);
}

/// A letter is accepted that is sent because its key is parked.
fn letter_of_parked_key(checker: &mut Checker, at: u64, record: u32, attempts: u32) {
    let letter = Event::Letter {
        process: A,
        shard: 0,
        sequence: record.to_string(),
        attempts,
        parked: true,
        accepted: true,
    };
    checker.follow(at, letter);
}

/// A stores its progress for the first time.
fn store(checker: &mut Checker, at: u64, record: u32) {
    let before = row(Some(A), 11, Stored::Start);
    let after = row(Some(A), 12, through(record));
    write(checker, at, A, Some(before), Some(after));
}

#[test]
fn a_deferred_record_holds_the_checkpoint_until_it_is_done() {
    for (said, rules) in [
        (Some(Answer::Done), &NONE[..]),
        (Some(Answer::Failed(None)), &["P1 no loss"]),
        (None, &["P1 no loss"]),
    ] {
        let mut checker = plain(1);
        call(&mut checker, 1_200, 0, &[0, 1]);
        defer(&mut checker, 1_200, 7, &[0]);
        succeed(&mut checker, 1_200, 0);
        if let Some(said) = said {
            answer(&mut checker, 1_300, 7, said, Reply::Taken);
        }
        store(&mut checker, 1_400, 1);
        assert_eq!(broken(&checker), rules, "{said:?}");
    }
}

#[test]
fn what_is_out_or_complete_does_not_come_again_and_what_failed_does() {
    let again = |said: Option<Answer>| {
        let mut checker = plain(1);
        call(&mut checker, 1_200, 0, &[0, 1]);
        defer(&mut checker, 1_200, 7, &[0]);
        succeed(&mut checker, 1_200, 0);
        if let Some(said) = said {
            answer(&mut checker, 1_300, 7, said, Reply::Taken);
        }
        call(&mut checker, 1_400, 0, &[0]);
        broken(&checker)
    };
    assert_eq!(
        again(None),
        ["P2 order", "P11 duplicates have a cause"][..1]
    );
    assert_eq!(again(Some(Answer::Done)), ["P2 order"]);
    assert_eq!(again(Some(Answer::Failed(None))), NONE);
    assert_eq!(again(Some(Answer::Dropped)), NONE);
}

#[test]
fn the_handles_of_a_failed_call_are_void_and_its_records_come_again() {
    for (reply, rules) in [(Reply::Over, &NONE[..]), (Reply::Taken, &["A1 answers"])] {
        let mut checker = plain(1);
        call(&mut checker, 1_200, 0, &[0, 1]);
        defer(&mut checker, 1_200, 7, &[0]);
        fail(&mut checker, 1_200, Some(1));
        answer(&mut checker, 1_300, 7, Answer::Done, reply);
        call(&mut checker, 1_400, 0, &[0, 1]);
        assert_eq!(broken(&checker), rules, "{reply:?}");
    }
}

#[test]
fn an_answer_for_records_in_flight_counts_and_one_after_a_loss_does_not() {
    let answered = |lost: bool, reply: Reply| {
        let mut checker = plain(1);
        call(&mut checker, 1_200, 0, &[0]);
        defer(&mut checker, 1_200, 7, &[0]);
        succeed(&mut checker, 1_200, 0);
        if lost {
            let (process, shard, why) = (A, 0, Stop::Lost);
            checker.follow(
                1_300,
                Event::Stopped {
                    process,
                    shard,
                    why,
                },
            );
        }
        answer(&mut checker, 1_400, 7, Answer::Done, reply);
        broken(&checker)
    };
    assert_eq!(answered(false, Reply::Taken), NONE);
    assert_eq!(answered(false, Reply::Over), ["A1 answers"]);
    assert_eq!(answered(false, Reply::NotInCall), ["A1 answers"]);
    assert_eq!(answered(true, Reply::LeaseLost), NONE);
    assert_eq!(answered(true, Reply::Taken), ["A1 answers"]);
}

#[test]
fn no_more_is_in_flight_than_allowed() {
    for (most, rules) in [(2, &["A2 in flight"][..]), (3, &NONE)] {
        let practice = Practice {
            max_in_flight: most,
            ..Practice::default()
        };
        let mut checker = begun(1, practice);
        call(&mut checker, 1_200, 0, &[0, 1]);
        defer(&mut checker, 1_200, 7, &[0, 1]);
        succeed(&mut checker, 1_200, 0);
        call(&mut checker, 1_300, 0, &[2]);
        assert_eq!(broken(&checker), rules);
    }
}

#[test]
fn lanes_go_their_own_ways_with_one_checkpoint_for_all() {
    let mut checker = plain(2);
    call(&mut checker, 1_200, 1, &[1, 3]);
    call(&mut checker, 1_200, 0, &[0, 2]);
    succeed(&mut checker, 1_300, 1);
    assert_eq!(broken(&checker), NONE);
    store(&mut checker, 1_400, 1);
    assert_eq!(broken(&checker), ["P1 no loss"], "record 0 is not complete");
}

#[test]
fn with_lanes_the_records_of_a_key_stay_in_order_and_in_their_lane() {
    let two_calls = |first: (u32, &[u32]), second: (u32, &[u32])| {
        let mut checker = plain(2);
        call(&mut checker, 1_200, first.0, first.1);
        succeed(&mut checker, 1_200, first.0);
        call(&mut checker, 1_300, second.0, second.1);
        broken(&checker)
    };
    assert_eq!(two_calls((0, &[0]), (0, &[2])), NONE);
    assert_eq!(
        two_calls((0, &[0]), (1, &[2])),
        ["L1 a key stays in its lane"]
    );
    assert_eq!(two_calls((0, &[2]), (1, &[1])), ["P2 order"]);
}

#[test]
fn what_a_call_left_comes_again_before_anything_later() {
    for (named, next, rules) in [
        (None, &[0, 1, 2][..], &NONE[..]),
        (None, &[0], &NONE),
        (None, &[1, 2], &["P2 order"]),
        (Some(1), &[1, 2], &NONE),
        (Some(1), &[0, 1, 2], &["P2 order"]),
        (Some(1), &[2], &["P2 order"]),
    ] {
        let mut checker = plain(1);
        call(&mut checker, 1_200, 0, &[0, 1, 2]);
        fail(&mut checker, 1_200, named);
        call(&mut checker, 1_300, 0, next);
        assert_eq!(broken(&checker), rules, "{named:?}, then {next:?}");
    }
}

/// Record 0 fails so often, the last time alone or with another one, and goes to the sink.
fn letter_after(failures: u32, alone: bool, attempts: u32, accepted: bool) -> Checker {
    let mut checker = begun(1, giving_up(GivenUp::Letter, 2));
    for n in 0..failures {
        let records: &[u32] = if alone && n + 1 == failures {
            &[0]
        } else {
            &[0, 1]
        };
        call(&mut checker, 1_200 + u64::from(n), 0, records);
        fail(&mut checker, 1_200 + u64::from(n), None);
    }
    letter(&mut checker, 1_300, 0, attempts, accepted);
    checker
}

#[test]
fn a_record_is_given_up_by_the_rules_of_the_policy() {
    let rule = ["F1 given up by the rules"];
    for (failures, alone, attempts, rules) in [
        (2, true, 2, &NONE[..]),
        (3, true, 3, &NONE),
        (1, true, 1, &rule),
        (2, false, 2, &rule),
        (2, true, 3, &rule),
    ] {
        let checker = letter_after(failures, alone, attempts, true);
        assert_eq!(
            broken(&checker),
            rules,
            "{failures} failures, {attempts} told"
        );
    }
    let mut unasked = plain(1);
    letter(&mut unasked, 1_300, 0, 0, true);
    assert_eq!(broken(&unasked), rule);
}

#[test]
fn what_was_complete_is_given_up_with_those_it_came_again_with_and_only_so() {
    for (fails, together, rules) in [
        (true, true, &NONE[..]),
        (true, false, &NONE),
        (false, true, &["F1 given up by the rules"]),
    ] {
        let practice = Practice {
            bisect: false,
            ..giving_up(GivenUp::Letter, 2)
        };
        let mut checker = begun(1, practice);
        call(&mut checker, 1_200, 0, &[0, 1]);
        defer(&mut checker, 1_200, 7, &[1]);
        answer(&mut checker, 1_250, 7, Answer::Done, Reply::Taken);
        if fails {
            fail(&mut checker, 1_300, None);
            call(&mut checker, 1_400, 0, &[0, 1]);
            // Deferred on its own it is refused, and is among all that is left nevertheless.
            match together {
                true => defer(&mut checker, 1_400, 8, &[0, 1]),
                false => {
                    defer(&mut checker, 1_400, 9, &[1]);
                    defer(&mut checker, 1_400, 8, &[0]);
                }
            }
            succeed(&mut checker, 1_400, 0);
            answer(&mut checker, 1_500, 8, Answer::Failed(None), Reply::Taken);
            letter(&mut checker, 1_600, 0, 2, true);
        }
        let delivered = if fails { 2 } else { 1 };
        letter(&mut checker, 1_600, 1, delivered, true);
        assert_eq!(broken(&checker), rules, "fails: {fails}, {together}");
    }
}

#[test]
fn the_checkpoint_passes_a_letter_once_it_is_accepted() {
    for (accepted, rules) in [(true, &NONE[..]), (false, &["P1 no loss"])] {
        let mut checker = letter_after(2, true, 2, accepted);
        store(&mut checker, 1_400, 0);
        assert_eq!(broken(&checker), rules);
    }
}

/// Record 0 is given up, and its key parked. Records 1, 2 and 3 are left.
fn parked(time: Option<Duration>) -> Checker {
    let mut checker = begun(1, giving_up(GivenUp::Parked(time), 1));
    call(&mut checker, 1_200, 0, &[0]);
    fail(&mut checker, 1_200, None);
    letter(&mut checker, 1_300, 0, 1, true);
    checker
}

#[test]
fn later_records_of_a_parked_key_go_to_the_sink_and_not_to_the_processor() {
    let mut checker = parked(None);
    call(&mut checker, 1_400, 0, &[1]);
    succeed(&mut checker, 1_400, 0);
    letter_of_parked_key(&mut checker, 1_500, 2, 0);
    call(&mut checker, 1_600, 0, &[3]);
    assert_eq!(broken(&checker), NONE);
    let mut checker = parked(None);
    call(&mut checker, 1_400, 0, &[1, 2]);
    assert_eq!(broken(&checker), ["F2 parked keys"]);
    for (at, rules) in [(2_199, &["F2 parked keys"][..]), (2_200, &NONE)] {
        let mut checker = parked(Some(Duration::from_secs(1)));
        call(&mut checker, at, 0, &[1, 2]);
        assert_eq!(broken(&checker), rules);
    }
}

#[test]
fn only_a_record_that_is_given_up_parks_its_key_anew() {
    for (parked, rules) in [(true, &NONE[..]), (false, &["F2 parked keys"])] {
        let for_a_second = GivenUp::Parked(Some(Duration::from_secs(1)));
        let mut checker = begun(1, giving_up(for_a_second, 1));
        let put = Event::Put {
            shard: 0,
            sequence: 4.to_string(),
            key: 0,
            arrived: 1_150,
        };
        checker.follow(1_150, put);
        call(&mut checker, 1_200, 0, &[0, 1, 2, 3]);
        defer(&mut checker, 1_200, 7, &[0]);
        defer(&mut checker, 1_200, 8, &[2]);
        succeed(&mut checker, 1_200, 0);
        answer(&mut checker, 1_300, 7, Answer::Failed(None), Reply::Taken);
        letter(&mut checker, 1_400, 0, 1, true);
        answer(&mut checker, 1_900, 8, Answer::Failed(None), Reply::Taken);
        match parked {
            true => letter_of_parked_key(&mut checker, 2_000, 2, 1),
            false => letter(&mut checker, 2_000, 2, 1, true),
        }
        assert_eq!(broken(&checker), NONE);
        call(&mut checker, 2_500, 0, &[4]);
        assert_eq!(broken(&checker), rules, "sent as parked: {parked}");
    }
}

#[test]
fn a_record_is_not_sent_for_a_key_that_is_not_parked() {
    let mut checker = begun(1, giving_up(GivenUp::Parked(None), 1));
    call(&mut checker, 1_200, 0, &[0]);
    fail(&mut checker, 1_200, None);
    letter_of_parked_key(&mut checker, 1_300, 0, 1);
    assert_eq!(broken(&checker), ["F1 given up by the rules"]);
}

#[test]
fn the_sink_gets_the_records_of_a_key_in_order() {
    let mut checker = begun(1, giving_up(GivenUp::Parked(None), 1));
    call(&mut checker, 1_200, 0, &[0, 1, 2]);
    fail(&mut checker, 1_200, Some(2));
    assert_eq!(broken(&checker), NONE);
    letter(&mut checker, 1_300, 2, 1, true);
    assert_eq!(broken(&checker), NONE, "record 0 is complete");
    let mut checker = begun(1, giving_up(GivenUp::Parked(None), 1));
    call(&mut checker, 1_200, 0, &[0, 1, 2]);
    fail(&mut checker, 1_200, None);
    letter(&mut checker, 1_300, 2, 1, true);
    assert!(broken(&checker).contains(&"F2 parked keys"));
}

#[test]
fn what_is_skipped_is_told() {
    let goes_on = |told: bool, given_up: GivenUp| {
        let mut checker = begun(1, giving_up(given_up, 1));
        call(&mut checker, 1_200, 0, &[0]);
        fail(&mut checker, 1_200, None);
        call(&mut checker, 1_200, 0, &[1]);
        if told {
            skip_first(&mut checker, 1_200);
        }
        succeed(&mut checker, 1_300, 0);
        store(&mut checker, 1_400, 1);
        broken(&checker)
    };
    assert_eq!(goes_on(true, GivenUp::Skipped), NONE);
    assert_eq!(goes_on(false, GivenUp::Skipped), ["P2 order", "P1 no loss"]);
    let unasked = goes_on(true, GivenUp::Never);
    assert_eq!(unasked[..2], ["P2 order", "F1 given up by the rules"]);
}

#[test]
fn a_processor_that_begins_after_what_another_lane_skips_waits_for_its_word() {
    let replaced = |told: bool, given_up: GivenUp| {
        let mut checker = begun(2, giving_up(given_up, 1));
        call(&mut checker, 1_200, 0, &[0]);
        fail(&mut checker, 1_200, None);
        let initialized = Event::Initialized {
            process: A,
            shard: 0,
            lanes: 2,
            lane: 1,
            epoch: 11,
            from: through(0),
        };
        checker.follow(1_200, initialized);
        if told {
            skip_first(&mut checker, 1_200);
        }
        call(&mut checker, 1_201, 1, &[1]);
        broken(&checker)
    };
    assert_eq!(replaced(true, GivenUp::Skipped), NONE);
    assert_eq!(replaced(false, GivenUp::Skipped), ["P2 order"]);
    assert_eq!(replaced(false, GivenUp::Never), ["P2 order"]);
}

#[test]
fn at_the_end_everything_is_complete_and_not_only_delivered() {
    let mut checker = plain(1);
    call(&mut checker, 1_200, 0, &[0, 1, 2, 3]);
    defer(&mut checker, 1_200, 7, &[3]);
    succeed(&mut checker, 1_200, 0);
    let mut left = plain(1);
    call(&mut left, 1_200, 0, &[0, 1, 2, 3]);
    succeed(&mut left, 1_200, 0);
    left.finish(2_000);
    assert!(!broken(&left).contains(&"P1 at least once"));
    checker.finish(2_000);
    assert!(broken(&checker).contains(&"P1 at least once"));
}
