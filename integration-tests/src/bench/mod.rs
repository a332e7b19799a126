//! Measures what the framework costs: consumers and workers in processes of their own, on a Kinesis that does nothing or on
//! the emulator.

mod account;
mod answers;
mod case;
mod child;
mod consumer;
mod count;
mod error;
mod frames;
mod gate;
mod idle;
mod in_process;
mod instructions;
mod latency;
mod loops;
mod meter;
mod null_kinesis;
mod null_server;
mod options;
mod process;
mod read;
mod result;
mod start;
mod table;
mod work;

pub use case::Case;
pub use consumer::{CONSUME, ConsumerOptions, consume};
pub use count::{COUNT, CountOptions, count};
pub use error::BenchError;
pub use in_process::{InProcess, WasRead};
pub use meter::CountAllocations;
pub use options::{
    Bench, BenchOptions, IdleOptions, InstructionsOptions, LatencyOptions, ReadOptions,
    StartOptions,
};
pub use work::{WORK, WorkOptions, work};

/// The tables, and the bounds that do not hold.
#[derive(Debug, Clone)]
pub struct BenchReport {
    /// For people.
    pub tables: String,
    /// A line for each.
    pub broken: Vec<String>,
}

/// Measures what the command line asks for.
///
/// # Errors
/// If a consumer cannot be started, or cannot go on.
pub async fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    match &options.bench {
        Bench::Read(options) => {
            let measured = read::measure(options).await?;
            Ok(BenchReport {
                tables: table::text(&measured),
                broken: measured.broken(),
            })
        }
        Bench::Idle(options) => idle::measure(options).await,
        Bench::Start(options) => start::measure(options).await,
        Bench::Latency(options) => latency::measure(options).await,
        Bench::Instructions(options) => instructions::measure(options).await,
    }
}
