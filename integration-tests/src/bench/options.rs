//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};

use super::case::Case;

/// Measures what the framework costs, beside the official SDK and beside HTTP alone, on a Kinesis that does nothing.
///
/// Prints tables. Exit codes: 0 when every bound holds, 1 when one is broken or something could not be measured, 2 when the
/// command line cannot be understood.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct BenchOptions {
    /// What is measured.
    #[command(subcommand)]
    pub bench: Bench,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub enum Bench {
    /// Records per second of processor time, allocations and memory of reading.
    Read(ReadOptions),
}

/// How reading is measured.
#[derive(Debug, Clone, Parser)]
pub struct ReadOptions {
    /// How often all loops take their turn. Medians are over so many pairs of neighbours.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// How long a turn takes. One of the framework takes three times as long.
    #[arg(long, value_name = "TIME", default_value = "400ms", value_parser = humantime::parse_duration)]
    pub stretch: Duration,
    /// Only these records.
    #[arg(long = "case", value_enum)]
    pub case: Vec<Case>,
    /// Shards of the loops.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: Vec<u32>,
    /// Loops only.
    #[arg(long)]
    pub no_framework: bool,
}

impl ReadOptions {
    pub(super) fn cases(&self) -> Vec<Case> {
        match self.case.as_slice() {
            [] => Case::ALL.to_vec(),
            chosen => chosen.to_vec(),
        }
    }
}
