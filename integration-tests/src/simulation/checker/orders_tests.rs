//! Rules of what operators command.

use kcl_core::{Position, SequenceNumber};
use kcl_lease::{CommandId, CommandItem, Obeyed, Seek, StartPoint};

use super::tests::*;
use super::*;
use crate::simulation::history::{Change, LeaseState, Stored};

const B: Process = 2;

fn id(number: u32) -> CommandId {
    CommandId::from(format!("{number:032x}").as_str())
}

fn item(number: u32, paused: bool, seek: Option<StartPoint>) -> CommandItem {
    CommandItem {
        lease: "shardId-000000000000".into(),
        command: id(number),
        paused,
        stopped: None,
        seek: seek.map(|to| Seek { id: id(number), to }),
    }
}

fn command(
    checker: &mut Checker,
    at: u64,
    before: Option<CommandItem>,
    after: Option<CommandItem>,
) {
    let change = Change::Command {
        shard: 0,
        before: before.map(Box::new),
        after: after.map(Box::new),
    };
    let written = Event::Written {
        process: NOBODY,
        sent: Some(at),
        change,
    };
    checker.follow(at, written);
}

fn obeyed(command: u32, seek: Option<u32>, state: LeaseState) -> LeaseState {
    let obeyed = Obeyed {
        command: Some(id(command)),
        seek: seek.map(id),
        moment_ms: None,
    };
    LeaseState { obeyed, ..state }
}

fn call(checker: &mut Checker, at: u64, records: &[u32]) {
    let (process, shard, lane) = (A, 0, 0);
    let records = records.to_vec();
    let delivered = Event::Delivered {
        process,
        shard,
        lane,
        records,
    };
    checker.follow(at, delivered);
    let completed = Event::Completed {
        process,
        shard,
        lane,
    };
    checker.follow(at, completed);
}

fn after(record: u32) -> StartPoint {
    let number = SequenceNumber::parse(&record.to_string()).unwrap();
    StartPoint::after(Position::new(number, 0))
}

/// A got through two of the four records, and stored that.
fn under_way() -> (Checker, LeaseState) {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    call(&mut checker, 1_200, &[0, 1]);
    let stored = row(Some(A), 12, through(1));
    let before = row(Some(A), 11, Stored::Start);
    write(&mut checker, 1_300, A, Some(before), Some(stored.clone()));
    (checker, stored)
}

#[test]
fn nothing_of_a_paused_shard_is_delivered_once_its_holder_said_so() {
    let delivered_at = |at: u64| {
        let (mut checker, stored) = under_way();
        command(&mut checker, 1_400, None, Some(item(1, true, None)));
        if at == 1_450 {
            call(&mut checker, at, &[2]);
        }
        let says = obeyed(1, None, row(Some(A), 13, through(1)));
        write(&mut checker, 1_500, A, Some(stored), Some(says));
        if at == 1_550 {
            call(&mut checker, at, &[2]);
        }
        let (paused, goes_on) = (item(1, true, None), item(2, false, None));
        command(&mut checker, 1_600, Some(paused), Some(goes_on));
        if at == 1_650 {
            call(&mut checker, at, &[2]);
        }
        broken(&checker)
    };
    assert!(delivered_at(1_450).is_empty(), "not known yet");
    assert_eq!(delivered_at(1_550), ["C3 paused"]);
    assert!(delivered_at(1_650).is_empty(), "resumed");
}

#[test]
fn a_pause_is_not_reported_during_a_call() {
    let (mut checker, stored) = under_way();
    command(&mut checker, 1_400, None, Some(item(1, true, None)));
    let delivered = Event::Delivered {
        process: A,
        shard: 0,
        lane: 0,
        records: vec![2],
    };
    checker.follow(1_450, delivered);
    let says = obeyed(1, None, row(Some(A), 13, through(1)));
    write(&mut checker, 1_500, A, Some(stored), Some(says));
    assert_eq!(broken(&checker), ["C3 paused"]);
}

