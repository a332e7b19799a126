//! Rows of leases that an operator deleted.

use super::tests::*;
use super::*;
use crate::simulation::history::{LeaseState, Stored};

/// An operator deletes the row of A's lease; A makes it again as `again`, and tells of it or not.
fn deleted_row(again: Option<LeaseState>, told: Option<&'static str>) -> Checker {
    let mut checker = fixture();
    start(&mut checker, 1_100, A, 11, Stored::Start);
    deliver(&mut checker, 1_100, A, &[0]);
    complete(&mut checker, 1_100, A);
    let row_now = row(Some(A), 11, Stored::Start);
    write(&mut checker, 1_200, NOBODY, Some(row_now), None);
    deliver(&mut checker, 1_300, A, &[1]);
    complete(&mut checker, 1_300, A);
    if again.is_some() {
        write(&mut checker, 1_400, A, None, again);
    }
    if let Some(repair) = told {
        let told = Event::RowDeletionTold {
            process: A,
            shard: 0,
            repair,
        };
        checker.follow(1_500, told);
    }
    assert_eq!(broken(&checker), Vec::<&str>::new());
    checker
}

#[test]
fn a_deleted_row_is_made_again_and_told() {
    let again = || Some(row(Some(A), 50, Stored::Start));
    let mut checker = deleted_row(again(), Some("restored"));
    checker.finish(2_000);
    assert!(!broken(&checker).contains(&"D1 deleted rows told"));
    let mut silent = deleted_row(again(), None);
    silent.finish(2_000);
    assert!(broken(&silent).contains(&"D1 deleted rows told"));
    let mut left = deleted_row(None, Some("restored"));
    left.finish(2_000);
    assert!(broken(&left).contains(&"P7 owned"));
    let mut unknown = deleted_row(None, Some(PROGRESS_UNKNOWN));
    unknown.finish(2_000);
    assert_eq!(broken(&unknown), Vec::<&str>::new());
}

#[test]
fn a_deleted_row_is_not_made_again_beyond_what_is_complete_nor_told_without_a_cause() {
    let mut checker = deleted_row(None, None);
    let beyond = row(Some(A), 50, through(2));
    write(&mut checker, 1_600, A, None, Some(beyond));
    assert_eq!(broken(&checker), ["P1 no loss"]);
    let mut checker = fixture();
    let told = Event::RowDeletionTold {
        process: A,
        shard: 0,
        repair: "restored",
    };
    checker.follow(1_500, told);
    assert_eq!(broken(&checker), ["D1 deleted rows told"]);
}

#[test]
fn a_row_that_is_made_again_cannot_reach_an_earlier_version() {
    let after_version = |first: u64, second: u64| {
        let again = || row(Some(A), first, Stored::Start);
        let mut checker = deleted_row(Some(again()), Some("restored"));
        write(&mut checker, 1_600, NOBODY, Some(again()), None);
        let second = row(Some(A), second, Stored::Start);
        write(&mut checker, 1_700, A, None, Some(second));
        broken(&checker)
    };
    assert_eq!(after_version(500_000, 500_001), Vec::<&str>::new());
    assert_eq!(after_version(500_000, 499_999), ["P5 fenced"]);
    assert_eq!(after_version(500_000, 1_000), Vec::<&str>::new());
}
