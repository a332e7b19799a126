//! Measures what the framework costs: consumers in processes of their own, on a Kinesis that does nothing.

mod answers;
mod case;
mod child;
mod consumer;
mod error;
mod gate;
mod loops;
mod meter;
mod null_kinesis;
mod null_server;
mod options;
mod read;
mod result;
mod table;

pub use case::Case;
pub use consumer::{CONSUME, ConsumerOptions, consume};
pub use error::BenchError;
pub use meter::CountAllocations;
pub use null_kinesis::{NullKinesis, Reply, STREAM};
pub use options::{Bench, BenchOptions, ReadOptions};

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
    let Bench::Read(options) = &options.bench;
    let measured = read::measure(options).await?;
    Ok(BenchReport {
        tables: table::text(&measured),
        broken: measured.broken(),
    })
}
