//! What follows when a worker gives a lease away by itself.

use std::time::Duration;

use super::tests::*;
use super::*;
use crate::simulation::history::Stored;

const B: Process = 2;
const NONE: [&str; 0] = [];

/// A lapsed while it gave the shard away, B took it, and A says that it was given away. Then B is gone, and A takes it back.
fn taken_while_it_is_released(told: bool) -> Checker {
    let mut checker = fixture();
    let shard = 0;
    let cut = |process, cut| Event::CutOff { process, cut };
    start(&mut checker, 1_100, A, 11, Stored::Start);
    checker.follow(1_200, cut(A, true));
    let rows = |owner, counter| Some(row(Some(owner), counter, Stored::Start));
    write(&mut checker, 12_000, B, rows(A, 11), rows(B, 12));
    start(&mut checker, 12_100, B, 12, Stored::Start);
    checker.follow(13_000, cut(A, false));
    heartbeat(&mut checker, 13_100, A, 1);
    if told {
        checker.follow(13_200, Event::Released { process: A, shard });
    }
    checker.follow(13_300, Event::Killed { process: B });
    write(&mut checker, 14_000, A, rows(B, 12), rows(A, 13));
    start(&mut checker, 14_100, A, 13, Stored::Start);
    deliver(&mut checker, 14_200, A, &[0]);
    checker
}

#[test]
fn a_lease_that_was_taken_while_it_was_released_is_granted_anew() {
    assert_eq!(broken(&taken_while_it_is_released(true)), NONE);
}

#[test]
fn who_was_not_told_that_its_lease_is_over_does_not_begin_anew() {
    let checker = taken_while_it_is_released(false);
    assert_eq!(broken(&checker), ["T1 no delivery after a take"]);
}

/// A gives the shard up, and starts it again so much later.
fn given_up_and_started_again(stall_timeout: bool, alone: bool, took: u64) -> Vec<&'static str> {
    let mut checker = fixture();
    checker.practice.stall_timeout = stall_timeout.then_some(Duration::from_secs(31));
    start(&mut checker, 1_000, A, 11, Stored::Start);
    if alone {
        checker.follow(1_100, Event::Stopping { process: B });
    }
    let owned = |counter| Some(row(Some(A), counter, Stored::Start));
    let free = || Some(row(None, 12, Stored::Start));
    write(&mut checker, 40_000, A, owned(11), free());
    write(&mut checker, 40_000 + took, A, free(), owned(13));
    start(&mut checker, 40_000 + took, A, 13, Stored::Start);
    broken(&checker)
}

#[test]
fn only_who_is_alone_leaves_a_shard_in_peace_that_it_gave_up() {
    assert_eq!(given_up_and_started_again(true, true, 13_500), NONE);
    for (stall_timeout, alone, took) in [
        (true, true, 13_501),
        (true, false, 3_501),
        (false, true, 3_501),
    ] {
        let broken = given_up_and_started_again(stall_timeout, alone, took);
        assert_eq!(broken, ["P7 hand-over"], "{stall_timeout} {alone} {took}");
    }
}
