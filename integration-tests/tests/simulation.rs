//! A short look at the simulation, so that every test run exercises it; `simulate` runs it for hours.

use integration_tests::reading::Reading;
use integration_tests::simulation::{Settings, run};
use kcl_lease::mutant::Mutant;

fn short(minutes: u64) -> Settings {
    Settings {
        minutes,
        ..Settings::default()
    }
}

#[test]
fn a_few_seeds_break_nothing() {
    for seed in 1..=3 {
        let outcome = run::run(seed, &short(9)).unwrap();
        assert_eq!(outcome.violations, [], "seed {seed}");
        assert!(outcome.tally.delivered > 100, "seed {seed}");
    }
}

#[test]
fn a_few_seeds_by_fan_out_break_nothing() {
    let settings = Settings {
        reading: Reading::FanOut,
        ..short(9)
    };
    for seed in 1..=3 {
        let outcome = run::run(seed, &settings).unwrap();
        assert_eq!(outcome.violations, [], "seed {seed}");
        assert!(outcome.tally.delivered > 100, "seed {seed}");
        let subscribed = outcome.tally.seen.contains_key("consumer registered");
        assert!(subscribed, "seed {seed}");
    }
}

#[test]
fn memory_fills_up_and_stays_within_its_budget() {
    let settings = Settings {
        workers: 1,
        shards: 8,
        ..short(9)
    };
    // A seed with big records.
    let outcome = run::run(34, &settings).unwrap();
    assert_eq!(outcome.violations, []);
    assert!(outcome.tally.seen.contains_key("memory budget reached"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run::run(7, &short(8)), run::run(7, &short(8)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.hash, first.events), (second.hash, second.events));
    assert_ne!(first.hash, run::run(8, &short(8)).unwrap().hash);
}

#[test]
fn a_rule_that_is_switched_off_is_noticed() {
    let settings = Settings {
        mutant: Some(Mutant::CheckpointAhead),
        until_broken: true,
        ..short(9)
    };
    let caught = (1..=5).any(|seed| !run::run(seed, &settings).unwrap().violations.is_empty());
    assert!(caught, "a checkpoint ahead of the processor went unnoticed");
}
