//! The command line of `simulate`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use clap::Parser;

use super::focus::{self, Focus};
use super::report::Report;
use super::run::{self, Outcome, RunError, Settings};
use super::{Path, mutants, shrink};
use crate::clocks::cpu_time;
use crate::reading::Reading;

/// Deterministic simulation of a fleet of workers.
#[derive(Debug, Clone, Parser)]
#[command(name = "simulate", version)]
pub struct Options {
    /// The seeds to run, for example 1..200 (both included), or a single one.
    #[arg(long, default_value = "1..20")]
    pub seeds: Seeds,

    /// One seed; with --trace its events.
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,

    /// Write every event of the run to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,

    /// Let the workers use the real AWS SDK, in process.
    #[arg(long)]
    pub sdk: bool,

    /// How the workers read the stream.
    #[arg(long, value_enum, default_value_t)]
    pub retrieval: Reading,

    /// Carry each call to the lease table out on the emulator's DynamoDB, too, and compare the answers (else: every 16th
    /// seed).
    #[arg(long, conflicts_with = "sdk")]
    pub check_table: bool,

    /// Virtual minutes of each run, of which the last six are without faults.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(8..=1440))]
    pub minutes: u64,

    /// Workers at the start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub workers: u32,

    /// Shards at the start.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,

    /// Find a smallest schedule of faults under which this seed still fails.
    #[arg(long, value_name = "SEED")]
    pub shrink: Option<u64>,

    /// Switch rules off one by one and see whether the checker notices.
    #[arg(long)]
    pub mutants: bool,

    /// Switch one rule off.
    #[arg(long, value_name = "NAME", value_parser = mutants::parse)]
    pub mutant: Option<kcl_lease::mutant::Mutant>,

    /// Let the faults press on one spot; with --mutant, on what that rule guards.
    #[arg(long, value_name = "NAME", value_parser = focus::parse)]
    pub focus: Option<&'static Focus>,

    /// Play only these elements of the schedule, by number, for example 3,17,18.
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        requires = "seed",
        conflicts_with = "shrink"
    )]
    pub only: Option<Vec<usize>>,

    /// Run each seed twice and compare the two runs, event by event.
    #[arg(long)]
    pub check_determinism: bool,

    /// How many runs at the same time; as many as there are cores by default.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
}

/// A range of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub RangeInclusive<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim_start_matches('=')
                .parse::<u64>()
                .map_err(|_| format!("{text:?} is no seed; use for example 1..200"))
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("{text} holds no seed; use for example 1..200"));
        }
        Ok(Self(first..=last))
    }
}

/// Why the program could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// A run could not begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file or the terminal cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Options {
    /// What to run.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            minutes: self.minutes,
            workers: self.workers as usize,
            shards: self.shards,
            path: match self.sdk {
                true => Path::Sdk,
                false => Path::Direct,
            },
            reading: match self.mutant {
                Some(mutant) => mutants::reading_for(mutant, self.retrieval),
                None => self.retrieval,
            },
            checked: self.check_table,
            mutant: self.mutant,
            focus: self.focus.or_else(|| focus::of(self.mutant?)),
            only: self
                .only
                .as_ref()
                .map(|only| only.iter().copied().collect::<BTreeSet<_>>()),
            traced: self.trace.is_some(),
            until_broken: false,
        }
    }

    /// How many runs at the same time.
    #[must_use]
    pub fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }

    /// The command that repeats the run of one seed.
    #[must_use]
    pub fn replay(&self, seed: u64) -> String {
        // All are named, so that a new one that changes runs is not forgotten here.
        let Self {
            seeds: _,
            seed: _,
            trace: _,
            sdk,
            retrieval,
            check_table,
            minutes,
            workers,
            shards,
            shrink: _,
            mutants: _,
            mutant,
            focus,
            only,
            check_determinism: _,
            jobs: _,
        } = self;
        let mut command = format!(
            "cargo run --release -p integration-tests --bin simulate -- --seed {seed} --minutes {minutes} --workers {workers} --shards {shards}"
        );
        let mut add = |option: &str| {
            command.push(' ');
            command.push_str(option);
        };
        if *sdk {
            add("--sdk");
        }
        if retrieval.subscribes() {
            add(&format!("--retrieval {}", retrieval.name()));
        }
        if *check_table {
            add("--check-table");
        }
        if let Some(mutant) = mutant {
            add(&format!("--mutant {}", mutant.name()));
        }
        if let Some(focus) = focus {
            add(&format!("--focus {}", focus.name));
        }
        if let Some(only) = only {
            let numbers: Vec<String> = only.iter().map(usize::to_string).collect();
            add(&format!("--only {}", numbers.join(",")));
        }
        command
    }
}

