use kcl_lease::Obeyed;

use super::*;
use crate::simulation::history::{Change, LeaseState, Stop, Stored};

pub(super) const A: Process = 1;
const B: Process = 2;

/// Two processes with sessions, a shard with four records, and its row, owned by the first process under version 11.
pub(super) fn fixture() -> Checker {
    let mut checker = Checker::default();
    let at = 1_000;
    checker.follow(
        at,
        Event::Opened {
            shard: 0,
            parents: vec![],
        },
    );
    for n in 0..4 {
        checker.follow(
            at,
            Event::Put {
                shard: 0,
                sequence: n.to_string(),
                key: n % 2,
                arrived: u64::from(n) * 10,
            },
        );
    }
    for process in [A, B] {
        let name = format!("w{process}");
        checker.follow(at, Event::Started { process, name });
        heartbeat(&mut checker, at, process, 0);
    }
    write(
        &mut checker,
        at,
        A,
        None,
        Some(row(None, 10, Stored::Start)),
    );
    write(
        &mut checker,
        at,
        A,
        Some(row(None, 10, Stored::Start)),
        Some(row(Some(A), 11, Stored::Start)),
    );
    checker
}

pub(super) fn heartbeat(checker: &mut Checker, at: u64, process: Process, number: u64) {
    heartbeat_sent(checker, at, at, process, number);
}

fn heartbeat_sent(checker: &mut Checker, sent: u64, at: u64, process: Process, number: u64) {
    let change = Change::Worker {
        id: session(process),
        before: number.checked_sub(1),
        after: Some(number),
    };
    checker.follow(
        at,
        Event::Written {
            process,
            sent: Some(sent),
            change,
        },
    );
}

fn session(process: Process) -> String {
    format!("w{process}/session")
}

pub(super) fn row(owner: Option<Process>, counter: u64, checkpoint: Stored) -> LeaseState {
    LeaseState {
        owner: owner.map(session),
        counter,
        checkpoint,
        obeyed: Obeyed::default(),
    }
}

pub(super) fn through(sequence: u32) -> Stored {
    Stored::Through(sequence.to_string())
}

pub(super) fn write(
    checker: &mut Checker,
    at: u64,
    process: Process,
    before: Option<LeaseState>,
    after: Option<LeaseState>,
) {
    let change = Change::Lease {
        shard: 0,
        before,
        after,
    };
    checker.follow(
        at,
        Event::Written {
            process,
            sent: Some(at),
            change,
        },
    );
}

pub(super) fn start(checker: &mut Checker, at: u64, process: Process, epoch: u64, from: Stored) {
    checker.follow(
        at,
        Event::Initialized {
            process,
            shard: 0,
            lanes: 1,
            lane: 0,
            epoch,
            from,
        },
    );
}

pub(super) fn deliver(checker: &mut Checker, at: u64, process: Process, records: &[u32]) {
    let records = records.to_vec();
    checker.follow(
        at,
        Event::Delivered {
            process,
            shard: 0,
            lane: 0,
            records,
        },
    );
}

pub(super) fn complete(checker: &mut Checker, at: u64, process: Process) {
    let lane = 0;
    let shard = 0;
    let completed = Event::Completed {
        process,
        shard,
        lane,
    };
    checker.follow(at, completed);
}

fn fail(checker: &mut Checker, at: u64, process: Process) {
    let failed = Event::Failed {
        process,
        shard: 0,
        lane: 0,
        panicked: false,
        named: None,
    };
    checker.follow(at, failed);
}

pub(super) fn broken(checker: &Checker) -> Vec<&'static str> {
    checker.violations().iter().map(|v| v.rule).collect()
}