/// A seek to a place is ordered, and applied; the row says `stored` then.
fn sought(to: &StartPoint, stored: Stored) -> (Checker, LeaseState) {
    let (mut checker, before) = under_way();
    command(
        &mut checker,
        1_400,
        None,
        Some(item(1, false, Some(to.clone()))),
    );
    let moved = obeyed(1, Some(1), row(Some(A), 13, stored));
    write(&mut checker, 1_500, A, Some(before), Some(moved.clone()));
    (checker, moved)
}

#[test]
fn what_a_seek_goes_back_to_comes_again_and_is_not_complete_before() {
    let (mut checker, moved) = sought(&after(0), through(0));
    start(&mut checker, 1_600, A, 11, through(0));
    let keeps = LeaseState {
        counter: 14,
        checkpoint: through(1),
        ..moved.clone()
    };
    let mut hasty = sought(&after(0), through(0)).0;
    write(
        &mut hasty,
        1_700,
        A,
        Some(moved.clone()),
        Some(keeps.clone()),
    );
    assert_eq!(broken(&hasty), ["P1 no loss"]);
    call(&mut checker, 1_700, &[1, 2]);
    write(&mut checker, 1_800, A, Some(moved), Some(keeps));
    assert!(broken(&checker).is_empty());
    let again = checker.tally.duplicates.get(&Cause::Sought);
    assert_eq!(again, Some(&1));
}

#[test]
fn what_a_seek_passes_over_is_not_lost() {
    let (mut checker, _) = sought(&after(2), through(2));
    start(&mut checker, 1_600, A, 11, through(2));
    call(&mut checker, 1_700, &[3]);
    checker.finish(2_000);
    assert!(!broken(&checker).contains(&"P1 at least once"));
    let (mut elsewhere, _) = sought(&after(2), through(2));
    start(&mut elsewhere, 1_600, A, 11, through(1));
    assert_eq!(broken(&elsewhere), ["P2 order"]);
}

#[test]
fn a_seek_is_applied_once_and_to_its_place() {
    let (mut checker, moved) = sought(&after(0), through(0));
    start(&mut checker, 1_600, A, 11, through(0));
    call(&mut checker, 1_700, &[1, 2]);
    let given = (item(1, false, Some(after(0))), item(2, false, None));
    command(&mut checker, 1_750, Some(given.0), Some(given.1));
    let between = obeyed(2, Some(2), row(Some(A), 14, through(0)));
    write(&mut checker, 1_800, A, Some(moved), Some(between.clone()));
    assert_eq!(broken(&checker), ["C2 seeks once"], "nobody ordered it");
    let again = obeyed(2, Some(1), row(Some(A), 15, through(0)));
    write(&mut checker, 1_900, A, Some(between), Some(again));
    assert_eq!(broken(&checker), ["C2 seeks once"; 2], "it was applied");
    let (wrong, _) = sought(&after(0), Stored::Start);
    assert_eq!(broken(&wrong), ["C2 seeks once"]);
}

#[test]
fn nobody_but_the_holder_obeys_and_nothing_older_than_before() {
    let (mut checker, stored) = under_way();
    let (first, second) = (item(1, true, None), item(2, false, None));
    command(&mut checker, 1_400, None, Some(first.clone()));
    command(&mut checker, 1_410, Some(first), Some(second));
    let newer = obeyed(2, None, row(Some(A), 13, through(1)));
    let older = obeyed(1, None, row(Some(A), 14, through(1)));
    write(
        &mut checker,
        1_500,
        A,
        Some(stored.clone()),
        Some(newer.clone()),
    );
    assert!(broken(&checker).is_empty());
    write(&mut checker, 1_600, A, Some(newer), Some(older));
    assert_eq!(broken(&checker), ["C1 commands once"]);
    let (mut foreign, _) = under_way();
    command(&mut foreign, 1_400, None, Some(item(1, true, None)));
    let says = obeyed(1, None, row(Some(A), 13, through(1)));
    write(&mut foreign, 1_500, B, Some(stored), Some(says));
    assert_eq!(broken(&foreign), ["P5 fenced"]);
}

