//! What is searched with clocks.

use kcl_lease::mutant::Mutant;

use super::outage::Outage;
use super::{Bounds, Timed};
use crate::runs::{Effort, catches, holds};

fn effort() -> Effort {
    Effort::of_this_run()
}

const DRIFTING: Bounds = Bounds {
    drift: 1,
    margin: 1,
    ..Bounds::BASE
};

/// The taker knows of the holder's heartbeat what another worker tells it.
const TOLD: Bounds = Bounds {
    workers: 3,
    told: true,
    may_take: [false, false, true],
    heartbeats: [1, 0, 0],
    ..Bounds::BASE
};

/// The row names a slow worker that has to accept it.
const OFFERED: Bounds = Bounds {
    offered: true,
    counter: 3,
    ..Bounds::BASE
};

#[test]
fn a_holder_with_slow_heartbeats() {
    let bounds = Bounds {
        heartbeats: [effort().pick(1, 2, 3), 0, 0],
        ..Bounds::BASE
    };
    holds("T1a", Timed::new(bounds), &[]);
}

#[test]
fn clocks_that_drift_within_the_margin() {
    let bounds = Bounds {
        heartbeats: [effort().pick(0, 2, 2), 0, 0],
        ..DRIFTING
    };
    holds("T1b", Timed::new(bounds), &[]);
}

#[test]
fn ages_that_others_told() {
    let bounds = Bounds {
        heartbeats: [effort().pick(0, 1, 2), 0, 0],
        ..TOLD
    };
    holds("T1e", Timed::new(bounds), &[]);
}

#[test]
#[ignore = "for the long run"]
fn ages_that_others_told_and_clocks_that_drift() {
    let bounds = Bounds {
        drift: 1,
        margin: 1,
        ..TOLD
    };
    holds("T1f", Timed::new(bounds), &[]);
}

#[test]
fn a_row_that_is_offered_to_a_slow_worker() {
    let bounds = Bounds {
        heartbeats: [effort().pick(0, 1, 2), 0, 0],
        counter: effort().pick(1, 3, 3),
        ..OFFERED
    };
    holds("T1i", Timed::new(bounds), &[]);
}

#[test]
fn an_offered_row_and_writes_that_time_out() {
    let bounds = Bounds {
        heartbeats: [effort().pick(0, 1, 1), 0, 0],
        row_timeouts: true,
        counter: effort().pick(1, 2, 3),
        ..OFFERED
    };
    holds(
        "T1j",
        Timed::new(bounds),
        &["a re-grant or checkpoint is applied"],
    );
}

#[test]
fn re_grants_that_time_out() {
    let bounds = Bounds {
        heartbeats: [effort().pick(0, 1, 2), 0, 0],
        row_timeouts: true,
        counter: effort().pick(1, 2, 3),
        ..Bounds::BASE
    };
    holds("T1k", Timed::new(bounds), &[]);
}

#[test]
fn a_well_connected_holder_is_never_robbed() {
    let bounds = Bounds {
        well_connected: true,
        heartbeats: [effort().pick(4, 9, 12), 0, 0],
        ..Bounds::BASE
    };
    holds("T2a", Timed::new(bounds), NOBODY_TAKES);
}

#[test]
fn a_well_connected_holder_with_a_drifting_clock_is_never_robbed() {
    let bounds = Bounds {
        well_connected: true,
        heartbeats: [effort().pick(2, 6, 9), 0, 0],
        ..DRIFTING
    };
    holds("T2b", Timed::new(bounds), NOBODY_TAKES_A_LEASE);
}

/// The lease duration and the margin are four ticks together, an interruption is more than one and a half.
const OUTAGE: Bounds = Bounds {
    heartbeats: [5, 0, 0],
    margin: 1,
    outage: Some(Outage {
        ticks: 3,
        back_within: 3,
    }),
    ..Bounds::BASE
};

#[test]
fn after_an_outage_nothing_moves_that_is_back_in_time() {
    let bounds = Bounds {
        heartbeats: [effort().pick(3, 5, 7), 0, 0],
        ..OUTAGE
    };
    holds("A6", Timed::new(bounds), NOBODY_TAKES_A_LEASE);
}

#[test]
fn after_a_short_outage_nothing_moves_that_is_back_at_once() {
    let outage = Outage {
        ticks: 0,
        back_within: 1,
    };
    let bounds = Bounds {
        heartbeats: [effort().pick(3, 5, 7), 0, 0],
        outage: Some(outage),
        ..OUTAGE
    };
    holds("A6s", Timed::new(bounds), NOBODY_TAKES_A_LEASE);
}

const NOBODY_TAKES_A_LEASE: &[&str] = &["a take is applied", "a take is refused"];

const NOBODY_TAKES: &[&str] = &[
    "a take is applied",
    "a take is refused",
    "a re-grant or checkpoint is applied",
];

// --- mutants --------------------------------------------------------------------------------------------------------

fn caught(rule: Mutant, bounds: Bounds) {
    catches(rule, Timed::new(bounds), &["T1"]);
}

#[test]
fn delivering_after_the_deadline_is_caught() {
    caught(Mutant::DeadlineIgnored, Bounds::BASE);
}

#[test]
fn a_deadline_from_the_answer_is_caught() {
    caught(Mutant::DeadlineFromAnswer, Bounds::BASE);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_deadline_from_the_last_attempt_is_caught() {
    caught(Mutant::DeadlineFromLastAttempt, Bounds::BASE);
}

#[test]
fn a_lapse_that_nobody_notices_is_caught() {
    caught(Mutant::LapseUnnoticed, Bounds::BASE);
}

#[test]
fn no_re_grant_is_caught() {
    caught(Mutant::NoRegrant, Bounds::BASE);
}

#[test]
fn an_outage_that_counts_is_caught() {
    catches(Mutant::OutageCounts, Timed::new(OUTAGE), &["A6"]);
}

#[test]
fn a_check_by_an_eventually_consistent_read_is_caught() {
    let bounds = Bounds {
        stale_checks: true,
        ..Bounds::BASE
    };
    caught(Mutant::ExpiredOnEventualRead, bounds);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_check_from_before_the_holder_expired_is_caught() {
    caught(Mutant::CheckBeforeExpiry, TOLD);
}

#[test]
fn a_take_without_a_check_of_what_was_told_is_caught() {
    caught(Mutant::TakeWithoutOwnerCheck, TOLD);
}

#[test]
fn a_take_without_a_check_is_caught() {
    caught(Mutant::TakeWithoutOwnerCheck, Bounds::BASE);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_row_read_after_the_heartbeat_is_caught() {
    let bounds = Bounds {
        counter: 3,
        ..Bounds::BASE
    };
    caught(Mutant::RowAfterHeartbeat, bounds);
}

#[test]
fn no_margin_is_caught() {
    caught(Mutant::NoMargin, DRIFTING);
}

#[test]
fn expiry_after_half_the_duration_is_caught() {
    caught(Mutant::ExpireEarly, Bounds::BASE);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_grant_that_is_used_across_a_lapse_is_caught() {
    caught(Mutant::GrantAcrossLapse, OFFERED);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "too many states without optimizations; run it with --release"
)]
fn a_recovered_answer_that_confirms_too_late_is_caught() {
    let bounds = Bounds {
        row_timeouts: true,
        counter: 3,
        ..Bounds::BASE
    };
    caught(Mutant::RecoveredConfirmsNow, bounds);
}