#[test]
fn a_good_history_breaks_nothing() {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0, 1]);
    complete(&mut checker, 1_300, A);
    write(
        &mut checker,
        1_400,
        A,
        Some(row(Some(A), 11, Stored::Start)),
        Some(row(Some(A), 12, through(1))),
    );
    write(
        &mut checker,
        1_500,
        A,
        Some(row(Some(A), 12, through(1))),
        Some(row(Some(B), 13, through(1))),
    );
    write(
        &mut checker,
        1_600,
        B,
        Some(row(Some(B), 13, through(1))),
        Some(row(Some(B), 14, through(1))),
    );
    start(&mut checker, 1_700, B, 14, through(1));
    deliver(&mut checker, 1_800, B, &[2, 3]);
    complete(&mut checker, 1_900, B);
    checker.finish(2_000);
    assert_eq!(broken(&checker), Vec::<&str>::new());
    assert_eq!(checker.tally.hand_overs, 1);
}

#[test]
fn progress_beyond_what_is_complete_is_a_loss() {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0, 1]);
    write(
        &mut checker,
        1_400,
        A,
        Some(row(Some(A), 11, Stored::Start)),
        Some(row(Some(A), 12, through(1))),
    );
    assert_eq!(broken(&checker), ["P1 no loss"]);
}

#[test]
fn progress_never_moves_back_and_versions_move_by_one() {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0, 1]);
    complete(&mut checker, 1_300, A);
    write(
        &mut checker,
        1_400,
        A,
        Some(row(Some(A), 11, Stored::Start)),
        Some(row(Some(A), 12, through(1))),
    );
    write(
        &mut checker,
        1_500,
        A,
        Some(row(Some(A), 12, through(1))),
        Some(row(Some(A), 13, through(0))),
    );
    write(
        &mut checker,
        1_600,
        A,
        Some(row(Some(A), 13, through(0))),
        Some(row(Some(A), 13, through(0))),
    );
    assert_eq!(broken(&checker), ["P4 monotonic", "P5 fenced"]);
}

#[test]
fn only_the_holder_stores_progress() {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_200, A, &[0, 1]);
    complete(&mut checker, 1_300, A);
    write(
        &mut checker,
        1_400,
        B,
        Some(row(Some(A), 11, Stored::Start)),
        Some(row(Some(A), 12, through(1))),
    );
    assert_eq!(broken(&checker).first(), Some(&"P5 fenced"));
}

#[test]
fn records_come_in_order_without_gaps_from_the_stored_checkpoint_on() {
    for (records, rule) in [
        (&[1, 2][..], "P2 order"),
        (&[0, 2], "P2 order"),
        (&[0, 1], ""),
    ] {
        let mut checker = fixture();
        start(&mut checker, 1_100, A, 11, Stored::Start);
        deliver(&mut checker, 1_200, A, records);
        assert_eq!(
            broken(&checker).first().copied().unwrap_or(""),
            rule,
            "{records:?}"
        );
    }
}

#[test]
fn a_start_rests_on_a_write_of_its_own_and_on_what_it_left_stored() {
    let mut checker = fixture();
    start(&mut checker, 1_100, B, 11, Stored::Start);
    assert_eq!(broken(&checker), ["P5 fenced"]);
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, through(0));
    assert_eq!(broken(&checker), ["P2 order"]);
}

#[test]
fn a_child_starts_after_its_parent_is_finished() {
    let mut checker = fixture();
    checker.follow(
        1_050,
        Event::Opened {
            shard: 1,
            parents: vec![0],
        },
    );
    let change = |before, after| Change::Lease {
        shard: 1,
        before,
        after,
    };
    let created = change(None, Some(row(Some(A), 5, Stored::Start)));
    checker.follow(
        1_060,
        Event::Written {
            process: A,
            sent: Some(1_060),
            change: created,
        },
    );
    checker.follow(
        1_100,
        Event::Initialized {
            process: A,
            shard: 1,
            lanes: 1,
            lane: 0,
            epoch: 5,
            from: Stored::Start,
        },
    );
    assert_eq!(broken(&checker), ["P3 parents first"]);
}

