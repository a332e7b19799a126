//! Measures what the framework costs: reading, at rest, at its start, and in time.

use std::alloc::System;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use integration_tests::bench::{
    self, BenchError, BenchOptions, BenchReport, ConsumerOptions, CountOptions, WorkOptions,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Counts; some nanoseconds for each allocation.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations() -> u64 {
    let stats = HEAP.stats();
    (stats.allocations + stats.reallocations) as u64
}

fn main() -> ExitCode {
    start_logging();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == bench::CONSUME)
    {
        // The program's name and `consume` make the one word that the parser skips.
        let options = ConsumerOptions::parse_from(arguments.into_iter().skip(1));
        // One thread, so that nothing of what is measured is threads that wait for one another.
        let runtime = tokio::runtime::Builder::new_current_thread();
        return on(runtime, async {
            bench::consume(options, allocations).await?;
            Ok(ExitCode::SUCCESS)
        });
    }
    if arguments.get(1).is_some_and(|first| first == bench::WORK) {
        let options = WorkOptions::parse_from(arguments.into_iter().skip(1));
        return on(tokio::runtime::Builder::new_multi_thread(), async {
            bench::work(options).await?;
            Ok(ExitCode::SUCCESS)
        });
    }
    if arguments.get(1).is_some_and(|first| first == bench::COUNT) {
        let options = CountOptions::parse_from(arguments.into_iter().skip(1));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.start_paused(true);
        return on(runtime, async {
            bench::count(options).await?;
            Ok(ExitCode::SUCCESS)
        });
    }
    let options = BenchOptions::parse_from(arguments);
    on(tokio::runtime::Builder::new_multi_thread(), async {
        tell(&bench::run(&options).await?)
    })
}

fn tell(report: &BenchReport) -> Result<ExitCode, BenchError> {
    writeln!(std::io::stdout(), "{}", report.tables).map_err(|source| BenchError::System {
        what: "cannot print".to_owned(),
        source,
    })?;
    for bound in &report.broken {
        let _closed = writeln!(std::io::stderr(), "broken: {bound}");
    }
    Ok(ExitCode::from(u8::from(!report.broken.is_empty())))
}

fn on(
    mut runtime: tokio::runtime::Builder,
    work: impl Future<Output = Result<ExitCode, BenchError>>,
) -> ExitCode {
    let done = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
            }
        }),
        Err(source) => Err(BenchError::System {
            what: "cannot start a runtime".to_owned(),
            source,
        }),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error, as `RUST_LOG` says.
fn start_logging() {
    let chosen = std::env::var("RUST_LOG").ok();
    let chosen = chosen.and_then(|text| text.parse::<Targets>().ok());
    let output = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let default = Targets::new().with_default(tracing::level_filters::LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(output)
        .with(chosen.unwrap_or(default))
        .init();
}