#[test]
fn a_command_stays_as_long_as_its_lease_and_is_stored_once() {
    let then = |next: &[Option<CommandItem>]| {
        let (mut checker, stored) = under_way();
        let given = item(1, true, None);
        command(&mut checker, 1_400, None, Some(given.clone()));
        let says = obeyed(1, None, row(Some(A), 13, through(1)));
        write(&mut checker, 1_500, A, Some(stored), Some(says));
        let mut before = Some(given);
        for (at, after) in (1_600..).step_by(100).zip(next) {
            command(&mut checker, at, before.take(), after.clone());
            before.clone_from(after);
        }
        broken(&checker)
    };
    let (paused, resumed) = (item(1, true, None), item(2, false, None));
    assert!(then(&[Some(resumed.clone())]).is_empty());
    assert_eq!(then(&[None]), ["C4 commands kept"]);
    assert_eq!(then(&[Some(item(1, false, None))]), ["C4 commands kept"]);
    let beside_another = [Some(resumed), Some(paused.clone())];
    assert!(then(&beside_another).is_empty());
    let again = then(&[None, Some(paused)]);
    assert_eq!(again, ["C4 commands kept", "C4 commands kept"]);
}

#[test]
fn at_the_end_every_command_was_obeyed_and_no_paused_shard_is_waited_for() {
    let at_the_end = |given: CommandItem, says: bool| {
        let (mut checker, stored) = under_way();
        command(&mut checker, 1_400, None, Some(given));
        if says {
            let says = obeyed(1, None, row(Some(A), 13, through(1)));
            write(&mut checker, 1_500, A, Some(stored), Some(says));
        }
        checker.finish(2_000);
        broken(&checker)
    };
    let late = ["C5 obeyed in time", "P1 at least once"];
    let found = |given, says| {
        let broken = at_the_end(given, says);
        late.map(|rule| broken.contains(&rule))
    };
    assert_eq!(found(item(1, true, None), true), [false, false]);
    assert_eq!(found(item(1, true, None), false), [true, false]);
    assert_eq!(found(item(1, false, None), true), [false, true]);
}

#[test]
fn a_seek_before_the_first_call_explains_why_a_shard_begins_elsewhere() {
    let handed_over = |seeks: bool| {
        let (mut checker, stored) = under_way();
        let owned = row(Some(B), 13, through(1));
        write(&mut checker, 1_400, A, Some(stored), Some(owned.clone()));
        let accepted = row(Some(B), 14, through(1));
        write(&mut checker, 1_450, B, Some(owned), Some(accepted.clone()));
        if seeks {
            let to = after(0);
            command(&mut checker, 1_500, None, Some(item(1, false, Some(to))));
            let moved = obeyed(1, Some(1), row(Some(B), 15, through(0)));
            write(&mut checker, 1_600, B, Some(accepted), Some(moved));
        }
        start(&mut checker, 1_700, B, 14, through(0));
        broken(&checker)
    };
    assert!(handed_over(true).is_empty());
    assert!(handed_over(false).contains(&"P6 clean hand-over"));
}

#[test]
fn the_row_of_a_finished_shard_waits_for_a_child_whose_other_parent_is_paused() {
    let left = |paused: bool| {
        let (mut checker, stored) = under_way();
        call(&mut checker, 1_400, &[2, 3]);
        let other = Event::Opened {
            shard: 1,
            parents: vec![],
        };
        let child = Event::Opened {
            shard: 2,
            parents: vec![0, 1],
        };
        checker.follow(1_410, other);
        checker.follow(1_420, child);
        checker.follow(1_430, Event::Closed { shard: 0 });
        let ended = row(Some(A), 13, Stored::End);
        write(&mut checker, 1_500, A, Some(stored), Some(ended));
        if paused {
            let change = Change::Command {
                shard: 1,
                before: None,
                after: Some(Box::new(item(1, true, None))),
            };
            let written = Event::Written {
                process: NOBODY,
                sent: Some(1_600),
                change,
            };
            checker.follow(1_600, written);
        }
        checker.finish(60_000);
        broken(&checker).contains(&"P9 no litter")
    };
    assert!(left(false));
    assert!(!left(true));
}
