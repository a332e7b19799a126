//! A process that reads a fixed number of answers in this process, for a tool that counts what it executes.

use clap::{Parser, ValueEnum};
use kcl_core::Wire;

use super::case::Case;
use super::consumer::say;
use super::error::BenchError;
use super::in_process::{InProcess, WasRead};

/// The first argument of such a process.
pub const COUNT: &str = "count";

/// What it is started with.
#[derive(Debug, Clone, Parser)]
pub struct CountOptions {
    #[arg(long, value_enum)]
    pub(super) what: Counted,
    #[arg(long, value_enum)]
    pub(super) case: Case,
    /// Ask for CBOR.
    #[arg(long)]
    pub(super) cbor: bool,
    #[arg(long)]
    pub(super) shards: u32,
    /// Kinesis records in an answer.
    #[arg(long)]
    pub(super) limit: u16,
    #[arg(long)]
    pub(super) answers: std::num::NonZeroU64,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Counted {
    /// It makes answers that nobody reads.
    Serve,
    /// It reads them in a bare loop.
    Bare,
    /// It reads them with a worker.
    Framework,
}

/// Does it, and prints what was read as a line of JSON. Needs a runtime whose clock stands still where nothing is to be done.
///
/// # Errors
/// If something cannot go on.
pub async fn count(options: CountOptions) -> Result<(), BenchError> {
    let reading = InProcess {
        case: options.case,
        wire: match options.cbor {
            true => Wire::Cbor,
            false => Wire::Json,
        },
        shards: options.shards,
        limit: options.limit,
    };
    let read: WasRead = match options.what {
        Counted::Serve => reading.serve(options.answers.get()),
        Counted::Bare => reading.bare(options.answers.get(), |_| {}).await?,
        Counted::Framework => reading.framework(options.answers, |_| {}).await?,
    };
    let line = serde_json::to_string(&read);
    say(&line.map_err(|error| BenchError::system("cannot tell", error.into()))?)
}
