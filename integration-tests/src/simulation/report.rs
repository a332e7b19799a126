//! What many runs found, as a table for people.

use std::io::{self, Write};
use std::time::Duration;

use super::checker::{SOMETIMES, SOMETIMES_FAN_OUT, SOMETIMES_POLLING, Tally};
use super::node::Path;
use super::run::{Outcome, Settings};
use crate::reading::Reading;

/// So many runs must reach every state; fewer are too few to say.
const ENOUGH_SEEDS: u64 = 100;

/// What a set of runs found.
#[derive(Debug)]
pub struct Report {
    minutes: u64,
    /// Every kind of fault is drawn, and everything that happens is told.
    full: bool,
    reading: Reading,
    seeds: u64,
    failed: u64,
    violations: u64,
    requests: u64,
    tally: Tally,
}

impl Report {
    /// Nothing yet, of runs with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            minutes: settings.minutes,
            full: settings.path == Path::Direct && settings.focus.is_none(),
            reading: settings.reading,
            seeds: 0,
            failed: 0,
            violations: 0,
            requests: 0,
            tally: Tally::default(),
        }
    }

    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(!outcome.violations.is_empty());
        self.violations += outcome.violations.len() as u64;
        self.requests += outcome.requests;
        self.tally.add(&outcome.tally);
    }

    /// The states that such runs must reach.
    fn states(&self) -> impl Iterator<Item = &'static str> {
        let of_reading = match self.reading.subscribes() {
            true => SOMETIMES_FAN_OUT,
            false => SOMETIMES_POLLING,
        };
        SOMETIMES.iter().chain(of_reading).copied()
    }

    /// States that no run reached although there were enough.
    fn never(&self) -> Vec<&'static str> {
        if self.seeds < ENOUGH_SEEDS || !self.full {
            return Vec::new();
        }
        let unseen = self
            .states()
            .filter(|what| !self.tally.seen.contains_key(what));
        unseen.collect()
    }

    /// Whether nothing was found that should not be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations == 0 && self.never().is_empty()
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn print(&self, cpu: Duration, out: &mut impl Write) -> io::Result<()> {
        let tally = &self.tally;
        let hours = (self.seeds * self.minutes) as f64 / 60.0;
        let each = cpu.as_secs_f64() / (self.seeds.max(1) as f64);
        let faults: u64 = tally.faults.values().sum();
        writeln!(
            out,
            "seeds            {} ({hours:.1} fleet-hours, {each:.2} CPU-seconds each)",
            self.seeds
        )?;
        writeln!(out, "faults           {faults}: {}", list(&tally.faults))?;
        writeln!(out, "requests         {}", self.requests)?;
        writeln!(
            out,
            "records          {} put, {} delivered",
            tally.put, tally.delivered
        )?;
        let duplicates = tally
            .duplicates
            .iter()
            .map(|(cause, count)| (cause.name(), count));
        writeln!(out, "duplicates       {}", pairs(duplicates))?;
        writeln!(
            out,
            "grants           {}, of them {} by clean hand-over",
            tally.grants, tally.hand_overs
        )?;
        writeln!(out, "false losses     {}", tally.false_losses)?;
        writeln!(out, "takeover         {}", spread(&tally.takeovers))?;
        writeln!(out, "hand-over pause  {}", spread(&tally.pauses))?;
        writeln!(out, "children start   {}", spread(&tally.births))?;
        writeln!(out, "put to delivery  {}", spread(&tally.arrivals))?;
        let states = self.states().map(|what| {
            let count = tally.seen.get(what).copied().unwrap_or_default();
            (what, count)
        });
        writeln!(
            out,
            "sometimes        {}",
            states
                .map(|(w, n)| format!("{w} {n}"))
                .collect::<Vec<_>>()
                .join(", ")
        )?;
        for what in self.never() {
            writeln!(out, "NEVER REACHED    {what}")?;
        }
        writeln!(
            out,
            "violations       {} in {} seeds",
            self.violations, self.failed
        )
    }
}

fn list(counts: &std::collections::BTreeMap<String, u64>) -> String {
    pairs(counts.iter())
}

fn pairs<N: std::fmt::Display, C: std::fmt::Display>(
    counts: impl Iterator<Item = (N, C)>,
) -> String {
    let parts: Vec<String> = counts
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(", "),
    }
}

/// Median, the 99th percentile and the maximum.
fn spread(millis: &[u64]) -> String {
    let mut sorted = millis.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| {
        let index = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or_default() as f64 / 1000.0
    };
    match sorted.is_empty() {
        true => "not measured".to_owned(),
        false => format!(
            "median {:.2} s, p99 {:.2} s, at most {:.2} s ({} in calm times)",
            at(0.5),
            at(0.99),
            at(1.0),
            sorted.len()
        ),
    }
}