/// Does what the options say. True if nothing was found that should not be.
///
/// # Errors
/// When a run cannot begin, or its report not be written.
pub fn main(options: &Options, out: &mut impl Write) -> Result<bool, CliError> {
    if options.mutants {
        return mutants::hunt(options, out);
    }
    if let Some(seed) = options.shrink {
        return shrink::shrink(options, seed, out);
    }
    let seeds = match options.seed {
        Some(seed) => seed..=seed,
        None => options.seeds.0.clone(),
    };
    if options.check_determinism {
        return check_determinism(options, seeds, out);
    }
    run_all(options, seeds, out)
}

fn run_all(
    options: &Options,
    seeds: RangeInclusive<u64>,
    out: &mut impl Write,
) -> Result<bool, CliError> {
    let settings = options.settings();
    let mut report = Report::new(&settings);
    let began = cpu_time();
    let mut failure = None;
    each(options.jobs(), seeds, &settings, |outcome| {
        let told = match outcome {
            Ok(outcome) => tell(options, &outcome, out).map(|()| report.add(&outcome)),
            Err(error) => Err(error.into()),
        };
        let go_on = told.is_ok();
        failure = failure.take().or(told.err());
        go_on
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    report.print(cpu_time().saturating_sub(began), out)?;
    Ok(report.is_clean())
}

/// Prints what went wrong in one run, and writes its trace.
fn tell(options: &Options, outcome: &Outcome, out: &mut impl Write) -> Result<(), CliError> {
    if let (Some(file), Some(trace)) = (&options.trace, &outcome.trace) {
        let schedule: String = outcome
            .schedule
            .iter()
            .map(|timed| format!("# {timed}\n"))
            .collect();
        std::fs::write(file, schedule + trace)?;
    }
    if options.seed.is_some() {
        writeln!(
            out,
            "seed {} trace hash {:016x}",
            outcome.seed, outcome.hash
        )?;
    }
    if outcome.violations.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "seed {}: {} violations",
        outcome.seed,
        outcome.violations.len()
    )?;
    for violation in outcome.violations.iter().take(5) {
        writeln!(out, "  {violation}")?;
    }
    writeln!(out, "  replay: {}", options.replay(outcome.seed))?;
    Ok(())
}

fn check_determinism(
    options: &Options,
    seeds: RangeInclusive<u64>,
    out: &mut impl Write,
) -> Result<bool, CliError> {
    let settings = options.settings();
    let mut all_equal = true;
    for seed in seeds {
        let (first, second) = (run::run(seed, &settings)?, run::run(seed, &settings)?);
        let equal = first.hash == second.hash && first.events == second.events;
        all_equal &= equal;
        let verdict = if equal { "equal" } else { "DIFFERENT" };
        writeln!(
            out,
            "seed {seed}: {:016x} and {:016x}, {} events: {verdict}",
            first.hash, second.hash, first.events
        )?;
    }
    Ok(all_equal)
}

/// Runs seeds on several threads and hands the outcomes over as they come, until `take` returns false.
pub(super) fn each(
    jobs: usize,
    seeds: RangeInclusive<u64>,
    settings: &Settings,
    mut take: impl FnMut(Result<Outcome, RunError>) -> bool,
) {
    let next = AtomicU64::new(*seeds.start());
    let (sender, outcomes) = mpsc::sync_channel(jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, last) = (sender.clone(), &next, *seeds.end());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || sender.send(run::run(seed, settings)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            if !take(outcome) {
                next.store(u64::MAX / 2, Ordering::Relaxed);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_command_repeats_the_run() {
        let cases = [
            "--seeds 1..20",
            "--seeds 1..20 --minutes 12 --workers 5 --shards 9 --jobs 1",
            "--seed 7 --sdk",
            "--seed 7 --check-table",
            "--seed 7 --retrieval fan-out",
            "--seed 7 --only 3,17,18",
            "--seed 7 --mutant NoRegrant",
            "--seed 7 --mutant TrustSilence",
            "--seed 7 --focus deaf --check-table --only 0",
        ];
        for case in cases {
            let options = parse(&format!("simulate {case}"));
            let command = options.replay(7);
            let (_, arguments) = command.split_once(" -- ").unwrap();
            let again = parse(&format!("simulate {arguments}"));
            assert_eq!(again.seed, Some(7), "{case}");
            let (once, twice) = (options.settings(), again.settings());
            assert_eq!(format!("{once:?}"), format!("{twice:?}"), "{case}");
        }
    }

    fn parse(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap()
    }
}