#[test]
fn a_live_holder_is_not_robbed_and_nobody_delivers_after_a_take() {
    for (moved, rules) in [
        (1_000, vec!["T1 no delivery after a take"]),
        (
            9_000,
            vec!["T2 no live holder robbed", "T1 no delivery after a take"],
        ),
    ] {
        let mut checker = fixture();
        start(&mut checker, 1_100, A, 11, Stored::Start);
        if moved > 1_000 {
            heartbeat(&mut checker, moved, A, 1);
        }
        write(
            &mut checker,
            11_300,
            B,
            Some(row(Some(A), 11, Stored::Start)),
            Some(row(Some(B), 12, Stored::Start)),
        );
        deliver(&mut checker, 11_400, A, &[0]);
        assert_eq!(broken(&checker), rules);
    }
}

#[test]
fn a_lease_is_given_away_with_all_of_its_progress_and_not_during_a_call() {
    for (finished, rule) in [(true, "P6 clean hand-over"), (false, "P6 clean hand-over")] {
        let mut checker = fixture();
        start(&mut checker, 1_100, A, 11, Stored::Start);
        deliver(&mut checker, 1_200, A, &[0, 1]);
        if finished {
            complete(&mut checker, 1_300, A);
        }
        write(
            &mut checker,
            1_400,
            A,
            Some(row(Some(A), 11, Stored::Start)),
            Some(row(None, 12, Stored::Start)),
        );
        assert_eq!(broken(&checker), [rule]);
    }
}

#[test]
fn an_unfinished_row_is_not_deleted_and_a_finished_one_does_not_come_back() {
    let mut checker = fixture();
    write(
        &mut checker,
        1_100,
        A,
        Some(row(Some(A), 11, Stored::Start)),
        None,
    );
    assert_eq!(broken(&checker), ["P9 no early deletion"]);
    write(
        &mut checker,
        1_200,
        A,
        None,
        Some(row(None, 11, Stored::Start)),
    );
    assert_eq!(broken(&checker).last(), Some(&"P5 fenced"));
}

#[test]
fn the_end_of_a_shard_is_told_when_everything_is_complete() {
    let mut checker = fixture();
    checker.follow(1_050, Event::Closed { shard: 0 });
    start(&mut checker, 1_100, A, 11, Stored::Start);
    checker.follow(
        1_200,
        Event::Stopped {
            process: A,
            shard: 0,
            why: Stop::Ended,
        },
    );
    assert_eq!(broken(&checker), ["P1 no loss"]);
}

#[test]
fn a_lease_that_is_dropped_was_taken_by_somebody() {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    checker.follow(
        1_200,
        Event::Stopped {
            process: A,
            shard: 0,
            why: Stop::Lost,
        },
    );
    checker.follow(
        1_200,
        Event::LeaseLost {
            process: A,
            shard: 0,
            reason: "taken",
        },
    );
    assert_eq!(broken(&checker), ["no false loss"]);
    assert_eq!(checker.tally.false_losses, 1);
}

#[test]
fn at_the_end_everything_was_delivered_and_is_held() {
    let mut checker = fixture();
    checker.follow(1_300, Event::Killed { process: A });
    checker.finish(200_000);
    assert_eq!(
        broken(&checker),
        ["P1 at least once", "P7 owned", "P9 no litter"]
    );
}

#[test]
fn a_delivery_after_the_own_deadline_is_seen() {
    let mut checker = fixture();
    start(&mut checker, 1_000, A, 11, Stored::Start);
    deliver(&mut checker, 11_100, A, &[0]);
    assert!(checker.violations().is_empty());
    fail(&mut checker, 11_100, A);
    deliver(&mut checker, 11_110, A, &[0]);
    assert_eq!(broken(&checker), ["V1 deadline"]);
}

