//! What is searched without clocks.

use kcl_lease::mutant::Mutant;

use super::{Bounds, Command, Untimed};
use crate::runs::{Effort, catches, holds};

const NO_COMMANDS: &[&str] = &[
    "a seek is applied",
    "a pause is reported",
    "a command arrives again",
];
const NO_CLEAN_END: &[&str] = &[
    "a clean end",
    "a seek is applied",
    "a pause is reported",
    "a command arrives again",
];

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
    holds("U11", Untimed::new(bounds), NO_COMMANDS);
}

#[test]
fn two_hand_overs_and_lapses() {
    let bounds = Bounds {
        hand_overs: 2,
        counter: effort().pick(1, 3, 5),
        ..CALM
    };
    holds("U4", Untimed::new(bounds), NO_COMMANDS);
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
    holds("U12", Untimed::new(bounds), NO_COMMANDS);
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
    holds("U5", Untimed::new(bounds), NO_COMMANDS);
}

#[test]
fn a_java_leader_that_moves_the_lease_once() {
    let bounds = Bounds {
        hand_overs: 1,
        java: true,
        counter: effort().pick(1, 2, 4),
        ..CALM
    };
    holds("U10", Untimed::new(bounds), NO_COMMANDS);
}

/// Pausing and resuming, while others take the lease.
const PAUSES: Bounds = Bounds {
    records: 1,
    commands: 2,
    wishes: &[Command::Pause, Command::Resume],
    stale_reads: false,
    lapses: false,
    counter: 3,
    ..CALM
};

/// Seeks beside a pause.
const SEEKS: Bounds = Bounds {
    records: 2,
    wishes: &[Command::Seek(0), Command::Seek(1), Command::Pause],
    ..PAUSES
};

#[test]
fn pauses_while_the_lease_changes_hands() {
    let bounds = Bounds {
        counter: effort().pick(1, 3, 4),
        ..PAUSES
    };
    let unseen = &["a clean end", "a seek is applied"];
    holds("U13", Untimed::new(bounds), unseen);
}

#[test]
fn a_pause_and_a_hand_over() {
    let bounds = Bounds {
        commands: 1,
        wishes: &[Command::Pause],
        hand_overs: 1,
        counter: effort().pick(1, 3, 4),
        ..PAUSES
    };
    let unseen = &["a seek is applied"];
    holds("U14", Untimed::new(bounds), unseen);
}

#[test]
fn two_seeks_or_a_seek_and_a_pause() {
    let bounds = Bounds {
        counter: effort().pick(1, 2, 4),
        ..SEEKS
    };
    holds("U15", Untimed::new(bounds), &["a clean end"]);
}

#[test]
fn a_seek_with_a_crash_and_reads_of_the_row_that_are_old() {
    let bounds = Bounds {
        commands: 1,
        wishes: &[Command::Seek(0), Command::Seek(1)],
        faults: 1,
        in_flight: effort().pick(1, 1, 2),
        stale_reads: true,
        counter: effort().pick(1, 2, 3),
        ..SEEKS
    };
    holds(
        "U16",
        Untimed::new(bounds),
        &["a clean end", "a pause is reported"],
    );
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

#[test]
fn a_seek_that_is_applied_again_is_caught() {
    caught(Mutant::SeekAgain, SEEKS, &["C1"]);
}

#[test]
fn progress_that_survives_a_seek_is_caught() {
    caught(Mutant::SeekKeepsCheckpoint, SEEKS, &["C2"]);
}

#[test]
fn obeying_without_holding_the_lease_is_caught() {
    caught(Mutant::ObeyUnfenced, SEEKS, &["S2", "C2", "C3"]);
}

#[test]
fn delivering_before_the_orders_are_known_is_caught() {
    caught(Mutant::DeliverBeforeOrders, PAUSES, &["C3"]);
}

#[test]
fn tidying_away_what_was_obeyed_is_caught() {
    caught(Mutant::TidyObeyed, SEEKS, &["C1", "C3"]);
}

#[test]
fn never_reminding_is_caught() {
    let bounds = Bounds {
        counter: 2,
        ..PAUSES
    };
    caught(Mutant::NeverRemind, bounds, &["L1"]);
}
