//! Is the checker awake? Rules are switched off one by one, and each time somebody has to notice.

use std::io::Write;

use kcl_lease::mutant::{Kind, Mutant};

use super::cli::{CliError, Options, each};
use super::focus;
use super::run::Settings;
use crate::reading::Reading;

/// A mutant that so many seeds did not notice survives; one for which another rule covers is looked at more briefly.
const SEEDS_MAX: u64 = 150;
const REDUNDANT_SEEDS_MAX: u64 = 10;

/// How workers have to read the stream, for a rule to matter.
#[must_use]
pub fn reading_for(mutant: Mutant, otherwise: Reading) -> Reading {
    match mutant {
        Mutant::TrustSilence | Mutant::EventsWithoutRoom | Mutant::SubscribeWhereItBegan => {
            Reading::FanOut
        }
        Mutant::SkipAfterExpiredIterator => Reading::Polling,
        _ => otherwise,
    }
}

/// Reads a mutant's name.
///
/// # Errors
/// When there is none of that name; the message lists all.
pub fn parse(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("there is no such rule; use one of {}", names.join(", "))
    })
}

/// Runs every mutant until it is caught, and prints by what and how fast. True if every one that must be caught was.
///
/// # Errors
/// When a run cannot begin, or its report not be written.
pub fn hunt(options: &Options, out: &mut impl Write) -> Result<bool, CliError> {
    let (mut caught, mut all) = (0, true);
    for mutant in Mutant::ALL {
        let settings = Settings {
            mutant: Some(*mutant),
            focus: focus::of(*mutant),
            reading: reading_for(*mutant, options.retrieval),
            until_broken: true,
            ..options.settings()
        };
        let first = *options.seeds.0.start();
        let must = mutant.kind() != Kind::Redundant;
        let count = if must { SEEDS_MAX } else { REDUNDANT_SEEDS_MAX };
        let mut verdict = None;
        let mut failure = None;
        each(
            options.jobs(),
            first..=first + count - 1,
            &settings,
            |outcome| {
                match outcome {
                    Ok(outcome) => {
                        let seen = outcome
                            .violations
                            .first()
                            .map(|v| (outcome.seed, v.to_string()));
                        verdict = verdict.take().or(seen);
                    }
                    Err(error) => failure = Some(error),
                }
                verdict.is_none() && failure.is_none()
            },
        );
        if let Some(error) = failure {
            return Err(error.into());
        }
        match verdict {
            Some((seed, violation)) => {
                caught += 1;
                writeln!(
                    out,
                    "caught    {:<28} seed {seed:<4} {violation}",
                    mutant.name()
                )?;
            }
            None => {
                all &= !must;
                let kind = if must { "SURVIVED" } else { "redundant" };
                writeln!(
                    out,
                    "{kind:<9} {:<28} {}",
                    mutant.name(),
                    mutant.description()
                )?;
            }
        }
        out.flush()?;
    }
    writeln!(out, "{caught} of {} caught", Mutant::ALL.len())?;
    Ok(all)
}