#[test]
fn the_deadline_counts_from_when_a_heartbeat_was_sent() {
    let mut checker = fixture();
    start(&mut checker, 1_000, A, 11, Stored::Start);
    heartbeat_sent(&mut checker, 5_000, 9_000, A, 1);
    deliver(&mut checker, 15_000, A, &[0]);
    assert!(checker.violations().is_empty());
    fail(&mut checker, 15_000, A);
    deliver(&mut checker, 15_200, A, &[0]);
    assert_eq!(broken(&checker), ["V1 deadline"]);
}

#[test]
fn a_delivery_after_a_lapse_without_a_write_is_seen() {
    let mut checker = fixture();
    start(&mut checker, 1_000, A, 11, Stored::Start);
    heartbeat(&mut checker, 12_000, A, 1);
    deliver(&mut checker, 12_010, A, &[0]);
    assert_eq!(broken(&checker), ["V2 re-grant after a lapse"]);
}

#[test]
fn a_write_after_a_lapse_is_a_new_grant() {
    let mut checker = fixture();
    start(&mut checker, 1_000, A, 11, Stored::Start);
    heartbeat(&mut checker, 12_000, A, 1);
    let (before, after) = (
        row(Some(A), 11, Stored::Start),
        row(Some(A), 12, Stored::Start),
    );
    write(&mut checker, 12_005, A, Some(before), Some(after));
    deliver(&mut checker, 12_010, A, &[0]);
    assert!(checker.violations().is_empty());
}

#[test]
fn the_deletion_of_an_item_that_was_heard_lately_is_seen() {
    let deleted = |at| {
        let mut checker = fixture();
        let change = Change::Worker {
            id: session(A),
            before: Some(0),
            after: None,
        };
        let (process, sent) = (B, Some(at));
        checker.follow(
            at,
            Event::Written {
                process,
                sent,
                change,
            },
        );
        broken(&checker)
    };
    assert_eq!(deleted(99_000), ["T3 no live worker's item deleted"]);
    assert!(deleted(101_000).is_empty());
}

/// Whether the end is balanced if A owns so many open shards and B none.
fn is_balanced(shards: u32) -> bool {
    let mut checker = fixture();
    for shard in 1..shards {
        let opened = Event::Opened {
            shard,
            parents: vec![],
        };
        checker.follow(1_000, opened);
        let change = Change::Lease {
            shard,
            before: None,
            after: Some(row(Some(A), 10, Stored::Start)),
        };
        let (process, sent) = (A, Some(1_000));
        let written = Event::Written {
            process,
            sent,
            change,
        };
        checker.follow(1_000, written);
    }
    checker.finish(2_000);
    !broken(&checker).contains(&"P8 balanced")
}

#[test]
fn at_the_end_leases_are_balanced() {
    assert!(is_balanced(1));
    assert!(!is_balanced(2));
}

#[test]
fn a_lease_that_is_given_to_a_worker_that_stops_is_seen() {
    let given = |at: u64| {
        let mut checker = fixture();
        checker.follow(1_000, Event::Stopping { process: B });
        let (before, after) = (
            row(Some(A), 11, Stored::Start),
            row(Some(B), 12, Stored::Start),
        );
        write(&mut checker, at, A, Some(before), Some(after));
        broken(&checker)
    };
    assert!(given(30_000).is_empty(), "not in calm times");
    assert_eq!(given(40_000), ["P6 clean hand-over"]);
}

#[test]
fn a_lease_that_lies_idle_after_a_hand_over_is_seen() {
    let started = |took: u64| {
        let mut checker = fixture();
        start(&mut checker, 1_000, A, 11, Stored::Start);
        let (before, after) = (
            row(Some(A), 11, Stored::Start),
            row(Some(B), 12, Stored::Start),
        );
        write(&mut checker, 40_000, A, Some(before), Some(after.clone()));
        let accepted = row(Some(B), 13, Stored::Start);
        write(&mut checker, 40_000 + took, B, Some(after), Some(accepted));
        start(&mut checker, 40_000 + took, B, 13, Stored::Start);
        broken(&checker)
    };
    assert!(started(3_000).is_empty());
    assert_eq!(started(3_001), ["P7 hand-over"]);
}
