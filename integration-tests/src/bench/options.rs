//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::case::Case;

/// Measures what the framework costs: beside the official SDK and beside HTTP alone, at rest, at its start, and in time.
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
    /// Memory, threads, processor time and calls of a worker whose shards have no records.
    Idle(IdleOptions),
    /// Time from the start of a worker to its first record.
    Start(StartOptions),
    /// Time from putting a record to its processor.
    Latency(LatencyOptions),
    /// Instructions for a record, of a worker beside a bare loop. Needs `valgrind`.
    Instructions(InstructionsOptions),
}

/// How a worker at rest is measured.
#[derive(Debug, Clone, Parser)]
pub struct IdleOptions {
    /// Leases of the workers, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,200,2000,10000", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub leases: Vec<u32>,
    /// How long each is watched.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    pub time: Duration,
}

/// How starts are measured.
#[derive(Debug, Clone, Parser)]
pub struct StartOptions {
    /// Shards of the streams, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "4,1000", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub shards: Vec<u32>,
    /// How often each start is made.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// How the time from put to processor is measured.
#[derive(Debug, Clone, Parser)]
pub struct LatencyOptions {
    /// Shards of the stream.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub shards: u32,
    /// How long records are put.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub time: Duration,
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

/// How instructions are counted.
#[derive(Debug, Clone, Parser)]
pub struct InstructionsOptions {
    /// Only these records.
    #[arg(long = "case", value_enum)]
    pub case: Vec<Case>,
    /// Shards of the streams, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: Vec<u32>,
}

/// A value as the command line has it.
pub(super) fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The chosen ones, or all.
pub(super) fn cases(chosen: &[Case]) -> Vec<Case> {
    match chosen {
        [] => Case::ALL.to_vec(),
        chosen => chosen.to_vec(),
    }
}
