//! What is searched without clocks.

use kcl_lease::mutant::Mutant;

use super::{Bounds, Untimed};
use crate::runs::{Effort, catches, holds};

const NO_CLEAN_END: &[&str] = &["a clean end"];

fn effort() -> Effort {
    Effort::of_this_run()
}

/// One request at a time, none repeated.
const CALM: Bounds = Bounds {
    in_flight: 1,
    copies: false,
    ..Bounds::BASE
};

#[test]
fn takes_lapses_and_re_grants() {
    let bounds = Bounds {
        counter: effort().pick(1, 3, 4),
        ..Bounds::BASE
    };
    holds("U1", Untimed::new(bounds), NO_CLEAN_END);
}

#[test]
fn a_crash_or_a_live_workers_item_cleaned_up() {
    let bounds = Bounds {
        faults: 1,
        clean_ups: 1,
        in_flight: effort().pick(1, 2, 2),
        counter: effort().pick(1, 2, 3),
        lapses: false,
        ..Bounds::BASE
    };
    holds("U2", Untimed::new(bounds), NO_CLEAN_END);
}

#[test]
fn hand_overs_and_releases_also_to_ids_without_an_item() {
    let bounds = Bounds {
        hand_overs: 1,
        lapses: false,
        counter: effort().pick(1, 3, 4),
        ..Bounds::BASE
    };
    holds("U11", Untimed::new(bounds), &[]);
}

#[test]
fn two_hand_overs_and_lapses() {
    let bounds = Bounds {
        hand_overs: 2,
        counter: effort().pick(1, 3, 5),
        ..CALM
    };
    holds("U4", Untimed::new(bounds), &[]);
}

#[test]
fn hand_overs_with_crashes_and_graceful_exits() {
    let bounds = Bounds {
        hand_overs: 1,
        faults: 1,
        exits: true,
        counter: effort().pick(1, 2, 3),
        ..CALM
    };
    holds("U12", Untimed::new(bounds), &[]);
}

#[test]
fn hand_overs_of_a_row_that_is_made_again() {
    let bounds = Bounds {
        hand_overs: 1,
        made_again: true,
        records: 1,
        counter: effort().pick(1, 2, 3),
        ..CALM
    };
    holds("U5", Untimed::new(bounds), &[]);
}

#[test]
fn a_java_leader_that_moves_the_lease_once() {
    let bounds = Bounds {
        hand_overs: 1,
        java: true,
        counter: effort().pick(1, 2, 4),
        ..CALM
    };
    holds("U10", Untimed::new(bounds), &[]);
}

// --- mutants --------------------------------------------------------------------------------------------------------

fn caught(rule: Mutant, bounds: Bounds, expected: &[&str]) {
    catches(rule, Untimed::new(bounds), expected);
}

const HANDS: Bounds = Bounds {
    hand_overs: 1,
    ..Bounds::BASE
};

#[test]
fn a_take_without_counter_is_caught() {
    caught(Mutant::TakeWithoutCounter, HANDS, &["S7"]);
}

#[test]
fn a_take_without_owner_is_caught_beside_java() {
    let bounds = Bounds {
        java: true,
        ..HANDS
    };
    caught(Mutant::TakeWithoutOwner, bounds, &["S7"]);
}

#[test]
fn a_checkpoint_without_counter_is_caught() {
    caught(Mutant::CheckpointWithoutCounter, HANDS, &["S1", "S2", "S9"]);
}

#[test]
fn a_checkpoint_without_owner_is_caught_beside_java() {
    let bounds = Bounds {
        java: true,
        ..HANDS
    };
    caught(Mutant::CheckpointWithoutOwner, bounds, &["S2"]);
}

#[test]
fn a_checkpoint_without_condition_is_caught() {
    caught(Mutant::CheckpointUnconditional, HANDS, &["S1", "S2", "S9"]);
}

#[test]
fn a_release_without_counter_is_caught() {
    caught(Mutant::ReleaseWithoutCounter, HANDS, &["S1", "S2"]);
}

#[test]
fn a_hand_over_without_the_final_checkpoint_is_caught() {
    caught(Mutant::ReleaseWithoutCheckpoint, HANDS, &["S5"]);
}

#[test]
fn delivering_on_during_a_hand_over_is_caught() {
    caught(Mutant::DeliverWhileReleasing, HANDS, &["S5"]);
}

#[test]
fn recovering_by_the_owner_alone_is_caught() {
    let bounds = Bounds {
        hand_overs: 2,
        counter: 6,
        ..Bounds::BASE
    };
    caught(Mutant::RecoverOnOwnerOnly, bounds, &["S2", "S3"]);
}

#[test]
fn never_recovering_is_caught() {
    caught(Mutant::NeverRecover, Bounds::BASE, &["S9"]);
}

#[test]
fn starting_without_an_accept_is_caught() {
    caught(Mutant::StartWithoutAccept, HANDS, &["S3", "S8"]);
}

#[test]
fn a_row_made_again_under_counter_zero_is_caught() {
    let bounds = Bounds {
        made_again: true,
        ..HANDS
    };
    caught(Mutant::NewRowCounterZero, bounds, &["S2", "S8"]);
}
