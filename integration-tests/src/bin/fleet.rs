//! Plays scenarios with a fleet of real worker processes, and judges them.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use integration_tests::fleet::{self, FleetError, FleetOptions, Report, WorkerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == fleet::WORKER) {
        // The program's name and `worker` make the one word that the parser skips.
        let options = WorkerOptions::parse_from(arguments.into_iter().skip(1));
        start_logging("info");
        return match fleet::work(options).await {
            Ok(never) => match never {},
            Err(error) => fail(&error),
        };
    }
    let options = FleetOptions::parse_from(arguments);
    start_logging("warn,integration_tests=info");
    // Dropping the run kills its workers.
    let played = tokio::select! {
        played = fleet::run(&options) => played,
        interrupted = interrupted() => Err(interrupted),
    };
    match played {
        Ok(reports) => tell(&reports),
        Err(error) => fail(&error),
    }
}

async fn interrupted() -> FleetError {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    FleetError::Interrupted
}

fn tell(reports: &[Report]) -> ExitCode {
    let mut stdout = std::io::stdout();
    let (table, line) = (fleet::table(reports), fleet::json_line(reports));
    if let Err(error) = writeln!(stdout, "{table}\n{line}") {
        return fail(&error);
    }
    let broken: Vec<String> = reports.iter().flat_map(Report::broken).collect();
    for bound in &broken {
        let _closed = writeln!(std::io::stderr(), "broken: {bound}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _closed = writeln!(std::io::stderr(), "fleet: {error}");
    ExitCode::FAILURE
}

/// Logs go to standard error, as `RUST_LOG` says or else by this filter.
fn start_logging(default: &str) {
    let chosen = std::env::var("RUST_LOG").ok();
    let chosen = chosen.and_then(|text| text.parse::<Targets>().ok());
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(output)
        .with(chosen.unwrap_or_else(|| default.parse().unwrap_or_default()))
        .init();
}
