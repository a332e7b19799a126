//! A worker that prints what it reads as JSON, one object per line.

mod initial_position;
mod line;
mod output;
mod processor;

use std::time::Duration;

use clap::Parser;
use examples::aws::AwsOptions;
use examples::progress::say;
use kcl_core::{Events, Runtime, ShutdownReport, Worker, WorkerEvent, shutdown_signal};

use initial_position::parse_initial_position;
use line::Line;
use output::Output;
use processor::JsonLines;

/// After the worker has stopped, its last events get this long to be written.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Reads a Kinesis stream as one worker of an application and prints one JSON object per line to standard output:
/// records, and what happens to shards and checkpoints. Logs go to standard error (see RUST_LOG).
///
/// SIGINT and SIGTERM stop it gracefully; a second one ends it at once.
///
/// Exit codes: 0 after a clean stop, 1 after an error, 2 when the command line cannot be understood, 3 when not
/// everything was drained.
#[derive(Debug, Parser)]
#[command(name = "consumer")]
struct Options {
    /// Name of the application, which is also the name of its lease table.
    #[arg(long)]
    application: String,
    /// Name or ARN of the stream.
    #[arg(long)]
    stream: String,
    #[command(flatten)]
    aws: AwsOptions,
    /// Name of this worker, for people. Default: the host's name.
    #[arg(long)]
    worker_name: Option<String>,
    /// Where the application's very first start begins: trim-horizon, latest, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, default_value = "trim-horizon", value_parser = parse_initial_position)]
    initial_position: kcl_core::InitialPosition,
    /// How long the shards of a dead worker rest.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    lease_duration: Duration,
    /// How often progress is stored, per shard that makes progress.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    checkpoint_interval: Duration,
    /// Stop gracefully when everything that is in the stream has been processed.
    #[arg(long)]
    exit_when_caught_up: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    examples::logging::start("warn,kcl_core=info,kcl_lease=info");
    let code = match consume(options).await {
        Ok(report) => report.exit_code(),
        Err(error) => {
            say(&format!("consumer: {error}"));
            1
        }
    };
    // Not by returning: a processor that was cut off may still block a thread of the runtime.
    std::process::exit(i32::from(code));
}

async fn consume(options: Options) -> Result<ShutdownReport, Box<dyn std::error::Error>> {
    let aws = options.aws.load().await;
    let output = Output::stdout();
    let records = output.clone();
    let mut builder = Worker::builder(options.application, options.stream, move |_shard| {
        JsonLines::new(records.clone())
    })
    .initial_position(options.initial_position)
    .lease_duration(options.lease_duration)
    .checkpoint_interval(options.checkpoint_interval);
    if let Some(name) = options.worker_name {
        builder = builder.worker_name(name);
    }
    let mut worker = builder
        .build(&aws)?
        .with_graceful_shutdown(shutdown_signal())
        .with_graceful_shutdown(output.clone().broken());
    let events = worker.handle().events();
    if options.exit_when_caught_up {
        let handle = worker.handle();
        worker = worker.with_graceful_shutdown(async move { handle.caught_up().await });
    }
    let printer = Runtime::production().spawn(print_checkpoints(events, output.clone()));
    let outcome = worker.run().await;
    // The worker is gone, so its events end; what is left of them is written unless nobody reads.
    let _cut_off = tokio::time::timeout(LAST_EVENTS, printer).await;
    output.check()?;
    Ok(outcome?)
}

async fn print_checkpoints(mut events: Events, output: Output) {
    while let Some(event) = events.next().await {
        let at = output.now();
        let line = match &event {
            WorkerEvent::Checkpointed { shard, checkpoint }
            | WorkerEvent::LeaseReleased {
                shard, checkpoint, ..
            } => Line::checkpoint(at, shard.as_str(), checkpoint),
            WorkerEvent::ShardEnded { shard, .. } => {
                Line::checkpoint(at, shard.as_str(), &kcl_core::Checkpoint::ShardEnd)
            }
            _ => continue,
        };
        let mut text = Vec::new();
        let written = line.write(&mut text).is_ok() && output.write(&text).await.is_ok();
        if !written {
            return;
        }
    }
}
