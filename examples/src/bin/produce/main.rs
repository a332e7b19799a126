//! Puts the lines of standard input into a stream, one record each.

mod key;
mod lines;
mod run;

use std::time::Duration;

use clap::Parser;
use examples::aws::AwsOptions;
use examples::progress::say;

/// Puts the lines of standard input into a Kinesis stream, one record each, without the line feed.
///
/// Exit codes: 0 when every line is stored, 1 when not, 2 when the command line cannot be understood.
#[derive(Debug, Parser)]
#[command(name = "produce")]
struct Options {
    /// Name or ARN of the stream.
    #[arg(long)]
    stream: String,
    #[command(flatten)]
    aws: AwsOptions,
    /// Pack lines into aggregated records (KPL format), one shard's to each: far fewer records, and much faster.
    #[arg(long)]
    aggregate: bool,
    /// Use the N-th field of a line as its partition key, counted from 1. Fields are separated by white space, or by
    /// --delimiter. Lines with the same key stay in order. A line without that field, and every line without this
    /// option, gets its line number as key.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    key_field: Option<u16>,
    /// What separates fields, one ASCII character. Default: any amount of white space.
    #[arg(long, value_name = "CHARACTER", requires = "key_field", value_parser = key::parse_delimiter)]
    delimiter: Option<u8>,
    /// Give up when nothing could be stored for so long.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    give_up_after: Duration,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    examples::logging::start("warn");
    let complete = match run::run(&options).await {
        Ok(report) => {
            say(&report.to_string());
            report.not_stored == 0
        }
        Err(error) => {
            say(&format!("produce: {error}"));
            false
        }
    };
    // Not by returning: standard input may still block a thread of the runtime, and nothing is left to wait for.
    std::process::exit(i32::from(!complete))
}
