//! Running searches: how far they go, what they print, what counts as a failure.

use std::time::Instant;

use kcl_lease::mutant::{self, Mutant};

use crate::explore::{Limits, Model, Report, explore};

/// How much is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A few seconds, in a build without optimizations.
    Quick,
    /// Minutes, in a release build.
    Full,
    /// As long as it takes.
    Long,
}

impl Effort {
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("KCL_MODEL").as_deref() {
            Ok("long") => Self::Long,
            Ok("full") => Self::Full,
            Ok("quick") => Self::Quick,
            _ if cfg!(debug_assertions) => Self::Quick,
            _ => Self::Full,
        }
    }

    /// The bound for this effort.
    pub(crate) fn pick<T>(self, quick: T, full: T, long: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
            Self::Long => long,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a search took is printed, nothing depends on it"
)]
fn stopwatch() -> Instant {
    Instant::now()
}

const STATES_MAX: usize = 60_000_000;

/// Searches everything within the model's bounds: nothing may be broken, and every sight must be seen but for `unseen`.
pub(crate) fn holds<M: Model>(name: &str, mut model: M, unseen: &[&str]) {
    let begun = stopwatch();
    let limits = Limits {
        states: STATES_MAX,
        stop_at_violation: false,
    };
    let report = explore(&mut model, limits);
    println!(
        "{name}: {} in {:.1} s",
        summary(&report),
        begun.elapsed().as_secs_f64()
    );
    assert!(
        report.violations.is_empty(),
        "{name}: {}",
        violations(&report)
    );
    assert!(report.complete, "{name}: more than {STATES_MAX} states");
    // Small bounds do not reach everything.
    if Effort::of_this_run() != Effort::Quick {
        assert_eq!(report.unseen, unseen, "{name}: never seen");
    }
}

/// Searches with one rule switched off until something breaks; it must be one of `expected` (their first words).
pub(crate) fn catches<M: Model>(rule: Mutant, mut model: M, expected: &[&str]) {
    let begun = stopwatch();
    let limits = Limits {
        states: STATES_MAX,
        stop_at_violation: true,
    };
    mutant::set(Some(rule));
    let report = explore(&mut model, limits);
    mutant::set(None);
    let name = rule.name();
    println!(
        "{name}: {} in {:.1} s",
        summary(&report),
        begun.elapsed().as_secs_f64()
    );
    let caught = report.violations.iter().any(|violation| {
        let word = violation.property.split(' ').next();
        word.is_some_and(|word| expected.contains(&word))
    });
    assert!(caught, "{name} survives: {}", violations(&report));
}

fn summary(report: &Report) -> String {
    let Report {
        states,
        transitions,
        depth,
        ..
    } = report;
    let found = report.violations.iter().map(|violation| {
        let word = violation.property.split(' ').next().unwrap_or_default();
        format!(", {word} after {} steps", violation.trace.len())
    });
    let found: String = found.collect();
    let all = if report.complete { "all " } else { "" };
    format!("{all}{states} states ({transitions} steps, depth {depth}){found}")
}

fn violations(report: &Report) -> String {
    let text = report.violations.iter().map(|violation| {
        let (steps, trace) = (violation.trace.len(), violation.trace.join(" "));
        let states = violation.states;
        format!(
            "{} is broken after {steps} steps, found among {states} states: {trace}\n",
            violation.property
        )
    });
    text.collect()
}
