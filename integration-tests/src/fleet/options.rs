//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::reading::Reading;

/// The first argument with which the harness starts its worker processes.
pub const WORKER: &str = "worker";

/// Plays a scenario with real worker processes on an emulated account at a loopback port, and judges it.
///
/// Prints one table and one line of JSON. Exit codes: 0 when every bound holds, 1 when one is broken or the scenario could
/// not be played to its end, 2 when the command line cannot be understood.
#[derive(Debug, Clone, Parser)]
#[command(name = "fleet")]
pub struct FleetOptions {
    /// What is played.
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// How long the shards of a dead worker rest; bounds follow it.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub lease_duration: Duration,
    /// Shards of the stream at the start (scale has 2,000, idle has 1 unless given).
    #[arg(long)]
    pub shards: Option<u32>,
    /// Workers at the start (scale has 4, idle has 1 unless given).
    #[arg(long)]
    pub workers: Option<usize>,
    /// How long the fleet runs undisturbed before, between and after what is done to it.
    #[arg(long, value_name = "TIME", default_value = "7s", value_parser = humantime::parse_duration)]
    pub calm: Duration,
    /// How long idle and scale measure.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub measure: Duration,
    /// Only this part of the failover scenario.
    #[arg(long, value_enum)]
    pub part: Option<Part>,
    /// How the workers read the stream.
    #[arg(long, value_enum, default_value_t)]
    pub retrieval: Reading,
    /// How many workers the kills scenario kills.
    #[arg(long, default_value_t = 1_000)]
    pub kills: usize,
    /// How many of them another worker follows.
    #[arg(long, default_value_t = 50)]
    pub take_overs: usize,
    /// How many of them run at the same time.
    #[arg(long, default_value_t = 4)]
    pub parallel: usize,
    /// Keep journals and logs even if every bound holds.
    #[arg(long)]
    pub keep: bool,
}

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// SIGKILL one worker; the leader; the only one, with a replacement started at once.
    Failover,
    /// Replace all workers one by one: start the new one, SIGTERM the old one.
    Deploy,
    /// Double the workers and go back.
    Join,
    /// 8 to 16 to 6 shards under load with a rolling restart in the middle.
    Reshard,
    /// SIGSTOP beyond the lease duration, then SIGCONT.
    Zombie,
    /// DynamoDB fails for 60 s.
    Outage,
    /// What 4 workers cost on 2,000 idle shards.
    Scale,
    /// What one worker costs on one idle shard.
    Idle,
    /// SIGKILL a worker with records in flight at any moment, a thousand times, and hold its table against its own log of what
    /// it completed.
    Kills,
    /// All but kills, one after the other.
    All,
}

/// A part of the failover scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// A worker that does not lead.
    One,
    /// The leader.
    Leader,
    /// The only worker.
    Only,
}

/// The options of a worker process; the harness starts them.
#[derive(Debug, Clone, Parser)]
#[command(name = "fleet worker")]
pub struct WorkerOptions {
    /// Where the emulator is.
    #[arg(long)]
    pub endpoint: String,
    /// The worker's name; also its access key id, by which the emulator knows it.
    #[arg(long)]
    pub name: String,
    /// The file to which it appends what happens.
    #[arg(long)]
    pub journal: PathBuf,
    /// How long the shards of a dead worker rest.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub lease_duration: Duration,
    /// The application.
    #[arg(long)]
    pub application: String,
    /// How it reads the stream.
    #[arg(long, value_enum, default_value_t)]
    pub retrieval: Reading,
    /// Whether it acknowledges records one by one, late and out of order, and writes down which are complete.
    #[arg(long)]
    pub acknowledges: bool,
}
