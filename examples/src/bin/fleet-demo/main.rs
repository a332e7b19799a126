//! A fleet in one terminal: three workers share a stream; one is killed, one joins, a shard is split, one stops.

mod board;
mod members;
mod processor;
mod producer;
mod screen;
mod script;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::outcome::exit_code;

/// Shows on the screen how a fleet of workers shares a stream, in one process on an emulated account and in real time: who
/// holds which shard, how far behind it is, and how shards move when a worker is killed, when one joins, when a shard is
/// split and when a worker stops. Takes about a minute and ends by itself.
///
/// Exit codes: 0 when every record was processed, 1 when not, 2 when the command line cannot be understood.
#[derive(Debug, Clone, Parser)]
#[command(name = "fleet-demo")]
struct Options {
    /// How long the fleet is left alone between two things that are done to it.
    #[arg(long, value_name = "TIME", default_value = "9s", value_parser = humantime::parse_duration)]
    step: Duration,
    /// How long the shards of a killed worker rest.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    lease_duration: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    examples::logging::start("error");
    exit_code("fleet-demo", script::play(&options).await)
}
