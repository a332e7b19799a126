//! Finds a smallest schedule under which a seed still fails (delta debugging).

use std::collections::BTreeSet;
use std::io::Write;

use super::cli::{CliError, Options};
use super::run::{Settings, play_of, run};

/// Removes elements of the schedule as long as the same promise is broken, and prints what is left. False if the seed
/// fails (so that the exit code says so), true if it does not fail at all.
///
/// # Errors
/// When a run cannot begin, or its report not be written.
pub fn shrink(options: &Options, seed: u64, out: &mut impl Write) -> Result<bool, CliError> {
    let settings = Settings {
        traced: false,
        until_broken: true,
        ..options.settings()
    };
    let whole = run(seed, &settings)?;
    let Some(first) = whole.violations.first() else {
        writeln!(out, "seed {seed} breaks nothing")?;
        return Ok(true);
    };
    let rule = first.rule;
    writeln!(out, "seed {seed}: {first}; {} faults", whole.schedule.len())?;
    let mut runs = 0;
    let kept = smallest(whole.schedule.len(), |only| {
        runs += 1;
        let settings = Settings {
            only: Some(only.clone()),
            ..settings.clone()
        };
        let broken = run(seed, &settings)?;
        Ok::<_, CliError>(
            broken
                .violations
                .iter()
                .any(|violation| violation.rule == rule),
        )
    })?;
    let only = Settings {
        only: Some(kept.clone()),
        ..settings
    };
    writeln!(out, "{} faults are left after {runs} runs:", kept.len())?;
    for timed in play_of(seed, &only).1 {
        writeln!(out, "  {timed}")?;
    }
    for violation in run(seed, &only)?.violations.iter().take(5) {
        writeln!(out, "  {violation}")?;
    }
    let smallest = Options {
        only: Some(kept.into_iter().collect()),
        ..options.clone()
    };
    writeln!(out, "replay: {}", smallest.replay(seed))?;
    Ok(false)
}

/// The smallest set of the numbers below `count` that still fails, as far as removing parts finds it.
fn smallest<E>(
    count: usize,
    mut fails: impl FnMut(&BTreeSet<usize>) -> Result<bool, E>,
) -> Result<BTreeSet<usize>, E> {
    let mut kept: Vec<usize> = (0..count).collect();
    let mut size = count.div_ceil(2);
    while size >= 1 && !kept.is_empty() {
        let mut removed = false;
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let without: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(index, _)| !(start..end).contains(index))
                .map(|(_, number)| *number)
                .collect();
            if fails(&without.iter().copied().collect())? {
                kept = without;
                removed = true;
            } else {
                start = end;
            }
        }
        if size == 1 && !removed {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2) };
    }
    Ok(kept.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_does_not_matter_is_removed() {
        let needed = BTreeSet::from([3, 17, 18]);
        let mut runs = 0;
        let found = smallest(60, |only| {
            runs += 1;
            Ok::<_, Infallible>(needed.is_subset(only))
        });
        assert_eq!(found, Ok(needed));
        assert!(runs < 200, "{runs} runs");
    }

    #[test]
    fn a_run_that_fails_without_any_fault_keeps_none() {
        let found = smallest(9, |_| Ok::<_, Infallible>(true));
        assert_eq!(found, Ok(BTreeSet::new()));
    }
}
